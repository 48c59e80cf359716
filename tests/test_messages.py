"""Damaged input ends a run with exit code 2 and one line, word for word as in messages.txt; nothing is written.

``DASK_DEDUP_REWRITE_MESSAGES=1 python -m pytest tests/test_messages.py`` rewrites messages.txt. Read the
changes as a user would.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from damaged import CASES
from tables import stamps

MESSAGES = Path(__file__).with_name("messages.txt")
REWRITE = bool(os.environ.get("DASK_DEDUP_REWRITE_MESSAGES"))
#: These quote libraries, whose texts may change.
QUOTING = {
    "csg-not-yaml",
    "parquet-column-blanked",
    "parquet-column-removed",
    "parquet-payload-blanked",
    "parquet-footer-longer-than-the-file",
    "parquet-footer-of-noise",
    "parquet-page-of-noise",
    "parquet-page-that-fails-its-checksum",
    "parquet-text-not-utf8",
}
#: Found only when the payload is read, after the plan has been printed.
LATE = {"parquet-payload-blanked", "parquet-text-not-utf8", "csdat-text-outside-the-heap"}
QUOTED = re.compile(r"(?<=Parquet file: ).*|(?<=from row 0 on: ).*|(?<=CryoSPARC group: ).*")


def snapshot():
    lines = MESSAGES.read_text().splitlines() if MESSAGES.exists() else []
    return dict(line.split(": ", 1) for line in lines)


@pytest.fixture(scope="module")
def messages():
    """The messages of this session; written to the file at the end if requested."""
    found = {}
    yield found
    if REWRITE:
        known = {name: line for name, line in snapshot().items() if name in CASES} | found
        MESSAGES.write_text("".join(f"{name}: {known[name]}\n" for name in CASES if name in known))


@pytest.mark.parametrize("name", CASES)
def test_damaged_input_is_reported_in_one_line_and_nothing_is_written(
    cli, tmp_path, name, messages
):
    folder = tmp_path / "in"
    folder.mkdir()
    arguments = CASES[name](folder)
    if "--output" not in arguments:
        arguments += ["--output", tmp_path / "out"]
    before = stamps(tmp_path)
    began = time.process_time()
    outcome = cli("run", *arguments, *["--quiet"] * (name in LATE))
    assert time.process_time() - began < 60
    assert stamps(tmp_path) == before
    assert outcome.stdout == ""
    assert outcome.exit_code == 2, outcome.stderr
    (line,) = outcome.stderr.splitlines()
    assert line.isprintable()
    assert len(line) < 5000
    message = line.removeprefix("dask-dedup: ").replace(str(folder), "FOLDER")
    if name in QUOTING:
        message = QUOTED.sub("(...)", message)
    messages[name] = message
    if not REWRITE:
        assert snapshot()[name] == message


def test_every_message_in_the_file_belongs_to_a_case():
    assert REWRITE or list(snapshot()) == list(CASES)

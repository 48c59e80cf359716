"""The terminal: what is printed while a run lasts, and at its end."""

from __future__ import annotations

import logging
import os
import pty
import re
import select
import subprocess
import sys

import pytest
from tables import cryosparc, write_file

from dask_dedup.cli import console as terminal
from dask_dedup.cli.console import showing_progress


@pytest.fixture
def picks(tmp_path):
    return write_file(cryosparc(500), tmp_path / "a.parquet", row_group_size=100)


def in_terminal(*arguments):
    """Run the command in a pseudo-terminal 100 columns wide; gives all that was drawn."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-c", "from dask_dedup.cli import main; main()", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    drawn = b""
    while True:
        readable, _, _ = select.select([ours], [], [], 60)
        assert readable, "nothing came for a minute"
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        drawn += piece
    os.close(ours)
    assert process.wait() == 0, drawn.decode()
    return drawn.decode()


def test_a_terminal_shows_the_log_and_ends_with_the_table(picks, tmp_path):
    drawn = in_terminal("run", picks, "-o", tmp_path / "out", "--no-report")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert "500 particles on" in plain
    assert re.search(r"a\.parquet\s+500\s+\d+\s+\d+", plain)
    assert plain.rstrip().endswith(f"the result is in {tmp_path / 'out'}")
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h")  # the cursor is given back


def test_without_a_terminal_a_plain_line_comes_at_intervals(caplog, monkeypatch):
    monkeypatch.setattr(terminal, "LINE_SECONDS", 0.05)
    caplog.set_level(logging.INFO, "dask_dedup")
    with showing_progress(quiet=False) as on_event:
        on_event(
            {
                "kind": "started",
                "output": "out",
                "where": "here",
                "inputs": [],
                "rows": 1000,
                "bytes": 1,
                "fragments": 10,
            }
        )
        on_event({"kind": "scanned", "number": 0, "rows": 600, "seconds": 0.1})
        while not caplog.records:
            pass
    line = caplog.records[-1].getMessage()
    assert "counting: 600 of 1,000" in line
    assert "\x1b" not in line
    lines = len(caplog.records)
    with showing_progress(quiet=True) as on_event:
        assert on_event is None
    assert len(caplog.records) == lines


def test_quiet_and_json_print_nothing_but_the_result(picks, tmp_path, cli):
    assert cli("run", picks, "-o", tmp_path / "q", "--quiet").stdout == ""
    found = cli("run", picks, "-o", tmp_path / "j", "--json")
    assert found.stdout.startswith("{")
    assert "particles/s" not in found.stderr

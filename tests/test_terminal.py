"""Terminal output during a run and at its end."""

from __future__ import annotations

import logging
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from tables import cryosparc, write_file

from dask_dedup.cli.console import TerminalLog, showing_progress
from dask_dedup.monitoring import log


@pytest.fixture
def picks(tmp_path):
    return write_file(cryosparc(500), tmp_path / "a.parquet", row_group_size=100)


def in_terminal(*arguments):
    """Run a command in a pseudo-terminal 100 columns wide; return all output."""
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


def test_a_terminal_shows_the_log_and_then_the_table(picks, tmp_path):
    drawn = in_terminal("run", picks, "-o", tmp_path / "out", "--no-report")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert "particles at most 20 A apart" in plain
    assert re.search(r"a\.parquet\s+500\s+\d+\s+\d+", plain)
    assert plain.rstrip().endswith(f"result: {tmp_path / 'out'}")
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h")  # the cursor is shown again


def test_without_a_terminal_progress_is_a_line_at_intervals(caplog, monkeypatch):
    monkeypatch.setattr(log, "LINE_SECONDS", 0.05)
    caplog.set_level(logging.INFO, "dask_dedup")
    with showing_progress(TerminalLog(), quiet=False) as on_event:
        on_event(
            {
                "kind": "started",
                "output": "out",
                "executor": "here",
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
    with showing_progress(TerminalLog(), quiet=True) as on_event:
        assert on_event is None
    assert len(caplog.records) == lines


def test_quiet_and_json_print_only_the_result(picks, tmp_path, cli):
    assert cli("run", picks, "-o", tmp_path / "q", "--quiet").stdout == ""
    found = cli("run", picks, "-o", tmp_path / "j", "--json")
    assert found.stdout.startswith("{")
    assert "particles/s" not in found.stderr


def test_a_run_does_not_fail_because_its_log_cannot_be_written(picks, tmp_path):
    command = [sys.executable, "-c", "from dask_dedup.cli import main; main()"]
    arguments = ["run", picks, "-o", tmp_path / "out", "--no-report"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [*command, *map(str, arguments)], stderr=full, stdout=subprocess.DEVNULL
        )
    assert process.returncode == 0
    assert (tmp_path / "out" / "manifest.json").exists()

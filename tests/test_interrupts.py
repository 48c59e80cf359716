"""Ctrl-C, which a terminal sends to all processes of a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tables import cryosparc, write_file


def interrupted(words, when, patch=""):
    """Send Ctrl-C once `when` is true; return the exit code and the standard error."""
    program = f"{patch}from dask_dedup.cli import main; main()"
    command = [sys.executable, "-c", program, *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)
    while not when():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    return process.returncode, printed


def committed(out):
    return (out / "manifest.json").exists() and not any(out.glob(".dask-dedup-*"))


def test_during_the_report_the_message_says_that_the_result_is_complete(tmp_path):
    source, out = write_file(cryosparc(20_000), tmp_path / "in.parquet"), tmp_path / "out"
    code, printed = interrupted(["run", source, "-o", out, "-q"], lambda: committed(out))
    assert code == 130
    message = f"dask-dedup: interrupted, but the result is complete; for its report: dask-dedup report {out}"
    assert message in printed.splitlines()


@pytest.mark.slow
def test_workers_print_nothing(tmp_path):
    source = write_file(cryosparc(300_000), tmp_path / "in.parquet", row_group_size=1_000)
    out = tmp_path / "out"
    words = ["run", source, "-o", out, "-q", "--no-report", "--workers", 2]
    code, printed = interrupted(words, lambda: any(out.glob(".dask-dedup-*")))
    assert code == 130
    assert "Traceback" not in printed
    assert " - ERROR - " not in printed
    assert "Run the same command to resume" in printed or "nothing was written" in printed
    assert printed.splitlines()[-1].startswith("dask-dedup: interrupted")


@pytest.mark.slow
def test_before_the_first_write_nothing_is_promised(tmp_path):
    source, out = write_file(cryosparc(20), tmp_path / "in.parquet"), tmp_path / "out"
    began = time.monotonic()
    words = ["run", source, "-o", out, "-q", "--scheduler-file", tmp_path / "s.json"]
    code, printed = interrupted(words, lambda: time.monotonic() - began > 5)
    assert code == 130
    assert printed == "dask-dedup: interrupted; nothing was written\n"


@pytest.mark.slow
def test_other_commands_promise_nothing(tmp_path):
    source = write_file(cryosparc(20), tmp_path / "in.parquet")
    patch = "import dask_dedup.inspection as i, time; i.inspect = lambda *a, **k: time.sleep(60); "
    began = time.monotonic()
    code, printed = interrupted(["inspect", source], lambda: time.monotonic() - began > 5, patch)
    assert code == 130
    assert printed == "dask-dedup: interrupted\n"

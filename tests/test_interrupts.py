"""Ctrl-C, which a terminal sends to all processes of a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from browser import PATIENCE
from tables import cryosparc, write_file

pytestmark = pytest.mark.slow

BLOCKED = Path(__file__).with_name("blocked_worker.py")


def interrupted(words, when, patch="", release=None):
    """Send Ctrl-C once `when` is true; return the exit code and the standard error. Then write the file `release`."""
    program = f"{textwrap.dedent(patch)}\nfrom dask_dedup.cli import main\nmain()"
    command = [sys.executable, "-c", program, *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)
    try:
        while not when():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        if release:
            release.touch()
        _, printed = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, printed


def waiting(name, file):
    """Return a program that lets a function write a file and then wait for Ctrl-C."""
    module, _, function = name.rpartition(".")
    return f"""
        import time
        from pathlib import Path

        import {module}

        def wait(*_, **__):
            Path({str(file)!r}).touch()
            time.sleep({10 * PATIENCE})

        {module}.{function} = wait
    """


def test_during_the_report_the_message_says_that_the_result_is_complete(tmp_path):
    source, out = write_file(cryosparc(20), tmp_path / "in.parquet"), tmp_path / "out"
    file = tmp_path / "waits"
    patch = waiting("dask_dedup.report", file)
    code, printed = interrupted(["run", source, "-o", out, "-q"], file.exists, patch)
    assert (out / "manifest.json").exists()
    assert not any(out.glob(".dask-dedup-*"))
    assert code == 130, printed
    message = f"dask-dedup: interrupted, but the result is complete. To write the report: dask-dedup report {out}"
    assert message in printed.splitlines()


def test_while_the_folder_is_prepared_nothing_stays(tmp_path):
    source, out = write_file(cryosparc(20), tmp_path / "in.parquet"), tmp_path / "out"
    file = tmp_path / "waits"
    patch = waiting("dask_dedup.output.local._write_json", file)
    code, printed = interrupted(["run", source, "-o", out, "-q"], file.exists, patch)
    assert code == 130, printed
    assert printed == "dask-dedup: interrupted; nothing was written\n"
    assert not any(out.glob(".dask-dedup-*"))


@pytest.mark.slow
def test_workers_print_nothing(tmp_path, monkeypatch):
    source, out = write_file(cryosparc(3_000), tmp_path / "in.parquet"), tmp_path / "out"
    release = tmp_path / "release"
    monkeypatch.setenv("RELEASE", str(release))
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", str(BLOCKED))
    words = ["run", source, "-o", out, "-q", "--no-report", "--workers", 2]
    code, printed = interrupted(words, lambda: any(out.glob(".dask-dedup-*")), release=release)
    assert code == 130, printed
    assert "Traceback" not in printed
    assert " - ERROR - " not in printed
    assert "Run the same command to resume" in printed or "nothing was written" in printed
    assert printed.splitlines()[-1].startswith("dask-dedup: interrupted")


@pytest.mark.slow
def test_before_the_first_write_nothing_is_promised(tmp_path):
    source, out = write_file(cryosparc(20), tmp_path / "in.parquet"), tmp_path / "out"
    words = ["run", source, "-o", out, "-q", "--scheduler-file", tmp_path / "s.json"]
    file = tmp_path / "waits"
    patch = f"""
        from pathlib import Path

        from dask_dedup.cluster import handshake

        real = handshake.read_scheduler_file

        def read(name):
            Path({str(file)!r}).touch()
            return real(name)

        handshake.CONNECT_SECONDS = {10 * PATIENCE}
        handshake.read_scheduler_file = read
    """
    code, printed = interrupted(words, file.exists, patch)
    assert code == 130, printed
    assert printed == "dask-dedup: interrupted; nothing was written\n"


@pytest.mark.slow
def test_other_commands_promise_nothing(tmp_path):
    source = write_file(cryosparc(20), tmp_path / "in.parquet")
    file = tmp_path / "waits"
    patch = waiting("dask_dedup.inspection.inspect", file)
    code, printed = interrupted(["inspect", source], file.exists, patch)
    assert code == 130, printed
    assert printed == "dask-dedup: interrupted\n"

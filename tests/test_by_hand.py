"""The commands in deploy/README.md start a working cluster; only ports and folders are changed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import REPOSITORY
from ports import free_port

from dask_dedup import run, verify
from dask_dedup.simulation import simulate_pickers

README = (REPOSITORY / "deploy" / "README.md").read_text().split("## With TLS")[0]
COMMANDS = [
    line
    for block in re.findall(r"```\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("dask")
]


def until_answers(url, process):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=60) as page:
                return page.read().decode()
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(url)


@pytest.mark.slow
def test_the_commands_for_scheduler_workers_and_run(tmp_path, monkeypatch):
    scheduler, workers, dedup = COMMANDS
    comm, page = str(free_port()), str(free_port())
    simulate_pickers(tmp_path / "picks", particles=2_000, micrographs=10)

    def words(command):
        command = command.replace("8786", comm).replace("8787", page)
        command = command.replace("/tmp/dask-scratch", str(tmp_path / "scratch"))
        # Two threads are enough.
        command = command.replace("--nthreads 4", "--nthreads 1")
        program, *rest = shlex.split(command)
        return [Path(sys.executable).with_name(program), *rest]

    with ExitStack() as stack, (tmp_path / "log").open("w") as log:

        def start(command):
            process = subprocess.Popen(words(command), cwd=tmp_path, stdout=log, stderr=log)
            # In reverse order: workers stop before the scheduler.
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
            return process

        first = start(scheduler)
        assert until_answers(f"http://127.0.0.1:{page}/health", first) == "ok"
        start(workers)
        done = subprocess.run(
            words(dedup), cwd=tmp_path, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        assert f"live page: http://127.0.0.1:{page}/dedup" in done.stderr
        assert "2 threads" in done.stderr
        assert (tmp_path / "scratch").is_dir()
    monkeypatch.chdir(tmp_path)  # the paths of the inputs are relative to it
    assert verify("combined").verified
    here = run([tmp_path / "picks" / name for name in ("blob", "template")], tmp_path / "here")
    there = (tmp_path / "combined" / "particles_kept").glob("*.parquet")
    assert {file.name: file.read_bytes() for file in there} == {
        file.name: file.read_bytes() for file in (here.output / "particles_kept").glob("*.parquet")
    }

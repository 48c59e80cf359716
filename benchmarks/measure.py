"""Measure the wall time, CPU time and memory of a command and all its child processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

#: Seconds between two samples of the processes. A sample takes 3 ms of CPU.
INTERVAL = 0.1


@dataclass(frozen=True)
class Measurement:
    """The cost of a command.

    Attributes
    ----------
    wall, cpu : float
        Seconds; CPU time is user and system time of all processes.
    rss : int
        Largest resident memory of all processes together, in bytes.
    """

    wall: float
    cpu: float
    rss: int


def measure(command: list[str], cwd: str | None = None) -> Measurement:
    """Run a command and return its cost. Python may store compiled modules, as after an installation.

    Raises
    ------
    RuntimeError
        If the command fails.
    """
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    peak, cpu, ended = 0, {}, threading.Event()

    def sample() -> None:
        nonlocal peak
        while True:
            total = 0
            for each in [root, *_children(root)]:
                try:
                    with each.oneshot():
                        total += each.memory_info().rss
                        times = each.cpu_times()
                        cpu[each.pid] = times.user + times.system
                    peak = max(peak, _peak_of(each))
                except (OSError, psutil.Error):
                    continue
            peak = max(peak, total)
            if ended.wait(INTERVAL):
                return

    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=errors
        )
        root = psutil.Process(process.pid)
        sampler = threading.Thread(target=sample)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        ended.set()
        sampler.join()
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(
                f"{' '.join(command)}: exit code {process.returncode}\n{errors.read().decode()[-2000:]}"
            )
    # This is exact for the process and the children that it waited for. The samples include all other processes.
    exact = usage.ru_utime + usage.ru_stime
    return Measurement(wall, max(exact, sum(cpu.values())), peak)


def _peak_of(process: psutil.Process) -> int:
    """Return the largest resident memory of a process so far, in bytes. Samples can miss this maximum."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


if __name__ == "__main__":
    print(measure(sys.argv[1:]))

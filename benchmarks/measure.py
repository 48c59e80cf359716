"""Measure the wall time, CPU time and memory of a command and all its child processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import psutil

#: Seconds between two samples of the memory.
INTERVAL = 0.02


@dataclass(frozen=True)
class Measurement:
    """The cost of a command.

    Attributes
    ----------
    wall, cpu : float
        Seconds; CPU time is user and system time of all processes.
    rss : int
        Bytes: the largest sum of the resident sets of all processes at one time.
    """

    wall: float
    cpu: float
    rss: int


def measure(command: list[str], cwd: str | None = None) -> Measurement:
    """Run a command and return its cost.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    began = time.perf_counter()
    process = psutil.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak, cpu, ended = 0, {}, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.wait(INTERVAL):
            total = 0
            for each in [process, *_children(process)]:
                try:
                    with each.oneshot():
                        total += each.memory_info().rss
                        times = each.cpu_times()
                        cpu[each.pid] = times.user + times.system
                except psutil.Error:
                    continue
            peak = max(peak, total)

    sampler = threading.Thread(target=sample)
    sampler.start()
    before = _cpu_of_children()
    _, errors = process.communicate()
    ended.set()
    sampler.join()
    wall = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(command)}: exit code {process.returncode}\n{errors.decode()[-2000:]}"
        )
    # Exact for children that were waited for; the samples include those that were not.
    return Measurement(wall, max(_cpu_of_children() - before, sum(cpu.values())), peak)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _cpu_of_children() -> float:
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    print(measure(sys.argv[1:]))

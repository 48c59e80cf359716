"""Run a command; measure its wall time, CPU time and memory, those of all its processes together."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import psutil

#: Seconds between two looks at the memory.
INTERVAL = 0.02


@dataclass(frozen=True)
class Measurement:
    """What a command took.

    Attributes
    ----------
    wall, cpu : float
        Seconds; CPU time is of all processes, in user and in kernel mode.
    rss : int
        Bytes: the largest sum of the resident sets of all its processes at one time.
    """

    wall: float
    cpu: float
    rss: int


def measure(command: list[str], cwd: str | None = None) -> Measurement:
    """Run a command to its end.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    began = time.perf_counter()
    process = psutil.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak, spent, over = 0, {}, threading.Event()

    def look() -> None:
        nonlocal peak
        while not over.wait(INTERVAL):
            total = 0
            for each in [process, *_children(process)]:
                try:
                    with each.oneshot():
                        total += each.memory_info().rss
                        times = each.cpu_times()
                        spent[each.pid] = times.user + times.system
                except psutil.Error:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=look)
    watcher.start()
    before = _reaped()
    _, errors = process.communicate()
    over.set()
    watcher.join()
    wall = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(command)}: exit code {process.returncode}\n{errors.decode()[-2000:]}"
        )
    # Waited-for children are exact; what they did not wait for themselves was seen from outside.
    return Measurement(wall, max(_reaped() - before, sum(spent.values())), peak)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _reaped() -> float:
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    print(measure(sys.argv[1:]))

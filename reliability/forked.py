"""Commands in processes that are forked from a process with loaded libraries.

Loading the libraries takes longer than a small run, and a test with many kills starts hundreds of processes.
"""

from __future__ import annotations

import os
from multiprocessing import get_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "dask.dataframe",
        "dask_dedup.cli",
        "dask_dedup.monitoring.dashboard",
        "dask_dedup.pipeline.executors.distributed",
        "dask_dedup.pipeline.run",
        "dask_dedup.results.verify",
        "distributed.cli.dask_scheduler",
        "distributed.cli.dask_worker",
    ]
)


class Command:
    """A running command line of dask-dedup (``dask-dedup ...``) or Dask (``dask worker ...``).

    Parameters
    ----------
    command : sequence of str
    log : Path
        File for its output.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        self._process = _FORKS.Process(target=_run, args=(list(command), str(log)))
        self._process.start()

    @property
    def pid(self) -> int:
        """Id of the process, which is also the id of its session."""
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def output(self) -> str:
        """Text that the command has printed so far."""
        return self.log.read_text()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end. Return the exit code, or None if the command is still running."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self) -> None:
        """Kill the process, as the kernel does when memory runs out."""
        self._process.kill()


def _run(command: list[str], log: str) -> None:
    os.setsid()
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if command[0] == "dask-dedup":
        from dask_dedup.cli import main

        main(command[1:])
    elif command[1] == "scheduler":
        from distributed.cli.dask_scheduler import main as scheduler

        scheduler(command[2:])
    else:
        from distributed.cli.dask_worker import main as worker

        worker(command[2:])

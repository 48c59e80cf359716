"""Commands in processes of their own that need not load the libraries first: forked from one that has them.

On a busy machine loading them takes longer than a small run, and a campaign of many kills starts hundreds of processes.
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
    """A command line of this program (``dask-dedup ...``) or of Dask (``dask worker ...``), at work.

    Parameters
    ----------
    words : sequence of str
    log : Path
        Where its output goes.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self.log = log
        self._process = _FORKS.Process(target=_run, args=(list(words), str(log)))
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process, and of its session."""
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def told(self) -> str:
        """What it has printed."""
        return self.log.read_text()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end; gives the exit code, or None if it has not ended by then."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self) -> None:
        """End it as a lack of memory does."""
        self._process.kill()


def _run(words: list[str], log: str) -> None:
    os.setsid()
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if words[0] == "dask-dedup":
        from dask_dedup.cli import main

        main(words[1:])
    elif words[1] == "scheduler":
        from distributed.cli.dask_scheduler import main as scheduler

        scheduler(words[2:])
    else:
        from distributed.cli.dask_worker import main as worker

        worker(words[2:])

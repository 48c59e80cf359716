"""Where the stages run: inside this process, or on a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from dask_dedup.monitoring.progress import Event
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan


class Executor(Protocol):
    """Where the stages run; in words, where that is."""

    def emit(self, event: Event) -> None:
        """Pass an event on to whoever watches."""

    def listening(self, attempt: str) -> AbstractContextManager[None]:
        """Hear what is told of this attempt by whoever does the work."""

    def scan(self, job: Job) -> Iterator[ScanSummary]:
        """Take the census of every fragment, in any order."""

    def write(self, job: Job, plan: Plan) -> Iterator[FragmentCheckpoint]:
        """Decide, and write every fragment, in any order."""

"""Where the stages run: threads or a Dask cluster."""

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
    """Runs the stages of a job; ``str`` describes where."""

    #: Level of the log line that says where the run takes place.
    log_level: int

    def emit(self, event: Event) -> None:
        """Pass an event to `on_event`."""

    def listening(self, attempt: str) -> AbstractContextManager[None]:
        """Pass the events that workers emit for this attempt to `on_event`."""

    def scan(self, job: Job) -> Iterator[ScanSummary]:
        """Scan every fragment; summaries come in any order."""

    def write(self, job: Job, plan: Plan) -> Iterator[FragmentCheckpoint]:
        """Decide and write every fragment; checkpoints come in any order."""

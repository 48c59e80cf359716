"""Executors, which run the stages in threads or on a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.monitoring.progress import Event
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.checks.uids import RepeatedUids
    from dask_dedup.particles.sample import SampleChoice
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan
    from dask_dedup.pipeline.rejected_rows import RejectedRows


class Executor(Protocol):
    """Interface of executors, which run the scan and the write stage. ``str(executor)`` is for the log."""

    #: Level of this log line.
    log_level: int

    def emit(self, event: Event) -> None:
        """Pass an event to the callback `on_event`."""

    def listening(self, attempt: str) -> AbstractContextManager[None]:
        """Return a context manager that passes the events of this attempt to `on_event`."""

    def scan(self, job: Job) -> Iterator[ScanSummary]:
        """Scan all fragments of the inputs. Yield the summary of each fragment, in any order."""

    def find_repeated_uids(self, job: Job) -> RepeatedUids:
        """Find the uids that occur more than once in the fragments that `scan` has read."""

    def sample(self, job: Job, choice: SampleChoice, fragments: Sequence[int]) -> Iterator[Picks]:
        """Yield the picks of some scanned fragments that belong to a sample and are compared, in any order."""

    def write(self, job: Job, plan: Plan) -> Iterator[FragmentCheckpoint]:
        """Find duplicates and write all unwritten fragments. Yield the checkpoint of each, in any order."""

    def split(
        self, job: Job, rejected: Sequence[RejectedRows], fragments: Sequence[int]
    ) -> Iterator[FragmentCheckpoint]:
        """Write the particles of some fragments. Yield the checkpoint of each, in any order.

        `rejected` lists the rejected rows of each fragment of the inputs.
        """

"""Scheduler plugin that receives the events of runs and adds them up."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from dask_dedup.monitoring.progress import TOPIC, Progress

if TYPE_CHECKING:
    from distributed import Scheduler

    from dask_dedup.monitoring.progress import Event

log = logging.getLogger("dask_dedup.monitoring.dashboard")

#: Number of runs to keep, the newest.
MOST_RUNS = 5


class DedupPlugin(SchedulerPlugin):  # type: ignore[misc]
    """The runs of a scheduler.

    Attributes
    ----------
    runs : dict of str to Progress
        The newest last, at most `MOST_RUNS`.
    totals : dict of str to int
        Over all runs since the scheduler started: kept, rejected, moved_bytes, repeats, finished and failed runs,
        workers lost during a run, and fragments or shuffle partitions done in each stage.
    """

    name = "dask-dedup"

    def __init__(self) -> None:
        self.runs: dict[str, Progress] = {}
        self.totals = dict.fromkeys((*_counts(Progress()), "lost_workers"), 0)
        self.scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Remember the scheduler."""
        self.scheduler = scheduler

    def log_event(self, topic: str, msg: Any) -> None:
        """Add an event of a run. Malformed events are ignored, because every client can write to the topic."""
        if topic != TOPIC:
            return
        try:
            self._note(msg)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.debug("ignored a malformed event: %r (%r)", msg, error)

    def _note(self, event: Event) -> None:
        run = event["run"]
        if event["kind"] == "started":
            self.runs[run] = Progress()
            for old in list(self.runs)[:-MOST_RUNS]:
                del self.runs[old]
        progress = self.runs.get(run)
        if progress is None:
            # The run was dropped, or started before the scheduler.
            return
        before = _counts(progress)
        progress.note(event, time.monotonic())
        for name, count in _counts(progress).items():
            self.totals[name] += count - before[name]

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:  # noqa: ARG002
        """Count the workers lost during a run."""
        if self.current and self.current.status == "running":
            self.totals["lost_workers"] += 1
            self.current.lost_workers += 1

    @property
    def current(self) -> Progress | None:
        """The run to show: the newest running one, else the newest."""
        newest = list(reversed(self.runs.values()))
        running = (run for run in newest if run.status == "running")
        return next(running, newest[0] if newest else None)


def _counts(progress: Progress) -> dict[str, int]:
    return {
        "kept": progress.kept,
        "rejected": progress.rejected,
        "moved_bytes": progress.moved_bytes,
        "repeats": progress.repeats,
        "finished": int(progress.status == "finished"),
        "failed": int(progress.status == "failed"),
        **{name: len(stage.done) for name, stage in progress.stages.items()},
    }

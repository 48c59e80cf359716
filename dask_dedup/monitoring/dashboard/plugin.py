"""What the scheduler knows of runs: it hears their events and adds them up."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from dask_dedup.monitoring.progress import STAGES, Progress
from dask_dedup.pipeline.events import TOPIC

if TYPE_CHECKING:
    from distributed import Scheduler

log = logging.getLogger("dask_dedup.monitoring.dashboard")

#: So many runs are remembered, the newest.
REMEMBERED = 5


class Board(SchedulerPlugin):  # type: ignore[misc]
    """The runs of a scheduler, from their events.

    Attributes
    ----------
    runs : dict of str to Progress
        The newest last; no more than `REMEMBERED`.
    totals : dict of str to int
        Since the scheduler started, over all runs: kept, rejected, moved_bytes, repeats, finished and
        failed runs, workers lost during a run, and fragments or buckets done in each stage.
    """

    name = "dask-dedup"

    def __init__(self) -> None:
        self.runs: dict[str, Progress] = {}
        counted = (
            "kept",
            "rejected",
            "moved_bytes",
            "repeats",
            "finished",
            "failed",
            "lost_workers",
        )
        self.totals = dict.fromkeys((*counted, *STAGES), 0)
        self.scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Begin to listen."""
        self.scheduler = scheduler

    def log_event(self, topic: str, msg: Any) -> None:
        """Take in an event; anybody may write to the topic, so what is malformed is left alone."""
        if topic != TOPIC:
            return
        try:
            self._note(msg)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.debug("an event that is none: %r (%r)", msg, error)

    def _note(self, event: dict[str, Any]) -> None:
        run = event["run"]
        if event["kind"] == "started":
            self.runs[run] = Progress()
            for old in list(self.runs)[:-REMEMBERED]:
                del self.runs[old]
        progress = self.runs.get(run)
        if progress is None:
            # The scheduler has forgotten it, or was not there when it began.
            return
        before = _figures(progress)
        progress.note(event, time.monotonic())
        for name, figure in _figures(progress).items():
            self.totals[name] += figure - before[name]

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:  # noqa: ARG002
        """Count the workers that leave in the midst of a run."""
        if self.current and self.current.status == "running":
            self.totals["lost_workers"] += 1
            self.current.lost_workers += 1

    @property
    def current(self) -> Progress | None:
        """The run to be shown: the newest that goes on, else the newest."""
        newest = list(reversed(self.runs.values()))
        going_on = (run for run in newest if run.status == "running")
        return next(going_on, newest[0] if newest else None)


def _figures(progress: Progress) -> dict[str, int]:
    return {
        "kept": progress.kept,
        "rejected": progress.rejected,
        "moved_bytes": progress.moved_bytes,
        "repeats": progress.repeats,
        "finished": int(progress.status == "finished"),
        "failed": int(progress.status == "failed"),
        **{name: len(stage.seen) for name, stage in progress.stages.items()},
    }

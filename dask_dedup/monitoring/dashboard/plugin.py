"""Scheduler plugin that receives run events and computes the numbers for the live page."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import heartbeat_interval

from dask_dedup.formatting import clock, duration, shell_command
from dask_dedup.monitoring.progress import DOING, INTERRUPTED, OPEN, TOPIC, Progress, describe

if TYPE_CHECKING:
    from distributed import Scheduler

    from dask_dedup.monitoring.progress import Event

log = logging.getLogger("dask_dedup.monitoring.dashboard")

#: Path of the reports on the scheduler's dashboard.
REPORT = "/dedup-report"
#: Number of the newest runs to keep.
MOST_RUNS = 5
#: Longest time, in seconds, that a cluster waits before it closes, until open pages show the end of the run.
VISITOR_SECONDS = 3.0
#: Seconds without an update after which a page counts as closed.
CLOSED_SECONDS = 5.0
#: Seconds that the last update needs to reach the browsers.
TRAVEL_SECONDS = 0.2
#: Seconds that a heartbeat of a driver may be late before the driver counts as lost.
LATE_SECONDS = 7.0
#: Attributes of a run that the view shows as they are.
_SHOWN = (
    *("run", "output", "executor", "inputs", "stage", "fraction", "rows", "kept", "rejected"),
    *("fragments", "micrographs", "decided_micrographs", "by_fraction", "partition_rows"),
    *("moved_bytes", "payload_bytes", "repeats", "lost_workers", "result", "reason", "report"),
    *("partitions", "started_at", "heard_at", "stall"),
)


@dataclass(eq=False)
class Visitor:
    """An open live page: the run, status and report that it showed last, and the time of this update."""

    shown: tuple[str, str, str] | None = None
    updated: float = 0.0


class DedupPlugin(SchedulerPlugin):  # type: ignore[misc]
    """Scheduler plugin that records the progress of runs.

    Attributes
    ----------
    runs : dict of str to Progress
        Progress of at most `MOST_RUNS` runs. The newest run is the last.
    totals : dict of str to int
        Sums over all runs since the scheduler started: kept, rejected, moved_bytes, repeats, finished, failed and lost
        runs, workers lost during a run, and fragments or shuffle partitions done in each stage.
    """

    name = "dask-dedup"

    def __init__(self, scheduler: Scheduler | None = None) -> None:
        self.runs: dict[str, Progress] = {}
        self.totals = dict.fromkeys((*_counts(Progress()), "lost", "lost_workers"), 0)
        self.scheduler = scheduler
        self.visitors: WeakSet[Visitor] = WeakSet()

    def log_event(self, topic: str, msg: Any) -> None:
        """Update a run's progress with an event. Ignore malformed events: any client can write to the topic."""
        if topic != TOPIC:
            return
        try:
            self._note(msg)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.debug("ignored a malformed event: %r (%r)", msg, error)

    @property
    def shown(self) -> tuple[str, str, str]:
        """The run, status and report that an up-to-date page shows."""
        run = self.current or Progress()
        return run.run, run.status, run.report

    async def wait_for_visitors(self) -> None:
        """Wait until all open pages are up to date, `VISITOR_SECONDS` at most."""
        began = time.monotonic()
        # A closed page stays in memory for a while, without updates.
        pages = [page for page in self.visitors if began - page.updated < CLOSED_SECONDS]
        while any(page.shown != self.shown for page in pages):
            if time.monotonic() - began > VISITOR_SECONDS:
                break
            await asyncio.sleep(0.05)
        if pages:
            await asyncio.sleep(TRAVEL_SECONDS)

    def _note(self, event: Event) -> None:
        if event["kind"] == "reported":
            self._note_report(event)
            return
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

    def _note_report(self, event: Event) -> None:
        """Record the report in the newest attempt at its run."""
        for run in reversed(self.runs.values()):
            if run.result and run.result["run_id"] == event["run_id"]:
                run.note(event)
                return

    def remove_client(self, scheduler: Scheduler, client: str) -> None:  # noqa: ARG002
        """Mark the unfinished runs of a client as lost, because its connection has ended."""
        for run in self.runs.values():
            if run.client == client and run.status == "running":
                self._lose(run, time.time())

    def check_drivers(self) -> None:
        """Mark runs with a silent driver as lost. Mark lost runs as running if their driver answers again."""
        if self.scheduler is None or self.scheduler.address.startswith("inproc://"):
            return  # the driver is in the process of the scheduler, so it cannot be lost alone
        clients = self.scheduler.clients
        # Clients send a heartbeat every 5 s, and less often if there are many clients.
        limit = 10 * heartbeat_interval(len(clients)) + LATE_SECONDS
        for run in self.runs.values():
            if run.status not in OPEN or run.client not in clients:
                continue
            heard_at = clients[run.client].last_seen
            silent = time.time() - heard_at > limit
            if silent and run.status == "running":
                self._lose(run, heard_at)
            elif not silent and run.status == "lost":
                run.regain()

    def _lose(self, run: Progress, heard_at: float) -> None:
        run.lose(heard_at)
        self.totals["lost"] += 1

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:  # noqa: ARG002
        """Count a lost worker, if a run is in progress."""
        if self.current and self.current.status == "running":
            self.totals["lost_workers"] += 1
            self.current.lost_workers += 1

    @property
    def current(self) -> Progress | None:
        """The newest run in progress, or else the newest run."""
        self.check_drivers()
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


def make_view(plugin: DedupPlugin) -> dict[str, Any]:
    """Return the numbers that the live page and ``/json/dedup.json`` show, as JSON values."""
    run = plugin.current
    workers = list(plugin.scheduler.workers.values()) if plugin.scheduler else []
    view: dict[str, Any] = {
        "status": run.status if run else "waiting",
        "headline": _headline(run, len(workers) if plugin.scheduler else None),
        "workers": len(workers),
        "paused_workers": sum(worker.status.name == "paused" for worker in workers),
        "threads": sum(worker.nthreads for worker in workers),
        "totals": dict(plugin.totals),
        "runs": [
            {
                "run": each.run,
                "output": each.output,
                "status": each.status,
                "started_at": each.started_at,
                "headline": _headline(each),
            }
            for each in reversed(plugin.runs.values())
        ],
    }
    return view | (view_run(run) if run else {})


def _headline(run: Progress | None, workers: int | None = None) -> str:
    if run is None:
        return "No run yet. This page shows the next one on this cluster."
    if run.status == "running":
        doing = describe(run).strip()
        doing = doing[:1].upper() + doing[1:]
        waits = workers == 0 and not run.stall
        return f"No workers: the run waits for new ones ({doing})" if waits else doing
    if run.status == "lost":
        return (
            f"Driver lost at {run.fraction:.0%} of the work. Its last message was at {clock(run.heard_at)}. "
            f"Run the same command to continue. {shell_command('status', run.output)} shows the command."
        )
    if run.reason == INTERRUPTED:
        return f"Interrupted after {duration(run.elapsed())}. Run the same command to continue."
    if run.status == "failed":
        return f"Failed after {duration(run.elapsed())}: {run.reason}"
    return (
        f"Finished in {duration(run.elapsed())}: of {run.rows:,} particles {run.kept:,} kept, "
        f"{run.rejected:,} rejected."
    )


def view_run(run: Progress) -> dict[str, Any]:
    """Return the progress of one run as JSON values."""
    densest = sorted(run.densest.items(), key=lambda item: (-item[1][0], item[0]))
    return {
        **{name: getattr(run, name) for name in _SHOWN},
        "seconds": run.elapsed(),
        "seconds_left": run.seconds_left(),
        "particles_per_second": run.speed() if run.status == "running" else 0.0,
        "stages": [
            {
                "name": name,
                "doing": DOING[name],
                "rows": stage.rows,
                "total_rows": stage.total_rows,
                "task_seconds": stage.seconds,
            }
            for name, stage in run.stages.items()
        ],
        "densest": [
            {"name": run.name_of(key), "picks": picks, "rejected": rejected}
            for key, (picks, rejected) in densest
        ],
        "slowest": [
            {"doing": DOING[stage], "number": number, "seconds": seconds, "rows": rows}
            for seconds, stage, number, rows in sorted(run.slowest, reverse=True)
        ],
        "curve": [list(point) for point in run.curve],
    }

"""How far a run has come, as its events tell it: what a terminal, a page and a metric show."""

from __future__ import annotations

import heapq
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_dedup.formatting import duration

if TYPE_CHECKING:
    from dask_dedup.pipeline.events import Event

#: The stages in their order, with what a particle costs in each, about, against the others.
STAGES = {"scanned": 1.0, "collected": 1.0, "decided": 1.0, "written": 4.0}
#: What a person reads for each.
DOING = {
    "scanned": "counting",
    "collected": "collecting picks",
    "decided": "deciding",
    "written": "writing",
}
#: The last event of a run is of one of these kinds.
ENDS = ("finished", "failed")
#: So many micrographs and tasks are listed.
LISTED = 10
#: Seconds between two points of a curve, at first; as a curve fills up it keeps every second point.
POINT_SECONDS = 0.5
POINTS = 600
#: Speed is that of so many last seconds.
SPEED_SECONDS = 10.0


@dataclass(slots=True)
class StageProgress:
    """How far one stage has come.

    Attributes
    ----------
    rows, total_rows : int
        Particles done and to do.
    seconds : float
        Spent by all tasks together.
    seen : set of int
        Fragments or buckets that are done.
    """

    rows: int = 0
    total_rows: int = 0
    seconds: float = 0.0
    seen: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Progress:
    """How far a run has come.

    A fragment or bucket counts once, however often its task ran. Memory grows with their number (an
    integer each), not with micrographs or particles.

    Attributes
    ----------
    run : str
        Which attempt at which run.
    status : {"waiting", "running", "finished", "failed"}
    output, where, reason : str
    inputs : list of str
    rows, payload_bytes, fragments, buckets, micrographs : int
    bucket_rows : list of int
        Picks of each bucket, the largest first.
    stages : dict of str to StageProgress
    kept, rejected : int
        Written so far.
    decided_micrographs : int
    by_fraction : list of int
        Decided micrographs by the fraction of their particles that was rejected, equal bins over 0 to 1.
    moved_bytes : int
        Of picks that left their fragment.
    repeats : int
        Tasks that told of work that was done already: retried, or run again after a worker was lost.
    lost_workers : int
        That left since the start.
    densest : dict of int to tuple of int
        Of the micrographs with the most particles by key: particles, rejected.
    slowest : list of tuple
        Seconds, stage, number of the fragment or bucket, particles.
    curve : list of tuple
        Seconds since the start, particles done in all stages, kept, rejected.
    result : dict or None
        What the driver told at the end.
    """

    run: str = ""
    status: str = "waiting"
    output: str = ""
    where: str = ""
    reason: str = ""
    inputs: list[str] = field(default_factory=list)
    rows: int = 0
    payload_bytes: int = 0
    fragments: int = 0
    partitions: int = 0
    micrographs: int = 0
    partition_rows: list[int] = field(default_factory=list)
    stages: dict[str, StageProgress] = field(
        default_factory=lambda: {name: StageProgress() for name in STAGES}
    )
    kept: int = 0
    rejected: int = 0
    decided_micrographs: int = 0
    by_fraction: list[int] = field(default_factory=list)
    moved_bytes: int = 0
    repeats: int = 0
    lost_workers: int = 0
    densest: dict[int, tuple[int, int]] = field(default_factory=dict)
    slowest: list[tuple[float, str, int, int]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    curve: list[tuple[float, int, int, int]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    _began: float = 0.0
    _ended: float | None = None
    _point_seconds: float = POINT_SECONDS
    _recent: deque[tuple[float, str, int]] = field(default_factory=deque)

    def note(self, event: Event, now: float | None = None) -> None:
        """Take in an event.

        Parameters
        ----------
        event : dict
            See `events`.
        now : float, optional
            Seconds of the listener's own clock.
        """
        now = time.monotonic() if now is None else now
        kind = event["kind"]
        if kind == "started":
            self._start(event, now)
        elif kind == "planned":
            self._plan(event)
        elif kind in STAGES:
            self._advance(kind, event, now)
        elif kind in ENDS and self.status == "running":
            self.status, self._ended = kind, now
            self.result = event if kind == "finished" else None
            self.reason = event.get("reason", "")
            self._draw(now)

    def _start(self, event: Event, now: float) -> None:
        self.run, self.status, self._began = event.get("run", ""), "running", now
        self.output, self.where, self.inputs = event["output"], event["where"], event["inputs"]
        self.rows, self.payload_bytes = event["rows"], event["bytes"]
        self.fragments = event["fragments"]
        # Until the plan is made all picks may have to move.
        for stage in self.stages.values():
            stage.total_rows = self.rows
        self.curve = [(0.0, 0, 0, 0)]

    def _plan(self, event: Event) -> None:
        self.micrographs, self.partitions = event["micrographs"], event["partitions"]
        self.partition_rows = event["partition_rows"]
        self.names = {int(key): name for key, name in event["names"]}
        for name in ("collected", "decided"):
            self.stages[name].total_rows = event["moving_rows"]

    def _advance(self, kind: str, event: Event, now: float) -> None:
        stage, number = self.stages[kind], event["number"]
        if number in stage.seen:
            self.repeats += 1
            return
        stage.seen.add(number)
        stage.rows += event["rows"]
        stage.seconds += event["seconds"]
        self.kept += event.get("kept", 0)
        self.rejected += event.get("rejected", 0)
        self.moved_bytes += event.get("bytes", 0)
        if "counts" in event:
            self._count(event["counts"])
        slow = (event["seconds"], kind, number, event["rows"])
        (heapq.heappush if len(self.slowest) < LISTED else heapq.heappushpop)(self.slowest, slow)
        self._recent.append((now, kind, event["rows"]))
        self._forget(now)
        if now - self._began - self.curve[-1][0] >= self._point_seconds:
            self._draw(now)

    def _count(self, counts: dict[str, Any]) -> None:
        self.decided_micrographs += counts["micrographs"]
        bins = self.by_fraction or [0] * len(counts["by_fraction"])
        self.by_fraction = [a + b for a, b in zip(bins, counts["by_fraction"], strict=True)]
        self.densest |= {key: (picks, rejected) for key, picks, rejected in counts["densest"]}
        if len(self.densest) > LISTED:
            most = heapq.nlargest(LISTED, self.densest.items(), key=lambda item: (item[1], item[0]))
            self.densest = dict(most)

    def _draw(self, now: float) -> None:
        done = sum(stage.rows for stage in self.stages.values())
        self.curve.append((round(now - self._began, 2), done, self.kept, self.rejected))
        if len(self.curve) > POINTS:
            self.curve = [self.curve[0], *self.curve[2::2]]
            self._point_seconds *= 2

    @property
    def stage(self) -> str:
        """The first stage that is not at its end; empty before the start and after the end."""
        if self.status != "running":
            return ""
        return next((name for name, s in self.stages.items() if s.rows < s.total_rows), "written")

    @property
    def fraction(self) -> float:
        """Share of the work that is done, 0 to 1; the stages weigh as in `STAGES`."""
        if self.status == "finished":
            return 1.0
        todo = sum(STAGES[name] * stage.total_rows for name, stage in self.stages.items())
        done = sum(STAGES[name] * stage.rows for name, stage in self.stages.items())
        return done / todo if todo else 0.0

    def elapsed(self, now: float | None = None) -> float:
        """Seconds since the start, or that the run took."""
        now = time.monotonic() if now is None else now
        if self.status == "waiting":
            return 0.0
        return (now if self._ended is None else self._ended) - self._began

    def speed(self, now: float | None = None) -> float:
        """Particles per second through the present stage, over the last seconds."""
        now = time.monotonic() if now is None else now
        self._forget(now)
        rows = sum(rows for _, kind, rows in self._recent if kind == self.stage)
        return rows / max(min(self.elapsed(now), SPEED_SECONDS), 0.1)

    def _forget(self, now: float) -> None:
        while self._recent and now - self._recent[0][0] > SPEED_SECONDS:
            self._recent.popleft()

    def seconds_left(self, now: float | None = None) -> float | None:
        """Seconds left if the work goes on as so far; None where there is nothing to go by."""
        if self.status != "running" or self.fraction < 0.02:
            return None
        return self.elapsed(now) * (1 - self.fraction) / self.fraction

    def name_of(self, micrograph: int) -> str:
        """Name a micrograph by its key."""
        return self.names.get(micrograph, f"uid {micrograph}")


def describe(progress: Progress) -> str:
    """Say in a line how far a run is."""
    stage = progress.stages[progress.stage]
    parts = [
        f"{progress.fraction:4.0%} {DOING[progress.stage]}: {stage.rows:,} of {stage.total_rows:,}"
    ]
    speed = progress.speed()
    if speed:
        parts.append(f"{speed:,.0f} particles/s")
    left = progress.seconds_left()
    if left is not None:
        parts.append(f"about {duration(left)} left")
    if progress.stages["written"].rows:
        parts.append(f"kept {progress.kept:,}, rejected {progress.rejected:,}")
    return ", ".join(parts)

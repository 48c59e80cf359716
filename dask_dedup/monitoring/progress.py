"""Progress of a run, computed from its events."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dask_dedup.formatting import duration

#: An event of a run, see `pipeline.events`, and a function that receives each of them.
Event = dict[str, Any]
EventHandler = Callable[[Event], None]

#: Topic of the events on a Dask cluster.
TOPIC = "dask-dedup"
#: Key of a scheduler's metadata: path of the live page, and whether it is served by https.
PAGE_METADATA = "dask-dedup-page"
#: The stages in order, with the approximate cost of a particle in each.
STAGES = {"scanned": 1.0, "collected": 1.0, "decided": 1.0, "written": 4.0}
#: The activity to show for each stage.
DOING = {
    "scanned": "counting",
    "collected": "collecting picks",
    "decided": "deciding",
    "written": "writing",
}
#: Kinds of a run's last event.
ENDS = ("finished", "failed")
#: The reason of a run that was stopped by Ctrl-C.
INTERRUPTED = "interrupted"
#: States of a run without a last event: the run is in progress, or the program that started the run is lost.
OPEN = ("running", "lost")
#: Number of micrographs and of tasks that are listed.
LISTED = 10
#: Seconds between two points of the curve at first. If the curve has `POINTS` points, every second point is removed.
POINT_SECONDS = 0.5
POINTS = 600
#: The speed is averaged over this time before the present, in seconds.
SPEED_SECONDS = 10.0


@dataclass(slots=True)
class StageProgress:
    """Progress of one stage.

    Attributes
    ----------
    rows, total_rows : int
        Particles done and to do.
    seconds : float
        Duration of all tasks.
    done : set of int
        Numbers of the fragments or shuffle partitions that are done.
    """

    rows: int = 0
    total_rows: int = 0
    seconds: float = 0.0
    done: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Progress:
    """Progress of a run.

    A fragment or shuffle partition counts once, even if its task runs twice. Memory grows with the number of fragments
    and shuffle partitions, and not with the number of micrographs or particles.

    Attributes
    ----------
    run : str
        Identifies an attempt at a run.
    status : {"waiting", "running", "finished", "failed", "lost"}
        ``lost``: the driver, which is the program that started the run, has ended or is silent.
    output, executor, reason : str
    client : str
        Id of the driver's Dask client; "" without a cluster.
    started_at, heard_at : float
        Start of the run, and the last message of a lost driver. Seconds since 1970.
    report : str
        Path of the report, once it is written.
    inputs : list of str
    rows, payload_bytes, fragments, partitions, micrographs : int
    partition_rows : list of int
        Picks of each shuffle partition, in descending order.
    stages : dict of str to StageProgress
    kept, rejected : int
        Numbers of particles written so far.
    decided_micrographs : int
    by_fraction : list of int
        Histogram of decided micrographs by their fraction of rejected particles, from 0 to 1.
    moved_bytes : int
        Bytes of shuffled picks.
    repeats : int
        Tasks that ran again after their work was done, because of a retry or a lost worker.
    lost_workers : int
        Number of workers lost since the start of the run.
    densest : dict of int to tuple of int
        Particles and rejected particles of the densest micrographs, by micrograph key.
    slowest : list of tuple
        Seconds, stage, number of the fragment or shuffle partition, particles.
    curve : list of tuple
        Seconds since the start, particles done in all stages, kept, rejected.
    result : dict or None
        The event ``finished``.
    stall : str
        The reason why the cluster has stopped working; "" if the cluster works.
    """

    run: str = ""
    status: str = "waiting"
    output: str = ""
    executor: str = ""
    reason: str = ""
    client: str = ""
    started_at: float = 0.0
    heard_at: float = 0.0
    report: str = ""
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
    stall: str = ""
    _stall_ends: float = 0.0
    _began: float = 0.0
    _ended: float | None = None
    _point_seconds: float = POINT_SECONDS
    _recent: deque[tuple[float, str, int]] = field(default_factory=deque)

    def note(self, event: Event, now: float | None = None) -> None:
        """Update the progress with an event. `now` defaults to `time.monotonic()`."""
        now = time.monotonic() if now is None else now
        kind = event["kind"]
        if kind == "started":
            self._start(event, now)
        elif kind == "planned":
            self._plan(event)
        elif kind == "stalled":
            self.stall, self._stall_ends = event["reason"], now + event["seconds_left"]
        elif kind in STAGES:
            self._advance(kind, event, now)
        elif kind == "reported":
            self.report = event["page"]
        elif kind in ENDS and self.status in OPEN:
            self.status, self._ended = kind, now
            self.result = event if kind == "finished" else None
            self.reason = event.get("reason", "")
            self._add_point(now)

    def lose(self, heard_at: float) -> None:
        """Mark a run as lost. `heard_at` is the time of the driver's last message, in seconds since 1970."""
        self.status, self.heard_at, self._ended = "lost", heard_at, time.monotonic()

    def regain(self) -> None:
        """Mark a lost run as running again."""
        self.status, self._ended = "running", None

    def _start(self, event: Event, now: float) -> None:
        self.run, self.status, self._began = event.get("run", ""), "running", now
        self.output, self.executor = event["output"], event["executor"]
        self.client, self.started_at = event.get("client", ""), time.time()
        self.inputs, self.fragments = event["inputs"], event["fragments"]
        self.rows, self.payload_bytes = event["rows"], event["bytes"]
        # Before the plan, all picks may have to be shuffled.
        for name in event.get("stages", STAGES):
            self.stages[name].total_rows = self.rows
        self.curve = [(0.0, 0, 0, 0)]

    def _plan(self, event: Event) -> None:
        self.micrographs, self.partitions = event["micrographs"], event["partitions"]
        self.partition_rows = event["partition_rows"]
        self.names = {int(key): name for key, name in event["names"]}
        for name in ("collected", "decided"):
            self.stages[name].total_rows = event["moving_rows"]

    def _advance(self, kind: str, event: Event, now: float) -> None:
        stage, number = self.stages[kind], event["number"]
        if number in stage.done:
            self.repeats += 1
            return
        stage.done.add(number)
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
        self._drop_old(now)
        if now - self._began - self.curve[-1][0] >= self._point_seconds:
            self._add_point(now)

    def _count(self, counts: dict[str, Any]) -> None:
        self.decided_micrographs += counts["micrographs"]
        bins = self.by_fraction or [0] * len(counts["by_fraction"])
        self.by_fraction = [a + b for a, b in zip(bins, counts["by_fraction"], strict=True)]
        self.densest |= {key: (picks, rejected) for key, picks, rejected in counts["densest"]}
        if len(self.densest) > LISTED:
            most = heapq.nlargest(LISTED, self.densest.items(), key=lambda item: (item[1], item[0]))
            self.densest = dict(most)

    def _add_point(self, now: float) -> None:
        done = sum(stage.rows for stage in self.stages.values())
        self.curve.append((round(now - self._began, 2), done, self.kept, self.rejected))
        if len(self.curve) > POINTS:
            self.curve = [self.curve[0], *self.curve[2::2]]
            self._point_seconds *= 2

    @property
    def stage(self) -> str:
        """Name of the first incomplete stage, or "" if the run is not in progress."""
        if self.status != "running":
            return ""
        return next((name for name, s in self.stages.items() if s.rows < s.total_rows), "written")

    @property
    def fraction(self) -> float:
        """Fraction of the run's work that is done, 0 to 1. `STAGES` has the weight of each stage."""
        if self.status == "finished":
            return 1.0
        todo = sum(STAGES[name] * stage.total_rows for name, stage in self.stages.items())
        done = sum(STAGES[name] * stage.rows for name, stage in self.stages.items())
        return done / todo if todo else 0.0

    def elapsed(self, now: float | None = None) -> float:
        """Return the seconds since the start of the run, or the duration of an ended run."""
        now = time.monotonic() if now is None else now
        if self.status == "waiting":
            return 0.0
        return (now if self._ended is None else self._ended) - self._began

    def speed(self, now: float | None = None) -> float:
        """Return the particles per second of the current stage, averaged over the last `SPEED_SECONDS`."""
        now = time.monotonic() if now is None else now
        self._drop_old(now)
        rows = sum(rows for _, kind, rows in self._recent if kind == self.stage)
        return rows / max(min(self.elapsed(now), SPEED_SECONDS), 0.1)

    def _drop_old(self, now: float) -> None:
        while self._recent and now - self._recent[0][0] > SPEED_SECONDS:
            self._recent.popleft()

    def seconds_left(self, now: float | None = None) -> float | None:
        """Estimate the seconds until the run ends. Return None if too little is done or no run is in progress."""
        if self.status != "running" or self.fraction < 0.02:
            return None
        return self.elapsed(now) * (1 - self.fraction) / self.fraction

    def seconds_to_stop(self, now: float | None = None) -> float:
        """Return the seconds until a stalled run stops, at least 0."""
        return max(0.0, self._stall_ends - (time.monotonic() if now is None else now))

    def name_of(self, micrograph: int) -> str:
        """Return the name of a micrograph, or its uid if it has no name."""
        return self.names.get(micrograph, f"uid {micrograph}")


def describe(progress: Progress) -> str:
    """Format the progress of a run as one line of text."""
    stage = progress.stages[progress.stage]
    doing = DOING[progress.stage]
    parts = [f"{progress.fraction:4.0%} {doing}: {stage.rows:,} of {stage.total_rows:,}"]
    if progress.stall:
        stops = duration(progress.seconds_to_stop())
        return f"stops in {stops}: {progress.stall} ({parts[0].strip()})"
    speed = progress.speed()
    if speed:
        parts.append(f"{speed:,.0f} particles/s")
    left = progress.seconds_left()
    if left is not None:
        parts.append(f"about {duration(left)} left")
    if progress.stages["written"].rows:
        parts.append(f"kept {progress.kept:,}, rejected {progress.rejected:,}")
    return ", ".join(parts)

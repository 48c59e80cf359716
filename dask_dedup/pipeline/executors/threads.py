"""Inside this process: threads, and the moving picks in memory."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.decide import DecisionCounts, Rejections
from dask_dedup.dedup.picks import Picks
from dask_dedup.formatting import counted
from dask_dedup.pipeline import events, stages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.monitoring.progress import Event, EventHandler
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan
    from dask_dedup.pipeline.stages import Narrow


#: Bytes of picks that are held between the stages, so that most tables are read and parsed once.
HELD_BYTES = 2**29
#: The stages hold the interpreter's lock for a seventh of their time: more threads would wait for each other, and
#: more cores are better used by worker processes, where there is enough to do.
MOST_THREADS = 12


class ThreadExecutor:
    """Runs the stages on the cores of this machine; pyarrow, NumPy and SciPy leave the interpreter's lock."""

    def __init__(self, on_event: EventHandler | None = None, threads: int | None = None) -> None:
        self.threads = threads or min(len(os.sched_getaffinity(0)), MOST_THREADS)
        self._on_event = on_event
        self._telling = Lock()
        self._picks: dict[int, Picks] = {}
        self._names: dict[int, pa.ChunkedArray | None] = {}
        self._edges: dict[int, tuple[NDArray[np.uint64], Picks]] = {}

    def __str__(self) -> str:
        return f"in this process, {counted(self.threads, 'thread')}"

    def emit(self, event: Event) -> None:
        """Pass an event on to whoever watches."""
        if self._on_event:
            with self._telling:
                self._on_event(event)

    @contextmanager
    def listening(self, attempt: str) -> Iterator[None]:  # noqa: ARG002
        """Nothing but this attempt is told of here."""
        yield

    def scan(self, job: Job) -> Iterator[ScanSummary]:
        """Take the census of every fragment."""

        def scan(number: int) -> tuple[ScanSummary, Narrow]:
            began = time.perf_counter()
            summary, narrow = stages.scan_fragment(job, number)
            self.emit(events.scanned(summary, time.perf_counter() - began))
            return summary, narrow

        room, self._picks, self._names, self._edges = HELD_BYTES, {}, {}, {}
        with self._pool() as run:
            for summary, narrow in run(scan, range(len(job.fragments))):
                room -= narrow.nbytes
                if room >= 0:
                    self._picks[summary.fragment] = narrow.picks
                    self._names[summary.fragment] = narrow.micrograph
                else:
                    self._edges[summary.fragment] = summary.micrographs, _at_edges(narrow.picks)
                yield summary

    def write(self, job: Job, plan: Plan) -> Iterator[FragmentCheckpoint]:
        """Decide, and write every fragment."""
        with self._pool() as run:
            moved: dict[int, list[Rejections]] = {}
            if plan.open_fragments:
                moved = self._exchange(job, plan, run)
            for number in {*self._picks} - {*plan.unwritten}:
                del self._picks[number]

            # The picks give way to the decisions about them before any payload takes their room.
            def decide(number: int) -> tuple[int, tuple[Rejections, DecisionCounts]]:
                return number, stages.decide_fragment(job, plan, self._picks.pop(number))

            settled = dict(run(decide, list(self._picks)))

            def write(number: int) -> FragmentCheckpoint:
                began = time.perf_counter()
                checkpoint = stages.write_fragment(
                    job,
                    plan,
                    number,
                    Rejections.concatenate(moved.pop(number, [])),
                    settled.pop(number, None),
                    self._names.pop(number, None),
                )
                self.emit(events.written(checkpoint, time.perf_counter() - began))
                return checkpoint

            yield from run(write, plan.unwritten)

    def _exchange(
        self, job: Job, plan: Plan, run: Callable[..., Iterator[Any]]
    ) -> dict[int, list[Rejections]]:
        """Bring the moving picks together by bucket, decide, and sort the decisions by fragment."""

        def collect(number: int) -> list[tuple[int, Picks]]:
            began = time.perf_counter()
            held = self._picks[number] if number in self._picks else self._moving(plan, number)
            picks, partition = stages.collect_picks(job, plan, number, held)
            self.emit(events.collected(number, len(picks), time.perf_counter() - began))
            if number in self._picks and len(picks) == job.fragments[number].rows:
                self._picks[number] = Picks.concatenate([])
            return [(number, picks.take(rows)) for number, rows in _sorted_out(partition)]

        partitions: list[list[Picks]] = [[] for _ in plan.partition_rows]
        for parts in run(collect, plan.open_fragments):
            for partition, picks in parts:
                partitions[partition].append(picks)

        def decide(partition: int) -> list[tuple[int, Rejections]]:
            began = time.perf_counter()
            parts, partitions[partition] = partitions[partition], []
            rejections, counts = stages.decide_partition(job, Picks.concatenate(parts))
            self.emit(events.decided(partition, counts, time.perf_counter() - began))
            return [
                (number, rejections.take(rows)) for number, rows in _sorted_out(rejections.fragment)
            ]

        moved: dict[int, list[Rejections]] = {}
        for decided in run(decide, range(len(partitions))):
            for number, rejections in decided:
                moved.setdefault(number, []).append(rejections)
        return moved

    def _moving(self, plan: Plan, number: int) -> Picks | None:
        """Give the picks at a fragment's edges if all that travel are among them."""
        if number not in self._edges:
            return None
        micrographs, edges = self._edges[number]
        moving = micrographs[plan.partition_of(micrographs) >= 0]
        return edges if np.isin(moving, edges.micrograph).all() else None

    @contextmanager
    def _pool(self) -> Iterator[Callable[..., Iterator[Any]]]:
        """Give a map over threads that holds back no finished work and drops what waits on an error."""
        pool = ThreadPoolExecutor(self.threads)

        def run(function: Callable[[int], Any], numbers: Iterable[int]) -> Iterator[Any]:
            futures = [pool.submit(function, number) for number in numbers]
            futures.reverse()
            while futures:
                yield futures.pop().result()

        try:
            yield run
        finally:
            pool.shutdown(cancel_futures=True)


def _at_edges(picks: Picks) -> Picks:
    """Give the picks of the first and of the last row's micrograph: in a sorted table no others straddle."""
    micrograph = picks.micrograph
    return picks.take((micrograph == micrograph[:1]) | (micrograph == micrograph[-1:]))


def _sorted_out(number: NDArray[np.signedinteger]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Give each number that occurs, and its rows in their order."""
    # There are few: a stable sort of 16 bits takes but two passes.
    few = number.astype(np.uint16) if number.max(initial=0) < 2**16 else number
    order = np.argsort(few, kind="stable")
    distinct, starts = np.unique(number[order], return_index=True)
    return zip(distinct.tolist(), np.split(order, starts[1:]), strict=False)

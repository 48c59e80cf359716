"""Run the stages in threads of this process."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import TYPE_CHECKING, Any

from dask_dedup.dedup.decide import Decisions
from dask_dedup.dedup.picks import Picks
from dask_dedup.formatting import counted
from dask_dedup.particles.checks.uids import find_repeated_uids
from dask_dedup.pipeline import events, stages
from dask_dedup.pipeline.executors.held import HeldPicks
from dask_dedup.pipeline.executors.memory import WritingMemory, return_freed_memory
from dask_dedup.pipeline.executors.splitting import split_by, split_decisions
from dask_dedup.pipeline.notes import take_sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.monitoring.progress import Event, EventHandler
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.checks.uids import RepeatedUids
    from dask_dedup.particles.sample import SampleChoice
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan
    from dask_dedup.pipeline.rejected_rows import RejectedRows
    from dask_dedup.pipeline.stages import Scanned

#: Bytes of picks kept between scan and write; the picks of further fragments are read again.
HELD_BYTES = 2**29
#: With more threads, the threads would wait for each other: the stages hold the global interpreter lock for a seventh
#: of their time.
MOST_THREADS = 12


class ThreadExecutor:
    """Executor that runs the stages in threads. pyarrow, NumPy and SciPy release the GIL."""

    log_level = logging.DEBUG

    def __init__(self, on_event: EventHandler | None = None, threads: int | None = None) -> None:
        self.threads = threads or min(len(os.sched_getaffinity(0)), MOST_THREADS)
        self._on_event = on_event
        self._emitting = Lock()
        self._picks: dict[int, Picks] = {}
        self._uids: dict[int, NDArray[np.uint64]] = {}
        self._names: dict[int, pa.ChunkedArray | None] = {}
        #: Picks on boundary micrographs, for fragments whose other picks are not kept.
        self._boundaries: dict[int, HeldPicks] = {}

    def __str__(self) -> str:
        return f"in this process, {counted(self.threads, 'thread')}"

    def emit(self, event: Event) -> None:
        """Pass an event to the callback `on_event`."""
        if self._on_event:
            with self._emitting:
                self._on_event(event)

    def listening(self, attempt: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return a context manager without effect, because `emit` calls `on_event` directly."""
        return nullcontext()

    def scan(self, job: Job) -> Iterator[ScanSummary]:
        """Scan all fragments in threads."""

        def scan(number: int) -> tuple[ScanSummary, Scanned]:
            began = time.perf_counter()
            summary, scanned = stages.scan_fragment(job, number)
            self.emit(events.scanned(summary, time.perf_counter() - began))
            return summary, scanned

        free = HELD_BYTES
        self._picks, self._uids, self._names, self._boundaries = {}, {}, {}, {}
        with self._pool() as run:
            for summary, scanned in run(scan, range(len(job.inputs.fragments))):
                free -= scanned.nbytes
                self._uids[summary.fragment] = scanned.uids
                if free >= 0:
                    self._picks[summary.fragment] = scanned.picks
                    self._names[summary.fragment] = scanned.micrograph
                else:
                    boundary = HeldPicks.at_boundary(scanned.picks, summary.micrographs)
                    self._boundaries[summary.fragment] = boundary
                yield summary

    def find_repeated_uids(self, job: Job) -> RepeatedUids:
        """Find the uids that occur more than once. This takes 8 bytes per particle."""
        uids, self._uids = self._uids, {}
        repeated = find_repeated_uids(job.inputs, uids)
        del uids
        return_freed_memory()
        return repeated

    def sample(self, job: Job, choice: SampleChoice, fragments: Sequence[int]) -> Iterator[Picks]:
        """Select the picks of a sample in threads."""

        def select(number: int) -> Picks:
            return stages.sample_fragment(job, choice, number, self._picks.get(number))

        with self._pool() as run:
            yield from run(select, fragments)

    def write(self, job: Job, plan: Plan) -> Iterator[FragmentCheckpoint]:
        """Find duplicates and write all unwritten fragments in threads."""
        with self._pool() as run:
            moved = self._exchange(job, plan, run) if plan.sending_fragments else {}
            for number in {*self._picks} - {*plan.unwritten}:
                del self._picks[number]

            # Decide before other columns are read, so that picks and table rows are not in memory at the same time.
            def decide(number: int) -> tuple[int, stages.Decided]:
                return number, stages.decide_fragment(job, plan, self._picks.pop(number))

            decided = dict(run(decide, list(self._picks)))

            def write(number: int) -> FragmentCheckpoint:
                return stages.write_fragment(
                    job,
                    plan,
                    number,
                    Decisions.concatenate(moved.pop(number, [])),
                    decided.pop(number, None),
                    self._names.pop(number, None),
                )

            yield from run(self._writing(job, plan.unwritten, write), plan.unwritten)

    def split(
        self, job: Job, rejected: Sequence[RejectedRows], fragments: Sequence[int]
    ) -> Iterator[FragmentCheckpoint]:
        """Write the particles of some fragments in threads."""

        def split(number: int) -> FragmentCheckpoint:
            return stages.split_fragment(job, number, rejected[number])

        with self._pool() as run:
            yield from run(self._writing(job, fragments, split), fragments)

    def _writing(
        self, job: Job, fragments: Sequence[int], write: Callable[[int], FragmentCheckpoint]
    ) -> Callable[[int], FragmentCheckpoint]:
        """Return a function that calls `write` for a fragment when there is memory, and sends an event."""
        every = [job.inputs.fragments[number] for number in fragments]
        memory = WritingMemory.of_machine(every, self.threads)

        def write_one(number: int) -> FragmentCheckpoint:
            began = time.perf_counter()
            with memory.reserved_by(job, number):
                checkpoint = write(number)
            self.emit(events.written(checkpoint, time.perf_counter() - began))
            return checkpoint

        return write_one

    def _exchange(
        self, job: Job, plan: Plan, run: Callable[..., Iterator[Any]]
    ) -> dict[int, list[Decisions]]:
        """Find the duplicates in each shuffle partition. Map each fragment number to the decisions about its picks."""

        def collect(number: int) -> list[tuple[int, Picks]]:
            began = time.perf_counter()
            held = self._picks.get(number)
            if held is None and number in self._boundaries:
                held = self._boundaries[number].moving(plan)
            picks, partition = stages.collect_picks(job, plan, number, held)
            self.emit(events.collected(number, len(picks), time.perf_counter() - began))
            if number in self._picks and len(picks) == job.inputs.fragments[number].rows:
                self._picks[number] = take_sampled(plan.sample, self._picks[number])
            return list(split_by(picks, partition).items())

        partitions: list[list[Picks]] = [[] for _ in plan.partition_rows]
        for parts in run(collect, plan.sending_fragments):
            for partition, picks in parts:
                partitions[partition].append(picks)

        def decide(partition: int) -> dict[int, Decisions]:
            began = time.perf_counter()
            parts, partitions[partition] = partitions[partition], []
            decisions, counts = stages.decide_picks(job, Picks.concatenate(parts))
            self.emit(events.decided(partition, counts, time.perf_counter() - began))
            return split_decisions(decisions)

        moved: dict[int, list[Decisions]] = {}
        for decided in run(decide, range(len(partitions))):
            for number, decisions in decided.items():
                moved.setdefault(number, []).append(decisions)
        return moved

    @contextmanager
    def _pool(self) -> Iterator[Callable[..., Iterator[Any]]]:
        """Yield a function like `map` that runs calls in a thread pool. An error cancels the pending calls."""
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

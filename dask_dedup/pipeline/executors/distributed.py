"""Run the stages on a Dask cluster.

Only picks on micrographs that span several fragments are shuffled. Only decisions about rejected
particles are shuffled back::

    scan ─► shuffle ─► decide ─► shuffle ─► write

If there are few picks, tasks pass on pieces of them. Many picks are shuffled by Dask's P2P shuffle (`p2p`).
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from distributed import span

from dask_dedup.dedup.picks import PICK_BYTES
from dask_dedup.formatting import counted
from dask_dedup.monitoring.progress import ENDS, TOPIC
from dask_dedup.particles.checks.uids import RepeatedUids, find_bounds
from dask_dedup.pipeline import events
from dask_dedup.pipeline.executors import tasks
from dask_dedup.pipeline.executors.batching import (
    MOST_WRITERS,
    describe_groups,
    group_fragments,
    groups_of,
    pieces_of,
)
from dask_dedup.pipeline.executors.finished_tasks import FinishedTasks
from dask_dedup.pipeline.executors.memory import choose_held, memory_for_picks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from distributed import Client, Future
    from numpy.typing import NDArray

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.monitoring.progress import Event, EventHandler
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.sample import SampleChoice
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan
    from dask_dedup.pipeline.rejected_rows import RejectedRows

#: Seconds to wait for the scheduler to pass on the final event of a run.
END_SECONDS = 2.0
#: Largest number of pieces that tasks pass on. For more pieces, Dask's P2P shuffle is faster.
MOST_PIECES = 5_000
#: Number of uids that a task compares, and largest number of pieces. Every worker has a piece for every task.
RANGE_ROWS, MOST_UID_PIECES = 4_000_000, 100_000


class DistributedExecutor:
    """Executor that runs the stages on Dask workers. Every worker needs access to the inputs and the output."""

    log_level = logging.INFO

    def __init__(self, client: Client, on_event: EventHandler | None = None) -> None:
        self.client = client
        self._address = client.scheduler.address
        self._on_event = on_event
        self._attempt = ""
        self._emitted_end = False
        self._finished = FinishedTasks(client, self._stall)
        #: Groups of scanned fragments, and for each group the picks and uids that stay on the workers.
        self._groups: list[list[int]] = []
        self._scanned: dict[int, Future] = {}
        self._uid_samples: list[NDArray[np.uint64]] = []
        #: The worker that scanned each fragment.
        self._workers_of: dict[int, str] = {}
        #: The values that were sent last, and their futures.
        self._shared: list[tuple[Any, Future]] = []

    def __str__(self) -> str:
        workers = self._workers()
        threads = sum(worker["nthreads"] for worker in workers)
        return (
            f"on the Dask cluster at {self._address}: {counted(len(workers), 'worker')}, "
            f"{counted(threads, 'thread')}"
        )

    @cached_property
    def _threads(self) -> int:
        """Threads of all workers, at least 1."""
        return max(1, sum(int(worker["nthreads"]) for worker in self._workers()))

    @cached_property
    def _memory_for_picks(self) -> float:
        """Bytes of picks that all workers together may hold."""
        return memory_for_picks(self._workers())

    def _workers(self) -> Sequence[Mapping[str, Any]]:
        return [*self.client.scheduler_info(n_workers=-1)["workers"].values()]

    def emit(self, event: Event) -> None:
        """Send an event to the Dask scheduler, which forwards events to all listeners."""
        # Monitoring must neither make a run fail nor delay the error message of a failed run.
        with suppress(OSError, TimeoutError):
            if self.client.status == "running" and not self._finished.lost:
                self.client.log_event(TOPIC, {"client": self.client.id, **event})
                self._emitted_end = event["kind"] in ENDS

    @contextmanager
    def listening(self, attempt: str) -> Iterator[None]:
        """Return a context manager that passes events of this attempt from the scheduler to `on_event`."""
        self._attempt, on_event = attempt, self._on_event
        if on_event is None:
            yield
            return
        received_end = threading.Event()

        def receive(event: tuple[float, Event]) -> None:
            if event[1].get("run") == attempt:
                on_event(event[1])
                if event[1]["kind"] in ENDS:
                    received_end.set()

        self.client.subscribe_topic(TOPIC, receive)
        try:
            yield
        finally:
            if self._emitted_end:
                received_end.wait(END_SECONDS)
            self.client.unsubscribe_topic(TOPIC)

    def scan(self, job: Job) -> Iterator[ScanSummary]:
        """Scan all fragments on the workers. The uids stay on the workers, and the picks too if there is memory."""
        self._groups = groups = self._group(job, range(len(job.inputs.fragments)))
        hold = choose_held(job.inputs.fragments, self._memory_for_picks)
        described = describe_groups("counting", job, groups)
        with span("scan"):
            shared = self._share(job)
            several = self.client.map(
                tasks.scan,
                groups,
                [[hold[number] for number in group] for group in groups],
                job=shared,
                pure=False,
            )
            futures = self.client.map(tasks.summaries, several, pure=False)
        self._scanned = dict(enumerate(several))
        self._finished.describe(several, described)
        self._uid_samples, self._workers_of = [np.empty(0, np.uint64)], {}
        for summaries, sample, worker in self._finished.results(futures, described):
            self._uid_samples.append(sample)
            self._workers_of |= dict.fromkeys((each.fragment for each in summaries), worker)
            yield from summaries

    def find_repeated_uids(self, job: Job) -> RepeatedUids:
        """Find the uids that occur more than once. Each task on a worker compares the uids in one range of values."""
        scanned = [*self._scanned.values()]
        with span("scan"):
            # After this method, only the picks are needed.
            self._scanned = dict(enumerate(self.client.map(tasks.held_picks, scanned, pure=False)))
        if not any(roles.uid for roles in job.inputs.roles):
            return RepeatedUids()
        on_workers: dict[str, list[Future]] = {}
        for group, future in zip(self._groups, scanned, strict=True):
            on_workers.setdefault(self._workers_of[group[0]], []).append(future)
        ranges = min(-(-job.inputs.rows // RANGE_ROWS), MOST_UID_PIECES // len(on_workers))
        bounds = find_bounds(self._uid_samples, max(1, ranges))
        with span("scan"):
            parts = self.client.map(
                tasks.split_uids,
                [*on_workers.values()],
                bounds=bounds,
                job=self._share(job),
                pure=False,
            )
            pieces = pieces_of(self.client, parts, range(bounds.size + 1))
            futures = self.client.map(
                tasks.repeated_uids, [*pieces], [*pieces.values()], pure=False
            )
        described = ["comparing uids"] * len(futures)
        found = sum(self._finished.results(futures, described), start=RepeatedUids())
        if not found.named:
            return found
        futures = self.client.map(tasks.locate_uids, scanned, uids=found.named, pure=False)
        return found.located(self._finished.results(futures, ["comparing uids"] * len(futures)))

    def sample(self, job: Job, choice: SampleChoice, fragments: Sequence[int]) -> Iterator[Picks]:
        """Select the picks of a sample on the workers."""
        groups = self._group(job, fragments)
        with span("scan"):
            shared = {"job": self._share(job), "choice": self._share(choice)}
            futures = self.client.map(tasks.sample, groups, **shared, pure=False)
        yield from self._finished.results(futures, describe_groups("sampling", job, groups))

    def write(self, job: Job, plan: Plan) -> Iterator[FragmentCheckpoint]:
        """Find duplicates and write all unwritten fragments on the workers."""
        unwritten = {*plan.unwritten}
        every = self._groups or self._group(job, range(plan.fragments))
        groups = [[number for number in group if number in unwritten] for group in every]
        pieces = 2 * len(every) * plan.partition_rows.size
        if pieces <= MOST_PIECES and plan.moving_rows * PICK_BYTES <= self._memory_for_picks:
            written = {number: group for number, group in enumerate(groups) if group}
            futures = self._write_groups(job, plan, every, written)
        else:
            from dask_dedup.pipeline.executors import p2p

            self._scanned = {}
            sending = self._group(job, plan.sending_fragments)
            receiving = self._group(job, plan.receiving_fragments, MOST_WRITERS)
            others = self._group(job, sorted(unwritten - {*plan.receiving_fragments}))
            written = dict(enumerate([*others, *receiving]))
            with span("write"):
                shared = self._share(job), self._share(plan)
                futures = self.client.map(
                    tasks.write_group,
                    range(len(others)),
                    others,
                    parts=[],
                    held=None,
                    job=shared[0],
                    plan=shared[1],
                    pure=False,
                )
            futures += p2p.exchange_and_write(self.client, plan, shared, sending, receiving)
        for result in self._finished.results(
            futures, describe_groups("writing", job, [*written.values()])
        ):
            yield from result if isinstance(result, list) else result["checkpoint"]

    def split(
        self, job: Job, rejected: Sequence[RejectedRows], fragments: Sequence[int]
    ) -> Iterator[FragmentCheckpoint]:
        """Write the particles of some fragments on the workers."""
        groups = self._group(job, fragments)
        with span("write"):
            shared = {"job": self._share(job), "rejected": self._share(rejected)}
            futures = self.client.map(tasks.split, groups, **shared, pure=False)
        for checkpoints in self._finished.results(futures, describe_groups("writing", job, groups)):
            yield from checkpoints

    def _write_groups(
        self, job: Job, plan: Plan, every: list[list[int]], written: dict[int, list[int]]
    ) -> list[Future]:
        """Submit all tasks that shuffle picks, find duplicates and write. Return the tasks that write."""
        held = [self._scanned.get(number) for number in range(len(every))]
        self._scanned = {}  # the scheduler keeps the picks until the tasks below have used them
        sends, receives = {*plan.sending_fragments}, {*plan.receiving_fragments}
        senders = {
            number: [each for each in group if each in sends] for number, group in enumerate(every)
        }
        senders = {number: group for number, group in senders.items() if group}
        with span("shuffle"):
            shared = {"job": self._share(job), "plan": self._share(plan)}
            sent = self.client.map(
                tasks.collect_by_partition,
                [*senders.values()],
                [held[number] for number in senders],
                **shared,
                pure=False,
            )
            pieces = pieces_of(self.client, sent, range(plan.partition_rows.size))
        with span("decide"):
            decided = self.client.map(
                tasks.decide_partition,
                [*pieces],
                [*pieces.values()],
                group_of=self._share(groups_of(written, plan.fragments)),
                **shared,
                pure=False,
            )
        with span("shuffle"):
            receivers = [number for number, group in written.items() if receives & {*group}]
            moved = pieces_of(self.client, decided, receivers)
        with span("write"):
            return list(
                self.client.map(
                    tasks.write_group,
                    [*written],
                    [*written.values()],
                    [moved.get(number, []) for number in written],
                    [held[number] for number in written],
                    **shared,
                    pure=False,
                )
            )

    def _group(
        self, job: Job, fragments: Sequence[int], most: int | None = None
    ) -> list[list[int]]:
        return group_fragments(job, fragments, self._threads, most)

    def _share(self, value: Any) -> Future:
        """Send a value to the cluster, and return its future. Each worker fetches the value once."""
        known = next((future for each, future in self._shared if each is value), None)
        if known is None:
            known = self.client.submit(tasks.share, value, pure=False)
            self._shared = [*self._shared[-1:], (value, known)]
        return known

    def _stall(self, reason: str, seconds: float) -> None:
        event = {"run": self._attempt, **events.stalled(reason, seconds)}
        if self._finished.scheduler_answers:
            self.emit(event)
        elif self._on_event:
            self._on_event(event)

"""Run the stages on a Dask cluster.

Only picks on micrographs that span several fragments are shuffled. Only decisions about rejected
particles are shuffled back::

    fragments ─► picks ─► exchange (shuffle, decide, shuffle) ─► write
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from distributed import KilledWorker, as_completed, futures_of, get_worker
from distributed.comm import CommClosedError

from dask_dedup.dedup.decide import Decisions
from dask_dedup.dedup.picks import Picks
from dask_dedup.errors import DedupError, RunError, causes
from dask_dedup.formatting import counted
from dask_dedup.monitoring.progress import ENDS, TOPIC
from dask_dedup.pipeline import events, stages
from dask_dedup.pipeline.executors.batching import MOST_WRITERS, group_fragments, groups_of
from dask_dedup.pipeline.executors.exchange import (
    PICKS_META,
    decision_columns,
    decision_dtypes,
    decisions_from,
    empty_frame,
    exchange,
    fragment_numbers,
    picks_frame,
)
from dask_dedup.pipeline.executors.memory import WritingMemory
from dask_dedup.pipeline.executors.watchdog import Watchdog
from dask_dedup.storage.capacity import DISK_FULL_ERRORS
from dask_dedup.storage.paths import using_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import dask.dataframe as dd
    from distributed import Client, Future
    from numpy.typing import NDArray

    from dask_dedup.monitoring.progress import Event, EventHandler
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.sample import SampleChoice
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan
    from dask_dedup.pipeline.rejected_rows import RejectedRows

#: Seconds between two checks for finished tasks.
POLL_SECONDS = 0.02
#: Seconds to wait for a finished task's result before the cluster is checked: first, and at most.
FETCH_SECONDS = (2.0, 60.0)
#: Seconds to wait for the scheduler to pass on the final event of a run.
END_SECONDS = 2.0
#: Scratch folders named in a message.
SHOWN_FOLDERS = 4


class DistributedExecutor:
    """Executor that runs the stages on Dask workers. Every worker needs access to the inputs and the output."""

    log_level = logging.INFO

    def __init__(self, client: Client, on_event: EventHandler | None = None) -> None:
        self.client = client
        self._address = client.scheduler.address
        self._on_event = on_event
        self._attempt = ""
        self._lost = False
        self._emitted_end = False
        self._watchdog: Watchdog | None = None

    def __str__(self) -> str:
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        threads = sum(worker["nthreads"] for worker in workers.values())
        return (
            f"on the Dask cluster at {self._address}: {counted(len(workers), 'worker')}, "
            f"{counted(threads, 'thread')}"
        )

    def emit(self, event: Event) -> None:
        """Send an event to the Dask scheduler, which forwards events to all listeners."""
        # Monitoring must not make a run fail, nor delay the message of why it failed.
        with suppress(OSError, TimeoutError):
            if self.client.status == "running" and not self._lost:
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
        """Scan all fragments on the workers."""
        groups = group_fragments(job, range(len(job.inputs.fragments)))
        futures = self.client.map(_scan, groups, job=self._share(job), pure=False)
        for summaries in self._results(futures, _describe("counting", job, groups)):
            yield from summaries

    def sample(self, job: Job, choice: SampleChoice, fragments: Sequence[int]) -> Iterator[Picks]:
        """Select the picks of a sample on the workers."""
        groups = group_fragments(job, fragments)
        shared = self._share(job), self._share(choice)
        futures = self.client.map(_sample, groups, job=shared[0], choice=shared[1], pure=False)
        yield from self._results(futures, _describe("sampling", job, groups))

    def write(self, job: Job, plan: Plan) -> Iterator[FragmentCheckpoint]:
        """Find duplicates and write all unwritten fragments on the workers."""
        shared = (self._share(job), self._share(plan))
        receiving = group_fragments(job, plan.receiving_fragments, MOST_WRITERS)
        others = group_fragments(job, sorted({*plan.unwritten} - {*plan.receiving_fragments}))
        futures = self.client.map(_write, others, job=shared[0], plan=shared[1], pure=False)
        if receiving:
            checkpoints = fragment_numbers(receiving).map_partitions(
                _write_moved,
                self._exchange(job, plan, receiving, shared),
                *shared,
                meta=empty_frame({"checkpoint": np.dtype("O")}),
                align_dataframes=False,
            )
            # One collection: a delayed object per partition would each send the whole graph.
            futures += futures_of(self.client.persist(checkpoints))
        for result in self._results(futures, _describe("writing", job, [*others, *receiving])):
            yield from result if isinstance(result, list) else result["checkpoint"]

    def split(
        self, job: Job, rejected: Sequence[RejectedRows], fragments: Sequence[int]
    ) -> Iterator[FragmentCheckpoint]:
        """Write the particles of some fragments on the workers."""
        groups = group_fragments(job, fragments)
        shared = self._share(job), self._share(rejected)
        futures = self.client.map(_split, groups, job=shared[0], rejected=shared[1], pure=False)
        for checkpoints in self._results(futures, _describe("writing", job, groups)):
            yield from checkpoints

    def _exchange(
        self, job: Job, plan: Plan, receiving: list[list[int]], shared: tuple[Future, Future]
    ) -> dd.DataFrame:
        """Shuffle picks and find duplicates. Return a Dask frame of decisions, a partition per group in `receiving`."""
        picks = fragment_numbers(group_fragments(job, plan.sending_fragments)).map_partitions(
            _collect, *shared, meta=PICKS_META
        )
        return exchange(
            picks,
            _decide,
            *shared,
            self._share(groups_of(receiving, plan.fragments)),
            partitions=plan.partition_rows.size,
            groups=len(receiving),
            dtypes=decision_dtypes(votes=job.inputs.voting is not None),
            shuffle_method="p2p",
        )

    def _share(self, value: Any) -> Future:
        """Send a value to the cluster, and return its future. Each worker fetches the value once."""
        return self.client.submit(_identity, value, pure=False)

    def _results(self, futures: list[Future], descriptions: list[str]) -> Iterator[Any]:
        """Yield the result of each task as soon as the task finishes. All futures are released at the end."""
        description = dict(zip([future.key for future in futures], descriptions, strict=True))
        watchdog = self._watchdog = self._watchdog or Watchdog(self.client, self._stall)
        watchdog.start()
        coming = as_completed(futures)
        try:
            while coming.count():
                batch = coming.next_batch(block=False)
                if not batch:
                    self._check(watchdog)
                    time.sleep(POLL_SECONDS)
                for future in batch:
                    watchdog.finished()
                    yield self._result(future, description[future.key], watchdog)
                    future.release()
        finally:
            # Unlike a cancel, a release does not wait for the scheduler.
            for future in futures:
                future.release()

    def _stall(self, reason: str, seconds: float) -> None:
        event = {"run": self._attempt, **events.stalled(reason, seconds)}
        if self._watchdog and self._watchdog.answers:
            self.emit(event)
        elif self._on_event:
            self._on_event(event)

    def _check(self, watchdog: Watchdog) -> None:
        try:
            watchdog.check()
        except RunError:
            self._lost = True  # so that no event waits for a silent scheduler
            raise

    def _fetch(self, future: Future, watchdog: Watchdog) -> Any:
        """Fetch the result of a finished task. While waiting, check that the cluster still works."""
        seconds = FETCH_SECONDS[0]
        while True:
            try:
                return future.result(timeout=seconds)
            except TimeoutError:
                if future.status == "error":
                    raise
            self._check(watchdog)
            # A large result on a slow network must not start again and again.
            seconds = min(2 * seconds, FETCH_SECONDS[1])

    def _result(self, future: Future, description: str, watchdog: Watchdog) -> Any:
        try:
            return self._fetch(future, watchdog)
        except DedupError:
            raise
        except KilledWorker as error:
            if error.task != future.key:
                description = f"{_task_name(error.task)}, before {description},"
            raise RunError(
                f"{description} killed {error.allowed_failures + 1} workers, probably out of "
                "memory. Give each worker more memory or fewer threads, and run the same command "
                "again."
            ) from error
        except CancelledError as error:
            raise self._scheduler_lost() from error
        except Exception as error:
            *_, cause = chain = [*causes(error)]  # a failed shuffle hides the reason
            if any(isinstance(each, CommClosedError) for each in chain):
                raise self._scheduler_lost() from error
            if isinstance(cause, OSError) and cause.errno in DISK_FULL_ERRORS:
                # The stages report a full output disk themselves.
                raise RunError(self._scratch_full()) from error
            if isinstance(cause, (DedupError, OSError)):
                raise cause from error
            raise RunError(f"{description} failed: {type(cause).__name__}: {cause}") from error

    def _scheduler_lost(self) -> RunError:
        return RunError(
            f"the scheduler at {self._address} was lost or dropped the work. Check that it "
            "runs, and run the same command again."
        )

    def _scratch_full(self) -> str:
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        folders = sorted({worker["local_directory"] for worker in workers})
        return (
            "the disk of a worker's scratch folder is full (one of "
            f"{', '.join(folders[:SHOWN_FOLDERS])}). Free space there, or choose another folder "
            "(DASK_TEMPORARY_DIRECTORY), and run the same command again."
        )


def _task_name(task: Any) -> str:
    name, number = task if isinstance(task, tuple) else (task, "")
    return f"the task {str(name).rpartition('-')[0].strip('_')} {number}".strip()


def _describe(verb: str, job: Job, groups: Sequence[Sequence[int]]) -> list[str]:
    """Return a description of the task for each group of fragments, for messages."""
    descriptions = []
    for group in groups:
        first = job.inputs.fragments[group[0]]
        several = f"one of {len(group)} fragments, starting with " if len(group) > 1 else ""
        descriptions.append(f"{verb} {several}{first}")
    return descriptions


# What follows runs on the workers.


def _identity(value: Any) -> Any:
    return value


@cache
def _writing_memory() -> WritingMemory:
    """Return the memory of this process, which all threads of a worker share."""
    return WritingMemory.of_worker(get_worker().memory_manager.memory_limit)


def _emit(job: Job, event: Event) -> None:
    get_worker().log_event(TOPIC, {"run": job.attempt, **event})


def _scan(group: Sequence[int], job: Job) -> list[ScanSummary]:
    summaries = []
    for number in group:
        began = time.perf_counter()
        with using_endpoint(job.endpoint_url):
            summaries.append(stages.scan_fragment(job, number, name_densest=True)[0])
        _emit(job, events.scanned(summaries[-1], time.perf_counter() - began))
    return summaries


def _sample(group: Sequence[int], job: Job, choice: SampleChoice) -> Picks:
    with using_endpoint(job.endpoint_url):
        return Picks.concatenate([stages.sample_fragment(job, choice, number) for number in group])


def _collect(numbers: pd.DataFrame, job: Job, plan: Plan) -> pd.DataFrame:
    parts = []
    for number in numbers["fragment"].tolist():
        began = time.perf_counter()
        with using_endpoint(job.endpoint_url):
            picks, partition = stages.collect_picks(job, plan, number)
        _emit(job, events.collected(number, len(picks), time.perf_counter() - began))
        parts.append((picks, partition))
    picks = Picks.concatenate([each for each, _ in parts])
    return picks_frame(picks, np.concatenate([each for _, each in parts]))


def _decide(
    picks: Picks, job: Job, plan: Plan, group_of: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    began = time.perf_counter()
    with using_endpoint(job.endpoint_url):
        decisions, counts = stages.decide_picks(job, picks)
    partition = int(plan.partition_of(picks.micrograph[:1])[0])
    _emit(job, events.decided(partition, counts, time.perf_counter() - began))
    return decision_columns(decisions, group_of, votes=job.inputs.voting is not None)


def _write_moved(numbers: pd.DataFrame, moved: pd.DataFrame, job: Job, plan: Plan) -> pd.DataFrame:
    decisions = decisions_from(moved)
    return pd.DataFrame({"checkpoint": _write(numbers["fragment"].tolist(), job, plan, decisions)})


def _write(
    group: Sequence[int], job: Job, plan: Plan, moved: Decisions | None = None
) -> list[FragmentCheckpoint]:
    moved = moved or Decisions.concatenate([])
    checkpoints = []
    for number in group:
        began = time.perf_counter()
        mine, memory = moved.of_fragment(number), _writing_memory()
        with memory.reserved(job.inputs.fragments[number]), using_endpoint(job.endpoint_url):
            checkpoints.append(stages.write_fragment(job, plan, number, mine))
        _emit(job, events.written(checkpoints[-1], time.perf_counter() - began))
    return checkpoints


def _split(
    group: Sequence[int], job: Job, rejected: Sequence[RejectedRows]
) -> list[FragmentCheckpoint]:
    checkpoints = []
    for number in group:
        began = time.perf_counter()
        with using_endpoint(job.endpoint_url):
            checkpoints.append(stages.split_fragment(job, number, rejected[number]))
        _emit(job, events.written(checkpoints[-1], time.perf_counter() - began))
    return checkpoints

"""On a Dask cluster: the only module that knows `dask.dataframe`.

Only picks of straddling micrographs travel, and only decisions about rejected ones travel back::

    fragment numbers ─► picks ─► P2P shuffle by bucket ─► decide ─► P2P shuffle by fragment ─► write
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import KilledWorker, as_completed, futures_of, get_worker

from dask_dedup.dedup.decide import REJECTIONS_DTYPES, Rejections
from dask_dedup.dedup.picks import PICKS_DTYPES, Picks
from dask_dedup.errors import DedupError, RunError, causes
from dask_dedup.formatting import counted
from dask_dedup.monitoring.progress import ENDS, TOPIC
from dask_dedup.pipeline import events, stages
from dask_dedup.pipeline.executors.batching import MOST_WRITERS, Groups
from dask_dedup.pipeline.executors.watchdog import Watchdog
from dask_dedup.storage.capacity import DISK_FULL_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from distributed import Client, Future

    from dask_dedup.monitoring.progress import Event, EventHandler
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan

#: Seconds between two looks for finished tasks.
POLL_SECONDS = 0.02
#: Seconds to wait for a finished task's result before the next look at the cluster: the first, and the longest.
FETCH_SECONDS = (2.0, 60.0)
#: Seconds within which the scheduler passes on that a run has ended.
END_SECONDS = 2.0
#: Scratch folders named in a message.
SHOWN_FOLDERS = 4


class DistributedExecutor:
    """Runs the stages on the workers of a Dask cluster; all must see the input and output folders."""

    def __init__(self, client: Client, on_event: EventHandler | None = None) -> None:
        self.client = client
        self._address = client.scheduler.address
        self._on_event = on_event
        self._given_up = False
        self._told_end = False

    def __str__(self) -> str:
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        threads = sum(worker["nthreads"] for worker in workers.values())
        address = self.client.scheduler.address
        return f"on the Dask cluster at {address}: {counted(len(workers), 'worker')}, {counted(threads, 'thread')}"

    def emit(self, event: Event) -> None:
        """Pass an event on to the scheduler, and so to whoever watches."""
        # Who watches must not make a run fail, nor hold up the message of why it failed.
        with suppress(OSError, TimeoutError):
            if self.client.status == "running" and not self._given_up:
                self.client.log_event(TOPIC, event)
                self._told_end = event["kind"] in ENDS

    @contextmanager
    def listening(self, attempt: str) -> Iterator[None]:
        """Pass what the scheduler hears of this attempt on to whoever watches from here."""
        on_event = self._on_event
        if on_event is None:
            yield
            return
        heard_end = threading.Event()

        def hear(event: tuple[float, Event]) -> None:
            if event[1].get("run") == attempt:
                on_event(event[1])
                if event[1]["kind"] in ENDS:
                    heard_end.set()

        self.client.subscribe_topic(TOPIC, hear)
        try:
            yield
        finally:
            if self._told_end:
                heard_end.wait(END_SECONDS)
            self.client.unsubscribe_topic(TOPIC)

    def scan(self, job: Job) -> Iterator[ScanSummary]:
        """Take the census of every fragment."""
        groups = list(_group(job, range(len(job.fragments))))
        futures = self.client.map(_scan, groups, job=self._share(job), pure=False)
        for summaries in self._finished(futures, _in_words("counting", job, groups)):
            yield from summaries

    def write(self, job: Job, plan: Plan) -> Iterator[FragmentCheckpoint]:
        """Decide, and write every fragment."""
        shared = (self._share(job), self._share(plan))
        homes = _group(job, plan.homes, MOST_WRITERS)
        groups = list(_group(job, sorted({*plan.unwritten} - {*plan.homes})))
        futures = self.client.map(_write, groups, job=shared[0], plan=shared[1], pure=False)
        if len(homes):
            checkpoints = _frames(homes).map_partitions(
                _write_homes,
                self._exchange(job, plan, homes, shared),
                *shared,
                meta=_meta({"receipt": np.dtype("O")}),
                align_dataframes=False,
            )
            # One collection and not a delayed object a partition, each of which would bring the whole graph.
            futures += futures_of(self.client.persist(checkpoints))
        for told in self._finished(futures, _in_words("writing", job, [*groups, *homes])):
            yield from told if isinstance(told, list) else told["receipt"]

    def _exchange(
        self, job: Job, plan: Plan, homes: Groups, shared: tuple[Future, Future]
    ) -> dd.DataFrame:
        """Give the decisions about the fragments that are their homes, a partition for each group of them."""
        picks = _frames(_group(job, plan.open_fragments)).map_partitions(
            _collect, *shared, meta=_meta({"partition": np.dtype("i4"), **PICKS_DTYPES})
        )
        by_partition = picks.set_index(
            "partition", divisions=_one_each(plan.partition_rows.size), shuffle_method="p2p"
        )
        rejections = by_partition.map_partitions(
            _decide,
            *shared,
            self._share(homes),
            meta=_meta({"group": np.dtype("i8"), **REJECTIONS_DTYPES}),
        )
        return rejections.set_index("group", divisions=_one_each(len(homes)), shuffle_method="p2p")

    def _share(self, value: Any) -> Future:
        """Give what tasks can take as an argument: each worker gets it once, and a lost one is made again."""
        return self.client.submit(_itself, value, pure=False)

    def _finished(self, futures: list[Future], doing: list[str]) -> Iterator[Any]:
        """Give results as they come; on an error or an interrupt, drop what waits."""
        words = dict(zip([future.key for future in futures], doing, strict=True))
        watchdog = Watchdog(self.client)
        coming = as_completed(futures)
        try:
            while coming.count():
                batch = coming.next_batch(block=False)
                if not batch:
                    self._look(watchdog)
                    time.sleep(POLL_SECONDS)
                for future in batch:
                    watchdog.finished()
                    yield self._result(future, words[future.key], watchdog)
                    future.release()
        finally:
            # Whoever lets go of a task need not wait for the scheduler, as whoever cancels one does.
            for future in futures:
                future.release()

    def _look(self, watchdog: Watchdog) -> None:
        try:
            watchdog.look()
        except RunError:
            # To tell a silent scheduler of it would take for ever.
            self._given_up = True
            raise

    def _fetch(self, future: Future, watchdog: Watchdog) -> Any:
        """Give a result; the only worker may be lost with it after the scheduler has told of it."""
        seconds = FETCH_SECONDS[0]
        while True:
            try:
                return future.result(timeout=seconds)
            except TimeoutError:
                if future.status == "error":
                    raise
            self._look(watchdog)
            # What is large, on a slow network, must not be begun again and again.
            seconds = min(2 * seconds, FETCH_SECONDS[1])

    def _result(self, future: Future, doing: str, watchdog: Watchdog) -> Any:
        try:
            return self._fetch(future, watchdog)
        except DedupError:
            raise
        except KilledWorker as error:
            if error.task != future.key:
                doing = f"{doing}, or rather {_name_of(error.task)} before it,"
            raise RunError(
                f"{doing} has ended {error.allowed_failures + 1} workers, most likely for want of memory; "
                "give each worker more (--memory-limit) or fewer threads, and run the same command again"
            ) from error
        except CancelledError as error:
            raise RunError(
                f"the scheduler at {self._address} is gone, or has dropped the work; "
                "see whether it lives, and run the same command again"
            ) from error
        except Exception as error:
            cause = _deepest(error)
            if isinstance(cause, OSError) and cause.errno in DISK_FULL_ERRORS:
                # What there was no room for in the output place is told by the stages themselves.
                raise RunError(self._no_scratch()) from error
            if isinstance(cause, (DedupError, OSError)):
                raise cause from error
            raise RunError(f"{doing} has failed: {type(cause).__name__}: {cause}") from error

    def _no_scratch(self) -> str:
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        folders = sorted({worker["local_directory"] for worker in workers})
        return (
            f"the disk of a worker's scratch folder is full (one of {', '.join(folders[:SHOWN_FOLDERS])}); free some "
            "room there, or let the workers use another folder (DASK_TEMPORARY_DIRECTORY, or --local-directory of "
            "dask worker), and run the same command again"
        )


def _name_of(task: Any) -> str:
    name, number = task if isinstance(task, tuple) else (task, "")
    return f"the task {str(name).rpartition('-')[0].strip('_')} {number}".strip()


def _deepest(error: BaseException) -> BaseException:
    """Give what lies at the bottom of an error: a failed shuffle says but that it has failed."""
    *_, deepest = causes(error)
    return deepest


def _group(job: Job, fragments: Sequence[int], most: int | None = None) -> Groups:
    return Groups.make(fragments, [job.fragments[number].rows for number in fragments], most)


def _in_words(verb: str, job: Job, groups: Sequence[Sequence[int]]) -> list[str]:
    """Say what is done to each group."""
    several = [f"one of {len(group)} fragments from " if len(group) > 1 else "" for group in groups]
    return [
        f"{verb} {which}{job.fragments[group[0]]}{' on' * bool(which)}"
        for group, which in zip(groups, several, strict=True)
    ]


def _frames(groups: Iterable[Sequence[int]]) -> dd.DataFrame:
    """Give fragment numbers, a group a partition."""
    return dd.from_map(_numbers, list(groups), meta=_numbers([0]).iloc[:0])


def _one_each(partitions: int) -> tuple[int, ...]:
    """Divisions that give every number from 0 on a partition of its own."""
    return (*range(partitions), partitions)


def _meta(dtypes: Mapping[str, np.dtype[np.generic]]) -> pd.DataFrame:
    return pd.DataFrame({name: np.empty(0, dtype) for name, dtype in dtypes.items()})


def _numbers(fragments: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame({"fragment": list(fragments)})


def _emit(job: Job, event: Event) -> None:
    get_worker().log_event(TOPIC, {"run": job.attempt, **event})


def _itself(value: Any) -> Any:
    return value


def _scan(group: Sequence[int], job: Job) -> list[ScanSummary]:
    summaries = []
    for number in group:
        began = time.perf_counter()
        summaries.append(stages.scan_fragment(job, number)[0])
        _emit(job, events.scanned(summaries[-1], time.perf_counter() - began))
    return summaries


def _collect(numbers: pd.DataFrame, job: Job, plan: Plan) -> pd.DataFrame:
    parts = []
    for number in numbers["fragment"].tolist():
        began = time.perf_counter()
        picks, partition = stages.collect_picks(job, plan, number)
        _emit(job, events.collected(number, len(picks), time.perf_counter() - began))
        parts.append((picks, partition))
    picks = Picks.concatenate([each for each, _ in parts])
    partition = np.concatenate([each for _, each in parts])
    return pd.DataFrame({"partition": partition, **picks.columns()})


def _decide(frame: pd.DataFrame, job: Job, plan: Plan, homes: Groups) -> pd.DataFrame:
    began = time.perf_counter()
    picks = Picks.from_columns({name: frame[name].to_numpy() for name in PICKS_DTYPES})
    rejections, counts = stages.decide_partition(job, picks)
    partition = int(plan.partition_of(picks.micrograph[:1])[0])
    _emit(job, events.decided(partition, counts, time.perf_counter() - began))
    group = homes.find(rejections.fragment)
    back = group >= 0
    return pd.DataFrame({"group": group[back], **rejections.take(back).columns()})


def _write_homes(numbers: pd.DataFrame, moved: pd.DataFrame, job: Job, plan: Plan) -> pd.DataFrame:
    rejections = Rejections.from_columns(
        {name: moved[name].to_numpy() for name in REJECTIONS_DTYPES}
    )
    return pd.DataFrame({"receipt": _write(numbers["fragment"].tolist(), job, plan, rejections)})


def _write(
    group: Sequence[int], job: Job, plan: Plan, moved: Rejections | None = None
) -> list[FragmentCheckpoint]:
    moved = moved or Rejections.concatenate([])
    checkpoints = []
    for number in group:
        began = time.perf_counter()
        mine = moved.take(moved.fragment == number)
        checkpoints.append(stages.write_fragment(job, plan, number, mine))
        _emit(job, events.written(checkpoints[-1], time.perf_counter() - began))
    return checkpoints

"""Functions that run as tasks on the workers of a Dask cluster.

Each function runs a stage on a group of fragments, and sends an event for each fragment.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from distributed import get_worker

from dask_dedup.dedup.decide import Decisions
from dask_dedup.dedup.picks import Picks
from dask_dedup.monitoring.progress import TOPIC
from dask_dedup.particles.checks.uids import RepeatedUids, find_fragments, find_repeated_in
from dask_dedup.pipeline import events, stages
from dask_dedup.pipeline.executors.held import HeldPicks
from dask_dedup.pipeline.executors.memory import WritingMemory
from dask_dedup.pipeline.executors.splitting import split_by, split_decisions
from dask_dedup.storage.protocols import using_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from dask_dedup.monitoring.progress import Event
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.sample import SampleChoice
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan
    from dask_dedup.pipeline.rejected_rows import RejectedRows

    Uids = NDArray[np.uint64]

Piece = TypeVar("Piece")
#: Step of the sample of uids. The sample is used to divide the uids into ranges of about equal size.
UID_SPACING = 2**12


@dataclass(frozen=True, slots=True)
class ScannedGroup:
    """Results of the scan of a group of fragments that stay on a worker. The keys are fragment numbers."""

    summaries: list[ScanSummary]
    picks: dict[int, HeldPicks]
    uids: dict[int, Uids]

    def __sizeof__(self) -> int:
        return sum(map(sys.getsizeof, (*self.picks.values(), *self.uids.values())))


def share(value: Any) -> Any:
    """Return a value that many tasks use. Each worker fetches it once."""
    return value


def piece(parts: Mapping[int, Piece], number: int) -> dict[int, Piece]:
    """Return one piece of a result, so that only this piece is sent to the task that needs it."""
    return {number: parts[number]} if number in parts else {}


def scan(group: Sequence[int], hold: Sequence[bool], job: Job) -> ScannedGroup:
    """Scan fragments. `hold` is whether all picks of each fragment stay in memory."""
    scanned = ScannedGroup([], {}, {})
    for number, held_whole in zip(group, hold, strict=True):
        began = time.perf_counter()
        with using_endpoint(job.endpoint_url):
            summary, found = stages.scan_fragment(job, number, name_densest=True)
        held = HeldPicks(found.picks)
        if not held_whole:
            held = HeldPicks.at_boundary(found.picks, summary.micrographs)
        scanned.summaries.append(summary)
        scanned.picks[number] = held
        scanned.uids[number] = found.uids
        emit(job, events.scanned(summary, time.perf_counter() - began))
    return scanned


def summaries(scanned: ScannedGroup) -> tuple[list[ScanSummary], Uids, str]:
    """Return the summaries of scanned fragments, a sample of their uids, and the address of the worker."""
    sample = [uids[::UID_SPACING] for uids in scanned.uids.values()]
    return scanned.summaries, np.concatenate(sample), get_worker().address


def held_picks(scanned: ScannedGroup) -> dict[int, HeldPicks]:
    """Return the picks that stay in memory, without the uids."""
    return scanned.picks


def split_uids(
    groups: Sequence[ScannedGroup], bounds: Uids, job: Job
) -> dict[int, dict[int, list[Uids]]]:
    """Split uids by ranges of values. Return, for each range and input, a sorted array of uids per fragment."""
    ranges: dict[int, dict[int, list[Uids]]] = {n: {} for n in range(bounds.size + 1)}
    for scanned in groups:
        for number, uids in scanned.uids.items():
            source = job.inputs.fragments[number].source
            for part, run in enumerate(np.split(uids, np.searchsorted(uids, bounds))):
                ranges[part].setdefault(source, []).append(run)
    return ranges


def repeated_uids(
    number: int, parts: Sequence[Mapping[int, Mapping[int, list[Uids]]]]
) -> RepeatedUids:
    """Find the uids of one range of values that occur more than once."""
    runs: dict[int, list[Uids]] = {}
    for part in parts:
        for source, each in part[number].items():
            runs.setdefault(source, []).extend(each)
    return find_repeated_in(runs)


def locate_uids(scanned: ScannedGroup, uids: Sequence[int]) -> dict[int, list[int]]:
    """Return the numbers of the scanned fragments that contain each uid."""
    return find_fragments(uids, scanned.uids)


def sample(group: Sequence[int], job: Job, choice: SampleChoice) -> Picks:
    """Select the picks of a sample."""
    with using_endpoint(job.endpoint_url):
        return Picks.concatenate([stages.sample_fragment(job, choice, number) for number in group])


def collect(
    group: Sequence[int], job: Job, plan: Plan, held: Mapping[int, HeldPicks] | None = None
) -> tuple[Picks, NDArray[np.int32]]:
    """Return the picks of fragments that must be shuffled, and the shuffle partition of each pick."""
    parts = []
    for number in group:
        began = time.perf_counter()
        known = held[number].moving(plan) if held else None
        with using_endpoint(job.endpoint_url):
            picks, partition = stages.collect_picks(job, plan, number, known)
        emit(job, events.collected(number, len(picks), time.perf_counter() - began))
        parts.append((picks, partition))
    picks = Picks.concatenate([each for each, _ in parts])
    return picks, np.concatenate([each for _, each in parts])


def collect_by_partition(
    group: Sequence[int], held: Mapping[int, HeldPicks] | None, job: Job, plan: Plan
) -> dict[int, Picks]:
    """Return the picks of fragments that must be shuffled, split by shuffle partition."""
    picks, partition = collect(group, job, plan, held)
    return split_by(picks, partition)


def decide(picks: Picks, job: Job, plan: Plan) -> Decisions:
    """Find the duplicates in a shuffle partition."""
    began = time.perf_counter()
    with using_endpoint(job.endpoint_url):
        decisions, counts = stages.decide_picks(job, picks)
    partition = int(plan.partition_of(picks.micrograph[:1])[0])
    emit(job, events.decided(partition, counts, time.perf_counter() - began))
    return decisions


def decide_partition(
    number: int, parts: Sequence[Mapping[int, Picks]], job: Job, plan: Plan, group_of: NDArray[Any]
) -> dict[int, Decisions]:
    """Find the duplicates in a shuffle partition. Return the decisions for each group of fragments."""
    picks = Picks.concatenate([part[number] for part in parts if number in part])
    return split_decisions(decide(picks, job, plan), group_of)


def write_group(
    number: int,
    group: Sequence[int],
    parts: Sequence[Mapping[int, Decisions]],
    held: Mapping[int, HeldPicks] | None,
    job: Job,
    plan: Plan,
) -> list[FragmentCheckpoint]:
    """Write the fragments of a group. `parts` has the decisions about shuffled picks for each group."""
    moved = Decisions.concatenate([part[number] for part in parts if number in part])
    return list(write(group, job, plan, moved, held))


def write(
    group: Sequence[int],
    job: Job,
    plan: Plan,
    moved: Decisions,
    held: Mapping[int, HeldPicks] | None = None,
) -> Iterator[FragmentCheckpoint]:
    """Write fragments. Yield the checkpoint of each."""

    def decide_and_write(number: int) -> FragmentCheckpoint:
        picks = held[number].complete if held else None
        decided = None if picks is None else stages.decide_fragment(job, plan, picks)
        return stages.write_fragment(job, plan, number, moved.of_fragment(number), decided)

    for number in group:
        yield _write_one(job, number, decide_and_write)


def split(
    group: Sequence[int], job: Job, rejected: Sequence[RejectedRows]
) -> list[FragmentCheckpoint]:
    """Write the particles of fragments with known rejected rows."""

    def split_one(number: int) -> FragmentCheckpoint:
        return stages.split_fragment(job, number, rejected[number])

    return [_write_one(job, number, split_one) for number in group]


def _write_one(
    job: Job, number: int, write_fragment: Callable[[int], FragmentCheckpoint]
) -> FragmentCheckpoint:
    """Write a fragment when there is memory, and send an event."""
    began = time.perf_counter()
    with writing_memory().reserved_by(job, number), using_endpoint(job.endpoint_url):
        checkpoint = write_fragment(number)
    emit(job, events.written(checkpoint, time.perf_counter() - began))
    return checkpoint


@cache
def writing_memory() -> WritingMemory:
    """Return the memory of this process, which all threads of a worker share."""
    return WritingMemory.of_worker(get_worker().memory_manager.memory_limit)


def emit(job: Job, event: Event) -> None:
    """Send an event of this attempt to the scheduler."""
    get_worker().log_event(TOPIC, {"run": job.attempt, **event})

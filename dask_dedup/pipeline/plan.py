"""The plan of a run: the micrographs whose picks are shuffled, and their shuffle partitions."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.arrays import distinct_keys, find_sorted, unique_inverse
from dask_dedup.formatting import counted
from dask_dedup.particles.sample import NO_SAMPLE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from dask_dedup.particles.sample import SampleChoice
    from dask_dedup.particles.scan_summary import ScanSummary

#: Picks per shuffle partition. Few large partitions are shuffled faster than many small partitions, and fit in memory.
PARTITION_ROWS = 400_000
#: Largest number of shuffle partitions. A shuffle has tasks for every pair of partitions.
MOST_PARTITIONS = 1_000


@dataclass(frozen=True, slots=True)
class MicrographCounts:
    """Counts for each micrograph of all fragments.

    Attributes
    ----------
    keys : (m,) uint64
        Sorted keys of the micrographs.
    rows : (m,) int64
        Number of compared particles on each micrograph.
    fragments : (m,) int64
        Number of fragments with particles on each micrograph.
    """

    keys: NDArray[np.uint64]
    rows: NDArray[np.int64]
    fragments: NDArray[np.int64]

    def find(self, summary: ScanSummary) -> NDArray[np.intp]:
        """Return the index in `keys` of each micrograph of a fragment."""
        return np.searchsorted(self.keys, summary.micrographs)


def count_micrographs(summaries: Sequence[ScanSummary]) -> MicrographCounts:
    """Count the particles on each micrograph of all fragments."""
    keys = distinct_keys([summary.micrographs for summary in summaries])
    counts = MicrographCounts(keys, np.zeros(keys.size, np.int64), np.zeros(keys.size, np.int64))
    for summary in summaries:
        at = counts.find(summary)
        counts.rows[at] += summary.counts
        counts.fragments[at] += 1
    return counts


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of the shuffle: a shuffle partition for each micrograph that spans several fragments."""

    #: Particles that are compared.
    rows: int
    fragments: int
    micrographs: int
    #: (s,) sorted keys of the micrographs with picks in several fragments. These picks are shuffled.
    straddling: NDArray[np.uint64]
    #: (s,) the shuffle partition of each of these micrographs.
    partition: NDArray[np.int32]
    #: (p,) picks in each shuffle partition.
    partition_rows: NDArray[np.int64]
    #: Fragments with picks to shuffle.
    sending_fragments: tuple[int, ...]
    #: Fragments to write, because they have no checkpoint.
    unwritten: tuple[int, ...]
    #: Numbers of rows that are not compared, by fragment and reason. These rows are never shuffled.
    invalid: dict[int, dict[str, int]] = field(default_factory=dict)
    #: The sample of micrographs that the report shows.
    sample: SampleChoice = NO_SAMPLE

    @property
    def receiving_fragments(self) -> list[int]:
        """Numbers of the unwritten fragments that have shuffled picks."""
        return sorted({*self.sending_fragments} & {*self.unwritten})

    @property
    def moving_rows(self) -> int:
        """Number of picks to shuffle."""
        return int(self.partition_rows.sum())

    def partition_of(self, micrographs: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Return the shuffle partition of each micrograph key, -1 for keys that need no shuffle."""
        if not self.straddling.size:
            return np.full(micrographs.size, -1, dtype=np.int32)
        distinct, number = unique_inverse(micrographs)
        at = find_sorted(self.straddling, distinct)
        return np.append(self.partition, np.int32(-1))[at][number]

    def describe(self) -> list[str]:
        """Return log lines about the numbers of particles in the run and in the shuffle."""
        lines = [
            f"{counted(self.rows, 'particle')} on {counted(self.micrographs, 'micrograph')}, "
            f"in {counted(self.fragments, 'fragment')}"
        ]
        if not self.straddling.size:
            return [*lines, "no micrograph spans several fragments: nothing is shuffled"]
        partitions = counted(self.partition_rows.size, "partition")
        return [
            *lines,
            f"{counted(self.straddling.size, 'micrograph', 'span several fragments')}: shuffling "
            f"{counted(self.moving_rows, 'pick')} ({self.moving_rows / self.rows:.0%}) to "
            f"{partitions} of up to {self.partition_rows.max():,}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers of particles, fragments and shuffled picks as a dict, for the manifest."""
        return {
            "rows": self.rows,
            "fragments": self.fragments,
            "micrographs": self.micrographs,
            "straddling_micrographs": int(self.straddling.size),
            "moving_rows": self.moving_rows,
            "sending_fragments": len(self.sending_fragments),
            "partitions": int(self.partition_rows.size),
            "largest_partition_rows": int(self.partition_rows.max(initial=0)),
        }


def make_plan(
    summaries: Sequence[ScanSummary],
    written: Collection[int] = (),
    *,
    counts: MicrographCounts | None = None,
    sample: SampleChoice = NO_SAMPLE,
) -> Plan:
    """Make the plan of a run from the summaries of all fragments. Fragments in `written` are not written again.

    Micrographs found only in written fragments are not shuffled. `counts` are the counts of `summaries`, if known.
    """
    counts = counts or count_micrographs(summaries)
    done = set(written)
    unwritten = sorted({summary.fragment for summary in summaries} - done)
    straddles = counts.fragments > 1
    if done:
        needed = np.zeros(counts.keys.size, dtype=bool)
        for summary in summaries:
            if summary.fragment not in done:
                needed[counts.find(summary)] = True
        straddles &= needed
    sending = [each.fragment for each in summaries if straddles[counts.find(each)].any()]
    partition, partition_rows = pack(counts.rows[straddles])
    return Plan(
        rows=int(counts.rows.sum()),
        fragments=len(summaries),
        micrographs=int(counts.keys.size),
        straddling=counts.keys[straddles],
        partition=partition,
        partition_rows=partition_rows,
        sending_fragments=tuple(sorted(sending)),
        unwritten=tuple(unwritten),
        invalid={summary.fragment: summary.invalid for summary in summaries if summary.invalid},
        sample=sample,
    )


def pack(rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Assign each micrograph to a shuffle partition, so that all partitions have nearly equal numbers of picks.

    Returns
    -------
    partition : (m,) int32
        Partition of each micrograph.
    partition_rows : (p,) int64
        Picks in each partition.
    """
    partitions = min(rows.size, MOST_PARTITIONS, int(np.ceil(rows.sum() / PARTITION_ROWS)))
    partition = np.zeros(rows.size, dtype=np.int32)
    heap = [(0, number) for number in range(partitions)]
    for item in np.argsort(-rows, kind="stable").tolist():
        weight, number = heap[0]
        heapq.heapreplace(heap, (weight + int(rows[item]), number))
        partition[item] = number
    partition_rows = np.zeros(partitions, dtype=np.int64)
    np.add.at(partition_rows, partition, rows)
    return partition, partition_rows

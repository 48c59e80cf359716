"""What lives where, what must move, and into which buckets."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.arrow import unique_inverse
from dask_dedup.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from dask_dedup.particles.scan_summary import ScanSummary

#: A bucket holds about so many picks; fewer, larger buckets shuffle faster and still fit in memory.
PARTITION_ROWS = 400_000
#: There are never more buckets than that: Dask's graph grows with the square of a shuffle's partitions.
MOST_PARTITIONS = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each micrograph is decided.

    Attributes
    ----------
    rows : int
        Particles that are compared.
    fragments : int
    micrographs : int
        Distinct ones.
    straddling : (s,) uint64
        Keys, sorted, of the micrographs whose rows lie in more than one fragment: their picks travel.
    bucket : (s,) int32
        The bucket each of them goes to.
    bucket_rows : (b,) int64
        Picks in each bucket.
    open_fragments : tuple of int
        Fragments that hold picks of straddling micrographs; all others are decided where they lie.
    unwritten : tuple of int
        Fragments to write: all, unless an earlier attempt has written some.
    invalid : dict of int to dict of str to int
        Rows that are not compared, by fragment and reason; they never travel.
    """

    rows: int
    fragments: int
    micrographs: int
    straddling: NDArray[np.uint64]
    partition: NDArray[np.int32]
    partition_rows: NDArray[np.int64]
    open_fragments: tuple[int, ...]
    unwritten: tuple[int, ...]
    invalid: dict[int, dict[str, int]] = field(default_factory=dict)

    @property
    def homes(self) -> list[int]:
        """Open fragments that are to be written: decisions about moved picks go back to these."""
        return sorted({*self.open_fragments} & {*self.unwritten})

    @property
    def moving_rows(self) -> int:
        """Picks that travel."""
        return int(self.partition_rows.sum())

    def partition_of(self, micrographs: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Give each row's bucket; -1 for micrographs that live whole in one fragment."""
        if not self.straddling.size:
            return np.full(micrographs.size, -1, dtype=np.int32)
        distinct, number = unique_inverse(micrographs)
        at = np.searchsorted(self.straddling, distinct).clip(max=self.straddling.size - 1)
        moves = self.straddling[at] == distinct
        return np.where(moves, self.partition[at], np.int32(-1))[number]

    def describe(self) -> list[str]:
        """Say in words what will happen and why."""
        lines = [
            f"{counted(self.rows, 'particle')} on {counted(self.micrographs, 'micrograph')}, "
            f"in {counted(self.fragments, 'fragment')}"
        ]
        if not self.straddling.size:
            lines.append("every micrograph lies whole in one fragment: nothing moves")
            return lines
        share = self.moving_rows / self.rows
        low, high = self.partition_rows.min(), self.partition_rows.max()
        into = f"one partition of {high:,}"
        if self.partition_rows.size > 1:
            into = f"{self.partition_rows.size} partitions of {low:,} to {high:,}"
        lines.append(
            f"{counted(self.straddling.size, 'micrograph', 'lie in more than one fragment')}: "
            f"{counted(self.moving_rows, 'pick')} ({share:.0%}) must move into {into}; no payload moves"
        )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The plan's figures, for the manifest."""
        return {
            "rows": self.rows,
            "fragments": self.fragments,
            "micrographs": self.micrographs,
            "straddling_micrographs": int(self.straddling.size),
            "moving_rows": self.moving_rows,
            "open_fragments": len(self.open_fragments),
            "partitions": int(self.partition_rows.size),
            "largest_partition_rows": int(self.partition_rows.max(initial=0)),
        }


def make_plan(summaries: Sequence[ScanSummary], written: Collection[int] = ()) -> Plan:
    """Decide what must move, from what each fragment holds.

    Parameters
    ----------
    censuses : sequence of Census
    written : collection of int
        Fragments that need no writing any more: micrographs that occur in no other are left out of the
        straddling ones.
    """
    keys = np.concatenate([np.empty(0, np.uint64), *(summary.micrographs for summary in summaries)])
    counts = np.concatenate([np.empty(0, np.int64), *(summary.counts for summary in summaries)])
    homes = np.repeat(
        np.array([summary.fragment for summary in summaries], dtype=np.int64),
        [summary.micrographs.size for summary in summaries],
    )
    distinct, number, fragments = np.unique(keys, return_inverse=True, return_counts=True)
    rows = np.bincount(number, weights=counts, minlength=distinct.size).astype(np.int64)
    unwritten = sorted({summary.fragment for summary in summaries} - set(written))
    straddles = fragments > 1
    if written:
        waits = np.zeros(distinct.size, dtype=bool)
        waits[number[np.isin(homes, unwritten)]] = True
        straddles &= waits
    partition, partition_rows = pack(rows[straddles])
    return Plan(
        rows=int(rows.sum()),
        fragments=len(summaries),
        micrographs=int(distinct.size),
        straddling=distinct[straddles],
        partition=partition,
        partition_rows=partition_rows,
        open_fragments=tuple(np.unique(homes[straddles[number]]).tolist()),
        unwritten=tuple(unwritten),
        invalid={summary.fragment: summary.invalid for summary in summaries if summary.invalid},
    )


def pack(rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Pack micrographs into buckets of nearly equal weight: the largest first, into the lightest.

    Parameters
    ----------
    rows : (m,) int64
        Picks of each micrograph.

    Returns
    -------
    bucket : (m,) int32
    bucket_rows : (b,) int64
    """
    wanted = min(rows.size, MOST_PARTITIONS, int(np.ceil(rows.sum() / PARTITION_ROWS)))
    partition = np.zeros(rows.size, dtype=np.int32)
    heap = [(0, number) for number in range(wanted)]
    for item in np.argsort(-rows, kind="stable").tolist():
        weight, number = heap[0]
        heapq.heapreplace(heap, (weight + int(rows[item]), number))
        partition[item] = number
    partition_rows = np.zeros(wanted, dtype=np.int64)
    np.add.at(partition_rows, partition, rows)
    return partition, partition_rows

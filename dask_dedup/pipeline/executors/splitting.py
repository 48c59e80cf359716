"""Split picks and decisions by fragment, shuffle partition or task."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dask_dedup.dedup.arrays import ArrayTable
from dask_dedup.dedup.decide import Decisions, Rejections
from dask_dedup.dedup.votes import Votes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Table = TypeVar("Table", bound=ArrayTable)


def rows_by(number: NDArray[np.signedinteger]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Group rows by value of `number`. Return (value, row numbers) pairs in ascending order."""
    # NumPy sorts 16-bit integers by radix, in two passes.
    small = number.astype(np.uint16) if number.max(initial=0) < 2**16 else number
    order = np.argsort(small, kind="stable")
    distinct, starts = np.unique(number[order], return_index=True)
    return zip(distinct.tolist(), np.split(order, starts[1:]), strict=False)


def split_by(table: Table, number: NDArray[np.signedinteger]) -> dict[int, Table]:
    """Split a table by the value of `number` of each row. The values are in ascending order."""
    rows = dict(rows_by(number))
    return dict(zip(rows, table.split(list(rows.values())), strict=True))


def split_decisions(
    decisions: Decisions, group_of: NDArray[np.int64] | None = None
) -> dict[int, Decisions]:
    """Split decisions by fragment, or by the group of each fragment in `group_of`. Leave out group -1."""
    rejections, votes = decisions.rejections, decisions.votes
    if group_of is not None:
        rejections = rejections.take(group_of[rejections.fragment] >= 0)
        votes = votes.take(group_of[votes.fragment] >= 0)
    numbers = [rejections.fragment, votes.fragment]
    if group_of is not None:
        numbers = [group_of[each] for each in numbers]
    no_rejections, no_votes = Rejections.concatenate([]), Votes.concatenate([])
    rejected, voted = split_by(rejections, numbers[0]), split_by(votes, numbers[1])
    return {
        number: Decisions(rejected.get(number, no_rejections), voted.get(number, no_votes))
        for number in {**rejected, **voted}
    }

"""Split picks and decisions by fragment, shuffle partition or task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.decide import Decisions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def rows_by(number: NDArray[np.signedinteger]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Group rows by value of `number`. Return (value, row numbers) pairs in ascending order."""
    # NumPy sorts 16-bit integers by radix, in two passes.
    small = number.astype(np.uint16) if number.max(initial=0) < 2**16 else number
    order = np.argsort(small, kind="stable")
    distinct, starts = np.unique(number[order], return_index=True)
    return zip(distinct.tolist(), np.split(order, starts[1:]), strict=False)


def split_decisions(
    decisions: Decisions, group_of: NDArray[np.int64] | None = None
) -> dict[int, Decisions]:
    """Split decisions by fragment, or by the group of each fragment in `group_of`. Leave out those of group -1."""
    rejections, votes = decisions.rejections, decisions.votes
    if group_of is not None:
        rejections = rejections.take(group_of[rejections.fragment] >= 0)
        votes = votes.take(group_of[votes.fragment] >= 0)
    numbers = [rejections.fragment, votes.fragment]
    if group_of is not None:
        numbers = [group_of[each] for each in numbers]
    none = np.empty(0, dtype=np.intp)
    rejected, voted = (dict(rows_by(each)) for each in numbers)
    return {
        number: Decisions(
            rejections.take(rejected.get(number, none)), votes.take(voted.get(number, none))
        )
        for number in {**rejected, **voted}
    }

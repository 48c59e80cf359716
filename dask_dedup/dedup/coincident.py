"""Group particles with exactly the same position. Only the best-ranked particle of each group is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.arrays import HASH_FACTOR, begins_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.pairs import Bools, Indices, Keys, Points


@dataclass(frozen=True, slots=True)
class CoincidentGroups:
    """Groups of rows with exactly the same position, the same micrograph and the same `Points.labels`.

    All rows of a group have the same neighbours outside the group, so only the best row is compared.

    Attributes
    ----------
    group : (n,) intp
        Group number of each row.
    best : (g,) intp
        Row number of the best-ranked row of each group.
    rows : (g,) intp
        Number of rows in each group.
    members : (n,) intp
        Row numbers, group by group, in any order within a group.
    mutual : (g,) bool
        Whether the rows of a group are duplicates of each other: False if a label forbids it.
    """

    group: Indices
    best: Indices
    rows: Indices
    members: Indices
    mutual: Bools


def find_coincident(points: Points, keys: Keys) -> CoincidentGroups | None:
    """Group the points with the same position, micrograph and labels. Return None if all points differ."""
    n = len(points)
    if n < 2:
        return None
    parts = [points.micrographs.view(np.uint64)]
    # Adding 0.0 turns -0.0 into 0.0: both are the same position.
    parts += [(column + 0.0).view(np.uint64) for column in points.centres.T]
    parts += [label.view(np.uint64) for label in points.labels]
    hashes = _hash(parts)
    order = _argsort_by_runs(hashes)
    ordered = hashes[order]
    new_group = begins_run(ordered)
    if new_group.all():
        return None
    if _hashes_collide(parts, order, new_group):
        order = np.lexsort(parts)
        new_group[1:] = False
        for part in parts:
            new_group[1:] |= part[order[1:]] != part[order[:-1]]
    starts = np.flatnonzero(new_group)
    if starts.size == n:
        return None
    rows = np.diff(starts, append=n)
    group = np.empty(n, dtype=np.intp)
    group[order] = np.repeat(np.arange(starts.size), rows)
    mutual = np.ones(starts.size, dtype=bool)
    for label in points.labels:
        mutual &= label[order[starts]] < 0
    return CoincidentGroups(group, best_of_runs(order, starts, keys), rows, order, mutual)


def _hash(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Return the (n,) hashes of rows, given their columns `parts`. Different rows may have the same hash."""
    mixed = np.zeros(parts[0].size, dtype=np.uint64)
    folded = np.empty_like(mixed)
    for part in parts:
        mixed ^= part
        mixed *= HASH_FACTOR
        np.right_shift(mixed, np.uint64(32), out=folded)
        mixed ^= folded
    return mixed


def _argsort_by_runs(values: NDArray[np.uint64]) -> Indices:
    """Return the row numbers that sort `values`. Faster than `numpy.argsort` if equal values are adjacent."""
    starts = np.flatnonzero(begins_run(values))
    lengths = np.diff(starts, append=values.size)
    runs = np.argsort(values[starts])
    lengths = lengths[runs]
    offset = np.repeat(starts[runs] - (np.cumsum(lengths) - lengths), lengths)
    return np.asarray(offset + np.arange(values.size))


def _hashes_collide(parts: Sequence[NDArray[np.uint64]], order: Indices, new_group: Bools) -> bool:
    """Return whether two rows with the same hash differ in any column of `parts`."""
    for part in parts:
        values = part[order]
        if not ((values[1:] == values[:-1]) | new_group[1:]).all():
            return True
    return False


def best_of_runs(order: Indices, starts: Indices, keys: Keys) -> Indices:
    """Split the array `order` of row numbers at `starts`. Return the best-ranked row of each part.

    `keys` comes from `rank.rank_keys`.
    """
    if order.size == starts.size:
        return order
    for key in keys:
        values = key[order]
        rows = np.diff(starts, append=order.size)
        leading = values == np.repeat(np.minimum.reduceat(values, starts), rows)
        order, run = order[leading], np.repeat(np.arange(starts.size), rows)[leading]
        if order.size == starts.size:
            return order
        starts = np.searchsorted(run, np.arange(starts.size))
    return order[starts]

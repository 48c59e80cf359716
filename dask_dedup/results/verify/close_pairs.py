"""Find close pairs of points with a grid of cells.

The algorithm differs from the run's on purpose: no tree and no greedy suppression. Cells are at least as
wide as the reach, so two points within reach are in the same cell or in neighbouring cells.
Candidate pairs are made in slices, so memory is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.rank import splitmix64

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

#: Candidate pairs in memory at a time; about 100 bytes each.
CANDIDATES = 2**20

NOT_FOUND = -1
#: The nearest neighbour is first searched within the separation, halved this number of times.
_HALVINGS = 6

#: Cells are wider than the reach by this fraction, and at most this many cells are on either side
#: of the origin. The rounding of ``centre / side`` then stays within the margin.
_MARGIN, _MAX_CELLS = 1e-6, 2.0**28
#: Maximum number of cells of all micrographs; cell numbers must fit in 63 bits.
_MAX_NUMBERS = 2.0**62


@dataclass(frozen=True, slots=True)
class Points:
    """Particle centres with micrograph numbers, and labels that mark pairs to ignore.

    Attributes
    ----------
    micrograph : (n,) intp
        Consecutive numbers from 0. Only two points of one micrograph can be a pair.
    centres : (n, d) float64
        Angstrom, finite.
    labels : sequence of (n,) int64
        Two points with an equal, non-negative label are never a pair.
    """

    micrograph: Indices
    centres: Floats
    labels: Sequence[NDArray[np.int64]] = ()

    def __len__(self) -> int:
        return self.micrograph.size

    def take(self, rows: Indices | NDArray[np.bool_]) -> Points:
        """Select points by index or by mask."""
        labels = [label[rows] for label in self.labels]
        return Points(self.micrograph[rows], self.centres[rows], labels)

    def labelled(self) -> NDArray[np.bool_]:
        """Return a (n,) bool mask of the points with any non-negative label."""
        has = np.zeros(len(self), dtype=bool)
        for label in self.labels:
            has |= label >= 0
        return has


def distances(a: Floats, b: Floats) -> Floats:
    """Return the distance between each row of `a` and the same row of `b`, both (n, d) float64."""
    with np.errstate(over="ignore", under="ignore"):
        square = np.zeros(len(a))
        # The order of the sum defines a distance to the bit.
        for step in (a - b).T:
            square += step * step
        return np.asarray(np.sqrt(square))


def close_pairs(
    queries: Points, targets: Points, reach: float
) -> Iterator[tuple[Indices, Indices, Floats]]:
    """Yield all pairs within `reach`, in blocks: arrays of query, target and distance, each (p,).

    If `queries` and `targets` are the same points, each pair is yielded twice, and each unlabelled
    point is paired with itself. With a reach of 0, only equal centres are pairs.
    """
    if not len(queries) or not len(targets):
        return
    query_cell, target_cell, steps = _cells(queries, targets, reach)
    by_cell = np.argsort(target_cell)
    occupied = target_cell[by_cell]
    # Searching in sorted order is several times faster.
    asking = np.argsort(query_cell)
    sought = query_cell[asking]
    for step in steps:
        # Cells along the last axis have consecutive numbers, so three cells are one range.
        first = np.searchsorted(occupied, sought + (step - 1), side="left")
        last = np.searchsorted(occupied, sought + (step + 1), side="right")
        for slots, partners in _slices(first, last):
            query, target = asking[slots], by_cell[partners]
            a, b = queries.centres[query], targets.centres[target]
            distance = distances(a, b)
            # The squares of tiny steps underflow to 0, so equality is tested on the centres.
            near = distance <= reach if reach else (a == b).all(axis=1)
            for label, other in zip(queries.labels, targets.labels, strict=True):
                near &= (label[query] != other[target]) | (label[query] < 0)
            yield query[near], target[near], distance[near]


def _cells(
    queries: Points, targets: Points, reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Number the grid cells of queries and targets. No two micrographs share a number.

    The third value lists the steps from a cell number to the middle cells of the same and the
    neighbouring rows.
    """
    both = np.concatenate([queries.centres, targets.centres])
    micrograph = np.concatenate([queries.micrograph, targets.micrograph])
    # A constant axis, such as z on micrographs, would only triple the steps.
    axes = np.flatnonzero((both != both[0]).any(axis=0))
    both = both[:, axes] if axes.size else both[:, :1]
    each = (_MAX_NUMBERS / (float(micrograph.max()) + 1)) ** (1 / both.shape[1])
    most = min(_MAX_CELLS, each / 2 - 3)
    side = max(reach * (1 + _MARGIN), float(np.abs(both).max()) / most) or 1.0
    cells = np.floor(both / side).astype(np.int64)
    # Each row has an empty cell at both ends, so that no step leads into the next row.
    cells -= cells.min(axis=0) - 1
    lengths = cells.max(axis=0) + 2
    number = micrograph.astype(np.int64)
    stride, strides = 1, []
    for axis in range(both.shape[1]):
        number = number * lengths[axis] + cells[:, axis]
    for size in lengths[:0:-1].tolist():
        stride *= size
        strides.append(stride)
    moves = product((-1, 0, 1), repeat=len(strides))
    steps = [sum(n * length for n, length in zip(move, strides, strict=True)) for move in moves]
    return number[: len(queries)], number[len(queries) :], steps


def _slices(first: Indices, last: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield each slot with each number of ``first[slot]:last[slot]``, in two arrays of about `CANDIDATES`."""
    slots = np.flatnonzero(last > first)
    counts = last[slots] - first[slots]
    total = np.cumsum(counts)
    start = 0
    while start < slots.size:
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + CANDIDATES, side="right")))
        count = counts[start:stop]
        begins = first[slots[start:stop]] - (total[start:stop] - count - before)
        partners = np.repeat(begins, count) + np.arange(total[stop - 1] - before)
        yield np.repeat(slots[start:stop], count), partners
        start = stop


def distinct(points: Points, rank: Indices | None = None) -> tuple[Indices, Indices]:
    """Group coincident points: points with equal micrograph, centre and labels.

    This avoids comparing all coincident points with one another.

    Returns
    -------
    first : (g,) intp
        The point of each group with the lowest `rank`.
    group : (n,) intp
        The group of each point.
    """
    parts = [points.micrograph, *points.centres.T, *points.labels]
    if _all_differ(parts):
        return np.arange(len(points)), np.arange(len(points))
    order = np.lexsort([*([] if rank is None else [rank]), *reversed(parts)])
    new = np.zeros(order.size, dtype=bool)
    new[0] = True
    for part in parts:
        ordered = part[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    group = np.empty(order.size, dtype=np.intp)
    group[order] = np.cumsum(new) - 1
    return order[new], group


def _all_differ(parts: Sequence[NDArray[np.generic]]) -> bool:
    """Return True only if no two rows (one value from each column in `parts`) are equal.

    A rare hash collision makes the result False. Rows with different hashes differ, and sorting
    hashes is several times faster than sorting rows.
    """
    mixed = np.zeros(parts[0].size, dtype=np.uint64)
    for part in parts:
        # Adding 0.0 turns -0.0 into 0.0: the two are equal and need equal bits.
        if part.dtype.kind == "f":
            bits = (np.asarray(part, dtype=np.float64) + 0.0).view(np.uint64)
        else:
            bits = part.astype(np.uint64)
        mixed = splitmix64(mixed ^ bits)
    mixed.sort()
    return not (mixed[1:] == mixed[:-1]).any()


def closest_pair(points: Points, reach: float) -> tuple[float, int, int] | None:
    """Return the distance and indices of the closest pair, or None if no pair is within `reach`."""
    first, group = distinct(points)
    again = np.ones(len(points), dtype=bool)
    again[first] = False
    again &= ~points.labelled()
    if again.any():
        row = int(np.argmax(again))
        return 0.0, int(first[group[row]]), row
    closest = None
    few = points.take(first)
    for i, j, distance in close_pairs(few, few, reach):
        others = np.flatnonzero(i != j)
        if others.size:
            best = others[np.argmin(distance[others])]
            if closest is None or distance[best] < closest[0]:
                closest = float(distance[best]), int(first[i[best]]), int(first[j[best]])
    return closest


def best_within(
    queries: Points, targets: Points, rank: Indices, separation: float
) -> NDArray[np.intp]:
    """Return, for each query, the index of the best-ranked target within the separation, or `NOT_FOUND`.

    `rank` has the rank of each target. Lower is better, and all ranks differ.
    """
    first, group = distinct(queries)
    best_of_group, _ = distinct(targets, rank)
    order = np.argsort(rank)
    position = np.empty_like(order)
    position[order] = np.arange(order.size)
    best = np.full(first.size, order.size)
    for i, j, _ in close_pairs(queries.take(first), targets.take(best_of_group), separation):
        np.minimum.at(best, i, position[best_of_group[j]])
    return np.asarray(np.append(order, NOT_FOUND)[best])[group]


def nearest_within(
    queries: Points, targets: Points, rank: Indices, reach: float
) -> tuple[Indices, Floats]:
    """Return the index of the nearest target of each query within `reach`, or `NOT_FOUND`, and its distance.

    Among equally near targets, the target with the lowest `rank` is chosen. The distance for `NOT_FOUND` is infinite.
    """
    first, group = distinct(queries)
    best_of_group, _ = distinct(targets, rank)
    nearest, least = np.full(first.size, NOT_FOUND), np.full(first.size, np.inf)
    for i, j, distance in close_pairs(queries.take(first), targets.take(best_of_group), reach):
        target = best_of_group[j]
        order = np.lexsort((rank[target], distance, i))
        i, target, distance = i[order], target[order], distance[order]
        leads = np.append(True, i[1:] != i[:-1])[: i.size]
        i, target, distance = i[leads], target[leads], distance[leads]
        tied = (distance == least[i]) & (rank[target] < rank[nearest[i]])
        closer = (distance < least[i]) | tied
        nearest[i[closer]], least[i[closer]] = target[closer], distance[closer]
    return nearest[group], least[group]


def nearest_other(points: Points, separation: float) -> Floats:
    """Return the distance from each point to the nearest other point, or infinity beyond `separation`."""
    first, group = distinct(points)
    few = points.take(first)
    nearest = np.full(first.size, np.inf)
    # Short reaches come first: where points are dense, most points find a close neighbour with few pairs.
    for halvings in range(_HALVINGS if separation else 0, -1, -1):
        seeking = np.flatnonzero(np.isinf(nearest))
        for i, j, distance in close_pairs(few.take(seeking), few, separation / 2**halvings):
            others = seeking[i] != j
            np.minimum.at(nearest, seeking[i[others]], distance[others])
    coincident = np.bincount(group, minlength=first.size) > 1
    nearest[coincident & ~few.labelled()] = 0.0
    return nearest[group]

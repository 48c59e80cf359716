"""Close pairs by a grid of cells: pure arrays, for the proof of a finished run.

Deliberately another algorithm than the run's: no tree, no micrographs side by side, no greedy walk.
Two points within reach lie in the same or in adjoining cells if a cell's side is not below the
reach. Candidate pairs are made a slice at a time, so that memory stays bounded however many there
are.
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

#: Candidate pairs held at once; about 100 bytes each.
CANDIDATES = 2**20

NOBODY = -1

#: A cell is wider than the reach by this share, and no point is more than so many cells from the
#: origin: the rounding of ``centre / side`` then moves no point across more than the margin.
_MARGIN, _MOST_CELLS = 1e-6, 2.0**28
#: Cells of all micrographs together; their numbers have to fit in 63 bits.
_MOST_NUMBERS = 2.0**62


@dataclass(frozen=True, slots=True)
class Points:
    """Places of particles.

    Attributes
    ----------
    micrograph : (n,) intp
        Dense numbers, 0 and up. Only two points of one micrograph are ever a pair.
    centres : (n, d) float64
        Angstrom, finite.
    labels : sequence of (n,) int64
        Two points that share any label (not negative) are never a pair.
    """

    micrograph: Indices
    centres: Floats
    labels: Sequence[NDArray[np.int64]] = ()

    def __len__(self) -> int:
        return self.micrograph.size

    def take(self, rows: Indices | NDArray[np.bool_]) -> Points:
        """Select points by number or by mask."""
        labels = [label[rows] for label in self.labels]
        return Points(self.micrograph[rows], self.centres[rows], labels)

    def labelled(self) -> NDArray[np.bool_]:
        """Tell which points have any label; two of one place and the same labels are no pair."""
        has = np.zeros(len(self), dtype=bool)
        for label in self.labels:
            has |= label >= 0
        return has


def distances(a: Floats, b: Floats) -> Floats:
    """Give the distance of each row of `a` to the same row of `b`, both (n, d) float64."""
    with np.errstate(over="ignore", under="ignore"):
        square = np.zeros(len(a))
        # Added up axis by axis: that is how a distance is defined here, to the bit.
        for step in (a - b).T:
            square += step * step
        return np.asarray(np.sqrt(square))


def close_pairs(
    queries: Points, targets: Points, reach: float
) -> Iterator[tuple[Indices, Indices, Floats]]:
    """Find every pair of a query and a target at a distance of at most `reach`.

    Parameters
    ----------
    queries, targets : Points
        May be the same; then each pair comes twice, and (without labels) each point with itself.
    reach : float
        Angstrom; 0 asks for precisely equal centres.

    Yields
    ------
    query, target : (p,) intp
    distance : (p,) float64
        Angstrom.
    """
    if not len(queries) or not len(targets):
        return
    query_cell, target_cell, steps = _cells(queries, targets, reach)
    by_cell = np.argsort(target_cell)
    occupied = target_cell[by_cell]
    # Sought in their own order, the cells are found several times quicker.
    asking = np.argsort(query_cell)
    sought = query_cell[asking]
    for step in steps:
        # The cells along the last axis have consecutive numbers: three cells are one range.
        first = np.searchsorted(occupied, sought + (step - 1), side="left")
        last = np.searchsorted(occupied, sought + (step + 1), side="right")
        for slots, partners in _slices(first, last):
            query, target = asking[slots], by_cell[partners]
            a, b = queries.centres[query], targets.centres[target]
            distance = distances(a, b)
            # The squares of tiny steps vanish, so equality is asked for as such.
            near = distance <= reach if reach else (a == b).all(axis=1)
            for label, other in zip(queries.labels, targets.labels, strict=True):
                near &= (label[query] != other[target]) | (label[query] < 0)
            yield query[near], target[near], distance[near]


def _cells(
    queries: Points, targets: Points, reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Number the cells over all micrographs, row by row of a micrograph.

    Returns
    -------
    query, target : int64
        The number of each point's cell.
    steps : list of int
        From a cell to the middle cells of the adjoining rows, and of its own.
    """
    both = np.concatenate([queries.centres, targets.centres])
    micrograph = np.concatenate([queries.micrograph, targets.micrograph])
    # An axis along which nothing varies, z of micrographs, would triple the steps for nothing.
    axes = np.flatnonzero((both != both[0]).any(axis=0))
    both = both[:, axes] if axes.size else both[:, :1]
    each = (_MOST_NUMBERS / (float(micrograph.max()) + 1)) ** (1 / both.shape[1])
    most = min(_MOST_CELLS, each / 2 - 3)
    side = max(reach * (1 + _MARGIN), float(np.abs(both).max()) / most) or 1.0
    cells = np.floor(both / side).astype(np.int64)
    # An empty cell at either end, so that no step leads into the next row.
    cells -= cells.min(axis=0) - 1
    extent = cells.max(axis=0) + 2
    number = micrograph.astype(np.int64)
    stride, strides = 1, []
    for axis in range(both.shape[1]):
        number = number * extent[axis] + cells[:, axis]
    for size in extent[:0:-1].tolist():
        stride *= size
        strides.append(stride)
    moves = product((-1, 0, 1), repeat=len(strides))
    steps = [sum(n * length for n, length in zip(move, strides, strict=True)) for move in moves]
    return number[: len(queries)], number[len(queries) :], steps


def _slices(first: Indices, last: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Pair each slot with all of ``first[slot]:last[slot]``, about `CANDIDATES` at a time."""
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
    """Gather the points that coincide (same micrograph, centre and labels).

    Particles heaped at one place would otherwise be compared each with each.

    Returns
    -------
    first : (p,) intp
        One point of each place, the best-ranked (least `rank`).
    place : (n,) intp
        The place of each point.
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
    place = np.empty(order.size, dtype=np.intp)
    place[order] = np.cumsum(new) - 1
    return order[new], place


def _all_differ(parts: Sequence[NDArray[np.generic]]) -> bool:
    """Whether no two rows agree in all parts; now and then False when none do.

    Rows of different hashes differ, and hashes are sorted several times quicker than rows.
    """
    mixed = np.zeros(parts[0].size, dtype=np.uint64)
    for part in parts:
        # Adding 0.0 turns -0.0 into 0.0: the two are equal, and have to look it.
        if part.dtype.kind == "f":
            bits = (np.asarray(part, dtype=np.float64) + 0.0).view(np.uint64)
        else:
            bits = part.astype(np.uint64)
        mixed = splitmix64(mixed ^ bits)
    mixed.sort()
    return not (mixed[1:] == mixed[:-1]).any()


def closest_pair(points: Points, reach: float) -> tuple[float, int, int] | None:
    """Find the two points closest to each other, if that is within `reach`.

    Returns
    -------
    (distance, i, j) or None
        Angstrom, and the two points.
    """
    first, place = distinct(points)
    again = np.ones(len(points), dtype=bool)
    again[first] = False
    again &= ~points.labelled()
    if again.any():
        row = int(np.argmax(again))
        return 0.0, int(first[place[row]]), row
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
    """Find the best-ranked target within the separation of each query.

    Parameters
    ----------
    queries : Points
        n of them.
    targets : Points
        m of them.
    rank : (m,) intp
        Of the targets: less is better, no two equal.
    separation : float
        Angstrom.

    Returns
    -------
    (n,) intp
        Number of the target; -1 where there is none.
    """
    first, place = distinct(queries)
    best_of_place, _ = distinct(targets, rank)
    worst = np.iinfo(np.intp).max
    best = np.full(first.size, worst)
    for i, j, _ in close_pairs(queries.take(first), targets.take(best_of_place), separation):
        np.minimum.at(best, i, rank[best_of_place[j]])
    target_of_rank = np.argsort(rank)
    found = np.full(first.size, NOBODY)
    has = best < worst
    found[has] = target_of_rank[np.searchsorted(rank, best[has], sorter=target_of_rank)]
    return found[place]


def nearest_other(points: Points, separation: float) -> Floats:
    """Give the distance of each point to the closest other within the separation, else infinity."""
    first, place = distinct(points)
    few = points.take(first)
    nearest = np.full(first.size, np.inf)
    for i, j, distance in close_pairs(few, few, separation):
        others = i != j
        np.minimum.at(nearest, i[others], distance[others])
    heap = np.bincount(place, minlength=first.size) > 1
    nearest[heap & ~few.labelled()] = 0.0
    return nearest[place]

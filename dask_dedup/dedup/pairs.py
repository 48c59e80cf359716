"""Find all pairs of particles within the separation, with a sweep along x or a KD-tree.

A sweep suits sparse particles. Both methods only propose pairs: `Points.measure` checks the distance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from scipy.spatial import cKDTree

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]
    Keys = Sequence[NDArray[np.uint64]]
    Labels = Sequence[NDArray[np.int64]]
    #: Row numbers i and j of each pair, and their distance.
    Pairs = tuple[Indices, Indices, Floats]

#: Largest number of pairs in memory at once. A pair takes about 60 bytes while it is measured.
PAIR_BUDGET = 4_000_000
#: The number of pairs is estimated from a sample: one row out of this number of rows.
SAMPLING = 64
#: Most candidates per row (rows within reach along x) and most pairs per row for a sweep.
MOST_CANDIDATES, MOST_PAIRS = 16, 2
#: Most candidates per row at which a sweep is as fast as a KD-tree if there are many pairs. It needs no SciPy.
SWEEP_CANDIDATES = 100
#: A sweep compares all rows at once if more than one row in 4 is within reach along x, else only the rows within reach.
_SPARSE = 4

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Points:
    """Positions, micrographs and labels of n particles. Particles that share a label are not duplicates.

    Attributes
    ----------
    centres : (n, 2) or (n, 3) float64
        Finite positions, angstrom.
    micrographs : (n,) intp
        Micrograph numbers, consecutive from 0, in any order of rows.
    labels : sequence of (n,) int64
        Two points that share a label (not negative) are not duplicates of each other.
    """

    centres: Floats
    micrographs: Indices
    labels: Labels = ()

    def __len__(self) -> int:
        return len(self.centres)

    def take(self, rows: Indices) -> Self:
        """Return the points with the row numbers `rows`."""
        labels = [label[rows] for label in self.labels]
        return type(self)(self.centres.take(rows, axis=0), self.micrographs[rows], labels)

    def measure(self, i: Indices, j: Indices, min_separation: float) -> tuple[Bools, Floats]:
        """Measure the pairs (i, j). Return a mask of the duplicates and the distance of each pair, both (p,)."""
        # Plain ufuncs from left to right, because a fused multiply-add would round differently on some machines.
        square = np.zeros(i.size)
        for column in self.centres.T:
            step = column[i] - column[j]
            step *= step
            square += step
        distance = np.sqrt(square, out=square)
        close = (distance <= min_separation) & (self.micrographs[i] == self.micrographs[j])
        for label in self.labels:
            close &= (label[i] != label[j]) | (label[i] < 0)
        return close, distance

    def are_apart(self, min_separation: float) -> bool:
        """Return True if no points can be duplicates, given that no two points coincide."""
        return len(self) < 2 or (min_separation == 0 and not self.labels)


def sweep_pairs(
    points: Points,
    min_separation: float,
    most_candidates: float = MOST_CANDIDATES,
    most_pairs: float = MOST_PAIRS,
) -> Pairs | None:
    """Find all pairs of duplicates with a sweep along x. Return None if a sweep is unsuitable.

    Sort by x, with the micrographs side by side. Compare each row with the following rows that are within reach
    along x. A sweep is unsuitable for a separation of 0, or if there are too many candidates or pairs per row.
    """
    n = len(points)
    if n < 2 or min_separation == 0:
        return None
    layout, reach = arrange_side_by_side(points, min_separation)
    order = np.argsort(layout[:, 0])
    x, y = layout[order, 0], layout[order, 1]
    sample = np.random.default_rng(0).integers(n, size=min(n, 1024))
    following = np.searchsorted(x, x[sample] + reach, side="right") - sample - 1
    if following.mean() > most_candidates:
        return None
    found: list[Pairs] = []
    number = 0
    for near, apart in _rows_within(x, y, reach):
        found.append(_measured(points, order[near], order[near + apart], min_separation))
        number += found[-1][0].size
        if number > n * most_pairs:
            return None
    none = np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0)
    i, j, distance = (np.concatenate(parts) for parts in zip(none, *found, strict=True))
    return i, j, distance


def _rows_within(x: Floats, y: Floats, reach: float) -> Iterator[tuple[Indices, int]]:
    """Yield the rows within reach of the next row, then the rows within reach of the row after that, and so on.

    `x` must be sorted.

    Yields
    ------
    rows : (p,) intp
    apart : int
        Number of rows from each of `rows` to the other row.
    """
    start = None
    for apart in range(1, x.size):
        if start is None:
            within = x[apart:] - x[:-apart] <= reach
            yield np.flatnonzero(within & (np.abs(y[apart:] - y[:-apart]) <= reach)), apart
            if np.count_nonzero(within) * _SPARSE < x.size:
                start = np.flatnonzero(within)
            continue
        start = start[: np.searchsorted(start, x.size - apart)]
        start = start[x[start + apart] - x[start] <= reach]
        if not start.size:
            return
        yield start[np.abs(y[start + apart] - y[start]) <= reach], apart


def arrange_side_by_side(points: Points, min_separation: float) -> tuple[Floats, float]:
    """Shift points along x so that points on different micrographs are farther apart than the separation.

    Returns
    -------
    layout : (n, d) float64
    reach : float
        The separation, widened by the largest rounding error of the shifted positions.
    """
    # Axis by axis, because NumPy is slow along a short axis.
    layout = np.array(points.centres.T, order="C")
    for axis in layout:
        axis -= axis.min()
    stride = layout[0].max() + 2.0 * min_separation + 1.0
    layout[0] += points.micrographs * stride
    return layout.T, min_separation + 8.0 * _EPS * float(layout.max() + min_separation)


@dataclass(frozen=True, slots=True)
class PairSearch:
    """KD-tree of points on all micrographs. In `layout`, the micrographs are side by side."""

    points: Points
    min_separation: float
    layout: Floats
    reach: float
    tree: cKDTree

    @classmethod
    def over(cls, points: Points, min_separation: float) -> Self:
        """Build the KD-tree of all `points`."""
        layout, reach = arrange_side_by_side(points, min_separation)
        return cls(points, min_separation, layout, reach, _tree(layout))

    def take(self, rows: Indices) -> Self:
        """Build the KD-tree of the points with the row numbers `rows`."""
        layout = self.layout[rows]
        return replace(self, points=self.points.take(rows), layout=layout, tree=_tree(layout))

    def within(self, min_separation: float) -> Self:
        """Return the same tree for a smaller separation."""
        reach = self.reach - self.min_separation + min_separation
        return replace(self, min_separation=min_separation, reach=reach)

    def pairs(self) -> Pairs:
        """Return all pairs of duplicates: arrays of row i, row j and distance, each (p,)."""
        found = self.tree.query_pairs(self.reach, output_type="ndarray")
        return _measured(self.points, found[:, 0], found[:, 1], self.min_separation)

    def estimate(self) -> float:
        """Estimate the number of pairs of points within `reach` from a random sample of points."""
        n = len(self.layout)
        sample = np.random.default_rng(0).integers(n, size=min(n, max(256, n // SAMPLING)))
        neighbours = self._count_neighbours(sample)
        return float(np.mean(neighbours) - 1.0) * n / 2.0

    def count(self) -> int:
        """Count the pairs of points within `reach`."""
        ordered = int(self.tree.count_neighbors(self.tree, self.reach))
        return (ordered - len(self.layout)) // 2

    def candidates(self, rows: Indices) -> Iterator[tuple[Indices, Indices]]:
        """Yield all pairs of a point in `rows` and a point within `reach`, in blocks of about `PAIR_BUDGET` pairs.

        Yields
        ------
        k, j : (p,) intp
            Index in `rows`, and row number of the other point.
        """
        total = np.cumsum(self._count_neighbours(rows))
        start = 0
        while start < rows.size:
            before = total[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(total, before + PAIR_BUDGET, side="right")))
            few = _tree(self.layout[rows[start:stop]])
            found = few.sparse_distance_matrix(self.tree, self.reach, output_type="ndarray")
            yield found["i"] + start, found["j"]
            start = stop

    def _count_neighbours(self, rows: Indices) -> Indices:
        counts = self.tree.query_ball_point(self.layout[rows], self.reach, return_length=True)
        return np.asarray(counts)


def _measured(points: Points, i: Indices, j: Indices, min_separation: float) -> Pairs:
    duplicates, distance = points.measure(i, j, min_separation)
    close = np.flatnonzero(duplicates)  # faster than the mask
    return i[close], j[close], distance[close]


def _tree(layout: Floats) -> cKDTree:
    # Imported here, because most tables need no tree and the import takes longer than deciding a million picks.
    from scipy.spatial import cKDTree

    # Balancing the tree or shrinking its boxes costs more than it saves at one query a point.
    return cKDTree(layout, leafsize=16, balanced_tree=False, compact_nodes=False)

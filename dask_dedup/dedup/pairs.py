"""Close pairs: a sweep where picks are sparse, a KD-tree elsewhere; the exact distance decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from scipy.spatial import cKDTree

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]
    Labels = Sequence[NDArray[np.int64]]

#: Pairs held at once; about 60 bytes each while they are tested.
PAIR_BUDGET = 4_000_000
#: One row in so many is asked for its number of neighbours, to foresee the number of pairs.
SAMPLING = 64
#: A sweep gives way to a tree where more rows than this follow within reach along x, or more pairs a row are found.
MOST_CANDIDATES, MOST_PAIRS = 16, 2

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Field:
    """Distinct places, and what decides whether two of them may be duplicates."""

    centres: Floats
    micrographs: Indices
    labels: Labels

    def take(self, rows: Indices) -> Field:
        """Select places by number."""
        labels = [label[rows] for label in self.labels]
        return Field(self.centres.take(rows, axis=0), self.micrographs[rows], labels)

    def close(self, i: Indices, j: Indices, min_separation: float) -> tuple[Bools, Floats]:
        """Tell which candidate pairs are duplicates, and the exact distances of all."""
        # Plain ufuncs, left to right: a fused multiply-add would round otherwise on other machines.
        square = np.zeros(i.size)
        for column in self.centres.T:
            step = column[i] - column[j]
            step *= step
            square += step
        distance = np.sqrt(square, out=square)
        near = (distance <= min_separation) & (self.micrographs[i] == self.micrographs[j])
        for label in self.labels:
            near &= (label[i] != label[j]) | (label[i] < 0)
        return near, distance


def few_pairs(field: Field, min_separation: float) -> tuple[Indices, Indices, Floats] | None:
    """All pairs of duplicates, each once, and their distances; None if there are too many to look at.

    A sweep along x, with the micrographs side by side: each row is compared with those that come next, as long
    as they are within reach along x.
    """
    n = len(field.centres)
    if n < 2 or min_separation == 0:
        return None
    layout, reach = side_by_side(field, min_separation)
    order = np.argsort(layout[:, 0])
    x, y = layout[order, 0], layout[order, 1]
    sample = np.random.default_rng(0).integers(n, size=min(n, 1024))
    following = np.searchsorted(x, x[sample] + reach, side="right") - sample - 1
    if following.mean() > MOST_CANDIDATES:
        return None
    found: list[tuple[Indices, Indices, Floats]] = []
    pairs, start = 0, np.arange(n)
    for apart in range(1, n):
        start = start[: np.searchsorted(start, n - apart)]
        start = start[x[start + apart] - x[start] <= reach]
        if not start.size:
            break
        near = start[np.abs(y[start + apart] - y[start]) <= reach]
        i, j = order[near], order[near + apart]
        close, distance = field.close(i, j, min_separation)
        found.append((i[close], j[close], distance[close]))
        pairs += found[-1][0].size
        if pairs > n * MOST_PAIRS:
            return None
    none = np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0)
    i, j, distance = (np.concatenate(parts) for parts in zip(none, *found, strict=True))
    return i, j, distance


def side_by_side(field: Field, min_separation: float) -> tuple[Floats, float]:
    """Shift each micrograph along x so that no two come near each other.

    Returns
    -------
    layout : (n, d) float64
    reach : float
        The separation, widened by the largest rounding error of the shifted coordinates.
    """
    # Axis by axis: NumPy is slow along a short one.
    layout = np.array(field.centres.T, order="C")
    for axis in layout:
        axis -= axis.min()
    stride = layout[0].max() + 2.0 * min_separation + 1.0
    layout[0] += field.micrographs * stride
    return layout.T, min_separation + 8.0 * _EPS * float(layout.max() + min_separation)


def make_tree(layout: Floats) -> cKDTree:
    """Make a tree of places laid side by side."""
    # Most tables need none, and to import this takes longer than to decide a million picks.
    from scipy.spatial import cKDTree

    # Neither balancing nor shrinking the boxes repays its cost for one query a point.
    return cKDTree(layout, leafsize=16, balanced_tree=False, compact_nodes=False)


def close_pairs(
    field: Field, tree: cKDTree, reach: float, min_separation: float
) -> tuple[Indices, Indices, Floats]:
    """All pairs of duplicates in the tree over `field`, and their distances."""
    pairs = tree.query_pairs(reach, output_type="ndarray")
    near, distance = field.close(pairs[:, 0], pairs[:, 1], min_separation)
    return pairs[near, 0], pairs[near, 1], distance[near]


def expected_pairs(tree: cKDTree, layout: Floats, reach: float) -> float:
    """Foresee the number of close pairs from the neighbours of a sample of the rows."""
    n = len(layout)
    sample = np.random.default_rng(0).integers(n, size=min(n, max(256, n // SAMPLING)))
    neighbours = tree.query_ball_point(layout[sample], reach, return_length=True)
    return float(np.mean(neighbours) - 1.0) * n / 2.0


def cross_pairs(
    layout: Floats, rows: Indices, tree: cKDTree, reach: float
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of a row of `rows` (by its place there) and any row of the tree, a budget at a time."""
    neighbours = tree.query_ball_point(layout[rows], reach, return_length=True)
    total = np.cumsum(neighbours)
    start = 0
    while start < rows.size:
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + PAIR_BUDGET, side="right")))
        few = make_tree(layout[rows[start:stop]])
        pairs = few.sparse_distance_matrix(tree, reach, output_type="ndarray")
        yield pairs["i"] + start, pairs["j"]
        start = stop


def all_pairs(field: Field, min_separation: float) -> Iterator[tuple[Indices, Indices, Floats]]:
    """Every pair of duplicates among distinct places, a budget at a time."""
    n = len(field.centres)
    if n < 2 or (min_separation == 0 and not field.labels):
        return
    layout, reach = side_by_side(field, min_separation)
    tree = make_tree(layout)
    if expected_pairs(tree, layout, reach) <= PAIR_BUDGET:
        yield close_pairs(field, tree, reach, min_separation)
        return
    rows = np.arange(n)
    for i, j in cross_pairs(layout, rows, tree, reach):
        near, distance = field.close(i, j, min_separation)
        near &= i < j
        yield i[near], j[near], distance[near]

"""Close pairs: grids of cells where picks are sparse, a KD-tree elsewhere; the exact distance decides."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]
    Labels = Sequence[NDArray[np.int64]]

#: Pairs held at once; about 60 bytes each while they are tested.
PAIR_BUDGET = 4_000_000
#: One row in so many is asked for its number of neighbours, to foresee the number of pairs.
SAMPLING = 64
#: The table of cells has at least so many entries a row, and the grids give way to trees where more than this
#: part of the rows is in cells of three and more.
CELLS_PER_ROW, MOST_CROWDED = 8, 0.5

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
    """All pairs of duplicates, some more than once, and their distances; None if there are too many.

    Two particles within reach share a cell, twice the reach wide, of at least one of the 2**d grids that
    are shifted by nothing or by half a cell along each axis.
    """
    n = len(field.centres)
    if n < 2 or min_separation == 0:
        return None
    # Column by column: NumPy is slow along a short axis.
    scaled = np.array(field.centres.T, order="C")
    low = [float(column.min()) for column in scaled]
    far = max(float(column.max()) - least for column, least in zip(scaled, low, strict=True))
    # Wider by more than the rounding of the subtraction and of the division below.
    reach = min_separation + 16.0 * _EPS * (far + max(map(abs, low)))
    size = int(far / (2.0 * reach)) + 2
    if size ** len(scaled) * (int(field.micrographs.max()) + 1) >= 2**62:
        return None
    cells = []
    for column, least in zip(scaled, low, strict=True):
        column -= least
        column /= 2.0 * reach
        cells.append((column.astype(np.int64), (column + 0.5).astype(np.int64)))
    # Cells are told apart by a remainder: those that share one are told apart by the exact test.
    mask = (1 << (CELLS_PER_ROW * n).bit_length()) - 1
    last = np.empty(mask + 1, dtype=np.int32)
    row = np.arange(n, dtype=np.int32)
    crowded = np.zeros(n, dtype=bool)
    found: list[tuple[Indices, Indices, Floats]] = []
    for shifted in product(*cells):
        cell = field.micrographs.astype(np.int64)
        for numbers in shifted:
            cell *= size
            cell += numbers
        cell &= mask
        last[cell] = row
        latest = last[cell]
        first = np.flatnonzero(latest != row)
        partner: Indices = latest[first].astype(np.intp)
        cell_of_first = cell[first]
        # Of the rows before the last of a cell, all but one find another when they look again.
        last[cell_of_first] = first
        third = last[cell_of_first] != first
        if third.any():
            full = np.zeros(mask + 1, dtype=bool)
            full[cell_of_first[third]] = True
            crowded |= full[cell]
            if np.count_nonzero(crowded) > n * MOST_CROWDED:
                return None
            alone = ~full[cell_of_first]
            first, partner = first[alone], partner[alone]
        near, distance = field.close(first, partner, min_separation)
        found.append((first[near], partner[near], distance[near]))
    rows = np.flatnonzero(crowded)
    if rows.size:
        some = field.take(rows)
        layout, reach = side_by_side(some, min_separation)
        tree = make_tree(layout)
        if expected_pairs(tree, layout, reach) > min(PAIR_BUDGET, n):
            return None
        i, j, distance = close_pairs(some, tree, reach, min_separation)
        found.append((rows[i], rows[j], distance))
    i, j, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return i, j, distance


def side_by_side(field: Field, min_separation: float) -> tuple[Floats, float]:
    """Shift each micrograph along x so that no two come near each other.

    Returns
    -------
    layout : (n, d) float64
    reach : float
        The separation, widened by the largest rounding error of the shifted coordinates.
    """
    low = field.centres.min(axis=0)
    layout = field.centres - low
    stride = layout[:, 0].max() + 2.0 * min_separation + 1.0
    layout[:, 0] += field.micrographs * stride
    return layout, min_separation + 8.0 * _EPS * float(layout.max() + min_separation)


def make_tree(layout: Floats) -> cKDTree:
    """Make a tree of places laid side by side."""
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

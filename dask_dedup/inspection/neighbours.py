"""Distances between particles, computed from arrays of centres.

All micrographs are measured together in one KD-tree. An extra axis separates them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dask_dedup.dedup.arrays import repeat_each
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.dedup.recommended_separation import find_spacing
from dask_dedup.inspection.contents import Neighbourhood

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]

#: Values are counted without sorting if the largest value is at most this factor times their number.
_DENSE = 8
#: A share of matches is clearly larger than another share by this margin, ratio and number of standard errors.
MARGIN, RATIO, SIGNIFICANT = 0.05, 1.5, 5.0
#: Distances at which pairs are counted.
RADII = (5.0, 10.0, 20.0, 50.0, 100.0)
#: Approximate number of histogram bins.
_BINS = 16


@dataclass(frozen=True, slots=True)
class Centres:
    """Particle centres with micrograph numbers, shifts and micrograph heights.

    Attributes
    ----------
    micrograph : (n,) int64
        Micrograph numbers, the same in all inputs.
    points : (n, d) float64
        Centres with shifts applied; d is 2 or 3.
    shift : (n, d) float64 or None
        Shifts that were subtracted.
    height : (n,) float64
        Micrograph height in the unit of `points`. NaN if unknown.
    """

    micrograph: NDArray[np.int64]
    points: Floats
    shift: Floats | None
    height: Floats

    def __len__(self) -> int:
        return len(self.micrograph)

    @property
    def has_heights(self) -> bool:
        """Whether the heights of all micrographs are known."""
        return bool(np.isfinite(self.height).all())

    @classmethod
    def concatenate(cls, parts: Sequence[Centres]) -> Self:
        """Concatenate sets of centres. The result has shifts only if all sets have shifts."""
        shifts = [part.shift for part in parts if part.shift is not None]
        return cls(
            np.concatenate([part.micrograph for part in parts]),
            np.concatenate([part.points for part in parts]),
            np.concatenate(shifts) if len(shifts) == len(parts) else None,
            np.concatenate([part.height for part in parts]),
        )

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Centres:
        """Select centres by mask or by index."""
        shift = None if self.shift is None else self.shift[rows]
        return Centres(self.micrograph[rows], self.points[rows], shift, self.height[rows])

    def with_shift(self, sign: int) -> Self:
        """Return the centres with shifts subtracted (`sign` is -1, as in `points`), left out (0) or added (1)."""
        if self.shift is None:
            return self
        return replace(self, points=self.points + (1 + sign) * self.shift)

    def flipped(self, height: float = np.nan) -> Self:
        """Return the centres with y flipped (height - y).

        If the height of any micrograph is unknown, use `height` for all micrographs.
        """
        points, shift = self.points.copy(), self.shift
        points[:, 1] = (self.height if self.has_heights else height) - points[:, 1]
        if shift is not None:
            shift = shift.copy()
            shift[:, 1] *= -1.0
        return replace(self, points=points, shift=shift)


class CentreTree:
    """A KD-tree of centres, for distances up to `reach`. Coincident centres share one point."""

    def __init__(self, centres: Centres, reach: float) -> None:
        self.reach = reach
        points = self.embed(centres)
        # A tree cannot split a leaf of equal points.
        first, self.index, self.copies = _distinct(points)
        self.points = points[first]
        self.tree = cKDTree(self.points)

    def embed(self, centres: Centres) -> Floats:
        """Add a coordinate so that centres of different micrographs are more than `reach` apart."""
        return np.column_stack([centres.micrograph * (4.0 * self.reach), centres.points])

    def nearest_own(self) -> Floats:
        """Return the distance from each centre to its nearest neighbour, or infinity beyond `reach`."""
        found, _ = self.tree.query(self.points, k=2, distance_upper_bound=self.reach, workers=-1)
        second = np.asarray(found)[:, 1]
        return np.where(self.copies > 1, 0.0, second)[self.index]

    def nearest_to(self, centres: Centres) -> Floats:
        """Return the distance from each of `centres` to the nearest point of the tree, or infinity beyond `reach`."""
        points = self.embed(centres)
        return np.asarray(self.tree.query(points, distance_upper_bound=self.reach, workers=-1)[0])

    def count_pairs(self, radii: Sequence[float] | Floats) -> list[int]:
        """Count, for each radius, the pairs of centres at most this far apart."""
        weights = self.copies.astype(np.float64)
        both_ways = self.tree.count_neighbors(self.tree, radii, weights=(weights, weights))
        return [round(pairs) for pairs in ((both_ways - weights.sum()) / 2).tolist()]


def _distinct(points: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Find distinct points. Return first indices, inverse indices and counts, like `numpy.unique`."""
    key = np.zeros(len(points), dtype=np.uint64)
    for axis in (points + 0.0).T:
        key = splitmix64(key ^ np.ascontiguousarray(axis).view(np.uint64))
    _, first, index, copies = np.unique(
        key, return_index=True, return_inverse=True, return_counts=True
    )
    return first, index, copies


def partners(one: Centres, other: Centres, radius: float) -> Floats:
    """Return the distance from each pick of `one` to the nearest pick of `other`, (n,); infinity beyond `radius`."""
    # The bound of a KD-tree query is exclusive.
    return CentreTree(other, float(np.nextafter(radius, np.inf))).nearest_to(one)


def shares(one: Centres, other: Centres, radius: float) -> tuple[float, float]:
    """Return the fraction of each input's picks that have a partner in the other input."""
    there, back = partners(one, other, radius), partners(other, one, radius)
    return float(np.isfinite(there).mean()), float(np.isfinite(back).mean())


def count_values(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted distinct values of non-negative integers, and the number of times each value occurs."""
    if values.max(initial=0) > _DENSE * max(values.size, 1000):
        distinct, counts = np.unique(values, return_counts=True)
        return distinct, counts
    # A sort takes ten times as long.
    every = np.bincount(values)
    distinct = np.flatnonzero(every)
    return distinct, every[distinct]


def sample_pairs(
    first: NDArray[np.intp], count: NDArray[np.intp], most: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair each row i with the ``count[i]`` indices from ``first[i]`` on. Return rows and indices, each (p,).

    If there are more than about `most` pairs, use all pairs of randomly chosen rows.
    """
    chosen = np.random.default_rng(0).permutation(count.size)
    chosen = chosen[: max(1, int(np.searchsorted(np.cumsum(count[chosen]), most)))]
    number, nth = repeat_each(count[chosen])
    rows = chosen[number]
    return rows, first[rows] + nth


def clearly_larger(share: float, other: float, picks: int) -> bool:
    """Return whether the fraction `share` of `picks` is significantly larger than the fraction `other`."""
    error = ((share * (1 - share) + other * (1 - other)) / picks) ** 0.5
    above = share - other
    return above > MARGIN and share > RATIO * other and above > SIGNIFICANT * error


def measure_neighbourhoods(
    sets: Sequence[Centres], edges: Sequence[float] | None = None
) -> list[Neighbourhood | None]:
    """Measure the distances within each set of centres. Return None for a set with fewer than two centres.

    By default, the histograms have bin edges that suit all sets.
    """
    distances = [_nearest_distances(centres) for centres in sets]
    finite = [part[np.isfinite(part)] for part in distances]
    if edges is None:
        edges = _choose_edges(np.concatenate([np.empty(0), *finite]))
    found: list[Neighbourhood | None] = []
    for centres, nearest, known in zip(sets, distances, finite, strict=True):
        if not nearest.size:
            found.append(None)
            continue
        counts = np.histogram(known, edges)[0].tolist()
        percentiles = (0.0, 5.0, 50.0, 95.0) if known.size else ()
        found.append(
            Neighbourhood(
                picks=len(centres),
                coincident=int(np.count_nonzero(nearest == 0)),
                pairs=dict(
                    zip(RADII, CentreTree(centres, RADII[-1]).count_pairs(RADII), strict=True)
                ),
                nearest={p: float(np.percentile(known, p)) for p in percentiles},
                edges=tuple(edges),
                histogram=(*counts, nearest.size - sum(counts)),
                spacing=find_spacing(centres.points, centres.micrograph),
            )
        )
    return found


def _nearest_distances(centres: Centres) -> Floats:
    if len(centres) < 2:
        return np.empty(0)
    span = np.ptp(centres.points, axis=0)
    return CentreTree(centres, float(np.hypot.reduce(span)) + 1.0).nearest_own()


def _choose_edges(distances: Floats) -> list[float]:
    """Return histogram bin edges that cover 95 % of the distances. The bin width is a round number."""
    top = float(np.percentile(distances, 95)) if distances.size else 0.0
    if top == 0:
        return [0.0, 1.0]
    widths = np.array([1.0, 2.0, 5.0, 10.0]) * 10.0 ** np.floor(np.log10(top / _BINS))
    width = widths[np.argmin(np.abs(np.log(widths / (top / _BINS))))]
    return [float(edge) for edge in width * np.arange(math.ceil(top / width) + 1)]

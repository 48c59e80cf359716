"""How far apart particles are: arrays in, numbers out.

All micrographs are measured at once: an extra axis keeps them apart in one KD-tree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dask_dedup.dedup.rank import splitmix64

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]

#: The radial density is taken to so many mean spacings, in steps of this ratio, from this part of the range on.
_SHELLS, _STEP, _FINEST = 3.0, 1.04, 0.01
#: About so many pairs are enough for it; an interval holds so many (least, most) or spans no more than a step.
_PAIRS, _PAIRS_EACH = 2_000_000, (30.0, 60.0)
#: A gap reaches from r to this times r or further, and stands out by so many standard deviations.
_WIDENING, _SIGNIFICANT = 1.4, 5.0
#: Pairs are counted up to each of these distances.
RADII = (5.0, 10.0, 20.0, 50.0, 100.0)
#: A histogram has about so many bins.
_BINS = 16


@dataclass(frozen=True, slots=True)
class Centres:
    """Particle centres of one input.

    Attributes
    ----------
    micrograph : (n,) int64
        Numbered alike in all inputs.
    points : (n, d) float64
        d is 2 or 3; shifts are applied.
    shift : (n, d) float64 or None
        What was subtracted.
    height : (n,) float64
        Of the micrograph, in the unit of `points`: the sum of a y and its mirror image; NaN where it
        is not known.
    """

    micrograph: NDArray[np.int64]
    points: Floats
    shift: Floats | None
    height: Floats

    def __len__(self) -> int:
        return len(self.micrograph)

    @classmethod
    def concatenate(cls, parts: Sequence[Centres]) -> Self:
        """Join centres end to end; shifts are kept if all have them."""
        shifts = [part.shift for part in parts if part.shift is not None]
        return cls(
            micrograph=np.concatenate([part.micrograph for part in parts]),
            points=np.concatenate([part.points for part in parts]),
            shift=np.concatenate(shifts) if len(shifts) == len(parts) else None,
            height=np.concatenate([part.height for part in parts]),
        )

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """Select rows by mask or by number."""
        shift = None if self.shift is None else self.shift[rows]
        return replace(
            self,
            micrograph=self.micrograph[rows],
            points=self.points[rows],
            shift=shift,
            height=self.height[rows],
        )

    def with_shift(self, sign: int) -> Self:
        """Apply the shift otherwise: -1 subtracts it, as the rule is, 0 leaves it out, 1 adds it."""
        if self.shift is None:
            return self
        return replace(self, points=self.points + (1 + sign) * self.shift)

    def flipped(self, height: float | None = None) -> Self:
        """Turn y around, about the given height or each row's own."""
        points, shift = self.points.copy(), self.shift
        points[:, 1] = (self.height if height is None else height) - points[:, 1]
        if shift is not None:
            shift = shift * np.where(np.arange(shift.shape[1]) == 1, -1.0, 1.0)
        return replace(self, points=points, shift=shift)


class Cloud:
    """Centres in a KD-tree, those at equal places as one.

    Parameters
    ----------
    centres : Centres
    reach : float
        The longest distance that will be asked for.
    """

    def __init__(self, centres: Centres, reach: float) -> None:
        self.reach = reach
        self.places = self.place(centres)
        first, self.where, self.copies = _distinct(self.places)
        # Equal places would make leaves that no tree can split.
        self.places = self.places[first]
        self.tree = cKDTree(self.places)

    def place(self, centres: Centres) -> Floats:
        """Give the centres with the axis that keeps micrographs apart."""
        return np.column_stack([centres.micrograph * (4.0 * self.reach), centres.points])

    def nearest_own(self) -> Floats:
        """Give each centre's distance to its closest neighbour; infinite if that is out of reach."""
        found, _ = self.tree.query(self.places, k=2, distance_upper_bound=self.reach, workers=-1)
        second = np.asarray(found)[:, 1]
        return np.where(self.copies > 1, 0.0, second)[self.where]

    def nearest_to(self, centres: Centres) -> Floats:
        """Give the distance from other centres to the closest here; infinite if out of reach."""
        distance, _ = self.tree.query(
            self.place(centres), distance_upper_bound=self.reach, workers=-1
        )
        return np.asarray(distance, dtype=np.float64)

    def count_pairs(self, radii: Sequence[float] | Floats) -> list[int]:
        """Count the pairs at most as far apart as each radius."""
        weights = self.copies.astype(np.float64)
        both_ways = np.asarray(
            self.tree.count_neighbors(
                self.tree, np.asarray(radii, dtype=np.float64), weights=(weights, weights)
            )
        )
        return [round(pairs) for pairs in ((both_ways - weights.sum()) / 2).tolist()]


def _distinct(places: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Tell equal rows: the first of each kind, which kind each row is, how many there are of each."""
    key = np.zeros(len(places), dtype=np.uint64)
    for axis in (places + 0.0).T:
        key = splitmix64(key ^ np.ascontiguousarray(axis).view(np.uint64))
    _, first, where, copies = np.unique(
        key, return_index=True, return_inverse=True, return_counts=True
    )
    return first, where, copies


@dataclass(frozen=True, slots=True)
class Spacing:
    """Where real neighbours begin.

    Attributes
    ----------
    duplicates_end : float
        Distance within which the duplicates lie; 0 if there are none to speak of.
    neighbours_begin : float
    """

    duplicates_end: float
    neighbours_begin: float


def find_spacing(centres: Centres) -> Spacing | None:
    """Find the gap between duplicates and real neighbours in the radial density of particles.

    The radial density is ``g(r) = pairs(r) / expected(r)``: the pairs in a shell, over those of as
    many particles placed at random, ``sum of n (n - 1) / 2 over micrographs * shell / area`` (for
    tomograms, volume); particles at precisely one place count once. Let ``P(r)`` be the greatest
    ``g`` beyond ``r``. A gap is an interval ``[v, s)`` that

    - has ``g <= P(v) / 2``, and ``g >= P(v) / 2`` again at its end,
    - widens: ``s >= 1.4 v``,
    - holds fewer pairs than ``g = P(v) / 2`` stands for, by 5 standard deviations.

    Of several, the one with the greatest ``s / v`` counts. Duplicates end at ``v``, provided that
    ``g`` up to there is ``P(v) / 2`` or more. Neighbours begin where ``g`` last rises, before ``s``,
    through a tenth of the way from the gap's floor (its mean over the first half) to ``P(v)``.

    Returns
    -------
    Spacing or None
        None if there is no such gap: too few particles, or neighbours at any distance.
    """
    edges, observed, expected = _radial_pairs(centres)
    if len(observed) < 3:
        return None
    density = observed / expected
    later = np.maximum.accumulate(density[::-1])[::-1]
    widest, spacing, start = _WIDENING, None, 0
    while start < len(density) - 1:
        peak = later[start + 1]
        if density[start] > peak / 2:
            start += 1
            continue
        end = start + 1 + int(np.argmax(density[start + 1 :] >= peak / 2))
        below = peak / 2 * expected[start:end].sum()
        missing = below - observed[start:end].sum()
        width = edges[end] / max(edges[start], edges[-1] * _FINEST)
        if width >= widest and missing >= _SIGNIFICANT * below**0.5:
            half = max(start + 1, (start + end) // 2)
            floor = observed[start:half].sum() / expected[start:half].sum()
            begin = end
            while begin > start + 1 and density[begin - 1] > floor + (peak - floor) / 10:
                begin -= 1
            piled = observed[:start].sum() >= peak / 2 * expected[:start].sum()
            spacing = Spacing(float(edges[start]) if piled else 0.0, float(edges[begin]))
            widest = width
        start = end
    return spacing


def _radial_pairs(centres: Centres) -> tuple[Floats, Floats, Floats]:
    """Count pairs by distance: edges of intervals, pairs observed, pairs expected at random."""
    nothing = np.zeros(1), np.zeros(0), np.zeros(0)
    # Copies at one place are no evidence of their own about distances to others.
    first, _, _ = _distinct(np.column_stack([centres.micrograph, centres.points]))
    centres = centres.take(np.sort(first))
    crowd = np.bincount(centres.micrograph)[centres.micrograph] - 1.0
    extent = _extent(centres)
    extent = extent[extent > 0]
    if not extent.size or not crowd.any():
        return nothing
    axes, volume = extent.size, float(np.prod(extent))
    spacing = (volume / crowd.mean()) ** (1 / axes)
    reach = min(_SHELLS * spacing, extent.min() / 2)
    cloud = Cloud(centres, reach)
    order = np.random.default_rng(0).permutation(len(centres))
    places = cloud.place(centres)
    probe = cloud.tree.query_ball_point(places[order[:500]], reach, return_length=True)
    order = order[: max(500, int(_PAIRS / probe.mean()))]
    found = cKDTree(places[order]).sparse_distance_matrix(cloud.tree, reach, output_type="ndarray")
    steps = round(-np.log(_FINEST) / np.log(_STEP))
    radii = np.append(0.0, np.geomspace(reach * _FINEST, reach, steps))
    pairs = np.histogram(found["v"], radii)[0]
    pairs[0] -= order.size
    ball = {1: 2.0, 2: np.pi, 3: 4 / 3 * np.pi}[axes] * radii**axes
    return _intervals(radii, pairs, np.diff(ball) * crowd[order].sum() / volume)


def _intervals(radii: Floats, pairs: Floats, expected: Floats) -> tuple[Floats, Floats, Floats]:
    """Join steps until an interval holds enough pairs, observed or expected, to be judged by."""
    least = np.clip((pairs.sum() + expected.sum()) / 100, *_PAIRS_EACH)
    ends: list[int] = []
    held = 0.0
    for step, (seen, chance) in enumerate(zip(pairs, expected, strict=True)):
        if seen >= least > held > 0:
            # A sharp rise is not to be blurred into the emptiness before it.
            ends.append(step)
            held = 0.0
        held += seen + chance
        if held >= least:
            ends.append(step + 1)
            held = 0.0
    bounds = np.array([0, *dict.fromkeys(ends)], dtype=np.intp)
    if bounds.size < 2:
        return np.zeros(1), np.zeros(0), np.zeros(0)
    starts = bounds[:-1]
    return (
        radii[bounds],
        np.add.reduceat(pairs[: bounds[-1]], starts),
        np.add.reduceat(expected[: bounds[-1]], starts),
    )


def _extent(centres: Centres) -> Floats:
    """Give the size, axis by axis, of the field that most micrographs' particles cover."""
    order = np.argsort(centres.micrograph, kind="stable")
    starts = np.flatnonzero(np.diff(centres.micrograph[order], prepend=-1))
    if starts.size == 1:
        low, high = np.percentile(centres.points, [1, 99], axis=0)
        return np.asarray((high - low) / 0.98)
    points = centres.points[order]
    size = np.maximum.reduceat(points, starts) - np.minimum.reduceat(points, starts)
    return np.asarray(np.percentile(size, 75, axis=0))


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """How far apart the particles of a set are.

    Attributes
    ----------
    picks : int
    coincident : int
        Those that lie precisely on another.
    pairs : dict of float to int
        Pairs at most so far apart.
    nearest : dict of float to float
        Percentiles of the distance to the closest neighbour.
    edges : tuple of float
        Of the histogram's bins.
    histogram : tuple of int
        Of that distance, a count a bin, and one more for what is farther, or alone.
    spacing : Spacing or None
    """

    picks: int
    coincident: int
    pairs: dict[float, int]
    nearest: dict[float, float]
    edges: tuple[float, ...]
    histogram: tuple[int, ...]
    spacing: Spacing | None


def look_around(
    sets: Sequence[Centres], edges: Sequence[float] | None = None
) -> list[Neighbourhood]:
    """Describe the neighbourhood within each of some sets of centres, which must not be empty.

    Parameters
    ----------
    sets : sequence of Centres
    edges : sequence of float, optional
        Of the histograms' bins; by default they suit all sets.
    """
    distances = []
    for centres in sets:
        reach = float(np.hypot.reduce(np.ptp(centres.points, axis=0))) + 1.0
        distances.append(Cloud(centres, reach).nearest_own())
    finite = [part[np.isfinite(part)] for part in distances]
    if edges is None:
        edges = _choose_edges(np.concatenate([np.empty(0), *finite]))
    found = []
    for centres, nearest, known in zip(sets, distances, finite, strict=True):
        counts = np.histogram(known, edges)[0].tolist()
        percentiles = (0, 5, 50, 95) if known.size else ()
        found.append(
            Neighbourhood(
                picks=len(centres),
                coincident=int(np.count_nonzero(nearest == 0)),
                pairs=dict(zip(RADII, Cloud(centres, RADII[-1]).count_pairs(RADII), strict=True)),
                nearest={float(p): float(np.percentile(known, p)) for p in percentiles},
                edges=tuple(edges),
                histogram=(*counts, nearest.size - sum(counts)),
                spacing=find_spacing(centres),
            )
        )
    return found


def _choose_edges(distances: Floats) -> list[float]:
    """Choose bins of a round width, up to where all but the loneliest particles have a neighbour."""
    top = float(np.percentile(distances, 95)) if distances.size else 0.0
    if top == 0:
        return [0.0, 1.0]
    step = _round(top / _BINS)
    return [float(edge) for edge in step * np.arange(math.ceil(top / step) + 1)]


def _round(number: float) -> float:
    """Give the nearest of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(number))
    choices = np.array([1.0, 2.0, 5.0, 10.0]) * power
    return float(choices[np.argmin(np.abs(np.log(choices / number)))])

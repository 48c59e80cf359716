"""Recommend a separation: one in the gap between the distances of duplicates and of real neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.arrays import begins_run
from dask_dedup.dedup.pairs import SWEEP_CANDIDATES, PairSearch, Points, sweep_pairs

if TYPE_CHECKING:
    from dask_dedup.dedup.pairs import Floats, Indices

#: Largest radius of the radial density, in mean spacings of the particles.
_SPACINGS = 3.0
#: Ratio of consecutive shell radii, and the first radius as a fraction of the range.
_STEP, _FINEST = 1.04, 0.01
#: Sampled pairs for the radial density, and limits of the pairs that a shell needs. Pairs count from both ends.
_PAIRS, _INTERVAL_PAIRS = 2_000_000, (30.0, 60.0)
#: Smallest ratio of the end of a gap to its start.
_WIDENING = 1.4
#: A gap has fewer pairs than predicted by at least this many standard deviations.
_SIGNIFICANT = 5.0
#: The same number if each pair of particles is counted once, although it has two ends and may have duplicates.
_SIGNIFICANT_PARTICLES = 3.5
#: Pairs per angstrom at a distance are counted from the distance / 1.15 to the distance * 1.15.
_WINDOW = 1.15


@dataclass(frozen=True, slots=True)
class Spacing:
    """Distances of duplicates and of real neighbours, and the separation between them.

    Attributes
    ----------
    duplicates_end : float
        Largest distance of duplicates, 0 if duplicates are few.
    neighbours_begin : float
        Smallest distance of real neighbours.
    recommended : float or None
        The separation with the fewest pairs per angstrom, rounded to two digits. None without duplicates.
    farthest_duplicates : float or None
        Largest measured distance up to `duplicates_end`, if known.
    """

    duplicates_end: float
    neighbours_begin: float
    recommended: float | None = None
    farthest_duplicates: float | None = None

    def includes(self, separation: float) -> bool:
        """Return whether a separation is in the gap."""
        return not self.leaves_duplicates(separation) and separation <= self.neighbours_begin

    def leaves_duplicates(self, separation: float) -> bool:
        """Return whether a separation is smaller than the distance of some duplicates."""
        return separation < self.last_duplicate

    @property
    def last_duplicate(self) -> float:
        """Largest measured distance of duplicates, or else `duplicates_end`."""
        farthest = self.farthest_duplicates
        return self.duplicates_end if farthest is None else farthest


@dataclass(frozen=True, slots=True)
class _RadialPairs:
    """Pairs of points by distance.

    Attributes
    ----------
    counted : (m,) intp
        Row numbers of the points from which the distances were measured.
    start : (p,) intp
        The point from which each distance was measured.
    distances : (p,) float64
    reach : float
        The largest distance that was searched.
    edges : (s + 1,) float64
        Radii of the edges of shells.
    observed, expected : (s,) float64
        Number of pairs in each shell, and the expected number if the same number of particles are placed at random.
    """

    counted: Indices
    start: Indices
    distances: Floats
    reach: float
    edges: Floats
    observed: Floats
    expected: Floats

    def nearest(self) -> float:
        """Return the distance within which 95 % of the points have a neighbour.

        The distance is at most `reach`, and 0 without points.
        """
        if not self.counted.size:
            return 0.0
        nearest = np.full(int(self.counted.max()) + 1, self.reach)
        np.minimum.at(nearest, self.start, self.distances)
        return float(np.percentile(nearest[self.counted], 95))


def find_spacing(centres: Floats, micrographs: Indices) -> Spacing | None:
    """Return the gap that `measure_spacing` finds."""
    return measure_spacing(centres, micrographs)[0]


def measure_spacing(centres: Floats, micrographs: Indices) -> tuple[Spacing | None, float]:
    """Find the gap between distances of duplicates and of real neighbours.

    The radial density is ``g(r) = pairs(r) / expected(r)``. Here ``pairs`` is the observed number of pairs in a shell,
    and ``expected`` is the number if the same number of particles are placed at random: the sum over micrographs of
    ``n (n - 1) / 2 * (area of the shell) / (area of the micrograph)``. For tomograms, volumes replace areas. Coincident
    particles count once. Let ``P(r)`` be the greatest ``g`` beyond ``r``. A gap is an interval ``[v, s)`` that

    - has ``g <= P(v) / 2``, and ``g >= P(v) / 2`` at its end,
    - is wide: ``s >= 1.4 v``,
    - has fewer pairs than ``g = P(v) / 2`` predicts. The difference is at least 5 standard deviations if pairs are
      counted from both ends and with duplicates. It is also at least 3.5 if each pair of particles is counted once.

    The gap with the greatest ``s / v`` is used. If the mean of ``g`` up to ``v`` is at least ``P(v) / 2``, duplicates
    end at ``v``. Let ``f`` be the mean ``g`` over the first half of the gap. Neighbours begin at the last distance
    before ``s`` at which ``g`` rises above ``f + (P(v) - f) / 10``.

    A small change of the recommended separation changes the result least. For each ``r`` in the gap, the pairs per
    angstrom from ``r / 1.15`` to ``1.15 r`` are counted. The recommended separation is the ``r`` with the fewest. If
    several ``r`` have the fewest pairs, their geometric mean is recommended. ``r`` is at least a twentieth of the
    distance at which neighbours begin.

    Parameters
    ----------
    centres : (n, 2) or (n, 3) float64
        Finite positions in angstrom or any other unit. The order of the rows does not matter.
    micrographs : (n,) intp
        Micrograph numbers, consecutive from 0.

    Returns
    -------
    spacing : Spacing or None
        None without a gap.
    nearest : float
        Without a gap, the distance within which 95 % of the points have a neighbour, at most the largest searched
        distance. 0 with a gap, and without points. Copies of a point do not count.
    """
    radial = _radial_pairs(_distinct(centres, micrographs))
    gap = _find_gap(radial)
    return gap, 0.0 if gap else radial.nearest()


def _find_gap(radial: _RadialPairs) -> Spacing | None:
    edges, observed, expected = radial.edges, radial.observed, radial.expected
    if len(observed) < 3:
        return None
    density = observed / expected
    later = np.maximum.accumulate(density[::-1])[::-1]
    widest, gap, start = _WIDENING, None, 0
    while start < len(density) - 1:
        peak = later[start + 1]
        if density[start] > peak / 2:
            start += 1
            continue
        end = start + 1 + int(np.argmax(density[start + 1 :] >= peak / 2))
        predicted = peak / 2 * expected[start:end].sum()
        missing = predicted - observed[start:end].sum()
        width = edges[end] / max(edges[start], edges[-1] * _FINEST)
        picks_each = 1.0 + observed[:start].sum() / radial.counted.size
        enough = max(_SIGNIFICANT, _SIGNIFICANT_PARTICLES * 2**0.5 * picks_each)
        if width >= widest and missing >= enough * predicted**0.5:
            half = max(start + 1, (start + end) // 2)
            floor = observed[start:half].sum() / expected[start:half].sum()
            begin = end
            while begin > start + 1 and density[begin - 1] > floor + (peak - floor) / 10:
                begin -= 1
            many_close = observed[:start].sum() >= peak / 2 * expected[:start].sum()
            gap = float(edges[start]) if many_close else 0.0, float(edges[begin])
            widest = width
        start = end
    if gap is None:
        return None
    if not gap[0]:
        return Spacing(*gap)
    closer = radial.distances[radial.distances <= gap[0]]
    return Spacing(*gap, _recommend(radial, *gap), float(closer.max(initial=0.0)))


def _recommend(radial: _RadialPairs, end: float, begin: float) -> float:
    """Return the separation in the gap from `end` to `begin` with the fewest pairs per angstrom, to two digits."""
    first = max(end, begin / 20)
    # No pairs are counted beyond the last shell.
    last = max(first, min(begin, radial.edges[-1] / _WINDOW))
    tried = first * np.exp(0.01 * np.arange(int(np.log(last / first) / 0.01 + 1e-9) + 1))
    near = (radial.distances >= first / _WINDOW) & (radial.distances <= last * _WINDOW)
    distances = np.sort(radial.distances[near])
    within = np.searchsorted(distances, tried * _WINDOW, side="right")
    pairs = within - np.searchsorted(distances, tried / _WINDOW)
    density = pairs / (tried * (_WINDOW - 1 / _WINDOW))
    best = float(np.exp(np.log(tried[density == density.min()]).mean()))
    # The rounded value must be in the gap.
    rounded = (float(f"{best:.{digits}g}") for digits in (2, 3, 4))
    return next((each for each in rounded if end <= each <= begin), best)


def _distinct(centres: Floats, micrographs: Indices) -> Points:
    """Return the distinct points in an order that depends only on the points.

    Copies of a particle have the same distances to other particles, so they add no information.
    """
    order = np.lexsort([*centres.T, micrographs])
    points = Points(centres, micrographs).take(order)
    new = begins_run(points.micrographs)
    new[1:] |= (points.centres[1:] != points.centres[:-1]).any(axis=1)
    return points if new.all() else points.take(np.flatnonzero(new))


def _radial_pairs(points: Points) -> _RadialPairs:
    """Count pairs of distinct points per shell, and compute the numbers expected at random."""
    rows, none = np.zeros(0, np.intp), np.zeros(0)
    nothing = _RadialPairs(rows, rows, none, 0.0, np.zeros(1), none, none)
    if not len(points):
        return nothing
    others = np.bincount(points.micrographs)[points.micrographs] - 1.0
    ranges = _coordinate_ranges(points)
    ranges = ranges[ranges > 0]
    if not ranges.size or not others.any():
        return nothing
    axes, volume = ranges.size, float(np.prod(ranges))
    spacing = (volume / others.mean()) ** (1 / axes)
    reach = min(_SPACINGS * spacing, ranges.min() / 2)
    counted, start, distances = _sample_distances(points, reach)
    steps = round(-np.log(_FINEST) / np.log(_STEP))
    radii = np.append(0.0, np.geomspace(reach * _FINEST, reach, steps))
    ball = {1: 2.0, 2: np.pi, 3: 4 / 3 * np.pi}[axes] * radii**axes
    expected = np.diff(ball) * others[counted].sum() / volume
    shells = _join_shells(radii, np.histogram(distances, radii)[0], expected)
    return _RadialPairs(counted, start, distances, reach, *shells)


def _sample_distances(points: Points, reach: float) -> tuple[Indices, Indices, Floats]:
    """Measure the distances from many points to all points within reach.

    Returns
    -------
    counted : (m,) intp
        Row numbers of the points from which the distances were measured.
    start : (p,) intp
        The point from which each distance was measured.
    distances : (p,) float64
    """
    n = len(points)
    swept = sweep_pairs(points, reach, SWEEP_CANDIDATES, _PAIRS / 2 / n)
    if swept is not None:
        i, j, distance = swept
        return np.arange(n), np.concatenate([i, j]), np.concatenate([distance, distance])
    search = PairSearch.over(points, reach)
    order = np.random.default_rng(0).permutation(n)
    each = 2.0 * search.estimate() / n
    counted = order[: max(500, int(_PAIRS / (1.0 + each)))]
    starts, parts = [np.zeros(0, np.intp)], [np.zeros(0)]
    for k, j in search.candidates(counted):
        i = counted[k]
        close, distance = points.measure(i, j, reach)
        close &= i != j
        starts.append(i[close])
        parts.append(distance[close])
    return counted, np.concatenate(starts), np.concatenate(parts)


def _join_shells(radii: Floats, pairs: Indices, expected: Floats) -> tuple[Floats, Floats, Floats]:
    """Merge adjacent shells until each shell has enough observed plus expected pairs."""
    enough = np.clip((pairs.sum() + expected.sum()) / 100, *_INTERVAL_PAIRS)
    ends: list[int] = []
    held = 0.0
    for step, (seen, chance) in enumerate(zip(pairs, expected, strict=True)):
        if seen >= enough > held > 0:
            # Do not merge a sharp rise with the sparse shells before it.
            ends.append(step)
            held = 0.0
        held += seen + chance
        if held >= enough:
            ends.append(step + 1)
            held = 0.0
    bounds = np.array([0, *dict.fromkeys(ends)], dtype=np.intp)
    if bounds.size < 2:
        return np.zeros(1), np.zeros(0), np.zeros(0)
    starts, last = bounds[:-1], bounds[-1]
    observed = np.add.reduceat(pairs[:last], starts)
    return radii[bounds], observed, np.add.reduceat(expected[:last], starts)


def _coordinate_ranges(points: Points) -> Floats:
    """Return, for each axis, the typical range of coordinates on one micrograph, (d,) float64."""
    # The points are sorted by micrograph.
    starts = np.flatnonzero(np.diff(points.micrographs, prepend=-1))
    if starts.size == 1:
        low, high = np.percentile(points.centres, [1, 99], axis=0)
        return np.asarray((high - low) / 0.98)
    size = np.maximum.reduceat(points.centres, starts) - np.minimum.reduceat(points.centres, starts)
    return np.asarray(np.percentile(size, 75, axis=0))

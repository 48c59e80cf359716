"""Close pairs of sampled picks: nearest neighbours, and how well pickers agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.pairs import SWEEP_CANDIDATES, PairSearch, Points, sweep_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dask_dedup.particles.sample import SampledPicks

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

#: Pairs per pick that are found at most; beyond, the reach is made shorter.
MOST_PAIRS = 30
#: The reach is not made shorter than this fraction.
_LEAST_REACH = 0.2


@dataclass(frozen=True, slots=True)
class ClosePairs:
    """All pairs of picks on one micrograph within `reach`.

    Attributes
    ----------
    picks : int
    reach : float
        Angstrom.
    one, other : (p,) intp
        Row numbers of the picks of each pair.
    distance : (p,) float64
        Descending.
    """

    picks: int
    reach: float
    one: Indices
    other: Indices
    distance: Floats

    def nearest(self) -> Floats:
        """Return the distance from each pick to the nearest other one, infinite beyond `reach`, (n,)."""
        return self._nearest(self.one, self.other, self.distance)

    def _nearest(self, one: Indices, other: Indices, distance: Floats) -> Floats:
        found = np.full(self.picks, np.inf)
        # The last value assigned to a row stays, and it is the least.
        found[one] = distance
        found[other] = np.minimum(found[other], _last(self.picks, other, distance)[other])
        return found

    def nearest_at(self, bits: NDArray[np.uint32], count: int) -> Iterator[Floats]:
        """Yield the result of `nearest` among the picks with each of `count` bits; NaN for the others.

        `bits` is (n,) uint32.
        """
        both = bits[self.one] & bits[self.other]
        for bit in range(count):
            mask = np.uint32(1 << bit)
            pairs = np.flatnonzero(both & mask)
            found = self._nearest(self.one[pairs], self.other[pairs], self.distance[pairs])
            found[(bits & mask) == 0] = np.nan
            yield found

    def nearest_of(self, group: NDArray[np.int64], groups: int) -> Floats:
        """Return the distance from each pick to the nearest pick of each group, infinite beyond `reach`, (n, g)."""
        found = np.full((self.picks, groups), np.inf)
        for near, far in ((self.one, self.other), (self.other, self.one)):
            np.minimum.at(found, (near, group[far]), self.distance)
        return found


def _last(size: int, at: Indices, values: Floats) -> Floats:
    found = np.full(size, np.inf)
    found[at] = values
    return found


def find_close_pairs(sample: SampledPicks, micrograph: Indices, reach: float) -> ClosePairs | None:
    """Find all pairs within `reach` angstrom, or a shorter reach if picks are crowded.

    Return None if they are too crowded for that.
    """
    axes = (sample.x, sample.y, sample.z) if sample.z.any() else (sample.x, sample.y)
    points = Points(np.column_stack(axes), micrograph, [])
    if len(points) < 2:
        none = np.empty(0, dtype=np.intp)
        return ClosePairs(len(points), reach, none, none, np.empty(0))
    least = reach * _LEAST_REACH
    while True:
        found = sweep_pairs(points, reach, SWEEP_CANDIDATES, MOST_PAIRS)
        if found is None:
            search = PairSearch.over(points, reach)
            if search.estimate() <= MOST_PAIRS * len(points):
                found = search.pairs()
        if found is not None:
            one, other, distance = found
            order = np.argsort(-distance)  # pairs at one distance may come in any order
            return ClosePairs(len(points), reach, one[order], other[order], distance[order])
        reach /= 1.5
        if reach < least:
            return None

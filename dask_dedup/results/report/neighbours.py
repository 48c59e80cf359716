"""Find close pairs of sampled picks, for nearest neighbours and for the agreement of pickers."""

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

#: Maximum number of pairs per pick. If there are more, the reach is made shorter.
MOST_PAIRS = 30
#: The shortest reach, as a fraction of the requested reach.
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
        Angstrom, descending.
    """

    picks: int
    reach: float
    one: Indices
    other: Indices
    distance: Floats

    def nearest(self) -> Floats:
        """Return the distance from each pick to the nearest other pick, (n,); infinite beyond `reach`."""
        return self._nearest(self.one, self.other, self.distance)

    def _nearest(self, one: Indices, other: Indices, distance: Floats) -> Floats:
        found = np.full(self.picks, np.inf)
        # Distances are descending, so the last value assigned to a row is the least.
        found[one] = distance
        found[other] = np.minimum(found[other], _last(self.picks, other, distance)[other])
        return found

    def nearest_at(self, bits: NDArray[np.uint32], count: int) -> Iterator[Floats]:
        """For each of `count` bits, yield the result of `nearest` among the picks with this bit. Other picks have NaN.

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
    """Find all pairs within `reach` angstrom, or within a shorter reach if there are too many pairs.

    Return None if there are too many pairs within the shortest reach, too.
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
            order = np.argsort(-distance)  # pairs with equal distances may have any order
            return ClosePairs(len(points), reach, one[order], other[order], distance[order])
        reach /= 1.5
        if reach < least:
            return None

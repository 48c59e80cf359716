"""The greedy rule: reject every particle within the separation of a better-ranked kept particle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup import pairs
from dask_dedup.dedup.coincident import find_coincident
from dask_dedup.dedup.nearest import closest_duplicates, closest_of_pairs
from dask_dedup.dedup.rank import total_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.dedup.coincident import CoincidentGroups
    from dask_dedup.dedup.pairs import Bools, Floats, Indices, Keys, Pairs

    #: True or False, or one bit for each of several separations.
    Bits = NDArray[Any]

#: Vectorised rounds before the loop over pairs. Random ranks need fewer rounds; a chain of rising ranks needs n.
ROUNDS = 12

#: Winner of a particle that is kept, or that is rejected without a winner.
NO_WINNER = -1


@dataclass(frozen=True, slots=True)
class Suppression:
    """Decision about each of n particles: whether it is rejected, its winner, and the distance to the winner.

    Attributes
    ----------
    rejected : (n,) bool
    winner : (n,) intp
        Row number of the winner of each rejected row; `NO_WINNER` for kept rows, and for all rows if
        duplicates are removed entirely.
    distance : (n,) float64
        Distance of each rejected row to its winner, angstrom; NaN for kept rows. If duplicates are removed
        entirely, the distance to the closest duplicate.
    pairs : tuple, optional
        All pairs of duplicates, if a single search found them. If there are `groups`, pairs of group numbers,
        otherwise pairs of row numbers.
    groups : CoincidentGroups, optional
        The groups, if each group of coincident rows was reduced to one row.
    """

    rejected: Bools
    winner: Indices
    distance: Floats
    pairs: Pairs | None = None
    groups: CoincidentGroups | None = None

    @classmethod
    def keep_all(cls, n: int, pairs: Pairs | None = None) -> Suppression:
        """Make a decision that keeps all `n` particles. For `pairs`, see the attribute."""
        winner = np.full(n, NO_WINNER, dtype=np.intp)
        return cls(np.zeros(n, dtype=bool), winner, np.full(n, np.nan), pairs)

    def reject(self, rows: Indices, winner: Indices, distance: Floats) -> None:
        """Mark `rows` as rejected. Record the winner of each and the distance to the winner."""
        self.rejected[rows] = True
        self.winner[rows] = winner
        self.distance[rows] = distance


def suppress(points: pairs.Points, keys: Keys, min_separation: float) -> Suppression:
    """Reject every particle within the separation of a better-ranked kept particle.

    Parameters
    ----------
    points : Points
    keys : sequence of (n,) uint64
        Rank keys (see `rank`). The last key must be unique.
    min_separation : float
        Angstrom; two particles at exactly this distance are duplicates.
    """
    swept = pairs.sweep_pairs(points, min_separation)
    if swept is not None:
        return _suppress_pairs(len(points), keys, *swept)
    groups = find_coincident(points, keys)
    if groups is None:
        return _suppress_distinct(points, keys, min_separation)
    best = [key[groups.best] for key in keys]
    return _expand(_suppress_distinct(points.take(groups.best), best, min_separation), groups)


def reject_all_close(points: pairs.Points, keys: Keys, min_separation: float) -> Suppression:
    """Reject every particle within the separation of any other particle.

    Parameters and result are as in `suppress`. No particle has a winner.
    """
    n = len(points)
    swept = pairs.sweep_pairs(points, min_separation)
    if swept is not None:
        closest = closest_of_pairs(n, *swept)
    elif (groups := find_coincident(points, keys)) is not None:
        closest = closest_duplicates(points.take(groups.best), min_separation)
        closest = np.where(groups.mutual & (groups.rows > 1), 0.0, closest)[groups.group]
    else:
        closest = closest_duplicates(points, min_separation)
    rejected = np.isfinite(closest)
    closest[~rejected] = np.nan
    return Suppression(rejected, np.full(n, NO_WINNER, dtype=np.intp), closest)


def _expand(best: Suppression, groups: CoincidentGroups) -> Suppression:
    """Extend the decision about the best row of each coincident group to all rows of the groups."""
    winners = np.where(best.winner == NO_WINNER, NO_WINNER, groups.best[best.winner])
    result = Suppression(
        best.rejected[groups.group],
        winners[groups.group],
        best.distance[groups.group],
        best.pairs,
        groups,
    )
    # If the best row is kept, it is the winner of the other rows.
    copies = groups.mutual[groups.group] & ~result.rejected
    copies[groups.best] = False
    result.winner[copies] = groups.best[groups.group[copies]]
    result.distance[copies] = 0.0
    result.rejected[copies] = True
    return result


def _suppress_distinct(points: pairs.Points, keys: Keys, min_separation: float) -> Suppression:
    """Apply the greedy rule to points with distinct positions."""
    n = len(points)
    if points.are_apart(min_separation):
        return Suppression.keep_all(n)
    search = pairs.PairSearch.over(points, min_separation)
    expected = search.estimate()
    if expected <= pairs.PAIR_BUDGET:
        return _suppress_pairs(n, keys, *search.pairs())
    length = max(1, int(n * (pairs.PAIR_BUDGET / expected) ** 0.5))
    return _suppress_blocks(search, total_order(keys), length)


def _suppress_blocks(search: pairs.PairSearch, order: Indices, length: int) -> Suppression:
    """Apply the greedy rule to blocks of rows in the rank order `order`. The first block has about `length` rows.

    Each block skips the rows already rejected. Then all undecided rows within the separation of a kept row of the
    block are rejected.
    """
    n = order.size
    result = Suppression.keep_all(n)
    decided = np.zeros(n, dtype=bool)
    start = 0
    while start < n:
        block = order[start : start + length]
        block = block[~decided[block]]
        if not block.size:
            start += length
            continue
        part = search.take(block)
        if part.count() > 1.5 * pairs.PAIR_BUDGET:
            length = max(1, length // 2)
            continue
        start += length
        i, j, distance = part.pairs()
        inside = _greedy(np.minimum(i, j), np.maximum(i, j), distance, block.size)
        lost = inside.rejected
        result.reject(block[lost], block[inside.winner[lost]], inside.distance[lost])
        decided[block] = True
        kept = block[~lost]
        best = np.full(n, kept.size, dtype=np.intp)
        to_best = np.empty(n)
        # `kept` and the blocks are in rank order, so the lowest index in `kept` is the best-ranked winner.
        for k, row in search.candidates(kept):
            undecided = ~decided[row]
            k, row = k[undecided], row[undecided]
            close, distance = search.points.measure(kept[k], row, search.min_separation)
            k, row, distance = k[close], row[close], distance[close]
            before = best[row]
            np.minimum.at(best, row, k)
            better = (best[row] == k) & (k < before)
            to_best[row[better]] = distance[better]
        later = np.flatnonzero(best < kept.size)
        result.reject(later, kept[best[later]], to_best[later])
        decided[later] = True
        length *= 2
    return result


def _suppress_pairs(n: int, keys: Keys, i: Indices, j: Indices, distance: Floats) -> Suppression:
    """Apply the greedy rule to `n` rows, given all pairs (i, j) of duplicates and their distances."""
    found = i, j, distance
    in_pair = np.zeros(n, dtype=bool)
    in_pair[i] = in_pair[j] = True
    rows = np.flatnonzero(in_pair)
    rows = rows[total_order([key[rows] for key in keys])]
    rank = np.empty(n, dtype=np.intp)
    rank[rows] = np.arange(rows.size)
    i, j = rank[i], rank[j]
    ranked = _greedy(np.minimum(i, j), np.maximum(i, j), distance, rows.size)
    result, lost = Suppression.keep_all(n, found), np.flatnonzero(ranked.rejected)
    result.reject(rows[lost], rows[ranked.winner[lost]], ranked.distance[lost])
    return result


def _greedy(better: Indices, worse: Indices, distance: Floats, n: int) -> Suppression:
    """Apply the greedy rule to `n` rows numbered by rank, row 0 being the best. In each pair, ``better < worse``."""
    rejected = reject_worse(better, worse, np.ones(better.size, dtype=bool), n)
    winner = np.full(n, n, dtype=np.intp)
    to_winner = np.full(n, np.nan)
    by_kept = np.flatnonzero(~rejected[better])
    better, worse, distance = better[by_kept], worse[by_kept], distance[by_kept]
    np.minimum.at(winner, worse, better)
    best = winner[worse] == better
    to_winner[worse[best]] = distance[best]
    winner[winner == n] = NO_WINNER
    return Suppression(rejected, winner, to_winner)


def reject_worse(better: Indices, worse: Indices, bits: Bits, n: int) -> Bits:
    """Apply the greedy rule at one separation, or at several at once. Return the bits at which each row is rejected.

    Each round keeps the rows that are not the worse row of any undecided pair. The kept rows reject the worse rows of
    their pairs. Then pairs with a rejected row are dropped.

    Parameters
    ----------
    better, worse : (p,) intp
        The rows of each pair, numbered by rank, row 0 being the best: ``better < worse``.
    bits : (p,) bool or unsigned integer
        True, or one bit for each separation at which the two rows are duplicates. Every pair has at least one bit.
    n : int
        Number of rows.

    Returns
    -------
    rejected : (n,) array of the dtype of `bits`
    """
    rejected = np.zeros(n, dtype=bits.dtype)
    a, b, undecided = better, worse, bits
    for _ in range(ROUNDS):
        if not a.size:
            return rejected
        waits = np.zeros_like(rejected)
        _add_bits(waits, b, undecided)
        lost = undecided & ~waits[a]
        some = np.flatnonzero(lost)
        _add_bits(rejected, b[some], lost[some])
        undecided = undecided & ~(rejected[a] | rejected[b])
        some = np.flatnonzero(undecided)
        a, b, undecided = a[some], b[some], undecided[some]
    # Sorted by the better row, so that all pairs that could reject this row come earlier.
    by_rank = np.argsort(a, kind="stable")
    numbers: Any = bytearray(rejected) if rejected.dtype == bool else rejected.tolist()
    left = (a[by_rank], b[by_rank], undecided[by_rank].astype(np.uint32))
    for first, second, both in zip(*(part.tolist() for part in left), strict=True):
        numbers[second] |= both & ~numbers[first]
    return np.array(numbers, dtype=bits.dtype)


def _add_bits(target: Bits, rows: Indices, bits: Bits) -> None:
    """Set `bits` in the given rows of `target`. Rows may be repeated. No element of `bits` is 0."""
    if target.dtype == bool:
        target[rows] = True
    else:
        np.bitwise_or.at(target, rows, bits)

"""The greedy rule over close pairs, at once or in blocks of descending rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup import pairs
from dask_dedup.dedup.coincident import find_piles
from dask_dedup.dedup.rank import total_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]
    Keys = Sequence[NDArray[np.uint64]]
    Labels = Sequence[NDArray[np.int64]]

#: Rounds of the vectorised greedy before the plain pass; random ranks need fewer, a rising chain would need n.
ROUNDS = 12

NOBODY = -1


@dataclass(frozen=True, slots=True)
class Suppression:
    """What became of each row.

    Attributes
    ----------
    rejected : (n,) bool
    winner : (n,) intp
        Row number of the kept particle in whose favour a row was rejected; -1 for kept rows, and
        for every row where duplicates are removed entirely.
    distance : (n,) float64
        Distance in angstrom of a rejected row to its winner (removed entirely: to its closest
        duplicate); NaN for kept rows.
    """

    rejected: Bools
    winner: Indices
    distance: Floats


def suppress(
    centres: Floats,
    micrographs: Indices,
    keys: Keys,
    min_separation: float,
    labels: Labels = (),
) -> Suppression:
    """Keep the best-ranked particle of every neighbourhood.

    Parameters
    ----------
    centres : (n, 2) or (n, 3) float64
        Particle centres in angstrom, finite.
    micrographs : (n,) intp
        Dense micrograph numbers, 0 and up, in any order.
    keys : sequence of (n,) uint64
        The rank: compared from the first key to the last, smaller is better. The last key must be
        unique.
    min_separation : float
        Angstrom; a pair at exactly this distance is a pair of duplicates.
    labels : sequence of (n,) int64
        Two particles that share any label (not negative) are never duplicates of each other.

    Returns
    -------
    Suppression
    """
    field = pairs.Field(centres, micrographs, labels)
    few = pairs.few_pairs(field, min_separation)
    if few is not None:
        result = _nobody_rejected(len(centres))
        _suppress_pairs(result, keys, *few)
        return result
    piles = find_piles(field, keys)
    if piles is None:
        return _suppress_places(field, keys, min_separation)
    top = _suppress_places(
        field.take(piles.best), [key[piles.best] for key in keys], min_separation
    )
    winner_of_pile = np.where(top.winner == NOBODY, NOBODY, piles.best[top.winner])
    rejected = top.rejected[piles.pile]
    winner = winner_of_pile[piles.pile]
    distance = top.distance[piles.pile]
    beaten_at_home = piles.mutual[piles.pile] & ~rejected
    beaten_at_home[piles.best] = False
    winner[beaten_at_home] = piles.best[piles.pile[beaten_at_home]]
    distance[beaten_at_home] = 0.0
    return Suppression(rejected | beaten_at_home, winner, distance)


def reject_crowded(
    centres: Floats,
    micrographs: Indices,
    keys: Keys,
    min_separation: float,
    labels: Labels = (),
) -> Suppression:
    """Reject every particle that has any other within the separation.

    Parameters and result are those of `suppress`; nobody wins.
    """
    field = pairs.Field(centres, micrographs, labels)
    n = len(centres)
    few = pairs.few_pairs(field, min_separation)
    piles = find_piles(field, keys) if few is None else None
    if piles is not None:
        field = field.take(piles.best)
    closest = np.full(len(field.centres), np.inf)
    for i, j, distance in [few] if few else pairs.all_pairs(field, min_separation):
        np.minimum.at(closest, i, distance)
        np.minimum.at(closest, j, distance)
    if piles is not None:
        closest = np.where(piles.mutual & (piles.rows > 1), 0.0, closest)[piles.pile]
    rejected = np.isfinite(closest)
    closest[~rejected] = np.nan
    return Suppression(rejected, np.full(n, NOBODY, dtype=np.intp), closest)


def _suppress_places(field: pairs.Field, keys: Keys, min_separation: float) -> Suppression:
    """Suppress among distinct places, at once if the pairs fit, else in blocks of descending rank."""
    n = len(field.centres)
    result = _nobody_rejected(n)
    if n < 2 or (min_separation == 0 and not field.labels):
        return result
    layout, reach = pairs.side_by_side(field, min_separation)
    tree = pairs.make_tree(layout)
    expected = pairs.expected_pairs(tree, layout, reach)
    if expected <= pairs.PAIR_BUDGET:
        _suppress_pairs(result, keys, *pairs.close_pairs(field, tree, reach, min_separation))
        return result

    order = total_order(keys)
    decided = np.zeros(n, dtype=bool)
    start, length = 0, max(1, int(n * (pairs.PAIR_BUDGET / expected) ** 0.5))
    while start < n:
        block = order[start : start + length]
        block = block[~decided[block]]
        if not block.size:
            start += length
            continue
        small = pairs.make_tree(layout[block])
        # Ordered pairs, and each row with itself: exact, and cheap where the rows are heaped.
        if small.count_neighbors(small, reach) > 3 * pairs.PAIR_BUDGET + block.size:
            length = max(1, length // 2)
            continue
        start += length
        i, j, distance = pairs.close_pairs(field.take(block), small, reach, min_separation)
        rejected, winner, by = _greedy(np.minimum(i, j), np.maximum(i, j), distance, block.size)
        _record(result, block, rejected, winner, by)
        decided[block] = True
        kept = block[~rejected]
        best = np.full(n, kept.size, dtype=np.intp)
        gap = np.empty(n)
        # The blocks come in rank order, and so do the kept rows of one: the first to reach a row is its winner.
        for k, row in pairs.cross_pairs(layout, kept, tree, reach):
            near, by = field.close(kept[k], row, min_separation)
            near &= ~decided[row]
            k, row, by = k[near], row[near], by[near]
            before = best[row]
            np.minimum.at(best, row, k)
            won = (best[row] == k) & (k < before)
            gap[row[won]] = by[won]
        victims = np.flatnonzero(best < kept.size)
        result.rejected[victims] = True
        result.winner[victims] = kept[best[victims]]
        result.distance[victims] = gap[victims]
        decided[victims] = True
        length *= 2
    return result


def _nobody_rejected(n: int) -> Suppression:
    return Suppression(
        np.zeros(n, dtype=bool), np.full(n, NOBODY, dtype=np.intp), np.full(n, np.nan)
    )


def _suppress_pairs(
    result: Suppression, keys: Keys, i: Indices, j: Indices, distance: Floats
) -> None:
    """Suppress over all pairs of duplicates; only rows that are in any are ranked."""
    involved = np.zeros(result.rejected.size, dtype=bool)
    involved[i] = involved[j] = True
    rows = np.flatnonzero(involved)
    rows = rows[total_order([key[rows] for key in keys])]
    place_in_rank = np.empty(result.rejected.size, dtype=np.intp)
    place_in_rank[rows] = np.arange(rows.size)
    i, j = place_in_rank[i], place_in_rank[j]
    _record(result, rows, *_greedy(np.minimum(i, j), np.maximum(i, j), distance, rows.size))


def _record(
    result: Suppression, rows: Indices, rejected: Bools, winner: Indices, distance: Floats
) -> None:
    """Put decisions over some rows, which name winners by their place among them, into the whole."""
    losers = rows[rejected]
    result.rejected[losers] = True
    result.winner[losers] = rows[winner[rejected]]
    result.distance[losers] = distance[rejected]


def _greedy(
    better: Indices, worse: Indices, distance: Floats, n: int
) -> tuple[Bools, Indices, Floats]:
    """Resolve the greedy order over close pairs of rows numbered by rank, best first.

    Parameters
    ----------
    better, worse : (p,) intp
        The pairs; ``better < worse``.
    distance : (p,) float64
    n : int
        Number of rows.

    Returns
    -------
    rejected : (n,) bool
    winner : (n,) intp
        The best-ranked kept row within the separation; -1 for kept rows.
    distance : (n,) float64
        Distance to the winner; NaN for kept rows.
    """
    rejected = np.zeros(n, dtype=bool)
    a, b = better, worse
    for _ in range(ROUNDS):
        if not a.size:
            break
        waits = np.zeros(n, dtype=bool)
        waits[b] = True
        rejected[b[~waits[a]]] = True
        undecided = ~(rejected[a] | rejected[b])
        a, b = a[undecided], b[undecided]
    if a.size:
        # Taken by the better row's rank, a pair is met only when that row's fate is sealed.
        by_rank = np.argsort(a, kind="stable")
        gone = bytearray(rejected)
        for first, second in zip(a[by_rank].tolist(), b[by_rank].tolist(), strict=True):
            if not gone[first]:
                gone[second] = True
        rejected = np.frombuffer(gone, dtype=bool)
    winner = np.full(n, n, dtype=np.intp)
    to_distance = np.full(n, np.nan)
    valid = ~rejected[better]
    better, worse, distance = better[valid], worse[valid], distance[valid]
    np.minimum.at(winner, worse, better)
    best = winner[worse] == better
    to_distance[worse[best]] = distance[best]
    winner[winner == n] = NOBODY
    return rejected, winner, to_distance

"""Exact greedy suppression: pure NumPy and SciPy, arrays in, arrays out.

Walk the particles of a micrograph from the best rank to the worst; keep one if no kept particle lies within
the separation, else reject it in favour of the best-ranked kept one that does. Nothing here walks, though:

1. grids of cells propose the pairs of particles that share a cell with one other, which is nearly all there is
   where picks are sparse; a KD-tree over the few fuller cells proposes the rest, and the exact distance decides;
2. the greedy order is resolved over the pairs in rounds, and by one pass over what a dozen rounds leave;
3. where there are too many pairs, rows at precisely one place are first collapsed into a pile that its best-ranked
   row stands for, and one KD-tree over all micrographs, laid side by side, proposes the pairs;
4. where all pairs at once would not fit, the particles are taken in blocks of descending rank: what a block keeps
   suppresses everything behind it. Kept particles are apart, so only a handful lie within reach of any point,
   and the work stays linear however dense the picks are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from dask_dedup.rank import total_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]
    Keys = Sequence[NDArray[np.uint64]]
    Labels = Sequence[NDArray[np.int64]]

#: Pairs held at once; about 60 bytes each while they are tested.
PAIR_BUDGET = 4_000_000
#: Rounds of the vectorised greedy before the plain pass; random ranks need fewer, a rising chain would need n.
ROUNDS = 12
#: One row in so many is asked for its number of neighbours, to foresee the number of pairs.
SAMPLING = 64
#: The table of cells has at least so many entries a row, and the grids give way to trees where more than this
#: part of the rows is in cells of three and more.
_CELLS_PER_ROW, _MOST_CROWDED = 8, 0.5

NOBODY = -1
#: An odd number whose bits are as good as random, the golden ratio's.
_ODD = np.uint64(0x9E3779B97F4A7C15)
_EPS = float(np.finfo(np.float64).eps)


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


@dataclass(frozen=True, slots=True)
class _Field:
    """Distinct places, and what decides whether two of them may be duplicates."""

    centres: Floats
    micrographs: Indices
    labels: Labels

    def take(self, rows: Indices) -> _Field:
        labels = [label[rows] for label in self.labels]
        return _Field(self.centres[rows], self.micrographs[rows], labels)

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
    field = _Field(centres, micrographs, labels)
    few = _few_pairs(field, min_separation)
    if few is not None:
        result = _nobody_rejected(len(centres))
        _suppress_pairs(result, keys, *few)
        return result
    piles = _piles(field, keys)
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
    field = _Field(centres, micrographs, labels)
    n = len(centres)
    piles = _piles(field, keys)
    if piles is not None:
        field = field.take(piles.best)
    closest = np.full(len(field.centres), np.inf)
    for i, j, distance in _all_pairs(field, min_separation):
        np.minimum.at(closest, i, distance)
        np.minimum.at(closest, j, distance)
    if piles is not None:
        closest = np.where(piles.mutual & (piles.rows > 1), 0.0, closest)[piles.pile]
    rejected = np.isfinite(closest)
    closest[~rejected] = np.nan
    return Suppression(rejected, np.full(n, NOBODY, dtype=np.intp), closest)


@dataclass(frozen=True, slots=True)
class _Piles:
    """Rows at precisely one place, with the same labels, grouped.

    Attributes
    ----------
    pile : (n,) intp
        Pile number of each row.
    best : (p,) intp
        Row number of each pile's best-ranked row.
    rows : (p,) intp
        Number of rows in each pile.
    mutual : (p,) bool
        Whether the rows of a pile are duplicates of one another (no label forbids it). A pile whose
        rows are not shares one fate: its rows see the same neighbours, and a row whose better
        brother is kept has seen every rival between the two rejected.
    """

    pile: Indices
    best: Indices
    rows: Indices
    mutual: Bools


def _piles(field: _Field, keys: Keys) -> _Piles | None:
    """Group coinciding rows; None if no two coincide."""
    n = len(field.centres)
    if n < 2:
        return None
    parts = [field.micrographs.view(np.uint64)]
    # Adding 0.0 turns -0.0 into 0.0: the two are one place.
    parts += [(column + 0.0).view(np.uint64) for column in field.centres.T]
    parts += [label.view(np.uint64) for label in field.labels]
    mixed = _mix(parts)
    order = _sorted_by_runs(mixed)
    ordered = mixed[order]
    new_pile = np.ones(n, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new_pile[1:])
    if new_pile.all():
        return None
    if not _same_where_hash_is(parts, order, new_pile):
        order = np.lexsort(parts)
        new_pile[1:] = False
        for part in parts:
            new_pile[1:] |= part[order[1:]] != part[order[:-1]]
    starts = np.flatnonzero(new_pile)
    if starts.size == n:
        return None
    rows = np.diff(starts, append=n)
    pile = np.empty(n, dtype=np.intp)
    pile[order] = np.repeat(np.arange(starts.size), rows)
    mutual = np.ones(starts.size, dtype=bool)
    for label in field.labels:
        mutual &= label[order[starts]] < 0
    return _Piles(pile, _best_of_runs(order, starts, keys), rows, mutual)


def _mix(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Hash rows of several integers; what two rows share by chance is found out afterwards."""
    mixed = np.zeros(parts[0].size, dtype=np.uint64)
    folded = np.empty_like(mixed)
    for part in parts:
        mixed ^= part
        mixed *= _ODD
        np.right_shift(mixed, np.uint64(32), out=folded)
        mixed ^= folded
    return mixed


def _sorted_by_runs(values: NDArray[np.uint64]) -> Indices:
    """Sort as argsort does, but equal neighbours as one: a particle's copies mostly lie together."""
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    lengths = np.diff(starts, append=values.size)
    runs = np.argsort(values[starts])
    lengths = lengths[runs]
    # Each row's place in its run, added to where the run begins.
    offset = np.repeat(starts[runs] - (np.cumsum(lengths) - lengths), lengths)
    return np.asarray(offset + np.arange(values.size))


def _same_where_hash_is(
    parts: Sequence[NDArray[np.uint64]], order: Indices, new_pile: Bools
) -> bool:
    """Whether neighbours of equal hash are truly equal: no two places share a 64-bit hash."""
    for part in parts:
        values = part[order]
        if not ((values[1:] == values[:-1]) | new_pile[1:]).all():
            return False
    return True


def _best_of_runs(order: Indices, starts: Indices, keys: Keys) -> Indices:
    """Give the best-ranked row of each run of `order`; only rows still tied go to the next key."""
    for key in keys:
        values = key[order]
        rows = np.diff(starts, append=order.size)
        leading = values == np.repeat(np.minimum.reduceat(values, starts), rows)
        order, run = order[leading], np.repeat(np.arange(starts.size), rows)[leading]
        if order.size == starts.size:
            return order
        starts = np.searchsorted(run, np.arange(starts.size))
    return order[starts]


def _suppress_places(field: _Field, keys: Keys, min_separation: float) -> Suppression:
    """Suppress among distinct places, at once if the pairs fit, else in blocks of descending rank."""
    n = len(field.centres)
    result = _nobody_rejected(n)
    if n < 2 or (min_separation == 0 and not field.labels):
        return result
    layout, reach = _side_by_side(field, min_separation)
    tree = _tree(layout)
    expected = _expected_pairs(tree, layout, reach)
    if expected <= PAIR_BUDGET:
        _suppress_pairs(result, keys, *_close_pairs(field, tree, reach, min_separation))
        return result

    order = total_order(keys)
    decided = np.zeros(n, dtype=bool)
    start, length = 0, max(1, int(n * (PAIR_BUDGET / expected) ** 0.5))
    while start < n:
        block = order[start : start + length]
        block = block[~decided[block]]
        if not block.size:
            start += length
            continue
        small = _tree(layout[block])
        # Ordered pairs, and each row with itself: exact, and cheap where the rows are heaped.
        if small.count_neighbors(small, reach) > 3 * PAIR_BUDGET + block.size:
            length = max(1, length // 2)
            continue
        start += length
        i, j, distance = _close_pairs(field.take(block), small, reach, min_separation)
        rejected, winner, by = _greedy(np.minimum(i, j), np.maximum(i, j), distance, block.size)
        _record(result, block, rejected, winner, by)
        decided[block] = True
        kept = block[~rejected]
        best = np.full(n, kept.size, dtype=np.intp)
        gap = np.empty(n)
        # The blocks come in rank order, and so do the kept rows of one: the first to reach a row is its winner.
        for k, row in _cross_pairs(layout, kept, tree, reach):
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


def _few_pairs(field: _Field, min_separation: float) -> tuple[Indices, Indices, Floats] | None:
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
    mask = (1 << (_CELLS_PER_ROW * n).bit_length()) - 1
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
            if np.count_nonzero(crowded) > n * _MOST_CROWDED:
                return None
            alone = ~full[cell_of_first]
            first, partner = first[alone], partner[alone]
        near, distance = field.close(first, partner, min_separation)
        found.append((first[near], partner[near], distance[near]))
    rows = np.flatnonzero(crowded)
    if rows.size:
        some = field.take(rows)
        layout, reach = _side_by_side(some, min_separation)
        tree = _tree(layout)
        if _expected_pairs(tree, layout, reach) > min(PAIR_BUDGET, n):
            return None
        i, j, distance = _close_pairs(some, tree, reach, min_separation)
        found.append((rows[i], rows[j], distance))
    i, j, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return i, j, distance


def _side_by_side(field: _Field, min_separation: float) -> tuple[Floats, float]:
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


def _tree(layout: Floats) -> cKDTree:
    # Neither balancing nor shrinking the boxes repays its cost for one query a point.
    return cKDTree(layout, leafsize=16, balanced_tree=False, compact_nodes=False)


def _close_pairs(
    field: _Field, tree: cKDTree, reach: float, min_separation: float
) -> tuple[Indices, Indices, Floats]:
    """All pairs of duplicates in the tree over `field`, and their distances."""
    pairs = tree.query_pairs(reach, output_type="ndarray")
    near, distance = field.close(pairs[:, 0], pairs[:, 1], min_separation)
    return pairs[near, 0], pairs[near, 1], distance[near]


def _expected_pairs(tree: cKDTree, layout: Floats, reach: float) -> float:
    """Foresee the number of close pairs from the neighbours of a sample of the rows."""
    n = len(layout)
    sample = np.random.default_rng(0).integers(n, size=min(n, max(256, n // SAMPLING)))
    neighbours = tree.query_ball_point(layout[sample], reach, return_length=True)
    return float(np.mean(neighbours) - 1.0) * n / 2.0


def _cross_pairs(
    layout: Floats, rows: Indices, tree: cKDTree, reach: float
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of a row of `rows` (by its place there) and any row of the tree, a budget at a time."""
    neighbours = tree.query_ball_point(layout[rows], reach, return_length=True)
    total = np.cumsum(neighbours)
    start = 0
    while start < rows.size:
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + PAIR_BUDGET, side="right")))
        few = _tree(layout[rows[start:stop]])
        pairs = few.sparse_distance_matrix(tree, reach, output_type="ndarray")
        yield pairs["i"] + start, pairs["j"]
        start = stop


def _all_pairs(field: _Field, min_separation: float) -> Iterator[tuple[Indices, Indices, Floats]]:
    """Every pair of duplicates among distinct places, a budget at a time."""
    n = len(field.centres)
    if n < 2 or (min_separation == 0 and not field.labels):
        return
    layout, reach = _side_by_side(field, min_separation)
    tree = _tree(layout)
    if _expected_pairs(tree, layout, reach) <= PAIR_BUDGET:
        yield _close_pairs(field, tree, reach, min_separation)
        return
    rows = np.arange(n)
    for i, j in _cross_pairs(layout, rows, tree, reach):
        near, distance = field.close(i, j, min_separation)
        near &= i < j
        yield i[near], j[near], distance[near]

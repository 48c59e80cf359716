"""Find the particles that are kept at each of many separations, by the rule of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup import pairs
from dask_dedup.dedup.arrays import unique_inverse
from dask_dedup.dedup.coincident import find_coincident
from dask_dedup.dedup.greedy import reject_crowded, reject_worse, suppress
from dask_dedup.dedup.rank import rank_keys, total_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.pairs import Floats, Indices, Keys
    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks

    Bits = NDArray[np.uint32]

#: Separations, at most: one bit each.
MOST_SEPARATIONS = 32
#: Picks decided at a time: whole micrographs, one of which may have more.
BATCH_PICKS = 400_000
#: Above this many pairs a pick, or pairs in all, larger separations are left out.
MOST_PAIRS, PAIR_BUDGET = 20, 8_000_000


@dataclass(frozen=True, slots=True)
class KeptAt:
    """The particles kept at each of several separations.

    Attributes
    ----------
    separations : (k,) float64
        Angstrom, ascending; at most `MOST_SEPARATIONS`.
    kept : (n,) uint32
        Bit k is set if the particle is kept at ``separations[k]``, before votes. Of rows that cannot be compared, all
        bits are set or none, as such rows are kept or rejected.
    cut_short : bool
        Whether larger separations were left out because too many pairs are that close.
    """

    separations: Floats
    kept: Bits
    cut_short: bool

    def at(self, separation: float) -> NDArray[np.bool_]:
        """Return a mask of the particles that are kept at one of the separations, (n,)."""
        number = int(np.flatnonzero(self.separations == separation)[0])
        return np.asarray(self.kept >> np.uint32(number) & np.uint32(1)).astype(bool)

    def counts(self, source: NDArray[np.uint16], inputs: int) -> NDArray[np.int64]:
        """Count the particles of each input that are kept at each separation, (k, inputs)."""
        found = [
            np.bincount(source[self.at(separation)], minlength=inputs)
            for separation in self.separations
        ]
        return np.array(found, dtype=np.int64).reshape(len(found), inputs)


def kept_at(
    picks: Picks,
    params: DedupParams,
    higher_is_better: Sequence[bool],
    separations: Sequence[float] | Floats,
) -> KeptAt:
    """Find the picks that a run keeps at each of several separations, and at its own.

    Parameters
    ----------
    picks : Picks
        All picks of each micrograph that occurs, in any order.
    params : DedupParams
        `min_separation` is added to the separations, if it is larger than 0.
    higher_is_better : sequence of bool
        Direction of the score of each input.
    separations : sequence of float
        Angstrom; at most `MOST_SEPARATIONS` with the run's own.
    """
    own = [params.min_separation] if params.min_separation > 0 else []
    wanted = np.unique([*separations, *own]).astype(np.float64)
    if wanted.size > MOST_SEPARATIONS:
        raise ValueError(f"{wanted.size} separations; at most {MOST_SEPARATIONS} are possible")
    compared = picks.invalid == 0
    some = picks if compared.all() else picks.take(compared)
    # Copies of one particle have no distances.
    points, _ = some.points(params)
    _, number = unique_inverse(some.micrograph)
    ranks = rank_keys(some, params, higher_is_better)
    labels = some.exclusions(params)
    entirely = params.remove_entirely
    rejected, known = reject_at(points, number, ranks, wanted, labels, entirely=entirely)
    shown = wanted[:known]
    if own and own[0] not in shown:
        method = reject_crowded if entirely else suppress
        lost = method(points, number, ranks, own[0], labels).rejected
        rejected |= lost.astype(np.uint32) << np.uint32(known)
        shown = np.append(shown, own)
    every = np.uint32((1 << shown.size) - 1)
    kept = np.full(len(picks), every if params.invalid == "keep" else 0, dtype=np.uint32)
    kept[compared] = ~rejected & every
    return KeptAt(shown, kept, cut_short=known < wanted.size)


def reject_at(
    centres: Floats,
    micrographs: Indices,
    keys: Keys,
    separations: Floats,
    labels: pairs.Labels = (),
    *,
    entirely: bool = False,
) -> tuple[Bits, int]:
    """Apply the rule of `greedy.suppress` at several separations at once, or that of `greedy.reject_crowded`.

    Parameters are as in `greedy.suppress`; `separations` are at most `MOST_SEPARATIONS`, ascending.

    Returns
    -------
    rejected : (n,) uint32
        Bit k is set if the row is rejected at ``separations[k]``.
    known : int
        Number of separations that were decided. The others, which are larger, have too many pairs.
    """
    points = pairs.Points(centres, micrographs, labels)
    rejected = np.zeros(len(points), dtype=np.uint32)
    known = separations.size
    for rows in _batches(micrographs):
        part = points.take(rows)
        some = [key[rows] for key in keys]
        rejected[rows], known = _reject(part, some, separations[:known], entirely=entirely)
    return rejected & np.uint32((1 << known) - 1), known


def _batches(micrographs: Indices) -> Iterator[Indices]:
    """Yield row numbers: all rows of some micrographs at a time, about `BATCH_PICKS` of them."""
    if not micrographs.size:
        return
    order = np.argsort(micrographs, kind="stable")
    ends = np.cumsum(np.bincount(micrographs))
    start = 0
    while start < micrographs.size:
        end = int(ends[min(np.searchsorted(ends, start + BATCH_PICKS), ends.size - 1)])
        yield order[start:end]
        start = end


def _reject(
    points: pairs.Points, keys: Keys, separations: Floats, *, entirely: bool
) -> tuple[Bits, int]:
    """Do what `reject_at` does, for one batch."""
    n, known = len(points), separations.size
    if n < 2 or not known:
        return np.zeros(n, dtype=np.uint32), known
    method = _crowded_bits if entirely else _greedy_bits
    swept = pairs.sweep_pairs(points, separations[-1], pairs.SWEEP_CANDIDATES, MOST_PAIRS)
    if swept is not None:
        return method(n, keys, *swept, separations), known
    groups = find_coincident(points, keys)
    if groups is not None:
        best = points.take(groups.best)
        few, known = _reject_distinct(
            best, [key[groups.best] for key in keys], separations, entirely=entirely
        )
        rejected = few[groups.group]
        copies = groups.mutual[groups.group] & (groups.rows[groups.group] > 1)
        if not entirely:
            copies[groups.best] = False
        rejected[copies] = np.uint32(0xFFFFFFFF)
        return rejected, known
    return _reject_distinct(points, keys, separations, entirely=entirely)


def _reject_distinct(
    points: pairs.Points, keys: Keys, separations: Floats, *, entirely: bool
) -> tuple[Bits, int]:
    """Do what `_reject` does, for points no two of which coincide, with a KD-tree."""
    n, known = len(points), separations.size
    search = pairs.PairSearch.over(points, separations[-1])
    most = min(MOST_PAIRS * n, PAIR_BUDGET)
    while known and search.within(separations[known - 1]).estimate() > most:
        known -= 1
    if not known:
        return np.zeros(n, dtype=np.uint32), 0
    found = search.within(separations[known - 1]).pairs()
    method = _crowded_bits if entirely else _greedy_bits
    return method(n, keys, *found, separations[:known]), known


def _greedy_bits(
    n: int, keys: Keys, i: Indices, j: Indices, distance: Floats, separations: Floats
) -> Bits:
    order = total_order(keys)
    rank = np.empty(n, dtype=np.intp)
    rank[order] = np.arange(n)
    i, j = rank[i], rank[j]
    bits = _bits_of(distance, separations)
    ranked = reject_worse(np.minimum(i, j), np.maximum(i, j), bits, n)
    rejected = np.empty(n, dtype=np.uint32)
    rejected[order] = ranked
    return rejected


def _crowded_bits(
    n: int, keys: Keys, i: Indices, j: Indices, distance: Floats, separations: Floats
) -> Bits:
    del keys
    rejected = np.zeros(n, dtype=np.uint32)
    bits = _bits_of(distance, separations)
    np.bitwise_or.at(rejected, i, bits)
    np.bitwise_or.at(rejected, j, bits)
    return rejected


def _bits_of(distance: Floats, separations: Floats) -> Bits:
    """Return a bit for each separation at which a pair at this distance are duplicates, (p,)."""
    of = np.array([0xFFFFFFFF << k & 0xFFFFFFFF for k in range(separations.size)], dtype=np.uint32)
    return of[np.searchsorted(separations, distance)]

"""Find the particles that a run would keep at other separations."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup import pairs
from dask_dedup.dedup.arrays import unique_inverse
from dask_dedup.dedup.coincident import find_coincident
from dask_dedup.dedup.decide import rejected_uncompared
from dask_dedup.dedup.greedy import reject_all_close, reject_worse, suppress
from dask_dedup.dedup.rank import rank_keys, total_order
from dask_dedup.dedup.recommended_separation import Spacing, measure_spacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.pairs import Floats, Indices, Keys
    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks

    Bits = NDArray[np.uint32]

#: Largest number of separations. Each separation is one bit of a 32-bit integer.
MOST_SEPARATIONS = 32
#: Picks per batch. A batch has whole micrographs, and a larger micrograph is a batch alone.
BATCH_PICKS = 400_000
#: Largest numbers of pairs per pick and of pairs in total. Separations with more pairs are left out.
MOST_PAIRS, PAIR_BUDGET = 20, 8_000_000
#: Ratio of the largest separation to the distance at which neighbours begin.
_BEYOND = 1.5
#: Number of tenths of the run's own separation, and approximate number of larger, round separations.
_TENTHS, _COARSE = 15, 14
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class SeparationAnalysis:
    """Decisions at several separations about all picks of some micrographs, and the gap between their distances.

    Attributes
    ----------
    separations : (s,) float64
        Ascending, angstrom; at most `MOST_SEPARATIONS`. They include the run's own separation.
    bits : (n,) uint32
        For each pick, bit k is set if the pick is kept at ``separations[k]``. If a pick is not compared, all bits
        are set if the run keeps it, else none.
    kept : (s, i) int64
        Number of kept picks by separation and input.
    spacing : Spacing or None
        The gap between the distances of duplicates and of real neighbours. None without a gap.
    cut_short : bool
        Whether larger separations were left out because of too many pairs.
    before_votes : (n,) uint32, optional
        `bits` before votes, if `bits` and `kept` are the results after votes (`vote_analysis`).
    """

    separations: Floats
    bits: Bits
    kept: NDArray[np.int64]
    spacing: Spacing | None
    cut_short: bool = False
    before_votes: Bits | None = None

    def at(self, separation: float) -> NDArray[np.bool_]:
        """Return a mask of the picks that are kept at one of `separations`, (n,)."""
        return kept_at(self.bits, self.separations, separation)


def analyse_separations(
    picks: Picks,
    params: DedupParams,
    higher_is_better: Sequence[bool],
    separations: Sequence[float] | Floats | None = None,
    measured: tuple[Spacing | None, float] | None = None,
) -> SeparationAnalysis:
    """Find the gap between duplicates and neighbours, and the picks that a run keeps at several separations.

    Parameters
    ----------
    picks : Picks
        All picks of each micrograph that occurs, in any order.
    params : DedupParams
        Duplicates must be defined by a distance in angstrom (`DedupParams.measures`).
    higher_is_better : sequence of bool
        Direction of the score of each input.
    separations : sequence of float, optional
        Angstrom. By default the result of `separations_around`. `min_separation` is added.
    measured : tuple, optional
        The result of `measure_picks`, if it is known.
    """
    spacing, nearest = measured or measure_picks(picks, params)
    own = params.min_separation
    if separations is None:
        separations = separations_around(own, largest_to_try(spacing, nearest, own))
    wanted = np.unique([*separations, own])
    found, bits = keep_at(picks, params, higher_is_better, wanted)
    inputs = len(higher_is_better)
    counts = [
        np.bincount(picks.source[kept_at(bits, found, each)], minlength=inputs) for each in found
    ]
    return SeparationAnalysis(
        separations=found,
        bits=bits,
        kept=np.array(counts, dtype=np.int64).reshape(found.size, inputs),
        spacing=spacing,
        cut_short=found.size < wanted.size,
    )


def measure_picks(picks: Picks, params: DedupParams) -> tuple[Spacing | None, float]:
    """Measure the spacing of the comparable picks. The order of picks does not matter."""
    some = picks.take(picks.invalid == 0) if picks.invalid.any() else picks
    return measure_spacing(some.points(params)[0], unique_inverse(some.micrograph)[1])


def largest_to_try(spacing: Spacing | None, nearest: float, own: float) -> float:
    """Return the largest separation to try, given the result of `measure_picks` and the run's own separation."""
    return _BEYOND * spacing.neighbours_begin if spacing else max(2.0 * own, nearest)


def explain(spacing: Spacing | None, unit: str = "A") -> str:
    """Return the reason for the recommended separation, or for no recommendation: a sentence without a full stop."""
    if spacing is None:
        return (
            "there is no gap between duplicates and real neighbours, or too few picks to show one"
        )
    begin = f"{spacing.neighbours_begin:.3g} {unit}"
    if spacing.recommended is None:
        return (
            "there are no duplicates to separate, apart from particles at the same position; "
            f"neighbours begin at {begin}"
        )
    return (
        f"duplicates end at {spacing.duplicates_end:.3g} {unit}, neighbours begin at {begin}, and the "
        f"fewest pairs are about {spacing.recommended:g} {unit}"
    )


class Fit(Enum):
    """Result of comparing a separation with the gap."""

    RIGHT = "in the gap"
    SMALL = "duplicates are left"
    LARGE = "real neighbours are rejected"
    #: Neighbours are closer than the separation, but the run does not compare all of them.
    EXEMPT = "neighbours are closer"


def judge_separation(spacing: Spacing, params: DedupParams) -> Fit:
    """Compare the separation of a run with the gap."""
    if spacing.includes(params.min_separation):
        return Fit.RIGHT
    if spacing.leaves_duplicates(params.min_separation):
        return Fit.SMALL
    exempt = params.ignore_within_filament or params.between_inputs_only
    return Fit.EXEMPT if exempt else Fit.LARGE


def separations_around(own: float, farthest: float) -> Floats:
    """Return separations to try, given the run's own separation.

    These are tenths of `own` up to ``1.5 * own``, and multiples of a round number up to `farthest` or beyond.
    """
    fine = [own if k == 10 else own * k / 10 for k in range(1, _TENTHS + 1)]
    step = _round_up((farthest - fine[-1]) / _COARSE)
    first = int(np.floor(fine[-1] / step)) + 1
    coarse = step * np.arange(first, first + _COARSE + 1)
    reached = int(np.searchsorted(coarse, farthest)) + 1
    return np.array([*fine, *coarse[: reached if farthest > fine[-1] else 0]])


def round_separations(farthest: float) -> Floats:
    """Return multiples of a round step (1, 2, 2.5 or 5 times a power of ten) up to about `farthest`."""
    step = _round_up(farthest / MOST_SEPARATIONS)
    return np.asarray(step * np.arange(1, int(np.floor(farthest / step + 0.5)) + 1))


def _round_up(least: float) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is `least` or more."""
    if least <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(each * power for each in _ROUND if each * power >= least))


def kept_at(bits: Bits, separations: Floats, separation: float) -> NDArray[np.bool_]:
    """Return a mask of the picks that are kept at one of `separations`, given the bits of `keep_at`."""
    number = np.uint32(np.flatnonzero(separations == separation)[0])
    return np.asarray((bits >> number & np.uint32(1)).astype(bool))


def keep_at(
    picks: Picks,
    params: DedupParams,
    higher_is_better: Sequence[bool],
    separations: Floats,
) -> tuple[Floats, Bits]:
    """Find the picks that a run keeps at each of several separations.

    Parameters are as in `analyse_separations`. The `separations` are ascending and include the run's own.

    Returns
    -------
    separations : (s,) float64
        The separations for which the kept picks were found. Large separations with too many pairs are left out,
        except the run's own.
    bits : (n,) uint32
        As in `SeparationAnalysis`.
    """
    if separations.size > MOST_SEPARATIONS:
        raise ValueError(f"{separations.size} separations; at most {MOST_SEPARATIONS} are possible")
    compared = picks.invalid == 0
    some = picks if compared.all() else picks.take(compared)
    centres, own = some.points(params)
    points = pairs.Points(centres, unique_inverse(some.micrograph)[1], some.exclusions(params))
    ranks, entirely = rank_keys(some, params, higher_is_better), params.remove_entirely
    rejected, known = reject_at(points, ranks, separations, entirely=entirely)
    decided = separations[:known]
    if own not in decided:
        method = reject_all_close if entirely else suppress
        lost = method(points, ranks, own).rejected
        rejected |= lost.astype(np.uint32) << np.uint32(known)
        decided = np.append(decided, own)
    every = np.uint32((1 << decided.size) - 1)
    bits = np.where(rejected_uncompared(picks, params), np.uint32(0), every)
    bits[compared] = ~rejected & every
    return decided, bits


def reject_at(
    points: pairs.Points, keys: Keys, separations: Floats, *, entirely: bool = False
) -> tuple[Bits, int]:
    """Apply the rule of `greedy.suppress`, or of `greedy.reject_all_close`, at several separations at once.

    Parameters are as in `greedy.suppress`. The `separations` are ascending, at most `MOST_SEPARATIONS`. If `entirely`,
    the rule is `greedy.reject_all_close`.

    Returns
    -------
    rejected : (n,) uint32
        Bit k is set if the row is rejected at ``separations[k]``.
    known : int
        Number of decided separations. The larger separations have too many pairs.
    """
    rejected = np.zeros(len(points), dtype=np.uint32)
    known = separations.size
    for rows in _batches(points.micrographs):
        part = points.take(rows)
        some = [key[rows] for key in keys]
        rejected[rows], known = _reject(part, some, separations[:known], entirely=entirely)
    return rejected & np.uint32((1 << known) - 1), known


def _batches(micrographs: Indices) -> Iterator[Indices]:
    """Yield arrays of about `BATCH_PICKS` row numbers. Each array has all rows of some micrographs."""
    if not micrographs.size:
        return
    order = np.argsort(micrographs, kind="stable")
    ends = np.cumsum(np.bincount(micrographs))
    start = 0
    while start < micrographs.size:
        last = int(np.searchsorted(ends, start + BATCH_PICKS))
        end = int(ends[min(last, ends.size - 1)])
        yield order[start:end]
        start = end


def _reject(
    points: pairs.Points, keys: Keys, separations: Floats, *, entirely: bool
) -> tuple[Bits, int]:
    """Apply the rule at several separations to one batch. Return the same as `reject_at`."""
    n, known = len(points), separations.size
    if n < 2 or not known:
        return np.zeros(n, dtype=np.uint32), known
    method = _all_close_bits if entirely else _greedy_bits
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
    """Apply the rule at several separations to points with distinct positions, with a KD-tree."""
    n, known = len(points), separations.size
    search = pairs.PairSearch.over(points, separations[-1])
    most: float = min(MOST_PAIRS * n, PAIR_BUDGET)
    if search.estimate() > most:
        # All estimates use the same sample of points, so the estimates rise with the separation.
        known = bisect_right(
            separations, most, hi=known - 1, key=lambda each: search.within(each).estimate()
        )
    if not known:
        return np.zeros(n, dtype=np.uint32), 0
    found = search.within(separations[known - 1]).pairs()
    method = _all_close_bits if entirely else _greedy_bits
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


def _all_close_bits(
    n: int, keys: Keys, i: Indices, j: Indices, distance: Floats, separations: Floats
) -> Bits:
    del keys
    rejected = np.zeros(n, dtype=np.uint32)
    bits = _bits_of(distance, separations)
    np.bitwise_or.at(rejected, i, bits)
    np.bitwise_or.at(rejected, j, bits)
    return rejected


def _bits_of(distance: Floats, separations: Floats) -> Bits:
    """Return the (p,) bits of pairs. A bit is set for each separation at which the pair are duplicates."""
    of = np.array([0xFFFFFFFF << k & 0xFFFFFFFF for k in range(separations.size)], dtype=np.uint32)
    return of[np.searchsorted(separations, distance)]

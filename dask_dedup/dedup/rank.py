"""The rank of particles: a total order that decides which of two duplicates wins.

A rank is a tuple of unsigned 64-bit keys, compared from the first to the last. Smaller is better. The keys are:

1. the input, if the order of inputs counts,
2. the score, or the standing: the rank of the particle by score within its input and micrograph,
3. the seeded hash of the uid,
4. the uid,
5. the row id.

If a table has no uids, the content hash (`particles.content_hash`) replaces the uid. So the row id decides only
between rows with equal content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.arrays import begins_run, constant_column, unique_inverse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks

#: Value that RELION writes if a particle has no score (displayer.cpp, rlnAutopickFigureOfMerit).
SCORE_SENTINEL = -999.0

_WORST = np.uint64(0xFFFFFFFFFFFFFFFF)
_SIGN = np.uint64(0x8000000000000000)


def rank_keys(
    picks: Picks, params: DedupParams, higher_is_better: Sequence[bool]
) -> list[NDArray[np.uint64]]:
    """Return the columns that rank picks, each an (n,) array of integers. The first column is the most significant.

    `higher_is_better` has the direction of the score of each input. To rank by standing, all valid picks of each
    micrograph must be passed, and no others.
    """
    keys = [splitmix64(picks.uid ^ np.uint64(params.seed)), picks.uid, picks.row_id]
    if params.scored:
        same = len({*higher_is_better}) == 1
        higher = higher_is_better[0] if same else np.array(higher_is_better)[picks.source]
        key = score_key(picks.score, higher_is_better=higher)
        keys.insert(0, standing_key(picks, key) if params.uses_standing else key)
    if params.prefer_input_order:
        keys.insert(0, picks.source.astype(np.uint64))
    return keys


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash 64-bit integers. Distinct integers have distinct hashes.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014; constants by Vigna), modulo 2**64::

        z = value + 0x9E3779B97F4A7C15
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB
        hash = z ^ (z >> 31)

    Examples
    --------
    >>> hex(int(splitmix64(np.zeros(1, np.uint64))[0]))
    '0xe220a8397b1dcdaf'
    """
    # In place, because new arrays would take most of the time.
    z = np.asarray(values + np.uint64(0x9E3779B97F4A7C15), dtype=np.uint64)
    shifted = z >> np.uint64(30)
    z ^= shifted
    z *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(z, np.uint64(27), out=shifted)
    z ^= shifted
    z *= np.uint64(0x94D049BB133111EB)
    np.right_shift(z, np.uint64(31), out=shifted)
    z ^= shifted
    return z


def score_key(
    score: NDArray[np.float64], *, higher_is_better: bool | NDArray[np.bool_]
) -> NDArray[np.uint64]:
    """Convert scores to integers that sort from the best score to the worst. The direction may differ by row.

    NaN and RELION's sentinel -999 come last and tie. With ``s = -score`` if higher is better, else ``score``,
    and ``b`` its IEEE 754 bits, the key is ``~b`` if ``s`` is negative, else ``b | 2**63``.
    """
    # Adding 0.0 turns -0.0 into 0.0: both are the same score.
    if isinstance(higher_is_better, bool):
        signed = (-score if higher_is_better else score) + 0.0
    else:
        signed = np.where(higher_is_better, -score, score) + 0.0
    bits = signed.view(np.uint64)
    key = np.where(bits & _SIGN != 0, ~bits, bits | _SIGN)
    return np.where(np.isnan(score) | (score == SCORE_SENTINEL), _WORST, key)


def standing_key(picks: Picks, score_keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Convert score keys to integers that sort by standing, from the best to the worst.

    The standing of a particle is its rank by score within its input and micrograph. Let B be the number of better
    scores there, and E the number of equal scores, including its own. The key is ``2 B + E``. Particles without a
    score have no standing. They tie in last position, and do not count for other particles.
    """
    _, micrograph = unique_inverse(picks.micrograph)
    group = micrograph * (int(picks.source.max(initial=0)) + 1) + picks.source
    # Faster than `numpy.lexsort`, because equal scores may come in any order and small integers use a radix sort.
    order = np.argsort(score_keys)
    small = group.astype(np.uint16) if group.max(initial=0) < 2**16 else group
    order = order[np.argsort(small[order], kind="stable")]
    group, score = group[order], score_keys[order]
    new_group = begins_run(group)
    starts = np.flatnonzero(new_group | begins_run(score))
    equal = np.diff(starts, append=order.size)
    group_start = np.maximum.accumulate(np.where(new_group[starts], starts, 0))
    key = np.empty(order.size, dtype=np.uint64)
    key[order] = np.repeat(2 * (starts - group_start) + equal, equal)
    key[score_keys == _WORST] = _WORST
    return key


def standings(keys: Sequence[NDArray[np.uint64]], params: DedupParams) -> NDArray[np.float64]:
    """Return the standing of each pick, (n,) float64, given the result of `rank_keys`.

    1 is the best. Equal scores share the mean of their ranks. The standing is NaN for picks without a score, and for
    all picks if `params` do not use the standing.
    """
    if not params.uses_standing:
        return constant_column(np.nan, keys[0].size)
    key = keys[1 if params.prefer_input_order else 0]
    return np.where(key == _WORST, np.nan, (key.astype(np.float64) + 1.0) / 2.0)


def total_order(keys: Sequence[NDArray[np.uint64]]) -> NDArray[np.intp]:
    """Return the row numbers sorted from best to worst rank. `keys` comes from `rank_keys`.

    Only rows that tie in a key are sorted by the next key.
    """
    order = np.argsort(keys[0])
    if len(keys) == 1 or order.size < 2:
        return order
    new_value = begins_run(keys[0][order])
    if new_value.all():
        return order
    unique = new_value & np.append(new_value[1:], True)
    tied = np.flatnonzero(~unique)
    rows = order[tied]
    value_number = np.cumsum(new_value)[tied]
    position = np.empty(rows.size, dtype=np.intp)
    position[total_order([key[rows] for key in keys[1:]])] = np.arange(rows.size)
    # Faster than a stable sort of the value numbers in the order of the positions.
    order[tied] = rows[np.argsort(value_number * rows.size + position)]
    return order

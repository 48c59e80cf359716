"""Piles: rows at precisely one place, of which the best-ranked stands for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.pairs import Bools, Field, Indices

    Keys = Sequence[NDArray[np.uint64]]

#: An odd number whose bits are as good as random, the golden ratio's.
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Piles:
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


def find_piles(field: Field, keys: Keys) -> Piles | None:
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
    return Piles(pile, _best_of_runs(order, starts, keys), rows, mutual)


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

"""Find a constant offset between the picks of two inputs, such as between corners and centres of boxes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.inspection.contents import OffsetTest
from dask_dedup.inspection.neighbours import (
    Centres,
    clearly_larger,
    count_values,
    partners,
    sample_pairs,
    shares,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.inspection.neighbours import Floats

#: Largest number of pairs of picks to find the most frequent difference.
_PAIRS = 1_000_000
#: Smallest number of partners to find an offset.
_FEWEST = 20
#: Bins are numbered with int64.
_MOST_BINS = 2.0**62
#: Smallest offset, as a fraction of the matching radius.
_LEAST = 0.25


def find_offset(one: Centres, other: Centres, radius: float) -> OffsetTest | None:
    """Find a constant difference between the picks of two inputs on the same micrographs.

    Returns
    -------
    OffsetTest or None
        None unless the offset clearly gives the picks more partners, or much closer partners.
    """
    offset = _most_frequent_difference(one, other, radius)
    if offset is None or np.hypot.reduce(offset) < _LEAST * radius:
        return None
    moved = replace(other, points=other.points - offset)
    as_is, matched = shares(one, other, radius), shares(one, moved, radius)
    side, picks = int(len(other) < len(one)), min(len(one), len(other))
    if matched[side] * picks < _FEWEST:
        return None
    more = clearly_larger(matched[side], as_is[side], picks)
    before, after = partners(one, other, radius), partners(one, moved, radius)
    closer = (
        matched[side] >= as_is[side]
        and np.isfinite(before).any()
        and np.median(before[np.isfinite(before)]) > 2 * np.median(after[np.isfinite(after)])
    )
    if not (more or closer):
        return None
    return OffsetTest(tuple(offset.tolist()), as_is, matched)


def _most_frequent_difference(one: Centres, other: Centres, radius: float) -> Floats | None:
    """Return the most frequent difference, other minus one, (d,) float64. None if no micrograph has picks of both."""
    differences = _sample_differences(one, other)
    if not len(differences):
        return None
    width, best, centre = 2 * radius, 0, np.zeros(differences.shape[1])
    axes = [np.ascontiguousarray(along) for along in differences.T]
    # A peak may be at the edge of bins, so there are also grids that are shifted by half a bin.
    for half in product((0.0, 0.5), repeat=differences.shape[1]):
        bins = [
            np.floor(along / width + shift).astype(np.int64)
            for along, shift in zip(axes, half, strict=True)
        ]
        low = np.array([part.min() for part in bins])
        sizes = tuple(int(part.max()) - int(part.min()) + 1 for part in bins)
        if np.prod(sizes, dtype=np.float64) > _MOST_BINS:
            return None
        keys, counts = count_values(
            np.ravel_multi_index([part - part.min() for part in bins], sizes)
        )
        if counts.max() > best:
            best = int(counts.max())
            peak = np.array(np.unravel_index(keys[np.argmax(counts)], sizes))
            centre = (peak + low + 0.5 - np.array(half)) * width
    for reach in (2 * radius, radius, radius / 2):  # the first reach covers the whole bin
        squares = sum((along - middle) ** 2 for along, middle in zip(axes, centre, strict=True))
        near = differences[squares <= reach**2]
        if not len(near):
            break
        centre = np.median(near, axis=0)
    return centre


def _sample_differences(one: Centres, other: Centres) -> Floats:
    """Return differences between picks on the same micrograph, other minus one, (p, d) float64."""
    order: NDArray[np.intp] = np.argsort(other.micrograph, kind="stable")
    first = np.searchsorted(other.micrograph[order], one.micrograph, side="left")
    count = np.searchsorted(other.micrograph[order], one.micrograph, side="right") - first
    mine, theirs = sample_pairs(first, count, _PAIRS)
    return np.asarray(other.points[order[theirs]] - one.points[mine])

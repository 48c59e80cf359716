"""Test whether the picks of two inputs match, and whether their axes and shifts agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dask_dedup.inspection.contents import FlipTest, Match, ShiftTest
from dask_dedup.inspection.neighbours import (
    RATIO,
    SIGNIFICANT,
    Centres,
    CentreTree,
    clearly_larger,
    count_values,
    partners,
    sample_pairs,
    shares,
)
from dask_dedup.inspection.offset import find_offset

#: Largest number of pairs of equal x to estimate a height.
_VOTES = 1_000_000
#: Smallest number of partners to test a shift.
_FEWEST = 20
#: Factor of shifts: subtracted, left out, or added.
_SIGNS = {"minus": -1, "none": 0, "plus": 1}
_FRACTIONS = np.array([1.0, 2.0, 4.0, 8.0])


def match(one: Centres, other: Centres, radius: float) -> Match | None:
    """Match the picks of two inputs, and compare y axes and shifts. Return None without common micrographs."""
    common = np.intersect1d(one.micrograph, other.micrograph)
    if not common.size:
        return None
    one, other = (part.take(np.isin(part.micrograph, common)) for part in (one, other))
    distances = partners(one, other, radius)
    near = distances[np.isfinite(distances)]
    matched = near.size, int(np.isfinite(partners(other, one, radius)).sum())
    as_is = matched[0] / len(one), matched[1] / len(other)
    flip, aligned = _compare_axes(one, other, radius, as_is)
    has_shifts = one.shift is not None or other.shift is not None
    return Match(
        radius=radius,
        micrographs=common.size,
        picks=(len(one), len(other)),
        matched=matched,
        median=float(np.median(near)) if near.size else None,
        flip=flip,
        shift=_compare_shifts_between(*aligned, radius) if has_shifts else None,
        offset=find_offset(*aligned, radius),
    )


def _compare_axes(
    one: Centres, other: Centres, radius: float, as_is: tuple[float, float]
) -> tuple[FlipTest, tuple[Centres, Centres]]:
    """Test whether y runs the same way in both inputs. Also return both inputs with the same direction of y."""
    height, flipped_pair = None, None
    if other.has_heights:
        height, flipped_pair = float(np.median(other.height)), (one, other.flipped())
    elif one.has_heights:
        height, flipped_pair = float(np.median(one.height)), (one.flipped(), other)
    elif (height := estimate_height(one, other, radius)) is not None:
        flipped_pair = one, other.flipped(height)
    estimated = height is not None and not (one.has_heights or other.has_heights)
    # For the level of chance: a mirrored x keeps the density of picks and removes every true match.
    x = np.concatenate([one.points[:, 0], other.points[:, 0]])
    mirrored = one.points.copy()
    mirrored[:, 0] = np.percentile(x, 1) + np.percentile(x, 99) - mirrored[:, 0]
    chance = shares(replace(one, points=mirrored), other, radius)
    flipped = shares(*flipped_pair, radius) if flipped_pair else None
    # Use the share of the smaller input, because most picks of a much larger input have no partner.
    side = int(len(other) < len(one))
    picks = min(len(one), len(other))
    same, opposite, random = as_is[side], flipped[side] if flipped else 0.0, chance[side]
    verdict = "unclear"
    if clearly_larger(opposite, max(same, random), picks):
        verdict = "opposite"
    elif same > opposite and clearly_larger(same, random, picks):
        verdict = "same"
    test = FlipTest(verdict, height, estimated, as_is, flipped, chance)
    return test, flipped_pair if flipped_pair and verdict == "opposite" else (one, other)


def estimate_height(one: Centres, other: Centres, radius: float) -> float | None:
    """Estimate the micrograph height from pairs of picks with equal x. Return None if there is no such pair.

    A pick and its flipped partner have equal x, and the sum of their y is the height. The estimate is the most
    frequent sum over all pairs of picks with equal x (and z).
    """
    x = np.concatenate([one.points[:, 0], other.points[:, 0]])
    apart = 4 * max(radius, float(np.ptp(x)))
    lines = [part.micrograph * apart + (part.points[:, 0] - x.min()) for part in (one, other)]
    order = np.argsort(lines[1])
    first = np.searchsorted(lines[1][order], lines[0] - radius, side="left")
    last = np.searchsorted(lines[1][order], lines[0] + radius, side="right")
    mine, theirs = sample_pairs(first, last - first, _VOTES)
    a, b = one.points[mine], other.points[order[theirs]]
    near = (np.abs(a[:, 2:] - b[:, 2:]) <= radius).all(axis=1)
    sums = (a[:, 1] + b[:, 1])[near]
    if not sums.size:
        return None
    # A peak may be at the edge of two bins, so neighbouring bins are added.
    low = sums.min()
    values, counts = count_values(((sums - low) / radius).astype(np.int64))
    adjacent = np.append(np.diff(values) == 1, False)
    summed = counts + np.where(adjacent, np.append(counts[1:], 0), 0)
    peak = low + (values[np.argmax(summed)] + 1) * radius
    return float(np.median(sums[np.abs(sums - peak) <= radius]))


def _compare_shifts_between(one: Centres, other: Centres, radius: float) -> ShiftTest:
    """Test whether matching picks of two inputs are closest with shifts subtracted, left out or added."""
    both = [(one.with_shift(sign), other.with_shift(sign)) for sign in _SIGNS.values()]
    distances = np.array([partners(*pair, 2 * radius) for pair in both])
    matched = distances[:, (distances <= radius).any(axis=0)].clip(max=2 * radius)
    picks = matched.shape[1]
    if picks < _FEWEST:
        return ShiftTest("unclear", radius, picks, *(float("nan"),) * 3)
    medians = np.median(matched, axis=1)
    best = int(np.argmin(medians))
    # Sign test: number of picks for which the best sign is closer than another sign, minus the opposite number.
    wins = [
        (matched[best] < rest).sum() - (matched[best] > rest).sum()
        for rest in np.delete(matched, best, axis=0)
    ]
    clear = min(wins) > SIGNIFICANT * picks**0.5
    verdict = list(_SIGNS)[best] if clear else "unclear"
    return ShiftTest(verdict, radius, picks, *medians.tolist())


def compare_shifts(centres: Centres, radius: float) -> ShiftTest:
    """Test whether one input has the most close pairs with shifts subtracted, left out or added.

    Pairs are counted within the radius and within a half, a quarter and an eighth of it. The radius that separates the
    signs best is used. Duplicates are mostly at short distances. If the number of pairs grows in proportion to the
    radius or faster, the sign may only change the distances to real neighbours. Then the verdict is unclear.
    """
    radii = radius / _FRACTIONS
    trees = [CentreTree(centres.with_shift(sign), radius) for sign in _SIGNS.values()]
    counts = np.array([tree.count_pairs(radii) for tree in trees])
    ordered = np.sort(counts, axis=0)
    best, second = ordered[-1], ordered[-2]
    sigmas = (best - second) / np.sqrt(np.maximum(best + second, 1))
    at = int(np.argmax(sigmas))
    sign = int(np.argmax(counts[:, at]))
    mostly_close = (counts[sign] * _FRACTIONS >= 2 * counts[sign, 0])[1:].any()
    clear = best[at] >= _FEWEST and best[at] > RATIO * second[at] and sigmas[at] > SIGNIFICANT
    verdict = list(_SIGNS)[sign] if clear and mostly_close else "unclear"
    return ShiftTest(verdict, float(radii[at]), len(centres), *counts[:, at].astype(float).tolist())

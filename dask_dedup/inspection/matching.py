"""Whether the picks of two inputs match, and whether their axes and shifts agree: arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dask_dedup.inspection.neighbours import Centres, Cloud, Floats

#: A share of matches stands out if it is this much, this many times and so many standard errors above another.
_MARGIN, _RATIO, _SIGNIFICANT = 0.05, 1.5, 5.0
#: Pairs of equal x that vote on a height.
_VOTES = 1_000_000
#: Fewer partners than this tell nothing about a shift.
_FEWEST = 20
#: What becomes of shifts: subtracted, left out, added.
_SIGNS = {"minus": -1, "none": 0, "plus": 1}
_FRACTIONS = np.array([1.0, 2.0, 4.0, 8.0])


@dataclass(frozen=True, slots=True)
class FlipTest:
    """Whether y runs the same way in two inputs.

    Attributes
    ----------
    verdict : {"same", "opposite", "unclear"}
    height : float or None
        One was flipped about it; None if nothing told or suggested one.
    estimated : bool
        Whether the height is what the picks themselves suggest.
    as_is, flipped, chance : (float, float)
        Share of the one's and of the other's picks that have a partner.
    """

    verdict: str
    height: float | None
    estimated: bool
    as_is: tuple[float, float]
    flipped: tuple[float, float] | None
    chance: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ShiftTest:
    """What becomes of duplicates with shifts subtracted (the rule), left out and added.

    Attributes
    ----------
    verdict : {"minus", "none", "plus", "unclear"}
        Which brings them closest.
    radius : float
        Pairs or partners are at most so far apart.
    picks : int
        That the numbers are about.
    minus, none, plus : float
        NaN if nothing could be measured; else the median
        distance to the partner in another input, or the number of close pairs in one input.
    """

    verdict: str
    radius: float
    picks: int
    minus: float
    none: float
    plus: float


@dataclass(frozen=True, slots=True)
class Match:
    """How the picks of two inputs match on the micrographs they share.

    Attributes
    ----------
    radius : float
        Partners are at most so far apart.
    micrographs : int
        Shared.
    picks, matched : (int, int)
        Of the one and of the other, on these micrographs.
    median : float or None
        Distance to the partner.
    flip : FlipTest
    shift : ShiftTest or None
        None where neither has shifts.
    """

    radius: float
    micrographs: int
    picks: tuple[int, int]
    matched: tuple[int, int]
    median: float | None
    flip: FlipTest
    shift: ShiftTest | None


def match(one: Centres, other: Centres, radius: float) -> Match | None:
    """Match the picks of two inputs, and test whether their axes and shifts agree.

    Returns
    -------
    Match or None
        None if they share no micrograph.
    """
    common = np.intersect1d(one.micrograph, other.micrograph)
    if not common.size:
        return None
    one, other = (part.take(np.isin(part.micrograph, common)) for part in (one, other))
    distance = _partners(one, other, radius), _partners(other, one, radius)
    matched = tuple(np.isfinite(part) for part in distance)
    found = distance[0][matched[0]]
    flip, turned = _compare_axes(one, other, radius, _shares(*distance))
    shifted = one.shift is not None or other.shift is not None
    return Match(
        radius=radius,
        micrographs=common.size,
        picks=(len(one), len(other)),
        matched=(int(matched[0].sum()), int(matched[1].sum())),
        median=float(np.median(found)) if found.size else None,
        flip=flip,
        shift=_compare_shifts_between(*turned, radius) if shifted else None,
    )


def _partners(one: Centres, other: Centres, radius: float) -> Floats:
    # The tree's bound leaves out what is precisely at it.
    return Cloud(other, float(np.nextafter(radius, np.inf))).nearest_to(one)


def _shares(*distances: Floats) -> tuple[float, float]:
    one, other = (float(np.isfinite(distance).mean()) for distance in distances)
    return one, other


def _compare_axes(
    one: Centres, other: Centres, radius: float, as_is: tuple[float, float]
) -> tuple[FlipTest, tuple[Centres, Centres]]:
    """Test which way y runs; give also the two such that it runs the same way in both."""
    height, turned = None, None
    estimated = False
    if np.isfinite(other.height).all():
        height, turned = float(np.median(other.height)), (one, other.flipped())
    elif np.isfinite(one.height).all():
        height, turned = float(np.median(one.height)), (one.flipped(), other)
    else:
        height = vote_height(one, other, radius)
        estimated = height is not None
        turned = None if height is None else (one, other.flipped(height))

    def shares(a: Centres, b: Centres) -> tuple[float, float]:
        return _shares(_partners(a, b, radius), _partners(b, a, radius))

    x = np.concatenate([one.points[:, 0], other.points[:, 0]])
    mirrored = one.points.copy()
    mirrored[:, 0] = np.percentile(x, 1) + np.percentile(x, 99) - mirrored[:, 0]
    chance = shares(replace(one, points=mirrored), other)
    flipped = shares(*turned) if turned else None
    # The smaller input's share: that of the larger is small however well they match.
    side = int(len(other) < len(one))
    picks = min(len(one), len(other))
    verdict = "unclear"
    if flipped and _stands_out(flipped[side], max(as_is[side], chance[side]), picks):
        verdict = "opposite"
    elif _stands_out(as_is[side], chance[side], picks) and (
        flipped is None or as_is[side] > flipped[side]
    ):
        verdict = "same"
    test = FlipTest(verdict, height, estimated, as_is, flipped, chance)
    return test, turned if turned and verdict == "opposite" else (one, other)


def _stands_out(share: float, other: float, picks: int) -> bool:
    """Tell whether a share of matches is above another by far more than chance would have it."""
    error = ((share * (1 - share) + other * (1 - other)) / picks) ** 0.5
    above = share - other
    return above > _MARGIN and share > _RATIO * other and above > _SIGNIFICANT * error


def vote_height(one: Centres, other: Centres, radius: float) -> float | None:
    """Estimate the micrograph height about which one input would have to be flipped.

    A pick and its flipped partner agree in x, and their y add up to the height: over all pairs of
    picks that agree in x (and z), the sums pile up there.

    Returns
    -------
    float or None
        In the unit of the centres; None if no two picks agree in x.
    """
    x = np.concatenate([one.points[:, 0], other.points[:, 0]])
    apart = 4 * max(radius, float(np.ptp(x)))
    lines = [part.micrograph * apart + (part.points[:, 0] - x.min()) for part in (one, other)]
    order = np.argsort(lines[1])
    first = np.searchsorted(lines[1][order], lines[0] - radius, side="left")
    last = np.searchsorted(lines[1][order], lines[0] + radius, side="right")
    votes = last - first
    chosen = np.random.default_rng(0).permutation(len(one))
    chosen = chosen[: max(1, int(np.searchsorted(np.cumsum(votes[chosen]), _VOTES)))]
    mine = np.repeat(chosen, votes[chosen])
    within = np.arange(mine.size) - np.repeat(
        np.cumsum(votes[chosen]) - votes[chosen], votes[chosen]
    )
    theirs = order[first[mine] + within]
    a, b = one.points[mine], other.points[theirs]
    near = (np.abs(a[:, 2:] - b[:, 2:]) <= radius).all(axis=1)
    sums = (a[:, 1] + b[:, 1])[near]
    if not sums.size:
        return None
    low = sums.min()
    bins = ((sums - low) / radius).astype(np.int64)
    values, counts = np.unique(bins, return_counts=True)
    follows = np.append(np.diff(values) == 1, False)
    together = counts + np.where(follows, np.append(counts[1:], 0), 0)
    peak = low + (values[np.argmax(together)] + 1) * radius
    return float(np.median(sums[np.abs(sums - peak) <= radius]))


def _compare_shifts_between(one: Centres, other: Centres, radius: float) -> ShiftTest:
    """Compare the distances to the partner under each sign, for picks that have one under any."""
    distances = np.array(
        [
            _partners(one.with_shift(sign), other.with_shift(sign), 2 * radius)
            for sign in _SIGNS.values()
        ]
    )
    some = distances[:, (distances <= radius).any(axis=0)].clip(max=2 * radius)
    picks = some.shape[1]
    if picks < _FEWEST:
        return ShiftTest("unclear", radius, picks, *(float("nan"),) * 3)
    medians = np.median(some, axis=1)
    best = int(np.argmin(medians))
    # A sign test: how often the best is closer than each of the others.
    wins = [
        int((some[best] < rest).sum() - (some[best] > rest).sum())
        for number, rest in enumerate(some)
        if number != best
    ]
    clear = min(wins) > _SIGNIFICANT * picks**0.5
    verdict = list(_SIGNS)[best] if clear else "unclear"
    minus, none, plus = medians.tolist()
    return ShiftTest(verdict, radius, picks, minus, none, plus)


def compare_shifts(centres: Centres, radius: float) -> ShiftTest:
    """Compare the number of close pairs of one input under each sign: shifts bring duplicates together.

    Looks within the radius, a half, a quarter and an eighth of it, and takes the one that tells the
    signs best. Duplicates pile up at short distances: where pairs grow in proportion to the radius
    or faster, the wrong sign may just have blurred the distance to real neighbours.
    """
    radii = radius / _FRACTIONS
    counts = np.array(
        [Cloud(centres.with_shift(sign), radius).count_pairs(radii) for sign in _SIGNS.values()]
    )
    ordered = np.sort(counts, axis=0)
    best, second = ordered[-1], ordered[-2]
    sigmas = (best - second) / np.sqrt(np.maximum(best + second, 1))
    at = int(np.argmax(sigmas))
    sign = int(np.argmax(counts[:, at]))
    piled = (counts[sign] * _FRACTIONS >= 2 * counts[sign, 0])[1:].any()
    clear = best[at] >= _FEWEST and best[at] > _RATIO * second[at] and sigmas[at] > _SIGNIFICANT
    verdict = list(_SIGNS)[sign] if clear and piled else "unclear"
    minus, none, plus = counts[:, at].astype(float).tolist()
    return ShiftTest(verdict, float(radii[at]), len(centres), minus, none, plus)

"""What an inspection advises, and what it warns about in addition to the warnings of a run."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.formatting import counted
from dask_dedup.messages import parameter
from dask_dedup.particles.micrographs import bare_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.inspection.report import InspectedInput, Neighbourhood, Pair
    from dask_dedup.inspection.survey import Survey
    from dask_dedup.particles.inputs import Inputs

#: With this many picks on common micrographs, real matches stand out from chance.
_ENOUGH = 50


def advise(
    inputs: Inputs,
    survey: Survey,
    entries: Sequence[InspectedInput],
    pairs: Sequence[Pair],
    together: Neighbourhood | None,
    flips: dict[int, float],
) -> list[str]:
    """Return what to change or choose before a run."""
    lines = []
    if pairs and not any(pair.match for pair in pairs):
        lines += _advise_names(inputs, survey)
    if flips:
        lines.append(_advise_flips(inputs, entries[0].unit, survey, flips))
    lines += _advise_copies(entries)
    if together or len(entries) == 1:
        lines += _advise_separation(together or entries[0].neighbourhood, entries[0].unit)
    return lines


def find_warnings(
    survey: Survey, entries: Sequence[InspectedInput], pairs: Sequence[Pair]
) -> list[str]:
    """Return the warnings that only an inspection can give."""
    lines = [*_warn_of_shifts(entries, pairs), *_warn_of_chance(entries, pairs)]
    if survey.uid_share > 1:
        lines.append(f"only one uid in {survey.uid_share} was compared, chosen by hash")
    return lines


def choose_flips(inputs: Inputs, pairs: Sequence[Pair]) -> dict[int, float]:
    """Return the fewest inputs to flip such that y runs one way in all, with the height to flip by.

    Among equally few, prefers inputs whose height need not be given, then the later ones.
    """
    known = [
        (pair, pair.match.flip)
        for pair in pairs
        if pair.match and pair.match.flip.verdict != "unclear"
    ]
    heights = {
        number: flip.height
        for pair, flip in known
        for number in (pair.one, pair.other)
        if flip.verdict == "opposite" and flip.height is not None
    }
    flips: dict[int, float] = {}
    opposite: dict[int, bool] = {}
    for start in range(len(inputs.tables)):
        if start in opposite:
            continue
        # Walk through all inputs that are connected to this one by a clear verdict.
        opposite[start], group = False, [start]
        for number in group:
            for pair, flip in known:
                if number in (pair.one, pair.other):
                    neighbour = pair.one + pair.other - number
                    if neighbour not in opposite:
                        opposite[neighbour] = opposite[number] ^ (flip.verdict == "opposite")
                        group.append(neighbour)
        sides = [[n for n in group if opposite[n] is side] for side in (True, False)]
        fewest = min(
            sides, key=lambda side: (len(side), any(inputs.roles[n].unit == "pixel" for n in side))
        )
        flips |= {number: heights[number] for number in fewest if number in heights}
    return flips


def _advise_flips(inputs: Inputs, unit: str, survey: Survey, flips: dict[int, float]) -> str:
    """Return the parameters that make y run one way in all inputs."""
    wanted = sorted(set(inputs.params.flip_y) ^ set(flips))
    if not wanted:
        return f"y runs one way in all inputs without {parameter('flip_y')}: leave it out"
    parameters = parameter("flip_y", tuple(wanted))
    known = inputs.micrographs is not None and inputs.micrographs.shape is not None
    for number in wanted:
        if inputs.roles[number].unit == "pixel" and not known and number in flips:
            size = 1.0
            if unit == "A":
                size = float(np.nanmean([part.summary.psize for part in survey.inputs[number]]))
            parameters += f" {parameter('micrograph_height', round(flips[number] / size))}"
            break
    return f"y does not run the same way in all inputs: use {parameters}"


def _advise_names(inputs: Inputs, survey: Survey) -> list[str]:
    """Return whether micrographs in different folders have the same bare name."""
    if inputs.roles[0].match != "path":
        return []
    known = [
        {bare_name(name) for part in parts for _, name in part.summary.names}
        for parts in survey.inputs
    ]
    shared = sum(len(one & other) for one, other in combinations(known, 2))
    if not shared:
        return []
    by_name = parameter("match_micrographs", "name")
    return [f"{counted(shared, 'micrograph', 'have')} the same bare name: use {by_name}"]


def _advise_separation(around: Neighbourhood | None, unit: str) -> list[str]:
    """Return the range in which the separation should be."""
    if around is None:
        return []
    separation = parameter("min_separation")
    if around.spacing is None:
        closest = around.nearest.get(5.0, 0.0)
        most = f" (95% have none within {closest:.3g} {unit})" if closest else ""
        return [
            f"no gap between duplicates and real neighbours{most}: choose {separation} by the "
            "diameter of the particle"
        ]
    begin, end = around.spacing.neighbours_begin, around.spacing.duplicates_end
    size = " (times the pixel size)" if unit == "px" else ""
    if end:
        return [
            f"duplicates are within about {end:.3g} {unit}, real neighbours begin at about "
            f"{begin:.3g} {unit}: choose {separation} between the two{size}"
        ]
    return [
        f"real neighbours begin at about {begin:.3g} {unit}: choose {separation} below that{size}"
    ]


def _advise_copies(entries: Sequence[InspectedInput]) -> list[str]:
    """Return how to remove coincident picks and nothing else."""
    lines = []
    for entry in entries:
        around = entry.neighbourhood
        if around and around.coincident:
            separation = parameter("min_separation", 0)
            if entry.fields["symmetry source"]:
                separation = parameter("undo_symmetry_expansion", value=True)
            lines.append(
                f"{entry.path}: {around.coincident:,} of {around.picks:,} picks are at exactly the "
                f"position of another (symmetry expansion, or repeated rows): {separation} keeps one of each"
            )
    return lines


def _warn_of_shifts(entries: Sequence[InspectedInput], pairs: Sequence[Pair]) -> list[str]:
    """Return the inputs whose shifts do not bring duplicates together."""
    tests = [(entry.path, entry.shift) for entry in entries]
    tests += [(_both(entries, pair), pair.match.shift) for pair in pairs if pair.match]
    reasons = {
        "plus": "duplicates are closest with shifts added, but the rule is to subtract them; check "
        "the program that wrote them",
        "none": "duplicates are closest with shifts left out; if they were applied before, use "
        f"{parameter('shift_key', 'none')} (symmetry copies look the same)",
    }
    return [
        f"{which}: {reasons[test.verdict]}"
        for which, test in tests
        if test and test.verdict in reasons
    ]


def _warn_of_chance(entries: Sequence[InspectedInput], pairs: Sequence[Pair]) -> list[str]:
    """Return the inputs that share micrographs, but match no better than chance."""
    return [
        f"{_both(entries, pair)} match no better than chance; check their pixel sizes and origins, "
        "and that they hold the same kind of particle"
        for pair in pairs
        if pair.match and min(pair.match.picks) >= _ENOUGH and pair.match.flip.verdict == "unclear"
    ]


def _both(entries: Sequence[InspectedInput], pair: Pair) -> str:
    return f"{entries[pair.one].path} and {entries[pair.other].path}"

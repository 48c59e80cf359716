"""What an inspection advises, and what it warns of beside what a run would."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.particles.micrographs import bare_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.inspection.columns import View
    from dask_dedup.inspection.neighbours import Neighbourhood
    from dask_dedup.inspection.report import InspectedInput, Pair
    from dask_dedup.inspection.survey import Survey, Tally
    from dask_dedup.pipeline.job import Job

#: So many picks on common micrographs ought to show whether they match.
_FEW = 50


def choose_flips(job: Job, pairs: Sequence[Pair]) -> dict[int, float]:
    """Choose the inputs to flip, the fewest, such that y runs one way in all; and about what height.

    Of as many, those are flipped that need no height to be told, or else the later ones.
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
    turned: dict[int, bool] = {}
    for start in range(len(job.tables)):
        if start in turned:
            continue
        turned[start], group = False, [start]
        for number in group:
            for pair, flip in known:
                if number in (pair.one, pair.other):
                    neighbour = pair.one + pair.other - number
                    if neighbour not in turned:
                        turned[neighbour] = turned[number] ^ (flip.verdict == "opposite")
                        group.append(neighbour)
        sides = [[n for n in group if turned[n] is side] for side in (True, False)]
        fewest = min(
            sides, key=lambda side: (len(side), any(job.roles[n].unit == "pixel" for n in side))
        )
        flips |= {number: heights[number] for number in fewest if number in heights}
    return flips


def advise_flips(job: Job, views: Sequence[View], found: Survey, flips: dict[int, float]) -> str:
    """Name the options that make y run one way in all inputs."""
    wanted = sorted(set(job.params.flip_y) ^ set(flips))
    if not wanted:
        return "leave out --flip-y"
    options = [f"--flip-y {job.tables[number].path}" for number in wanted]
    told = job.micrographs is not None and job.micrographs.shape is not None
    for number in wanted:
        if job.roles[number].unit == "pixel" and not told and number in flips:
            size = _mean_pixel_size(views[number], found.tallies[number])
            options.append(f"--micrograph-height {flips[number] / size:.0f}")
            break
    return f"y does not run the same way in all inputs: use {' '.join(options)}"


def _mean_pixel_size(view: View, tally: Tally) -> float:
    if view.unit == "px":
        return 1.0
    return float(np.nanmean([summary.psize for summary in tally.summaries]))


def advise_names(job: Job, tallies: Sequence[Tally]) -> list[str]:
    """Say where micrographs of different paths have the same bare name."""
    if job.roles[0].match != "path":
        return []
    known = [
        {bare_name(name) for summary in tally.summaries for _, name in summary.names}
        for tally in tallies
    ]
    shared = sum(len(one & other) for one, other in combinations(known, 2))
    if not shared:
        return []
    return [f"{shared:,} micrographs have the same bare name: use --match-micrographs name"]


def advise_separation(around: Neighbourhood | None, unit: str) -> list[str]:
    """Say between which distances the separation should lie."""
    if around is None:
        return []
    if around.spacing is None:
        closest = around.nearest.get(5.0, 0.0)
        most = f" (95% have none within {closest:.3g} {unit})" if closest else ""
        return [
            f"no gap shows between duplicates and real neighbours{most}: choose --min-separation by "
            "the particle's diameter"
        ]
    begin, end = around.spacing.neighbours_begin, around.spacing.duplicates_end
    size = " (times the pixel size)" if unit == "px" else ""
    if end:
        return [
            f"duplicates lie within about {end:.3g} {unit}, real neighbours begin at about "
            f"{begin:.3g} {unit}: choose --min-separation between the two{size}"
        ]
    return [
        f"real neighbours begin at about {begin:.3g} {unit}: choose --min-separation below that{size}"
    ]


def advise_copies(inputs: Sequence[InspectedInput]) -> list[str]:
    """Say where picks lie precisely on another, and what removes no more than those."""
    lines = []
    for entry in inputs:
        around = entry.neighbourhood
        if around and around.coincident:
            expanded = bool(entry.fields["symmetry source"])
            option = "--undo-symmetry-expansion" if expanded else "--min-separation 0"
            lines.append(
                f"{entry.path}: {around.coincident:,} of {around.picks:,} picks lie precisely on another "
                f"(a symmetry expansion, or rows given twice): {option} leaves one of each and touches no other"
            )
    return lines


def warn_of_shifts(inputs: Sequence[InspectedInput], pairs: Sequence[Pair]) -> list[str]:
    """Name the inputs whose shifts do not bring duplicates together."""
    tests = [(entry.path, entry.shift) for entry in inputs]
    tests += [(_both(inputs, pair), pair.match.shift) for pair in pairs if pair.match]
    reasons = {
        "plus": "are closest with their shifts added, though subtracting is the rule: what wrote them?",
        "none": "are closest with their shifts left out: were they applied before (then use "
        "--shift-key none), or are they symmetry copies?",
    }
    return [
        f"{which}: the duplicates {reasons[test.verdict]}"
        for which, test in tests
        if test and test.verdict in reasons
    ]


def warn_of_strangers(inputs: Sequence[InspectedInput], pairs: Sequence[Pair]) -> list[str]:
    """Name the inputs that have common micrographs, but picks that match by chance only."""
    return [
        f"{_both(inputs, pair)} match no better than chance has it: are their pixel sizes and "
        "origins right, and do they hold the same kind of particle?"
        for pair in pairs
        if pair.match and min(pair.match.picks) >= _FEW and pair.match.flip.verdict == "unclear"
    ]


def _both(inputs: Sequence[InspectedInput], pair: Pair) -> str:
    return f"{inputs[pair.one].path} and {inputs[pair.other].path}"

"""Advice and warnings that only an inspection gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.hints import parameter
from dask_dedup.inspection.text import format_offset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dask_dedup.inspection.contents import InspectedInput, Pair
    from dask_dedup.inspection.separation import SeparationAdvice
    from dask_dedup.inspection.survey import Survey
    from dask_dedup.particles.inputs import Inputs

#: Largest relative difference between x and y of half a box.
_HALF_BOX = 0.15
#: Smallest size of a box, in pixels.
_SMALLEST_BOX = 4.0
#: Smallest number of picks on common micrographs to distinguish real matches from chance.
_ENOUGH = 50


def find_warnings(
    survey: Survey, entries: Sequence[InspectedInput], pairs: Sequence[Pair]
) -> Iterator[str]:
    """Yield warnings about suspicious shifts, inputs that do not match, and uids that were not compared."""
    for pair in pairs:
        if pair.match and pair.match.offset:
            yield _describe_offset(pair.match.offset.offset, entries[pair.one], entries[pair.other])
    matches = {
        f"{entries[pair.one].path} and {entries[pair.other].path}": pair.match
        for pair in pairs
        if pair.match
    }
    shifts = [(entry.path, entry.shift) for entry in entries]
    shifts += [(both, match.shift) for both, match in matches.items()]
    for which, test in shifts:
        if test and test.verdict == "plus":
            yield (
                f"{which}: duplicates are closest with shifts added, but the rule is to subtract "
                "them; check the program that wrote them"
            )
        elif test and test.verdict == "none":
            yield (
                f"{which}: duplicates are closest with shifts left out; if they were applied before, "
                f"use {parameter('shift_key', 'none')} (symmetry copies look the same)"
            )
    for both, match in matches.items():
        if min(match.picks) >= _ENOUGH and match.flip.verdict == "unclear" and match.offset is None:
            yield (
                f"{both} match no better than chance; check their pixel sizes and origins, and that "
                "they hold the same kind of particle"
            )
    if survey.uid_share > 1:
        yield f"only one uid in {survey.uid_share} was compared, chosen by hash"


def _describe_offset(offset: Sequence[float], one: InspectedInput, other: InspectedInput) -> str:
    """Return a warning about a constant offset, `other` minus `one`, with the input to correct and the correction."""
    wrong, right, missing = (one, other, np.array(offset))
    if missing[0] < 0:  # a corner of a box has the smaller coordinates
        wrong, right, missing = (other, one, -missing)
    by = format_offset(missing.tolist(), one)
    text = (
        f"{wrong.path}: positions differ from the positions of {right.path} by a constant offset. "
    )
    x, y = missing[:2]
    pixel = one.pixel_size[0] if one.unit != "px" and one.pixel_size else 1.0
    if x + y >= _SMALLEST_BOX * pixel and abs(x - y) <= _HALF_BOX * x:
        size = format_offset([x + y], one).replace("(", "").replace(")", "")
        text += f"They may be corners of boxes of about {size} instead of centres. "
    return f"{text}Add {by} to each position, and inspect again."


def advise(
    inputs: Inputs,
    survey: Survey,
    entries: Sequence[InspectedInput],
    separation: SeparationAdvice,
    flips: dict[int, float],
) -> Iterator[str]:
    """Yield advice on parameters to change or choose before a run."""
    unit = entries[0].unit
    if flips:
        yield _advise_flips(inputs, unit, survey, flips)
    for entry in entries:
        around = entry.neighbourhood
        if around and around.coincident:
            keeping = parameter("min_separation", 0)
            if entry.fields["symmetry source"]:
                keeping = parameter("undo_symmetry_expansion", value=True)
            yield (
                f"{entry.path}: {around.coincident:,} of {around.picks:,} picks are at exactly the "
                f"position of another (symmetry expansion, or repeated rows): {keeping} keeps one of each"
            )
    if separation.picks and not flips:
        yield separation.reason


def choose_flips(inputs: Inputs, pairs: Sequence[Pair]) -> dict[int, float]:
    """Choose the inputs with y axes to flip, so that y runs the same way in all inputs. Return {input number: height}.

    The fewest inputs are chosen. In a tie, inputs that need no height are preferred, then later inputs.
    """
    known = [
        ({pair.one, pair.other}, pair.match.flip)
        for pair in pairs
        if pair.match and pair.match.flip.verdict != "unclear"
    ]
    heights = {
        number: flip.height
        for both, flip in known
        for number in both
        if flip.verdict == "opposite" and flip.height is not None
    }
    flips: dict[int, float] = {}
    opposite: dict[int, bool] = {}
    for start in range(len(inputs.tables)):
        if start in opposite:
            continue
        # Visit all inputs that are connected to this input by a clear verdict.
        opposite[start], group = False, [start]
        for number in group:
            for both, flip in known:
                for neighbour in both - {number} if number in both else ():
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
    """Return the advice on `flip_y`, so that y runs the same way in all inputs."""
    wanted = sorted(set(inputs.params.flip_y) ^ set(flips))
    if not wanted:
        return f"y runs one way in all inputs without {parameter('flip_y')}: leave it out"
    parameters = parameter("flip_y", tuple(wanted))
    known = inputs.micrographs is not None and inputs.micrographs.shape is not None
    for number in wanted:
        if inputs.roles[number].unit == "pixel" and not known and number in flips:
            size = 1.0
            if unit == "A":
                sizes = [list(s.psize.values()) for s in survey.inputs[number].summaries]
                size = float(np.nanmean(sizes))
            parameters += f" {parameter('micrograph_height', round(flips[number] / size))}"
            break
    return f"y does not run the same way in all inputs: use {parameters}"

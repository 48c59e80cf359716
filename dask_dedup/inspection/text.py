"""An inspection in words, for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING

from dask_dedup.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.inspection.matching import FlipTest, ShiftTest
    from dask_dedup.inspection.neighbours import Neighbourhood
    from dask_dedup.inspection.report import InspectedInput, Inspection, Pair

_WIDTH = 100
_LABEL = 18
#: Histograms beside each other.
_COLUMNS = 4


def describe(found: Inspection) -> list[str]:
    """Tell all that was found."""
    names = short_names([entry.path for entry in found.inputs])
    lines = [line for entry in found.inputs for line in _describe_input(entry)]
    units = {entry.unit for entry in found.inputs}
    for unit in sorted(units):
        around = {
            name: entry.neighbourhood
            for name, entry in zip(names, found.inputs, strict=True)
            if entry.unit == unit and entry.neighbourhood
        }
        if found.together:
            around["together"] = found.together
        if around:
            lines += _describe_distances(around, unit, found.measured)
    for pair in found.pairs:
        lines += _describe_pair(pair, names, found)
    for title, items in (
        ("a run would refuse this", found.problems),
        ("warnings", found.warnings),
        ("advice", found.advice),
    ):
        if items:
            lines += [title, *(line for item in items for line in _wrapped("- ", item)), ""]
    return lines[:-1]


def short_names(paths: Sequence[str]) -> list[str]:
    """Shorten paths to as many last parts as tell them apart.

    Examples
    --------
    >>> short_names(["J7/extract/particles.cs", "J8/extract/particles.cs"])
    ['J7/extract/particles.cs', 'J8/extract/particles.cs']
    >>> short_names(["picks/blob", "picks/template"])
    ['blob', 'template']
    """
    parts = [PurePath(path).parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number} {path}" for number, path in enumerate(paths, start=1)]


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"  {label}",
        subsequent_indent=" " * (2 + len(label)),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _describe_input(entry: InspectedInput) -> list[str]:
    files = "1 file" if entry.files == 1 else f"{entry.files:,} files"
    facts = [
        ("particles", f"{entry.rows:,}, in {files} of {_size(entry.bytes)}"),
        ("micrographs", _micrographs(entry)),
        ("columns of", "CryoSPARC" if entry.convention == "cryosparc" else "RELION"),
    ]
    for part, columns in entry.fields.items():
        text = ", ".join(columns)
        if part == "pixel size":
            facts.append((part, _pixel_size(entry)))
            continue
        if not columns:
            continue
        if part == "position":
            text += f", in {entry.position_unit}{'s' if entry.position_unit != 'angstrom' else ''}"
        if part == "half-set" and entry.half_sets:
            text += ": " + ", ".join(
                f"{rows:,} in {'none' if half < 0 else half}"
                for half, rows in entry.half_sets.items()
            )
        if part != "score":
            facts.append((part, text))
    for number, score in enumerate(sorted(entry.scores, key=lambda score: not score.used)):
        span = (
            "no values"
            if score.least > score.greatest
            else f"{score.least:.4g} to {score.greatest:.4g}"
        )
        column = "" if score.field.startswith(score.column) else f" ({score.column})"
        used = ", used" if score.used else ""
        text = "; ".join((f"{score.field}{column}{used}: {span}", *score.warnings))
        facts.append(("scores" if number == 0 else "", text))
    missing = [
        part for part, columns in entry.fields.items() if not columns and part != "pixel size"
    ]
    if entry.scores and "score" in missing:
        missing.remove("score")
    if missing:
        facts.append(("not there", ", ".join(missing)))
    if entry.shift:
        facts.append(("sign of shifts", _shift_within(entry.shift, entry.unit)))
    lines = [line for label, text in facts for line in _wrapped(f"{label:<{_LABEL}}", text)]
    return [entry.path, *lines, ""]


def _size(number: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} GB"


def _micrographs(entry: InspectedInput) -> str:
    if not entry.per_micrograph:
        return "none"
    least, median, most = entry.per_micrograph
    if least == most:
        return f"{entry.micrographs:,}, with {counted(int(least), 'particle')}{' each' * (entry.micrographs > 1)}"
    return f"{entry.micrographs:,}, with {least:,} to {most:,} particles, median {median:,.0f}"


def _pixel_size(entry: InspectedInput) -> str:
    text = entry.pixel_size_source
    if entry.pixel_size:
        least, most = (f"{size:.5g}" for size in entry.pixel_size)
        text = f"{least if least == most else f'{least} to {most}'} A, from {text}"
    if entry.unit == "px":
        text += "; distances are in pixels, and shifts are left out"
    return text


def _shift_within(test: ShiftTest, unit: str) -> str:
    counts = (
        f"{test.minus:,.0f} pairs within {test.radius:.3g} {unit} with shifts subtracted, "
        f"{test.none:,.0f} left out, {test.plus:,.0f} added"
    )
    return f"{counts}: {_SIGNS[test.verdict]}"


_SIGNS = {
    "minus": "subtracting, the rule, is right",
    "none": "see the warnings",
    "plus": "see the warnings",
    "unclear": "not enough to tell the sign",
}


def _describe_distances(
    around: dict[str, Neighbourhood], unit: str, measured: dict[str, int]
) -> list[str]:
    some, all_of_them = measured["micrographs"], measured["of_micrographs"]
    on = f"{'all' if some == all_of_them else f'{some:,} of'} {all_of_them:,} micrographs"
    where = f"measured on {on if all_of_them > 1 else 'the micrograph'}"
    lines = [f"distance to the nearest neighbour, {unit}, {where}"]
    names = list(around)
    for start in range(0, len(names), _COLUMNS):
        lines += [
            *_histograms({name: around[name] for name in names[start : start + _COLUMNS]}),
            "",
        ]
    width = min(21, max(12, *map(len, names)))
    radii = list(next(iter(around.values())).pairs)
    head = "".join(f"{f'{radius:g} {unit}':>9}" for radius in radii)
    lines.append(f"  {'pairs within':<{width}}{head}{'duplicates to':>15}{'neighbours from':>17}")
    for name, one in around.items():
        counts = "".join(f"{_number(count):>9}" for count in one.pairs.values())
        ends, begin = "-", "no gap"
        if one.spacing:
            ends = f"{one.spacing.duplicates_end:.3g} {unit}" if one.spacing.duplicates_end else "-"
            begin = f"{one.spacing.neighbours_begin:.3g} {unit}"
        lines.append(f"  {_cut(name, width):<{width}}{counts}{ends:>15}{begin:>17}")
    return [*lines, ""]


def _number(count: int) -> str:
    return f"{count:,}" if count < 1_000_000 else f"{count / 1_000_000:,.3g} M"


def _histograms(around: dict[str, Neighbourhood]) -> list[str]:
    edges = next(iter(around.values())).edges
    labels = [
        *(f"{low:g} - {high:g}" for low, high in pairwise(edges)),
        f"> {edges[-1]:g}",
    ]
    left = max(map(len, labels)) + 2
    width = min(44, (_WIDTH - left) // len(around))
    bar = width - 12
    head = "".join(f"  {_cut(name, width - 4):<{width - 2}}" for name in around)
    lines = [f"{' ' * left}{head}".rstrip()]
    counts = list(zip(*(one.histogram for one in around.values()), strict=True))
    longest = [max(1, *one.histogram) for one in around.values()]
    # Distances that nothing has take one line, however many bins they are.
    start = 0
    for number, row in enumerate(counts):
        if number + 1 < len(counts) and not any((*row, *counts[number + 1])):
            continue
        label = labels[number]
        if start < number:
            label = f"{edges[start]:g} - {edges[number + 1]:g}"
        cells = [
            f"{count:>10,} {'#' * round(bar * count / most):<{bar + 1}}"
            for count, most in zip(row, longest, strict=True)
        ]
        lines.append(f"{label:>{left}}{''.join(cells)}".rstrip())
        start = number + 1
    return lines


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"...{name[3 - width :]}"


def _describe_pair(pair: Pair, names: Sequence[str], found: Inspection) -> list[str]:
    one, other = names[pair.one], names[pair.other]
    if pair.match is None:
        return [f"{one} and {other} share no micrograph", ""]
    match, unit = pair.match, found.inputs[pair.one].unit
    shared = "micrograph" if match.micrographs == 1 else f"{match.micrographs:,} micrographs"
    median = "" if match.median is None else f"; median distance {match.median:.3g} {unit}"
    a, b = (
        f"{matched:,} of {picks:,} picks ({matched / picks:.0%}) of {name}"
        for matched, picks, name in zip(match.matched, match.picks, (one, other), strict=True)
    )
    facts = [
        ("partners", f"{a} and {b} have a partner within {match.radius:.3g} {unit}{median}"),
        ("y runs", _flip_text(match.flip, _height(match.flip, pair, found))),
    ]
    if match.shift:
        facts.append(("sign of shifts", _shift_between(match.shift, unit)))
    lines = [line for label, text in facts for line in _wrapped(f"{label:<{_LABEL}}", text)]
    return [f"{one} and {other}, on the {shared} they share", *lines, ""]


def _flip_text(flip: FlipTest, height: str) -> str:
    def shares(pair: tuple[float, float]) -> str:
        return f"{pair[0]:.0%} and {pair[1]:.0%}"

    as_is, chance = f"{shares(flip.as_is)} as they are", f"{shares(flip.chance)} by chance"
    flipped = ""
    if flip.flipped:
        estimated = "an estimated " if flip.estimated else ""
        flipped = f"{shares(flip.flipped)} with one flipped about {estimated}{height}"
    if flip.verdict == "opposite":
        return f"OPPOSITE ways: {flipped}, {as_is}, {chance}"
    if flip.verdict == "same":
        # An estimate of a height that is not there says nothing.
        shown = [as_is, chance] if flip.estimated or not flipped else [as_is, flipped, chance]
        return f"the same way: {', '.join(shown)}"
    return f"cannot be told: {', '.join(part for part in (as_is, flipped, chance) if part)}"


def _height(flip: FlipTest, pair: Pair, found: Inspection) -> str:
    if flip.height is None:
        return "nothing"
    entry = found.inputs[pair.other]
    if entry.unit == "px":
        return f"{flip.height:,.0f} px"
    sizes = entry.pixel_size
    pixels = f" ({flip.height / sizes[0]:,.0f} px)" if sizes and sizes[0] == sizes[1] else ""
    return f"{flip.height:,.0f} A{pixels}"


def _shift_between(test: ShiftTest, unit: str) -> str:
    if test.verdict == "unclear" and not test.minus >= 0:
        return "too few partners to tell"
    return (
        f"partners are {test.minus:.3g} {unit} apart with shifts subtracted, {test.none:.3g} left out, "
        f"{test.plus:.3g} added (medians of {test.picks:,}): {_SIGNS[test.verdict]}"
    )

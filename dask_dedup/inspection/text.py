"""An inspection as text for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING

from dask_dedup.formatting import counted, short_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dask_dedup.inspection.report import (
        FlipTest,
        InspectedInput,
        Inspection,
        Neighbourhood,
        Pair,
        ShiftTest,
    )

    Spelling = Callable[[str], str]

_WIDTH = 100
_LABEL = 18
#: Histograms side by side.
_COLUMNS = 4
#: Titles of the lists of messages in an `Inspection`.
MESSAGE_TITLES = {
    "problems": "problems (run refuses these inputs)",
    "warnings": "warnings",
    "advice": "advice",
}
_SIGNS = {
    "minus": "subtracting, the rule, is right",
    "none": "see the warnings",
    "plus": "see the warnings",
    "unclear": "inconclusive",
}


def describe(found: Inspection, spelled: Spelling) -> list[str]:
    """Return all results of an inspection; `spelled` spells parameters in messages."""
    names = short_names([entry.path for entry in found.inputs])
    lines = [line for entry in found.inputs for line in _describe_input(entry, spelled)]
    around = {
        name: entry.neighbourhood
        for name, entry in zip(names, found.inputs, strict=True)
        if entry.neighbourhood
    }
    if found.together:
        around["together"] = found.together
    if around:
        lines += _describe_distances(around, found)
    for pair in found.pairs:
        lines += _describe_pair(pair, names, found)
    for name, title in MESSAGE_TITLES.items():
        messages = getattr(found, name)
        if messages:
            wrapped = [line for each in messages for line in _wrap("- ", spelled(each))]
            lines += [title, *wrapped, ""]
    return lines[:-1]


def _wrap(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"  {label}",
        subsequent_indent=" " * (2 + len(label)),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _wrap_facts(facts: Sequence[tuple[str, str]]) -> list[str]:
    return [line for label, text in facts for line in _wrap(f"{label:<{_LABEL}}", text)]


def _describe_input(entry: InspectedInput, spelled: Spelling) -> list[str]:
    columns = {role: ", ".join(names) for role, names in entry.fields.items() if names}
    columns["pixel size"] = _pixel_size(entry, spelled)
    plural = "" if entry.position_unit == "angstrom" else "s"
    columns["position"] += f", in {entry.position_unit}{plural}"
    if "half-set" in columns and entry.half_sets:
        rows = [f"{n:,} in {'none' if half < 0 else half}" for half, n in entry.half_sets.items()]
        columns["half-set"] += f": {', '.join(rows)}"
    missing = [role for role in entry.fields if role not in columns]
    columns.pop("score", None)
    if entry.scores and "score" in missing:
        missing.remove("score")
    facts = [
        ("particles", f"{entry.rows:,}, in {counted(entry.files, 'file')} of {_size(entry.bytes)}"),
        ("micrographs", _micrographs(entry)),
        ("columns of", "CryoSPARC" if entry.convention == "cryosparc" else "RELION"),
        *((role, columns[role]) for role in entry.fields if role in columns),
        *_scores(entry),
    ]
    if missing:
        facts.append(("missing", ", ".join(missing)))
    if entry.shift:
        facts.append(("sign of shifts", _shift_within(entry.shift, entry.unit)))
    return [entry.path, *_wrap_facts(facts), ""]


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
        each = " each" if entry.micrographs > 1 else ""
        return f"{entry.micrographs:,}, with {counted(int(least), 'particle')}{each}"
    return f"{entry.micrographs:,}, with {least:,} to {most:,} particles, median {median:,.0f}"


def _pixel_size(entry: InspectedInput, spelled: Spelling) -> str:
    text = spelled(entry.pixel_size_source)
    if entry.pixel_size:
        least, most = (f"{size:.5g}" for size in entry.pixel_size)
        text = f"{least if least == most else f'{least} to {most}'} A, from {text}"
    if entry.unit == "px":
        text += "; distances are in pixels and leave out shifts"
    return text


def _scores(entry: InspectedInput) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for score in sorted(entry.scores, key=lambda score: not score.used):
        values = f"{score.least:.4g} to {score.greatest:.4g}"
        if score.least > score.greatest:
            values = "no values"
        column = "" if score.field.startswith(score.column) else f" ({score.column})"
        used = ", used" if score.used else ""
        text = "; ".join((f"{score.field}{column}{used}: {values}", *score.warnings))
        facts.append(("" if facts else "scores", text))
    return facts


def _shift_within(test: ShiftTest, unit: str) -> str:
    return (
        f"{test.minus:,.0f} pairs within {test.radius:.3g} {unit} with shifts subtracted, "
        f"{test.none:,.0f} left out, {test.plus:,.0f} added: {_SIGNS[test.verdict]}"
    )


def _describe_distances(around: dict[str, Neighbourhood], found: Inspection) -> list[str]:
    unit, (some, total) = found.inputs[0].unit, list(found.measured.values())[1:]
    on = f"{'all' if some == total else f'{some:,} of'} {total:,} micrographs"
    on = on if total > 1 else "the micrograph"
    lines = [f"distance to the nearest neighbour, {unit}, measured on {on}"]
    names = list(around)
    for start in range(0, len(names), _COLUMNS):
        shown = {name: around[name] for name in names[start : start + _COLUMNS]}
        lines += [*_histograms(shown), ""]
    width = min(21, max(12, *map(len, names)))
    radii = next(iter(around.values())).pairs
    head = "".join(f"{f'{radius:g} {unit}':>9}" for radius in radii)
    lines.append(f"  {'pairs within':<{width}}{head}{'duplicates to':>15}{'neighbours from':>17}")
    for name, one in around.items():
        counts = "".join(f"{_short(count):>9}" for count in one.pairs.values())
        end, begin = "-", "no gap"
        if one.spacing:
            end = f"{one.spacing.duplicates_end:.3g} {unit}" if one.spacing.duplicates_end else "-"
            begin = f"{one.spacing.neighbours_begin:.3g} {unit}"
        lines.append(f"  {_cut(name, width):<{width}}{counts}{end:>15}{begin:>17}")
    return [*lines, ""]


def _short(count: int) -> str:
    return f"{count:,}" if count < 1_000_000 else f"{count / 1_000_000:,.3g} M"


def _histograms(around: dict[str, Neighbourhood]) -> list[str]:
    edges = next(iter(around.values())).edges
    labels = [*(f"{low:g} - {high:g}" for low, high in pairwise(edges)), f"> {edges[-1]:g}"]
    left = max(map(len, labels)) + 2
    width = min(44, (_WIDTH - left) // len(around))
    bar = width - 12
    head = "".join(f"  {_cut(name, width - 4):<{width - 2}}" for name in around)
    lines = [f"{' ' * left}{head}".rstrip()]
    counts = list(zip(*(one.histogram for one in around.values()), strict=True))
    highest = [max(1, *one.histogram) for one in around.values()]
    start = 0
    for number, row in enumerate(counts):
        # Consecutive empty bins share a line.
        if number + 1 < len(counts) and not any((*row, *counts[number + 1])):
            continue
        label = labels[number]
        if start < number:
            label = f"{edges[start]:g} - {edges[number + 1]:g}"
        cells = [
            f"{count:>10,} {'#' * round(bar * count / most):<{bar + 1}}"
            for count, most in zip(row, highest, strict=True)
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
        ("y runs", _flip(match.flip, found.inputs[pair.other])),
    ]
    if match.shift:
        facts.append(("sign of shifts", _shift_between(match.shift, unit)))
    return [f"{one} and {other}, on the {shared} they share", *_wrap_facts(facts), ""]


def _flip(flip: FlipTest, entry: InspectedInput) -> str:
    def shares(pair: tuple[float, float]) -> str:
        return f"{pair[0]:.0%} and {pair[1]:.0%}"

    as_is, chance = f"{shares(flip.as_is)} as they are", f"{shares(flip.chance)} by chance"
    flipped = ""
    if flip.flipped and flip.height is not None:
        height = f"height {flip.height:,.0f} {entry.unit}"
        sizes = entry.pixel_size
        if entry.unit == "A" and sizes and sizes[0] == sizes[1]:
            height += f" = {flip.height / sizes[0]:,.0f} px"
        estimated = "estimated " if flip.estimated else ""
        flipped = f"{shares(flip.flipped)} with one flipped ({estimated}{height})"
    if flip.verdict == "opposite":
        return f"OPPOSITE ways: {flipped}, {as_is}, {chance}"
    if flip.verdict == "same":
        # An estimated height means nothing if y runs the same way.
        shown = [as_is, chance] if flip.estimated or not flipped else [as_is, flipped, chance]
        return f"the same way: {', '.join(shown)}"
    return f"unclear: {', '.join(part for part in (as_is, flipped, chance) if part)}"


def _shift_between(test: ShiftTest, unit: str) -> str:
    if test.verdict == "unclear" and not test.minus >= 0:
        return "too few partners to determine it"
    return (
        f"partners are {test.minus:.3g} {unit} apart with shifts subtracted, {test.none:.3g} left out, "
        f"{test.plus:.3g} added (medians of {test.picks:,}): {_SIGNS[test.verdict]}"
    )

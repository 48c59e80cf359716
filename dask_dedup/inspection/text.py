"""Format the results of an inspection as text, for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.filesize import decimal

from dask_dedup.formatting import counted, number_range, short_names
from dask_dedup.inspection.summary import describe_kept, summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dask_dedup.inspection.contents import FlipTest, InspectedInput, Neighbourhood, Pair
    from dask_dedup.inspection.separation import SeparationAdvice

    Spelling = Callable[[str], str]

_WIDTH = 100
#: Number of histograms side by side.
_COLUMNS = 4
_SIGNS = {
    "minus": "subtracting, the rule, is right",
    "none": "see the warnings",
    "plus": "see the warnings",
    "unclear": "inconclusive",
}
_DIRECTIONS = {"same": "the same way", "opposite": "OPPOSITE ways", "unclear": "unclear"}


def describe(
    inputs: Sequence[InspectedInput],
    pairs: Sequence[Pair],
    together: Neighbourhood | None,
    measured: Mapping[str, int],
    separation: SeparationAdvice,
    messages: Mapping[str, Sequence[str]],
    spelled: Spelling,
    *,
    verbose: bool,
) -> list[str]:
    """Format the results of an inspection as lines of text. A summary comes first.

    The keys of `messages` are titles. `spelled` replaces the parameter names in messages. Columns, distances and
    pairs are shown if `verbose`.
    """
    paths = [entry.path for entry in inputs]
    # Without their folders, patterns of file names may be equal.
    patterns = any("*" in path.rpartition("/")[2] for path in paths)
    short = short_names(paths, 2 if patterns else 1)
    names = [entry.picker or name for entry, name in zip(inputs, short, strict=True)]
    names = names if len({*names}) == len(names) else short
    sets = dict(zip(names, (entry.neighbourhood for entry in inputs), strict=True))
    around = {name: one for name, one in (sets | {"together": together}).items() if one}
    problems, warnings, _ = messages.values()
    summary = summarize(
        inputs, names, pairs, separation, measured, problems, warnings, verbose=verbose
    )
    blocks = [[part for line in summary for part in _wrap_line(spelled(line))]]
    if verbose:
        blocks += [_describe_input(entry, spelled) for entry in inputs]
        if around:
            blocks += _describe_distances(around, inputs[0].unit, measured)
        blocks += [_describe_pair(pair, names, inputs) for pair in pairs]
        blocks += [lines for lines in [describe_kept(separation)] if lines]
    for title, each in messages.items():
        if each:
            blocks.append([title, *_wrap(*(("- ", spelled(message)) for message in each))])
    return [line for block in blocks for line in (*block, "")][:-1]


def _wrap_line(line: str) -> list[str]:
    text = line.lstrip()
    indent = line[: len(line) - len(text)]
    return _wrap_text(text, indent, f"{indent}  ")


def _wrap(*labelled: tuple[str, str]) -> list[str]:
    """Wrap each text after its label. Continuation lines are indented by the width of the label."""
    return [
        line
        for label, text in labelled
        for line in _wrap_text(text, f"  {label}", " " * (2 + len(label)))
    ]


def _wrap_text(text: str, first: str, later: str) -> list[str]:
    """Wrap a text. Its first line begins with `first`, the others with `later`."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


_UNITS = {
    "fraction": "fractions",
    "pixel": "pixels",
    "volume": "fractions of the tomogram",
    "angstrom": "angstrom",
}


def _describe_facts(title: str, facts: Sequence[tuple[str, str]]) -> list[str]:
    return [title, *_wrap(*((f"{label:<18}", text) for label, text in facts))]


def _describe_input(entry: InspectedInput, spelled: Spelling) -> list[str]:
    columns = {role: ", ".join(names) for role, names in entry.fields.items()}
    columns["pixel size"] = _pixel_size(entry, spelled)
    columns["position"] += f", in {_UNITS[entry.position_unit]}"
    if entry.half_sets:
        rows = [f"{n:,} in {'none' if half < 0 else half}" for half, n in entry.half_sets.items()]
        columns["half-set"] += f": {', '.join(rows)}"
    scores = _scores(entry)
    columns["score"] = "; ".join(scores)
    facts = [("picks of", entry.description)] if entry.description else []
    facts += [
        (
            "particles",
            f"{entry.rows:,}, in {counted(entry.files, 'file')} of {decimal(entry.bytes)}",
        ),
        ("micrographs", _micrographs(entry)),
        *([("matched by name", entry.matched)] if entry.matched else []),
        ("columns of", "CryoSPARC" if entry.convention == "cryosparc" else "RELION"),
        *((role, text) for role, text in columns.items() if text and role != "score"),
        *zip(("scores", *[""] * len(scores)), scores, strict=False),
    ]
    if missing := [role for role, text in columns.items() if not text]:
        facts.append(("missing", ", ".join(missing)))
    if test := entry.shift:
        text = (
            f"{test.minus:,.0f} pairs within {test.radius:.3g} {entry.unit} with shifts subtracted, "
            f"{test.none:,.0f} left out, {test.plus:,.0f} added: {_SIGNS[test.verdict]}"
        )
        facts.append(("sign of shifts", text))
    title = f"{entry.picker}={entry.path}" if entry.picker else entry.path
    return _describe_facts(title, facts)


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
        text = f"{number_range(*entry.pixel_size, form='.5g')} A, from {text}"
    if entry.unit == "px":
        text += "; distances are in pixels and leave out shifts"
    return text


def _scores(entry: InspectedInput) -> list[str]:
    """Describe each score column. The column that ranks the particles comes first."""
    texts = []
    for score in sorted(entry.scores, key=lambda score: not score.used):
        values = f"{score.least:.4g} to {score.greatest:.4g}"
        if score.least > score.greatest:
            values = "no values"
        column = "" if score.field.startswith(score.column) else f" ({score.label})"
        used = ", used" if score.used else ""
        texts.append("; ".join((f"{score.field}{column}{used}: {values}", *score.warnings)))
    return texts


def _describe_distances(
    around: dict[str, Neighbourhood], unit: str, measured: Mapping[str, int]
) -> list[list[str]]:
    """Return blocks of lines: histograms of nearest-neighbour distances, and a table of pairs and gaps."""
    some, total = list(measured.values())[1:]
    on = f"{'all' if some == total else f'{some:,} of'} {total:,} micrographs"
    on = on if total > 1 else "the micrograph"
    names = list(around)
    groups = [names[start : start + _COLUMNS] for start in range(0, len(names), _COLUMNS)]
    blocks = [_histograms({name: around[name] for name in group}) for group in groups]
    blocks[0].insert(0, f"distance to the nearest neighbour, {unit}, measured on {on}")
    width = min(21, max(12, *map(len, names)))
    head = "".join(f"{f'{radius:g} {unit}':>9}" for radius in around[names[0]].pairs)
    table = [f"  {'pairs within':<{width}}{head}{'duplicates to':>15}{'neighbours from':>17}"]
    for name, one in around.items():
        counts = "".join(f"{_short(count):>9}" for count in one.pairs.values())
        end, begin = "-", "no gap"
        if one.spacing:
            end = f"{one.spacing.duplicates_end:.3g} {unit}" if one.spacing.duplicates_end else "-"
            begin = f"{one.spacing.neighbours_begin:.3g} {unit}"
        table.append(f"  {_cut(name, width):<{width}}{counts}{end:>15}{begin:>17}")
    return [*blocks, table]


def _short(count: int) -> str:
    return f"{count:,}" if count < 1_000_000 else f"{count / 1_000_000:,.3g} M"


def _histograms(around: dict[str, Neighbourhood]) -> list[str]:
    edges = next(iter(around.values())).edges
    labels = [*(f"{low:g} - {high:g}" for low, high in pairwise(edges)), f"> {edges[-1]:g}"]
    left = max(map(len, labels)) + 2
    width = min(44, (_WIDTH - left) // len(around))
    bar = width - 12
    highest = [max(1, *one.histogram) for one in around.values()]
    lines = [" " * left + "".join(f"  {_cut(name, width - 4):<{width - 2}}" for name in around)]
    histograms = (one.histogram for one in around.values())
    for label, *row in zip(labels, *histograms, strict=True):
        cells = [
            f"{count:>10,} {'#' * round(bar * count / most):<{bar + 1}}"
            for count, most in zip(row, highest, strict=True)
        ]
        lines.append(f"{label:>{left}}{''.join(cells)}")
    return [line.rstrip() for line in lines]


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"...{name[3 - width :]}"


def _describe_pair(pair: Pair, names: Sequence[str], inputs: Sequence[InspectedInput]) -> list[str]:
    one, other = names[pair.one], names[pair.other]
    match, unit = pair.match, inputs[pair.one].unit
    if match is None:
        return [f"{one} and {other} share no micrograph"]
    a, b = (
        f"{matched:,} of {picks:,} picks ({matched / picks:.0%}) of {name}"
        for matched, picks, name in zip(match.matched, match.picks, (one, other), strict=True)
    )
    median = "" if match.median is None else f"; median distance {match.median:.3g} {unit}"
    facts = [
        ("partners", f"{a} and {b} have a partner within {match.radius:.3g} {unit}{median}"),
        ("y runs", _flip(match.flip, inputs[pair.other])),
    ]
    if found := match.offset:
        text = f"{format_offset(found.offset, inputs[pair.other])}; with it removed, "
        text += f"{found.matched[0]:.0%} and {found.matched[1]:.0%} have a partner"
        facts.append(("constant offset", text))
    if test := match.shift:
        text = (
            f"partners are {test.minus:.3g} {unit} apart with shifts subtracted, {test.none:.3g} left "
            f"out, {test.plus:.3g} added (medians of {test.picks:,}): {_SIGNS[test.verdict]}"
        )
        few = test.verdict == "unclear" and not test.minus >= 0
        facts.append(("sign of shifts", "too few partners to determine it" if few else text))
    shared = "micrograph" if match.micrographs == 1 else f"{match.micrographs:,} micrographs"
    return _describe_facts(f"{one} and {other}, on the {shared} they share", facts)


def format_offset(offset: Sequence[float], entry: InspectedInput) -> str:
    """Format an offset in pixels and angstrom, if the pixel size is known, such as ``(60, 60) px = (106, 106) A``."""

    def vector(factor: float, unit: str) -> str:
        return f"({', '.join(f'{part * factor:.4g}' for part in offset)}) {unit}"

    if entry.unit == "px" or not entry.pixel_size or len(set(entry.pixel_size)) > 1:
        return vector(1.0, entry.unit)
    return f"{vector(1 / entry.pixel_size[0], 'px')} = {vector(1.0, 'A')}"


def _flip(flip: FlipTest, entry: InspectedInput) -> str:
    def shares(pair: tuple[float, float]) -> str:
        return f"{pair[0]:.0%} and {pair[1]:.0%}"

    shown = [f"{shares(flip.as_is)} as they are"]
    # An estimated height has no meaning if y runs the same way.
    if flip.flipped and flip.height and not (flip.verdict == "same" and flip.estimated):
        height = f"{'estimated ' if flip.estimated else ''}height {flip.height:,.0f} {entry.unit}"
        sizes = entry.pixel_size
        if entry.unit == "A" and sizes and sizes[0] == sizes[1]:
            height += f" = {flip.height / sizes[0]:,.0f} px"
        shown.append(f"{shares(flip.flipped)} with one flipped ({height})")
    if flip.verdict == "opposite":
        shown.reverse()
    return f"{_DIRECTIONS[flip.verdict]}: {', '.join(shown)}, {shares(flip.chance)} by chance"

"""The first lines of an inspection: inputs, agreement, separation, and numbers of problems and warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.formatting import counted, number_range
from dask_dedup.hints import Message, parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_dedup.inspection.contents import InspectedInput, Pair
    from dask_dedup.inspection.separation import KeptAt, SeparationAdvice

#: Largest numbers of inputs and of pairs of inputs with a line each, and of separations in the summary.
_INPUTS, _PAIRS, _NAMED = 4, 3, 4
_WIDTH = 100
_DIRECTIONS = {
    "same": "y runs the same way",
    "opposite": "y runs OPPOSITE ways",
    "unclear": "direction of y unclear",
}
#: Largest number of lines in the table of kept particles, and length of the longest bar.
_ROWS, _BAR = 16, 40


def summarize(
    inputs: Sequence[InspectedInput],
    names: Sequence[str],
    pairs: Sequence[Pair],
    separation: SeparationAdvice,
    measured: Mapping[str, int],
    problems: Sequence[str],
    warnings: Sequence[str],
    *,
    verbose: bool,
) -> list[Message]:
    """Return at most 15 lines: the inputs, the agreement of the inputs, and the recommended separation."""
    rows = sum(entry.rows for entry in inputs)
    micrographs = counted(measured["of_micrographs"], "micrograph")
    several = f"{counted(len(inputs), 'input')}: " if len(inputs) > 1 else ""
    lines = [f"{several}{counted(rows, 'particle')} on {micrographs}"]
    width = max(map(len, names[:_INPUTS]))
    lines += [
        _cut(f"  {name:<{width}}  {_describe(entry)}")
        for name, entry in list(zip(names, inputs, strict=True))[:_INPUTS]
    ]
    if len(inputs) > _INPUTS:
        lines.append(f"  and {counted(len(inputs) - _INPUTS, 'more input')}")
    lines += [_cut(_compare(pair, names, inputs)) for pair in pairs[:_PAIRS]]
    if len(pairs) > _PAIRS:
        lines.append(f"  and {counted(len(pairs) - _PAIRS, 'more pair')} of inputs")
    lines += _describe_separation(separation)
    more = f"; {parameter('verbose', value=True)} shows columns, distances and pairs of inputs"
    found = f"{counted(len(problems), 'problem')}, {counted(len(warnings), 'warning')}"
    lines.append(found if verbose else found + more)
    return [Message(line) for line in lines]


def _describe(entry: InspectedInput) -> str:
    parts = [f"{entry.rows:,} on {counted(entry.micrographs, 'micrograph')}"]
    if entry.files > 1:
        parts.append(counted(entry.files, "file"))
    if entry.pixel_size:
        parts.append(f"{number_range(*entry.pixel_size, form='.4g')} A/px")
    else:
        parts.append("pixel size unknown" if entry.unit == "px" else f"positions in {entry.unit}")
    used = [score.label for score in entry.scores if score.used]
    parts.append(_score(used[0]) if used else "no scores")
    return ", ".join(parts)


def _score(label: str) -> str:
    return label if label.startswith("score") else f"score {label}"


def _compare(pair: Pair, names: Sequence[str], inputs: Sequence[InspectedInput]) -> str:
    both = f"  {names[pair.one]} and {names[pair.other]}"
    match = pair.match
    if match is None:
        return f"{both}: no micrograph in common"
    one, other = (
        f"{matched / picks:.0%}" if picks else "none"
        for matched, picks in zip(match.matched, match.picks, strict=True)
    )
    fit = "a constant offset" if match.offset else _DIRECTIONS[match.flip.verdict]
    within = f"{match.radius:.3g} {inputs[pair.one].unit}"
    return f"{both}: {one} and {other} have a partner within {within}, {fit}"


def _describe_separation(separation: SeparationAdvice) -> list[str]:
    """Return the lines on the recommended separation. The caller wraps the lines."""
    lines = [f"separation: {Message(separation.reason).raw}"]
    if separation.kept_at:
        named = _choose_named(separation)
        kept = ", ".join(f"{at.kept:,} at {at.separation:g} {separation.unit}" for at in named)
        lines.append(f"  of {separation.picks:,} picks, a run keeps {kept}")
    return lines


def _choose_named(separation: SeparationAdvice) -> list[KeptAt]:
    """Return a few separations: near both ends of the gap and the recommendation, or else evenly distributed."""
    tried, found = separation.kept_at, separation.spacing
    if found is None or found.recommended is None:
        step = -(-len(tried) // _NAMED)
        return list(tried[step - 1 :: step])
    wanted = (found.duplicates_end, found.recommended, found.neighbours_begin)
    nearest = {min(tried, key=lambda at: abs(at.separation - each)) for each in wanted}
    return sorted(nearest, key=lambda at: at.separation)


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."


def describe_kept(separation: SeparationAdvice) -> list[str]:
    """Return a table of the particles kept at up to 16 separations, with bars."""
    if not separation.kept_at:
        return []
    on = counted(separation.micrographs, "micrograph")
    picks = counted(separation.picks, "pick")
    step = -(-len(separation.kept_at) // _ROWS)
    shown = separation.kept_at[::-1][::step][::-1]
    most = max(1, *(at.kept for at in shown))
    lines = [f"kept at each separation, of {picks} on {on}"]
    for at in shown:
        bar = "#" * round(_BAR * at.kept / most)
        lines.append(f"{at.separation:>12g} {separation.unit:<2}{at.kept:>10,} {bar}")
    if separation.cut_short:
        lines.append("  larger separations were left out: too many picks are that close")
    return lines

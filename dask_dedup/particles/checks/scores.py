"""Checks of scores, and warnings about unusable scores, inputs without scores, and different scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats import has_scores, score_label
from dask_dedup.formatting import counted
from dask_dedup.hints import Message, parameter
from dask_dedup.particles.column_roles import score_fields
from dask_dedup.particles.validity import NAMED_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary, ScoreRange

_NO_SCORES = "has no scores; a seeded choice decides"
#: If the ranges of scores differ by more than this factor, the scores are on different scales.
_SPAN_RATIO = 2.0


def check_limits(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Raise InputError if `min_score` applies to an input in which all scores are missing.

    If `min_score` is for all inputs, this is only an error if the scores of all inputs are missing.
    """
    scores = _ranges(summaries)
    limited = [
        table
        for table in inputs.tables
        if table.source in scores and inputs.roles[table.source].min_score is not None
    ]
    # The ranges do not include scores worse than `min_score`.
    aside = {each.source for each in summaries if each.invalid.get("score")}
    without = [
        table
        for table in limited
        if scores[table.source].low > scores[table.source].high and table.source not in aside
    ]
    named = [table for table in without if inputs.params.names_input("min_score", table.path)]
    if named or (without and not aside and len(without) == len(limited)):
        path = (named or without)[0].path
        raise InputError(
            f"{path}: no particle has a score, so {parameter('min_score')} cannot apply. Leave it out"
            f"{' for this input' if named else ''}, or select another score with {parameter('score_field')}."
        )


def find_score_warnings(inputs: Inputs, summaries: Sequence[ScanSummary]) -> list[str]:
    """Return warnings about the scores of all inputs, one line each. Empty if duplicates are removed entirely."""
    if inputs.params.remove_entirely:
        return []
    scores = _ranges(summaries)
    spread = {source: score for source, score in scores.items() if score.low < score.high}
    usable = {source: score for source, score in scores.items() if score.low <= score.high}
    lines = []
    for table in inputs.tables:
        source, column = table.source, inputs.roles[table.source].score
        label = score_label(table, column)
        if column is None:
            found = [_no_column(inputs, source)] if usable and table.rows else []
        elif source not in scores:
            found = []
        elif source not in usable and usable:
            what = "-999 (RELION: no score)" if scores[source].sentinel else "missing (NaN)"
            what = f"all scores in {label} are {what}" if has_scores(table) else "has no scores"
            found = [what + _outcome(inputs, "below")]
        elif not has_scores(table):
            found = [_NO_SCORES]
        elif (verdict := _constant_verdict(inputs, source, usable)) is not None:
            found = [f"all scores in {label} are {scores[source].low:g}{_outcome(inputs, verdict)}"]
        else:
            found = score_warnings(label, scores[source])
        limit = inputs.params.for_input("min_score", table.path)
        if usable and source not in usable and table.rows and limit is not None:
            found.append(f"{parameter('min_score')} does not apply to it, as it has no scores")
        lines += [Message(f"{table.path}: {line}") for line in found]
    return lines + _scale_warnings(inputs, spread)


def _ranges(summaries: Sequence[ScanSummary]) -> dict[int, ScoreRange]:
    """Return the range of the scores of each input that has a score column and rows."""
    scores: dict[int, ScoreRange] = {}
    for summary in summaries:
        if summary.score and summary.score.rows:
            before = scores.get(summary.source)
            scores[summary.source] = before + summary.score if before else summary.score
    return scores


def _no_column(inputs: Inputs, source: int) -> str:
    table = inputs.tables[source]
    field = inputs.params.score_of(table.path)
    reason = f"has no score {field.name}" if field else "has no score"
    columns = [*dict.fromkeys(score_fields(table.schema.names).values())][:NAMED_ROWS]
    if columns:
        reason += f" (but {', '.join(columns)})"
    return reason + _outcome(inputs, "below")


def _constant_verdict(inputs: Inputs, source: int, scores: dict[int, ScoreRange]) -> str | None:
    """Return the rank of an input in which all scores are equal: ``above`` other inputs, ``below`` them, or "".

    Return None if its scores differ, or if no input has another score.
    """
    mine = scores.get(source)
    others = [score for other, score in scores.items() if other != source]
    if mine is None or mine.low < mine.high or mine.rows < 2 or not others:
        return None
    low, high = min(score.low for score in others), max(score.high for score in others)
    below, above = mine.low <= low, mine.low >= high
    if below and above:
        return None
    if inputs.params.uses_standing or not (below or above):
        return ""
    return "above" if above == inputs.roles[source].higher_is_better else "below"


def _outcome(inputs: Inputs, verdict: str) -> str:
    """Return the rest of a warning about an input in which all scores are equal or missing."""
    params = inputs.params
    if params.prefer_input_order:
        return "; a seeded choice decides between its particles"
    if params.uses_standing and not verdict:
        return "; each of them has the middle standing of its micrograph"
    effect = (
        f"its particles rank {verdict} the particles of"
        if verdict
        else "they cannot be compared with the scores of"
    )
    return (
        f", so {effect} an input with scores. Consider {parameter('prefer_input_order')}, or select "
        f"its score with {parameter('score_field')}."
    )


def score_warnings(column: str, score: ScoreRange) -> list[str]:
    """Return warnings about unusable scores in a column: all equal, mostly 0, missing or -999."""
    if score.missing == score.rows:
        return [f"all scores in {column} are missing (NaN); a seeded choice decides"]
    if score.sentinel + score.missing == score.rows:
        return [f"all scores in {column} are -999 (RELION: no score); a seeded choice decides"]
    lines = []
    if score.low == score.high and score.rows > 1:
        value = "zero-filled" if score.low == 0 else f"all {score.low:g}"
        lines.append(f"the scores in {column} are {value}; a seeded choice decides")
    elif score.zero * 2 > score.rows:
        lines.append(f"{score.zero:,} of {score.rows:,} scores in {column} are 0; are they set?")
    for rows, what in (
        (score.missing, "missing (NaN)"),
        (score.sentinel, "-999 (RELION: no score)"),
    ):
        if rows:
            are, rank = ("is", "ranks") if rows == 1 else ("are", "rank")
            lines.append(f"{counted(rows, 'score')} in {column} {are} {what} and {rank} last")
    return lines


def _scale_warnings(inputs: Inputs, scores: dict[int, ScoreRange]) -> list[str]:
    """Return a list of one warning if the inputs' scores are on different scales, else []."""
    if inputs.params.prefer_input_order or inputs.params.uses_standing:
        return []
    spans = [score.high - score.low for score in scores.values()]
    if len(spans) < 2:
        return []
    shared = min(s.high for s in scores.values()) - max(s.low for s in scores.values())
    if max(spans) <= _SPAN_RATIO * min(spans) and shared * _SPAN_RATIO >= min(spans):
        return []
    ranges = "; ".join(
        f"{inputs.tables[source].path}: {score.low:g} to {score.high:g}"
        for source, score in scores.items()
    )
    text = (
        f"the inputs' scores are on different scales ({ranges}), so one input may win by its scale "
        f"alone. If you know which picker centres best, list it first and pass "
        f"{parameter('prefer_input_order')}; if not, pass {parameter('score_scale', 'standing')}."
    )
    if not inputs.params.votes_decide:
        text += (
            f" To choose particles that several pickers found, pass {parameter('min_votes', 2)}."
        )
    return [text]

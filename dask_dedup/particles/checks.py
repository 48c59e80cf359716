"""What the census says against the inputs: errors that stop a run, and warnings that go into its report."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formatting import counted
from dask_dedup.particles.micrographs import bare_name
from dask_dedup.particles.uids import find_repeated
from dask_dedup.particles.validity import NAMED_ROWS, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.particles.extract import ScanSummary
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.score_range import ScoreRange

#: Pixel sizes that differ by more than this are not the same.
_PSIZE_TOLERANCE = 1e-3
#: Scores whose ranges differ by more than this factor are not on one scale.
_SPAN_RATIO = 2.0


def check_rows(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Refuse rows that cannot be compared, unless they are to be set aside.

    The message counts each kind and names the first few.

    Raises
    ------
    InputError
    """
    lines = _tell(inputs, [(summary, summary.problems) for summary in summaries])
    if lines and inputs.params.invalid == "error":
        raise InputError(
            f"{'; '.join(lines)}; mend that, or set such rows aside with --invalid reject or "
            "--invalid keep"
        )


def describe_problem(problem: Problem) -> str:
    """Say how many rows have a problem, in which column, and what that holds if it matters."""
    text = counted(problem.rows, "row", problem.what)
    if problem.held:
        low, high = (f"{value:g}" for value in problem.held)
        return f"{text} ({problem.column} holds {low if low == high else f'{low} to {high}'})"
    return f"{text} ({problem.column})" if problem.column else text


def _tell(inputs: Inputs, found: Sequence[tuple[ScanSummary, Sequence[Problem]]]) -> list[str]:
    """Add up the problems of each kind over the fragments, and name the first few rows."""
    sums: dict[tuple[int, str, str], Problem] = {}
    first: dict[tuple[int, str, str], list[str]] = {}
    for summary, problems in found:
        fragment = inputs.fragments[summary.fragment]
        for problem in problems:
            kind = (summary.source, problem.what, problem.column)
            sums[kind] = sums[kind] + problem if kind in sums else problem
            named = first.setdefault(kind, [])
            for row in problem.first[: NAMED_ROWS - len(named)]:
                path, row_in_file = fragment.locate(row)
                named.append(f"{path} row {row_in_file}")
    return [
        f"{inputs.tables[kind[0]].path}: {describe_problem(problem)}, first {', '.join(first[kind])}"
        for kind, problem in sums.items()
    ]


def check_names(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Refuse names that would mix up two micrographs.

    That is two names of one input that have the same bare name, where bare names are compared; or
    any two whose 64-bit hashes are equal (at 10**6 micrographs a chance of 3 in 10**8).

    Raises
    ------
    InputError
    """
    compared: dict[int, str] = {}
    stored: dict[tuple[int, int], str] = {}
    for summary in summaries:
        by_bare_name = inputs.roles[summary.source].match == "name"
        for key, name in summary.names:
            as_compared = bare_name(name) if by_bare_name else name
            concurrent = stored.setdefault((summary.source, key), name)
            if concurrent != name and bare_name(concurrent) == bare_name(name):
                raise InputError(
                    f"{inputs.tables[summary.source].path}: the micrographs {concurrent} and {name} have the "
                    "same bare name, so --match-micrographs name would mix them up; "
                    "match by path or uid"
                )
            if compared.setdefault(key, as_compared) != as_compared:
                raise InputError(
                    f"the micrograph names {compared[key]} and {as_compared} have the same hash; "
                    "rename one of the two"
                )


def check_uids(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Refuse an input that names two particles alike.

    A uid that two *inputs* share is one particle given twice, which a run may well be for.

    Raises
    ------
    InputError
    """
    for table in inputs.tables:
        repeated = find_repeated([each.uids for each in summaries if each.source == table.source])
        if repeated.size:
            some = ", ".join(
                f"{uid} in {_homes(inputs, summaries, table.source, uid)}"
                for uid in repeated[:NAMED_ROWS]
            )
            raise InputError(
                f"{table.path}: {counted(repeated.size, 'uid', 'occur more than once')} "
                f"(column uid: {some}); a uid must name one particle, so drop the repeated rows or "
                "give them uids of their own"
            )


def find_warnings(inputs: Inputs, summaries: Sequence[ScanSummary]) -> list[str]:
    """Say what a user should know before trusting the answer."""
    lines = _tell(inputs, [(summary, summary.oddities) for summary in summaries])
    invalid = sum(sum(summary.invalid.values()) for summary in summaries)
    if invalid and inputs.params.invalid != "error":
        fate = "particles_kept" if inputs.params.invalid == "keep" else "particles_rejected"
        lines += _tell(inputs, [(summary, summary.problems) for summary in summaries])
        lines.append(
            f"{counted(invalid, 'row', 'take no part')} and {'goes' if invalid == 1 else 'go'} to "
            f"{fate} (--invalid {inputs.params.invalid})"
        )
    for table in inputs.tables:
        mine = [summary for summary in summaries if summary.source == table.source]
        column = inputs.roles[table.source].score
        scores = [summary.score for summary in mine if summary.score and summary.score.rows]
        if column and scores:
            lines += [
                f"{table.path}: {line}" for line in score_warnings(column, reduce(add, scores))
            ]
        lines += [f"{table.path}: {line}" for line in _psize_warnings(inputs, table.source, mine)]
    without_uid = [t.path for t in inputs.tables if t.rows and inputs.roles[t.source].uid is None]
    if without_uid:
        where = ", ".join(without_uid) if len(without_uid) < len(inputs.tables) else "any input"
        lines.append(
            f"no uid column in {where}: equal scores are decided by row number, so the answer "
            "follows the row order"
        )
    lines += _between_inputs(inputs, summaries)
    return lines


def score_warnings(column: str, score: ScoreRange) -> list[str]:
    """Say what is wrong with a score column as a whole: constant, missing, zero-filled, -999."""
    if score.missing == score.rows:
        return [
            f"the scores in {column} are all missing (NaN): equal for all, a seeded choice decides"
        ]
    if score.sentinel + score.missing == score.rows:
        return [
            f"the scores in {column} are all -999, RELION's mark for none: a seeded choice decides"
        ]
    lines = []
    if score.low == score.high and score.rows > 1:
        filled = "zero-filled" if score.low == 0 else f"all {score.low:g}"
        lines.append(f"the scores in {column} are {filled}: a seeded choice decides")
    elif score.zero * 2 > score.rows:
        lines.append(f"{score.zero:,} of {score.rows:,} scores in {column} are 0; are they set?")
    if score.missing:
        verb = "is" if score.missing == 1 else "are"
        what = f"{counted(score.missing, 'score')} in {column} {verb} missing (NaN)"
        lines.append(f"{what} and {'ranks' if score.missing == 1 else 'rank'} last")
    if score.sentinel:
        lines.append(
            f"{counted(score.sentinel, 'score')} in {column} {'is' if score.sentinel == 1 else 'are'} "
            f"-999, RELION's mark for none, and {'ranks' if score.sentinel == 1 else 'rank'} last"
        )
    return lines


def _psize_warnings(inputs: Inputs, source: int, summaries: Sequence[ScanSummary]) -> list[str]:
    stored = np.array([summary.stored_psize for summary in summaries]).reshape(-1, 2)
    stored = stored[np.isfinite(stored)]
    option = inputs.params.micrograph_pixel_size
    column = inputs.roles[source].psize_mic
    used = np.array([summary.psize for summary in summaries]).reshape(-1, 2)
    used = used[np.isfinite(used)]
    lines = []
    if option is not None and used.size and np.abs(used / option - 1).max() > _PSIZE_TOLERANCE:
        where = inputs.micrographs.path if inputs.micrographs else f"the column {column}"
        lines.append(
            f"--micrograph-pixel-size {option:g} was not used: {where} has "
            f"{used.min():g} to {used.max():g} A"
        )
    if inputs.micrographs and stored.size and used.size:
        off = max(abs(used.min() / stored.min() - 1), abs(used.max() / stored.max() - 1))
        if off > _PSIZE_TOLERANCE:
            lines.append(
                f"the pixel sizes of {inputs.micrographs.path} ({used.min():g} to {used.max():g} A) were "
                f"used, but {column} has {stored.min():g} to {stored.max():g} A"
            )
    return lines


def _between_inputs(inputs: Inputs, summaries: Sequence[ScanSummary]) -> list[str]:
    with_rows = [table for table in inputs.tables if table.rows]
    if len(with_rows) < 2:
        lines = []
        if inputs.params.between_inputs_only:
            lines.append(
                "there is but one input, so --between-inputs-only leaves nothing to reject"
            )
        if inputs.params.prefer_input_order:
            lines.append("there is but one input, so --prefer-input-order changes nothing")
        return lines
    lines = []
    seen = np.empty(0, np.uint64)
    shared = False
    for table in with_rows:
        mine = _distinct(summaries, table.source)
        shared = shared or bool(np.isin(mine, seen).any())
        seen = np.union1d(seen, mine)
    if not shared:
        columns = ", ".join(dict.fromkeys(roles.micrograph for roles in inputs.roles))
        lines.append(
            f"the inputs have no micrograph in common (column {columns}), so nothing can match "
            "between them; do they come from one import of the movies?"
        )
    lines += _scales(inputs, summaries)
    repeated = find_repeated([summary.uids for summary in summaries])
    if repeated.size:
        lines.append(
            f"{counted(repeated.size, 'uid', 'occur in more than one input')}: "
            "the same particle given twice"
        )
    return lines


def _scales(inputs: Inputs, summaries: Sequence[ScanSummary]) -> list[str]:
    """Warn where the inputs' scores span other ranges: then one may win by its scale alone."""
    if inputs.params.prefer_input_order or inputs.params.remove_entirely:
        return []
    scores: dict[int, ScoreRange] = {}
    for summary in summaries:
        if summary.score and summary.score.low < summary.score.high:
            before = scores.get(summary.source)
            scores[summary.source] = summary.score + before if before else summary.score
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
    return [
        f"the inputs' scores are not on one scale ({ranges}), so one may win by its scale alone; "
        "consider --prefer-input-order"
    ]


def _homes(inputs: Inputs, summaries: Sequence[ScanSummary], source: int, uid: np.uint64) -> str:
    """Name the places that hold a uid, as closely as the census knows them."""
    homes = [
        str(inputs.fragments[summary.fragment])
        for summary in summaries
        if summary.source == source and _holds(summary.uids, uid)
    ]
    return " and ".join(homes[:NAMED_ROWS])


def _holds(ordered: NDArray[np.uint64], uid: np.uint64) -> bool:
    at = np.searchsorted(ordered, uid)
    return bool(at < ordered.size and ordered[at] == uid)


def _distinct(summaries: Sequence[ScanSummary], source: int) -> NDArray[np.uint64]:
    parts = [summary.micrographs for summary in summaries if summary.source == source]
    return np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))

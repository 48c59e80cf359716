"""Checks of the scanned inputs: errors that stop a run, and warnings for the report."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.limits import LEAST_PIXEL_SIZE
from dask_dedup.errors import InputError
from dask_dedup.formats import by_source
from dask_dedup.formatting import counted, number_range
from dask_dedup.hints import Message, parameter
from dask_dedup.particles.checks.filaments import find_restarts
from dask_dedup.particles.checks.micrograph_scales import check_micrograph_sizes, conflict_warnings
from dask_dedup.particles.checks.names import check_groups, check_names, check_new_names
from dask_dedup.particles.checks.scales import check_scales, position_warnings, scale_warnings
from dask_dedup.particles.checks.scores import check_limits, find_score_warnings
from dask_dedup.particles.checks.shared_names import missing_hint, rename_warnings, shared_warnings
from dask_dedup.particles.checks.uids import check_uids, shared_uid_warnings
from dask_dedup.particles.column_names import SEVERAL_CLASSES
from dask_dedup.particles.micrographs.name_match import match_warnings
from dask_dedup.particles.validity import NAMED_ROWS, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dask_dedup.particles.checks.uids import RepeatedUids
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary


def check_rows(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Raise InputError for rows that cannot be compared, if the parameter `invalid` is ``error``."""
    if inputs.params.invalid != "error":
        return
    lines = _describe(inputs, ((summary, summary.problems) for summary in summaries))
    if lines:
        hints = missing_hint(inputs, summaries) + _nanometre_hint(inputs, summaries)
        raise InputError(
            f"{'; '.join(lines)}.{hints} Fix them, or pass "
            f"{parameter('invalid', 'reject')} or {parameter('invalid', 'keep')}."
        )


def _nanometre_hint(inputs: Inputs, summaries: Sequence[ScanSummary]) -> str:
    """Return advice for micrograph pixel sizes that are too small for angstrom, or an empty text."""
    for summary in summaries:
        for problem in summary.problems:
            low, high = problem.value_range or (0.0, np.inf)
            if (
                problem.column == inputs.roles[summary.source].psize_mic
                and 0 < high < LEAST_PIXEL_SIZE
            ):
                value = float(f"{10 * low:.6g}")
                option = inputs.parameter_of("coordinate_pixel_size", summary.source, value)
                return f" If the pixel size is in nanometres, pass {option}."
    return ""


def _describe(inputs: Inputs, found: Iterable[tuple[ScanSummary, Sequence[Problem]]]) -> list[str]:
    """Describe the problems in each input, one line per kind. A line has the numbers of the first few rows."""
    sums: dict[tuple[int, str, str], Problem] = {}
    first: dict[tuple[int, str, str], list[str]] = {}
    for summary, problems in found:
        for problem in problems:
            kind = (summary.source, problem.what, problem.column)
            sums[kind] = sums[kind] + problem if kind in sums else problem
            rows = first.setdefault(kind, [])
            for row in problem.first[: NAMED_ROWS - len(rows)]:
                rows.append(inputs.describe_row(summary.fragment, row))
    return [
        f"{inputs.tables[kind[0]].path}: {_problem_text(problem, first[kind])}"
        for kind, problem in sums.items()
    ]


def _problem_text(problem: Problem, first: Sequence[str]) -> str:
    column = problem.column
    if problem.value_range:
        column += f" is {number_range(*problem.value_range)}"
    details = "; ".join([column, f"first: {', '.join(first)}"]).removeprefix("; ")
    return f"{counted(problem.rows, 'row', problem.what)} ({details})"


def check_scanned(inputs: Inputs, summaries: Sequence[ScanSummary], repeated: RepeatedUids) -> None:
    """Raise InputError if the scanned inputs cannot be compared, or have a uid twice."""
    check_scales(inputs, summaries)
    check_rows(inputs, summaries)
    check_uids(inputs, repeated)
    check_limits(inputs, summaries)
    check_new_names(inputs, summaries)
    check_groups(inputs, summaries)
    check_names(inputs, summaries)
    check_micrograph_sizes(inputs, summaries)


def find_warnings(
    inputs: Inputs, summaries: Sequence[ScanSummary], repeated: RepeatedUids
) -> list[str]:
    """Return warnings about the scanned inputs, one line each."""
    lines = left_out_warnings(inputs)
    lines += _describe(inputs, ((summary, summary.oddities) for summary in summaries))
    lines += _invalid_warnings(inputs, summaries)
    of_input = by_source(summaries)
    for table in inputs.tables:
        mine = of_input[table.source]
        found = scale_warnings(inputs, table.source, mine)
        found += position_warnings(inputs, table.source, mine)
        found += _filament_warnings(mine)
        found += _shift_warnings(inputs, table.source)
        found += _uid_warnings(inputs, mine)
        lines += [f"{table.path}: {line}" for line in found]
    lines += find_score_warnings(inputs, summaries)
    lines += conflict_warnings(inputs, summaries)
    lines += rename_warnings(inputs, summaries)
    lines += match_warnings(inputs.names, inputs.params)
    with_rows = [table.source for table in inputs.tables if table.rows]
    if len(with_rows) < 2:
        lines += _one_input_warnings(inputs)
    else:
        lines += shared_warnings(inputs, summaries)
        lines += shared_uid_warnings(repeated)
    return [Message(line) for line in lines]


def left_out_warnings(inputs: Inputs) -> list[str]:
    """Return a list of one warning if inputs have no table, else []."""
    count = len(inputs.left_out)
    if not count:
        return []
    verbs = ("have", "are") if count > 1 else ("has", "is")
    files = counted(count, "STAR file", f"{verbs[0]} no table or no rows, and {verbs[1]}")
    return [f"{files} left out (first: {next(iter(inputs.left_out))})"]


def _filament_warnings(summaries: Sequence[ScanSummary]) -> list[str]:
    """Return a list of one warning if filament numbers of an input belong to several filaments, else []."""
    restarts = find_restarts([summary.tubes for summary in summaries if summary.tubes])
    if not restarts:
        return []
    names = {name.key: str(name) for summary in summaries for name in summary.names}
    micrograph, number = min(
        (names.get(key, f"uid {key}"), label & 0xFFFFFFFF) for key, label in restarts
    )
    what = counted(len(restarts), "filament number", "belong to several filaments")
    if len(restarts) == 1:
        what = "1 filament number belongs to several filaments"
    return [
        f"{what} (first: number {number} on {micrograph}): their tracks restart, as after joining "
        f"files. {parameter('ignore_within_filament')} compares no particles of one number. Pass the "
        "files as separate inputs, or renumber the filaments."
    ]


def _invalid_warnings(inputs: Inputs, summaries: Sequence[ScanSummary]) -> list[str]:
    reasons = sum((Counter(summary.invalid) for summary in summaries), Counter[str]())
    rows = reasons.total() - reasons["score"]
    option = inputs.params.invalid
    if not rows or option == "error":
        return []
    outcome = "kept" if option == "keep" else "rejected"
    hint = missing_hint(inputs, summaries).removesuffix(".")
    hint = f".{hint}" if hint else ""
    return [
        *_describe(inputs, ((summary, summary.problems) for summary in summaries)),
        f"{counted(rows, 'row', f'are {outcome} without being compared')} ({parameter('invalid', option)}){hint}",
    ]


def _shift_warnings(inputs: Inputs, source: int) -> list[str]:
    """Return a list of one warning if the shifts of several classes are left out, else []."""
    roles, params = inputs.roles[source], inputs.params
    unused = f"{SEVERAL_CLASSES}/shift"
    applies = params.shift_key == "auto" and params.measures and not roles.shift
    if not applies or unused not in inputs.tables[source].schema.names:
        return []
    return [
        f"{unused} holds a shift for each class and is not applied (shift: none). Use a table of one "
        f"class, which has alignments3D/shift, or pass {parameter('shift_key', 'none')}."
    ]


def _uid_warnings(inputs: Inputs, summaries: Sequence[ScanSummary]) -> list[str]:
    """Return a list of one warning if all micrograph uids of an input are 0, else []."""
    keys = [summary.micrographs for summary in summaries if summary.micrographs.size]
    if inputs.roles[0].match != "uid" or not keys or any(each.any() for each in keys):
        return []
    return [
        f"all values of {inputs.roles[0].micrograph} are 0, so all particles are on one micrograph. "
        f"If the column is zero-filled, pass {parameter('match_micrographs', 'path')}."
    ]


def _one_input_warnings(inputs: Inputs) -> list[str]:
    lines = []
    if inputs.params.between_inputs_only:
        name = parameter("between_inputs_only")
        lines.append(f"nothing can be rejected, because {name} needs more than one input")
    if inputs.params.prefer_input_order:
        lines.append(f"{parameter('prefer_input_order')} has no effect with a single input")
    return lines

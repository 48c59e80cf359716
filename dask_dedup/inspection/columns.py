"""Which columns an inspection looks at, doing without what is missing, and in which unit it measures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import InputError
from dask_dedup.formats import FileSlice, Fragment
from dask_dedup.particles.conventions import OTHER_SCORES, compare_roles, resolve_roles
from dask_dedup.particles.extract import extract

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from dask_dedup.formats import ParticleTable
    from dask_dedup.particles.conventions import ColumnRoles
    from dask_dedup.pipeline.job import Job

#: Take the place of a micrograph column that is not there; every value is null.
_STAND_INS = ("location/micrograph_path", "rlnMicrographName")
NO_SHIFT: dict[str, Any] = {"shift": (), "psize_shift": None, "subtomogram": ()}
#: Parts an inspection can do without, and what is in their place then.
_DISPENSABLE: dict[str, dict[str, Any]] = {
    "score": {"score": None},
    "uid": {"uid": None},
    "half-set": {"half": None},
    "pixel size": {"psize_mic": None},
    "shift": NO_SHIFT,
}


def note(problems: list[str], check: Callable[..., object], *arguments: Any) -> None:
    """Make a problem of what would be an error."""
    try:
        check(*arguments)
    except InputError as error:
        problems.append(str(error))


def find_roles(
    tables: Sequence[ParticleTable], params: DedupParams, problems: list[str]
) -> tuple[list[ColumnRoles], bool]:
    """Find every input's columns, doing without what is missing, and whether the inputs compare.

    Raises
    ------
    InputError
        If a table has no positions.
    """
    found = [_roles_of(table, params, problems) for table in tables]
    names = [
        (table.path, [*table.schema.names, *_absent(roles, table.schema.names)])
        for table, roles in zip(tables, found, strict=True)
    ]
    try:
        return compare_roles(found, names, params), True
    except InputError as error:
        if params.match_micrographs != "auto":
            raise
        problems.append(str(error))
        return found, False


def _absent(roles: ColumnRoles, names: Collection[str]) -> list[str]:
    return [name for name in roles.columns if name not in names]


def _roles_of(table: ParticleTable, params: DedupParams, problems: list[str]) -> ColumnRoles:
    def attempt(without: Collection[str]) -> ColumnRoles:
        names = [*table.schema.names, *(_STAND_INS if "micrograph" in without else ())]
        eased = replace(
            params,
            score_field="none" if "score" in without else params.score_field,
            shift_key="none" if "shift" in without else params.shift_key,
        )
        return resolve_roles(names, eased, table.path)

    parts = ("score", "shift", "micrograph")
    for size in range(len(parts) + 1):
        for without in combinations(parts, size):
            try:
                roles = attempt(without)
            except InputError:
                continue
            for part in without:
                note(problems, attempt, set(without) - {part})
            return _do_without_unreadable(table, roles, problems)
    return attempt(parts)


def _do_without_unreadable(
    table: ParticleTable, roles: ColumnRoles, problems: list[str]
) -> ColumnRoles:
    """Do without the parts whose columns hold something else than they should."""
    place = Fragment(0, table.source, 0, 0, (FileSlice(table.path, 0, 0),))

    def attempt(some: ColumnRoles) -> None:
        names = [name for name in some.columns if name in table.schema.names]
        rows = pa.schema([table.schema.field(name) for name in names]).empty_table()
        extract(with_stand_ins(rows, some), place, some, DedupParams(), None)

    nothing = {name: value for part in _DISPENSABLE.values() for name, value in part.items()}
    bare = replace(roles, **nothing)
    attempt(bare)
    for part in _DISPENSABLE.values():
        before = len(problems)
        note(problems, attempt, replace(bare, **{name: getattr(roles, name) for name in part}))
        if len(problems) > before:
            roles = replace(roles, **part)
    return roles


def with_stand_ins(rows: pa.Table, roles: ColumnRoles) -> pa.Table:
    """Add the columns that the roles name and the rows lack, all null."""
    for name in _absent(roles, rows.column_names):
        rows = rows.append_column(name, pa.nulls(rows.num_rows))
    return rows


@dataclass(frozen=True, slots=True)
class View:
    """How an input is measured.

    Attributes
    ----------
    roles : Roles
    params : DedupParams
    unit : {"A", "px"}
        Of all distances.
    scores : dict of str to str
        Columns a user may rank by, and the ``--score-field`` that does.
    """

    roles: ColumnRoles
    params: DedupParams
    unit: str
    scores: dict[str, str]


def choose_views(job: Job, *, comparable: bool) -> list[View]:
    """Measure in angstrom where all that is to be compared has a pixel size, else in pixels."""
    sized = [
        roles.unit == "angstrom"
        or roles.psize_mic is not None
        or job.micrographs is not None
        or job.params.micrograph_pixel_size is not None
        for roles in job.roles
    ]
    if comparable:
        sized = [all(sized)] * len(sized)
    views = []
    for table, roles, angstrom in zip(job.tables, job.roles, sized, strict=True):
        scores = _score_columns(table, roles, job.params)
        if angstrom:
            views.append(View(roles, job.params, "A", scores))
        else:
            # A shift is in angstrom or in pixels of another size.
            bare = replace(roles, psize_mic=None, **NO_SHIFT)
            views.append(View(bare, replace(job.params, micrograph_pixel_size=1.0), "px", scores))
    return views


def _score_columns(table: ParticleTable, roles: ColumnRoles, params: DedupParams) -> dict[str, str]:
    fields = {"pick_stats/ncc_score": "ncc_score", "rlnAutopickFigureOfMerit": "ncc_score"}
    schema = table.schema
    for name in ("error", "error_min"):
        columns = [f"alignments{d}D/{name}" for d in (3, 2)]
        columns = [column for column in columns if column in schema.names]
        fields |= dict.fromkeys(columns[:1], name)
        fields |= {column: f"{column}:lower" for column in columns[1:]}
    fields |= {column: f"{column}:{better}" for column, better in OTHER_SCORES.items()}
    if roles.score is not None:
        fields[roles.score] = params.score_field
    found = {column: told for column, told in fields.items() if column in schema.names}
    return {column: told for column, told in found.items() if _is_numeric(schema.field(column))}


def _is_numeric(column: pa.Field) -> bool:
    kind = column.type
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )

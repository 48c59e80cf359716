"""Columns that an inspection reads. A missing or unreadable column is recorded as a problem."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import InputError
from dask_dedup.formats import FileSlice, Fragment, has_scores
from dask_dedup.hints import Message
from dask_dedup.particles.checks.roles import check_directions, check_min_scores
from dask_dedup.particles.column_roles import resolve_roles, score_fields
from dask_dedup.particles.extract import extract
from dask_dedup.particles.inputs import (
    allow_missing_scores,
    compare_roles,
    with_pick_files,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from dask_dedup.formats import ParticleTable
    from dask_dedup.particles.column_roles import ColumnRoles

#: Columns of nulls that replace a missing micrograph column.
_STAND_INS = ("location/micrograph_path", "rlnMicrographName")
NO_SHIFT: dict[str, Any] = {
    "shift": (),
    "psize_shift": None,
    "given_psize_shift": None,
    "subtomogram": (),
}
#: Optional parts of a table, and the roles of a table without them.
_OPTIONAL: dict[str, dict[str, Any]] = {
    "score": {"score": None},
    "shift": NO_SHIFT,
    "micrograph": {},
    "uid": {"uid": None},
    "half-set": {"half": None},
    "pixel size": {"psize_mic": None},
}


def record(problems: list[str], check: Callable[..., object], *arguments: Any) -> bool:
    """Return whether a check passes. If the check raises InputError, add its message to `problems`."""
    try:
        check(*arguments)
    except InputError as error:
        problems.append(Message(error.raw))
        return False
    return True


def find_roles(
    tables: Sequence[ParticleTable],
    params: DedupParams,
    problems: list[str],
    micrographs: str | None = None,
) -> tuple[list[ColumnRoles], bool]:
    """Return the column roles of every input, and whether the inputs can be compared.

    Raise InputError if a table has no positions.
    """
    params.check_inputs((table.path for table in tables), micrographs)
    eased = allow_missing_scores([(table.path, table.schema.names) for table in tables], params)
    found = with_pick_files(tables, [_roles_of(table, eased, problems) for table in tables])
    names = [
        (table.path, [*table.schema.names, *_absent(roles, table.schema.names)])
        for table, roles in zip(tables, found, strict=True)
    ]
    paths = [table.path for table in tables]
    scoreless = [table.path for table in tables if not has_scores(table)]
    record(problems, check_directions, found, paths, params)
    record(problems, check_min_scores, found, paths, params, scoreless)
    try:
        by_name = any(table.format == "coordinates" for table in tables)
        return compare_roles(found, names, params, by_name=by_name), True
    except InputError as error:
        if params.match_micrographs != "auto":
            raise
        problems.append(Message(error.raw))
        return found, False


def _absent(roles: ColumnRoles, names: Collection[str]) -> list[str]:
    return [name for name in roles.columns if name not in names]


def _roles_of(table: ParticleTable, params: DedupParams, problems: list[str]) -> ColumnRoles:
    """Find the column roles of a table. Leave out columns that are missing or have a wrong type."""
    fragment = Fragment(0, table.source, 0, 0, (FileSlice(table.path, 0, 0),))

    def resolve(without: Collection[str]) -> ColumnRoles:
        names = [*table.schema.names, *(_STAND_INS if "micrograph" in without else ())]
        eased = params.without_scores([table.path]) if "score" in without else params
        eased = replace(eased, shift_key="none") if "shift" in without else eased
        roles = resolve_roles(names, eased, table.path)
        for part in without:
            roles = replace(roles, **_OPTIONAL[part])
        # Reading no rows raises the errors of columns with a wrong type.
        present = [name for name in roles.columns if name in table.schema.names]
        rows = pa.schema([table.schema.field(name) for name in present]).empty_table()
        extract(with_stand_ins(rows, roles), fragment, roles, DedupParams(), None)
        return roles

    resolve(_OPTIONAL)  # raises without positions
    return resolve(
        [
            part
            for part in _OPTIONAL
            if not record(problems, resolve, [other for other in _OPTIONAL if other != part])
        ]
    )


def with_stand_ins(rows: pa.Table, roles: ColumnRoles) -> pa.Table:
    """Add a column of nulls for each column in `roles` that `rows` lacks."""
    for name in _absent(roles, rows.column_names):
        rows = rows.append_column(name, pa.nulls(rows.num_rows))
    return rows


def score_columns(table: ParticleTable, roles: ColumnRoles, params: DedupParams) -> dict[str, str]:
    """Map each column that can rank particles to the ``score_field`` value that selects the column."""
    fields = score_fields(table.schema.names)
    if roles.score is not None:
        fields[roles.score] = str(params.for_input("score_field", table.path))
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return {
        column: field
        for column, field in fields.items()
        if any(test(table.schema.field(column).type) for test in numeric)
    }

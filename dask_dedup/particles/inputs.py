"""The inputs of a run: particle tables, their column roles, the parameters and the micrograph table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formats import (
    has_scores,
    is_binned,
    pixel_size_source,
    read,
    shifts_of,
    with_texts,
)
from dask_dedup.hints import parameter
from dask_dedup.particles.checks.pixel_size import check_flip, check_pixel_size, fractions_error
from dask_dedup.particles.checks.roles import check_directions, check_min_scores, check_positions
from dask_dedup.particles.column_names import MICROGRAPH_PATH, MICROGRAPH_UID
from dask_dedup.particles.column_roles import has_score, needs_pixel_size, resolve_roles
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.name_match import NameMatch, match_names
from dask_dedup.particles.micrographs.names import Naming
from dask_dedup.particles.micrographs.table import read_micrographs
from dask_dedup.particles.pickers import make_voting, name_pickers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.voting import Voting
    from dask_dedup.formats import Fragment, JobMicrographs, ParticleTable
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.micrographs.stripping import Stripping
    from dask_dedup.particles.micrographs.table import MicrographTable


@dataclass(frozen=True)
class Inputs:
    """Opened particle tables, with the settings needed to read particles from them."""

    #: Tables in the user's order.
    tables: tuple[ParticleTable, ...]
    #: Fragments of all tables, numbered from 0.
    fragments: tuple[Fragment, ...]
    #: Column roles of each table.
    roles: tuple[ColumnRoles, ...]
    params: DedupParams
    micrographs: MicrographTable | None = None
    #: Path of each input without a table, and the name of the picker if the user gave one, else "".
    left_out: Mapping[str, str] = field(default_factory=dict)
    #: Pickers and their votes. None if votes are not counted.
    voting: Voting | None = None
    #: Match of micrographs by name. None for other methods.
    names: NameMatch | None = None
    #: Source of the pixel size in the parameters by input, if it comes from a RELION job.
    psize_sources: Mapping[str, JobMicrographs] = field(default_factory=dict)

    @property
    def higher_is_better(self) -> tuple[bool, ...]:
        """Whether high scores win, for each input."""
        return tuple(roles.higher_is_better for roles in self.roles)

    @property
    def rows(self) -> int:
        """Number of rows of all tables."""
        return sum(table.rows for table in self.tables)

    @cached_property
    def first_rows(self) -> NDArray[np.int64]:
        """Number of the first row of each fragment within its input, (f,)."""
        rows = np.array([fragment.rows for fragment in self.fragments], dtype=np.int64)
        source = np.array([fragment.source for fragment in self.fragments], dtype=np.int64)
        before = np.cumsum(rows) - rows
        return before - before[np.searchsorted(source, source)]

    def describe_row(self, fragment: int, row: int) -> str:
        """Describe a row of a fragment in a message about its input: ``row 5``, with the file if needed."""
        part = self.fragments[fragment]
        path, row = part.locate(row)
        return f"row {row}" if path == self.tables[part.source].path else f"{path} row {row}"

    def parameter_of(self, name: str, source: int, value: float) -> str:
        """Return the parameter `name` with a value for one input, as text for a message."""
        several = len(self.tables) > 1
        return parameter(name, {self.tables[source].path: value} if several else value)

    @classmethod
    def of(
        cls,
        tables: Sequence[ParticleTable],
        roles: Sequence[ColumnRoles],
        params: DedupParams,
        micrographs: MicrographTable | None = None,
    ) -> Self:
        """Make inputs from opened tables. The fragments of all tables are numbered consecutively from 0."""
        tables = [with_texts(table, params.group_columns) for table in tables]
        fragments = [fragment for table in tables for fragment in table.fragments]
        numbered = tuple(replace(part, number=n) for n, part in enumerate(fragments))
        return cls(tuple(tables), numbered, tuple(roles), params, micrographs)


def make_inputs(
    tables: Sequence[ParticleTable],
    exposures: ParticleTable | None,
    params: DedupParams,
    left_out: Mapping[str, str] | None = None,
    psize_sources: Mapping[str, JobMicrographs] | None = None,
) -> Inputs:
    """Make and check the inputs of a run. Read the micrograph table `exposures`, but no particles.

    For `left_out` and `psize_sources`, see `Inputs`.

    Raises
    ------
    InputError
        If a column is missing, or the parameters contradict the tables.
    """
    roles = find_roles(tables, params, exposures.path if exposures else None)
    inputs = prepare_inputs(tables, roles, params, exposures)
    voting = None
    if params.counts_votes:  # with many pickers, their names take long
        pickers = [*zip((table.path for table in tables), name_pickers(tables), strict=True)]
        voting = make_voting(pickers, params, left_out or {})
    inputs = replace(
        inputs,
        left_out=left_out or {},
        voting=voting,
        psize_sources=psize_sources or {},
    )
    check_inputs(inputs)
    return inputs


def prepare_inputs(
    tables: Sequence[ParticleTable],
    roles: Sequence[ColumnRoles],
    params: DedupParams,
    exposures: ParticleTable | None,
) -> Inputs:
    """Make inputs from tables and their roles: match names, read the micrograph table, find units. No checks."""
    names = None
    if roles[0].match == "name":
        names = match_names(tables, roles, params, exposures)
        roles = use_stripping([table.path for table in tables], roles, params, names.stripping)
    micrographs = read_exposures(exposures, roles[0], params) if exposures else None
    roles = [
        find_unit(role, params, micrographs, table.path, _read_positions(table, role))
        for table, role in zip(tables, roles, strict=True)
    ]
    return replace(Inputs.of(tables, roles, params, micrographs), names=names)


def use_stripping(
    paths: Sequence[str],
    roles: Sequence[ColumnRoles],
    params: DedupParams,
    stripping: Stripping,
) -> list[ColumnRoles]:
    """Return the roles of the inputs `paths` with this stripping of micrograph names."""
    naming = Naming.of(params, roles[0].match, stripping)
    return [
        replace(role, naming=naming.for_input(params, path))
        for path, role in zip(paths, roles, strict=True)
    ]


def read_exposures(
    exposures: ParticleTable, roles: ColumnRoles, params: DedupParams, given: str = ""
) -> MicrographTable:
    """Read the micrograph table. Convert its names to the form of the compared names of the input with `roles`.

    `given` is the path of the micrograph table in the parameters, if this is another path.
    """
    naming = roles.naming.for_input(params, given or exposures.path)
    return read_micrographs(exposures, naming, roles.groups)


def find_unit(
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
    table: str,
    parts: Iterable[pa.Table],
) -> ColumnRoles:
    """Return the roles with the unit ``volume`` if the positions are fractions of the tomogram.

    Warp's template matching writes such fractions. They can be read if the sizes of the tomograms are known. Otherwise
    the unit stays pixels, and `checks.scales` refuses the table. `parts` are the rows of the table. The first row that
    cannot be both pixels and fractions decides.
    """
    in_pixels = roles.unit == "pixel" and len(roles.position) == 3 and not roles.overrides_psize
    if micrographs is None or micrographs.volume is None:
        return roles
    if in_pixels and needs_pixel_size(roles, params) and _are_fractions(roles, table, parts):
        return replace(roles, unit="volume", image=None)
    return roles


def _read_positions(table: ParticleTable, roles: ColumnRoles) -> Iterator[pa.Table]:
    return (read(table, each, roles.position) for each in table.fragments if each.rows)


def _are_fractions(roles: ColumnRoles, table: str, parts: Iterable[pa.Table]) -> bool:
    for rows in parts:
        position = Columns(rows, table).points(roles.position)
        position = position[np.isfinite(position).all(axis=1)]
        if ((position < 0) | (position > 1)).any():
            break
        # Zeros and ones may be pixels or fractions.
        if (position % 1 > 0).any():
            return True
    return False


def find_roles(
    tables: Sequence[ParticleTable], params: DedupParams, micrographs: str | None = None
) -> list[ColumnRoles]:
    """Find the column for each role in each table, and how to match micrographs across the tables.

    `micrographs` is the path of the micrograph table, if there is one.
    """
    params.check_inputs((table.path for table in tables), micrographs)
    by_name = any(table.format == "coordinates" for table in tables)
    named = [(table.path, table.schema.names) for table in tables]
    scoreless = [table.path for table in tables if not has_scores(table)]
    roles = resolve_all(named, params, by_name=by_name, scoreless=scoreless)
    return with_pick_files(tables, roles)


def with_pick_files(
    tables: Sequence[ParticleTable], roles: Sequence[ColumnRoles]
) -> list[ColumnRoles]:
    """Return the roles with the pixel size of the positions and the shifts of pick files."""
    return [
        replace(
            role,
            own_psize=role.own_psize or bool(role.psize_mic and pixel_size_source(table)),
            binned=role.binned or (is_binned(table) and not role.overrides_psize),
            added_shift=shifts_of(table),
        )
        for table, role in zip(tables, roles, strict=True)
    ]


def resolve_all(
    tables: Sequence[tuple[str, Sequence[str]]],
    params: DedupParams,
    *,
    by_name: bool = False,
    scoreless: Collection[str] = (),
) -> list[ColumnRoles]:
    """Return the roles of all inputs, given the name and the column names of each input.

    For `by_name`, see `compare_roles`; for `scoreless`, see `check_min_scores`.
    """
    eased = allow_missing_scores(tables, params)
    roles = [resolve_roles(names, eased, table) for table, names in tables]
    check_min_scores(roles, [table for table, _ in tables], params, scoreless)
    check_directions(roles, [table for table, _ in tables], params)
    return compare_roles(roles, tables, params, by_name=by_name)


def allow_missing_scores(
    tables: Sequence[tuple[str, Sequence[str]]], params: DedupParams
) -> DedupParams:
    """Return the parameters with the score ``none`` for each input that lacks the score.

    An input may lack the score in two cases: another input has a score, or no score is used. In both cases, the
    parameter `score_field` must not have a value for this input alone.
    """
    found = {table: has_score(names, params.score_of(table)) for table, names in tables}
    if not any(found.values()) and not params.remove_entirely:
        return params
    lacking = [
        table
        for table, has in found.items()
        if not (has or params.names_input("score_field", table))
    ]
    return params.without_scores(lacking) if lacking else params


def compare_roles(
    roles: Sequence[ColumnRoles],
    tables: Sequence[tuple[str, Sequence[str]]],
    params: DedupParams,
    *,
    by_name: bool = False,
) -> list[ColumnRoles]:
    """Choose the method of matching micrographs across inputs. Return the roles with the columns for this method.

    Parameters
    ----------
    roles : sequence of ColumnRoles
    tables : sequence of (str, sequence of str)
        Name and column names of each input.
    params : DedupParams
    by_name : bool
        Whether to match micrographs by name if `match_micrographs` is ``auto``. True if an input is of pick
        files, because their names often have the name of the micrograph without its folder.

    Raises
    ------
    InputError
        If the micrographs or the positions cannot be compared.
    """
    check_positions(roles, [table for table, _ in tables], params)
    renames = bool(params.rename_micrographs or params.names_of_micrographs.pairs)
    if params.match_micrographs != "auto":
        match = params.match_micrographs
        if renames and match == "uid":
            name = "rename_micrographs" if params.rename_micrographs else "micrograph_map"
            raise InputError(
                f"{parameter(name)} changes names, but {parameter('match_micrographs', 'uid')} "
                f"ignores them. Pass {parameter('match_micrographs', 'path')} or "
                f"{parameter('match_micrographs', 'name')}."
            )
    elif not renames and all(role.micrograph == MICROGRAPH_UID for role in roles):
        match = "uid"
    else:
        by_name = by_name or len({role.convention for role in roles}) > 1
        match = "name" if by_name else "path"
    naming = Naming.of(params, match)
    matched = []
    for role, (table, columns) in zip(roles, tables, strict=True):
        column = role.micrograph
        path = None
        if match == "uid":
            column = MICROGRAPH_UID
            path = MICROGRAPH_PATH if len(tables) > 1 and MICROGRAPH_PATH in columns else None
        elif role.convention == "cryosparc":
            column = MICROGRAPH_PATH
        if column not in columns:
            raise InputError(
                f"{table}: has no column {column} to match micrographs by {match}. Add the "
                f"column, or choose another {parameter('match_micrographs')}."
            )
        _check_groups(params.group_columns, columns, table)
        matched.append(
            replace(
                role,
                micrograph=column,
                naming=naming.for_input(params, table),
                groups=params.group_columns,
                micrograph_path=path,
            )
        )
    return matched


def _check_groups(groups: Sequence[str], columns: Sequence[str], table: str) -> None:
    missing = next((name for name in groups if name not in columns), None)
    if missing is not None:
        raise InputError(
            f"{table}: has no column {missing}, which {parameter('group_by', missing)} needs. Add it, or "
            "pass a folder that has it as a hive key."
        )


def check_inputs(inputs: Inputs) -> None:
    """Check that every pixel size is known and that `flip_y` can be applied."""
    params, count = inputs.params, len(inputs.tables)
    known = next((job.path for job in inputs.psize_sources.values()), "")
    for table, roles in zip(inputs.tables, inputs.roles, strict=True):
        columns = () if table.format == "coordinates" else table.schema.names
        try:
            # A frame has no bytes, and the number of its rows is not known yet.
            if table.rows or not table.bytes:
                check_pixel_size(roles, params, inputs.micrographs, table.path, columns, known)
        except InputError:  # a pixel size does not help if the positions are fractions
            parts = _read_positions(table, roles)
            if roles.unit == "pixel" and _are_fractions(roles, table.path, parts):
                raise fractions_error(roles, table.path) from None
            raise
        if table.source in params.flip_y:
            check_flip(roles, params, inputs.micrographs, table.path)
    unknown = [source for source in params.flip_y if not 0 <= source < count]
    if unknown:
        raise InputError(
            f"{parameter('flip_y')} has input {unknown[0]}, but inputs are numbered from 0 "
            f"to {count - 1}."
        )

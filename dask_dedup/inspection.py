"""What is in particle tables, before a run: fields, problems, distances, and whether inputs fit together."""

from __future__ import annotations

import math
import os
import sys
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dask_dedup import checks, neighbours
from dask_dedup.columns import Columns
from dask_dedup.errors import InputError
from dask_dedup.formats import Fragment, StoredSchema, open_table, read
from dask_dedup.formats.table import Piece
from dask_dedup.micrographs import bare_name, micrograph_keys, read_micrographs
from dask_dedup.neighbours import Centres, Match, Neighbourhood, ShiftTest
from dask_dedup.params import DedupParams
from dask_dedup.rank import splitmix64
from dask_dedup.roles import (
    _OTHER_SCORES,
    check_flip,
    check_pixel_size,
    compare_roles,
    resolve_roles,
)
from dask_dedup.scan import Census, ScoreRange, extract, take_census
from dask_dedup.stages import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import ParticleTable
    from dask_dedup.micrographs import MicrographTable
    from dask_dedup.roles import Roles

#: Distances are measured on whole micrographs of about so many picks at most; everything is counted.
PICKS_MEASURED = 1_000_000
#: So many uids are compared; of more, a share chosen by hash, which repeated ones share.
UIDS_COMPARED = 20_000_000
#: Angstrom; partners are looked for within this where the parameters ask for equal coordinates.
_SEPARATION = 20.0
#: Coordinates beyond this are no coordinates, and would spoil every histogram.
_FARTHEST = 1e9
#: Stand in for a micrograph column that is not there; every value is null.
_STAND_INS = ("location/micrograph_path", "rlnMicrographName")
_FILAMENTS = ("filament/filament_uid", "rlnHelicalTubeID")
_SYMMETRY = ("sym_expand/src_uid",)
#: Parts that a run can do without, and the roles that make each up.
_DISPENSABLE = {
    "score": ("score",),
    "uid": ("uid",),
    "half-set": ("half",),
    "pixel size": ("psize_mic",),
    "shift": ("shift", "psize_shift", "subtomogram"),
}


@dataclass(frozen=True, slots=True)
class Score:
    """A column that a user may rank by.

    Attributes
    ----------
    field : str
        As the value of ``--score-field``.
    column : str
    used : bool
        Whether the parameters ask for it.
    least, greatest : float or None
        Without what stands for no score.
    warnings : tuple of str
    """

    field: str
    column: str
    used: bool
    least: float | None
    greatest: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InspectedInput:
    """What one input holds.

    Attributes
    ----------
    path, format, convention : str
    rows, files, bytes, micrographs : int
    per_micrograph : tuple of float
        Least, median and greatest number of particles.
    fields : dict of str to tuple of str
        Columns by the part they play; none where the part has no column.
    unit : {"A", "px"}
        Of all distances.
    pixel_size : tuple of float or None
        Least and greatest micrograph pixel size, angstrom.
    pixel_size_source : str
    scores : tuple of Score
    half_sets : dict of int to int
        Rows of each; -1 for none.
    neighbourhood : Neighbourhood or None
        None where no two particles could be measured.
    shift : ShiftTest or None
        None where there is no shift.
    """

    path: str
    format: str
    convention: str
    rows: int
    files: int
    bytes: int
    micrographs: int
    per_micrograph: tuple[float, float, float]
    fields: dict[str, tuple[str, ...]]
    unit: str
    pixel_size: tuple[float, float] | None
    pixel_size_source: str
    scores: tuple[Score, ...]
    half_sets: dict[int, int]
    neighbourhood: Neighbourhood | None
    shift: ShiftTest | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two inputs, by ordinal, and how they match; None where they share no micrograph."""

    one: int
    other: int
    match: Match | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found.

    Attributes
    ----------
    inputs : tuple of InspectedInput
    pairs : tuple of Pair
        Empty where the inputs cannot be compared.
    together : Neighbourhood or None
        Of all inputs as one, those in `flips` flipped.
    flips : tuple of int
        Ordinals of inputs whose y runs the other way.
    measured : dict of str to int
        Picks and micrographs that distances were measured on, and micrographs in all.
    problems : tuple of str
        What a run with the same parameters would refuse.
    warnings : tuple of str
    advice : tuple of str
    """

    inputs: tuple[InspectedInput, ...]
    pairs: tuple[Pair, ...]
    together: Neighbourhood | None
    flips: tuple[int, ...]
    measured: dict[str, int]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The findings as plain values, for JSON; what is not known is None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    def lines(self) -> list[str]:
        """The findings in words, for a terminal of 100 columns."""
        from dask_dedup.inspection_text import describe

        return describe(self)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            f"{key:g}" if isinstance(key, float) else str(key): _plain(part)
            for key, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, slots=True)
class _View:
    """How an input is measured.

    Attributes
    ----------
    roles : Roles
    params : DedupParams
    unit : str
    scores : dict of str to str
        Columns that hold scores, and their ``--score-field``.
    """

    roles: Roles
    params: DedupParams
    unit: str
    scores: dict[str, str]


@dataclass(slots=True)
class _Tally:
    """What the fragments of an input add up to."""

    counts: Counter[int] = field(default_factory=Counter)
    names: set[tuple[int, str]] = field(default_factory=set)
    half_sets: Counter[int] = field(default_factory=Counter)
    scores: dict[str, ScoreRange] = field(default_factory=dict)
    censuses: list[Census] = field(default_factory=list)
    sample: list[Centres] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Look:
    """What one fragment holds."""

    census: Census
    half_sets: Counter[int]
    scores: dict[str, ScoreRange]
    sample: Centres


def inspect(
    inputs: Sequence[str | Path] | str | Path,
    *,
    params: DedupParams | None = None,
    micrographs: str | Path | None = None,
) -> Inspection:
    """Tell what is in particle tables, what a run would make of them, and whether they fit together.

    Parameters
    ----------
    inputs : path or sequence of paths
        As for `run`.
    params : DedupParams, optional
        Which columns to look at; partners are looked for within its `min_separation`.
    micrographs : path, optional
        Table that gives each micrograph its pixel size and shape.

    Returns
    -------
    Inspection
        With what a run would refuse as `problems`. Without a pixel size, distances are in pixels
        and leave shifts out.

    Raises
    ------
    InputError
        If a table cannot be read or has no positions, or the parameters contradict the tables.
    """
    params = params or DedupParams()
    params = replace(
        params,
        min_separation=params.min_separation or _SEPARATION,
        undo_symmetry_expansion=False,
        ignore_within_filament=False,
    )
    paths = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    if not paths:
        raise InputError("no input: name at least one particle table")
    tables = [open_table(path, source) for source, path in enumerate(paths)]
    problems: list[str] = []
    roles, comparable = _find_roles(tables, params, problems)
    exposures = None
    if micrographs:
        exposures = read_micrographs(open_table(micrographs), match=roles[0].match)
    for table, role in zip(tables, roles, strict=True):
        if table.source in params.flip_y:
            check_flip(role, params, exposures, table.path)
        _note(problems, check_pixel_size, role, params, exposures, table.path)
    fragments = [fragment for table in tables for fragment in table.fragments]
    job = Job(
        tables=tuple(tables),
        fragments=tuple(replace(part, number=n) for n, part in enumerate(fragments)),
        roles=tuple(roles),
        params=params,
        micrographs=exposures,
        stored_schema=StoredSchema.of(pa.schema([])),
        native_names=(),
        staging="",
    )
    views = _views(job, comparable=comparable)
    tallies = _survey(job, views)
    for tally in tallies:
        for check in (checks.check_rows, checks.check_names, checks.check_uids):
            _note(problems, check, job, tally.censuses)
    censuses = [census for tally in tallies for census in tally.censuses]
    return _conclude(job, views, tallies, comparable, problems, checks.find_warnings(job, censuses))


def _note(problems: list[str], check: Callable[..., object], *arguments: Any) -> None:
    """Make a problem of what would be an error."""
    try:
        check(*arguments)
    except InputError as error:
        problems.append(str(error))


def _find_roles(
    tables: Sequence[ParticleTable], params: DedupParams, problems: list[str]
) -> tuple[list[Roles], bool]:
    """Find every input's columns, doing without what is missing, and whether the inputs compare."""
    found = [_roles_of(table, params, problems) for table in tables]
    names = [
        (table.path, [*table.schema.names, *_absent(table, role)])
        for table, role in zip(tables, found, strict=True)
    ]
    try:
        return compare_roles(found, names, params), True
    except InputError as error:
        if params.match_micrographs != "auto":
            raise
        problems.append(str(error))
        return found, False


def _absent(table: ParticleTable, roles: Roles) -> list[str]:
    return [name for name in roles.columns if name not in table.schema.names]


def _roles_of(table: ParticleTable, params: DedupParams, problems: list[str]) -> Roles:
    def attempt(without: Collection[str]) -> Roles:
        names = [*table.schema.names, *(_STAND_INS if "micrograph" in without else ())]
        eased = replace(
            params,
            score_field="none" if "score" in without else params.score_field,
            shift_key="none" if "shift" in without else params.shift_key,
        )
        return resolve_roles(names, eased, table.path)

    first = None
    parts = ("score", "shift", "micrograph")
    for without in (some for size in range(4) for some in combinations(parts, size)):
        try:
            roles = attempt(without)
        except InputError as error:
            first = first or error
            continue
        for part in without:
            _note(problems, attempt, set(without) - {part})
        return _readable(table, roles, problems)
    assert first is not None
    raise first


def _readable(table: ParticleTable, roles: Roles, problems: list[str]) -> Roles:
    """Do without the parts whose columns hold something else than they should."""
    bare = replace(roles, **{n: _NOTHING[n] for names in _DISPENSABLE.values() for n in names})
    place = Fragment(0, table.source, 0, 0, (Piece(table.path, 0, 0),))
    for names in _DISPENSABLE.values():
        alone = replace(bare, **{name: getattr(roles, name) for name in names})
        present = [name for name in alone.columns if name in table.schema.names]
        rows = pa.schema([table.schema.field(name) for name in present]).empty_table()
        before = len(problems)
        _note(
            problems,
            extract,
            _with_stand_ins(rows, alone.columns),
            place,
            alone,
            DedupParams(),
            None,
        )
        if len(problems) > before:
            roles = replace(roles, **{name: _NOTHING[name] for name in names})
    return roles

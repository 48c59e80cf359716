"""From a fragment's columns to picks, and a census of what was found on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup import geometry
from dask_dedup.columns import flags_of_nulls, floats, integers, vectors
from dask_dedup.micrographs import encode_names, hash_names, micrograph_keys
from dask_dedup.picks import NO_HALF, Picks, places
from dask_dedup.rank import SCORE_SENTINEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment
    from dask_dedup.micrographs import MicrographTable
    from dask_dedup.params import DedupParams
    from dask_dedup.roles import Roles

    Floats = NDArray[np.float64]

#: So many offending rows are named in a message.
NAMED_ROWS = 3
#: Bits of a stand-in uid that hold the row number in the input.
_SOURCE_BITS = np.uint64(48)


@dataclass(frozen=True, slots=True)
class Problem:
    """Rows that cannot be used.

    Attributes
    ----------
    what : str
        What is wrong with each, for a message: "have no finite position".
    column : str
    rows : int
        How many.
    first : tuple of int
        Row numbers in the fragment of the first few.
    """

    what: str
    column: str
    rows: int
    first: tuple[int, ...]


@dataclass(slots=True)
class _Problems:
    found: list[Problem] = field(default_factory=list)

    def note(self, bad: NDArray[np.bool_], what: str, column: str) -> None:
        rows = np.flatnonzero(bad)
        if rows.size:
            first = tuple(int(row) for row in rows[:NAMED_ROWS])
            self.found.append(Problem(what, column, rows.size, first))


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """What the scores of some rows look like."""

    rows: int
    missing: int
    sentinel: int
    zero: int
    low: float
    high: float

    @classmethod
    def of(cls, score: Floats) -> ScoreRange:
        """Look at the scores of one fragment."""
        sentinel = score == SCORE_SENTINEL
        usable = score[~(np.isnan(score) | sentinel)]
        return cls(
            rows=score.size,
            missing=int(np.isnan(score).sum()),
            sentinel=int(sentinel.sum()),
            zero=int((score == 0).sum()),
            low=float(usable.min()) if usable.size else np.inf,
            high=float(usable.max()) if usable.size else -np.inf,
        )

    def __add__(self, other: ScoreRange) -> ScoreRange:
        return ScoreRange(
            self.rows + other.rows,
            self.missing + other.missing,
            self.sentinel + other.sentinel,
            self.zero + other.zero,
            min(self.low, other.low),
            max(self.high, other.high),
        )


@dataclass(frozen=True, slots=True)
class Census:
    """What a fragment holds.

    Attributes
    ----------
    fragment, source, rows : int
    micrographs : (m,) uint64
        Keys, each once.
    counts : (m,) int64
        Rows of each.
    names : list of str
        Of the micrographs, in the same order; empty where the keys are uids.
    uids : (n,) uint64
        Sorted; empty where there are none.
    psize : tuple of float
        Least and greatest micrograph pixel size used, angstrom; NaN where none is.
    stored_psize : tuple of float
        The same of the table's own column.
    score : ScoreRange or None
    problems : list of Problem
    """

    fragment: int
    source: int
    rows: int
    micrographs: NDArray[np.uint64]
    counts: NDArray[np.int64]
    names: list[str]
    uids: NDArray[np.uint64]
    psize: tuple[float, float]
    stored_psize: tuple[float, float]
    score: ScoreRange | None
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class _Extract:
    picks: Picks
    problems: list[Problem]
    psize: Floats | None
    stored_psize: Floats | None


def read_picks(
    columns: pa.Table,
    fragment: Fragment,
    roles: Roles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> Picks:
    """Derive the picks of a fragment, in its row order.

    Parameters
    ----------
    columns : pyarrow.Table
        Has (at least) the columns of `roles`.
    fragment : Fragment
    roles : Roles
    params : DedupParams
    micrographs : MicrographTable or None
    """
    return _extract(columns, fragment, roles, params, micrographs).picks


def take_census(
    columns: pa.Table,
    fragment: Fragment,
    roles: Roles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> Census:
    """Count a fragment's rows by micrograph, and note what is wrong with any; see `read_picks`."""
    extract = _extract(columns, fragment, roles, params, micrographs)
    column = columns.column(roles.micrograph)
    names: list[str] = []
    if pa.types.is_integer(column.type):
        keys, counts = np.unique(extract.picks.micrograph, return_counts=True)
    else:
        codes, names = encode_names(column)
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        present = np.flatnonzero(counts)
        names = [names[code] for code in present]
        keys, counts = hash_names(names), counts[present]
    uids = np.sort(extract.picks.uid) if roles.uid else np.empty(0, np.uint64)
    return Census(
        fragment=fragment.number,
        source=fragment.source,
        rows=fragment.rows,
        micrographs=keys,
        counts=counts.astype(np.int64),
        names=names,
        uids=uids,
        psize=_range(extract.psize),
        stored_psize=_range(extract.stored_psize),
        score=ScoreRange.of(extract.picks.score) if roles.score else None,
        problems=extract.problems,
    )


def _range(values: Floats | None) -> tuple[float, float]:
    usable = np.empty(0) if values is None else values[np.isfinite(values)]
    return (float(usable.min()), float(usable.max())) if usable.size else (np.nan, np.nan)


def _extract(
    columns: pa.Table,
    fragment: Fragment,
    roles: Roles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> _Extract:
    n = columns.num_rows
    table = fragment.pieces[0].path if fragment.pieces else "the table"
    problems = _Problems()

    named = columns.column(roles.micrograph)
    unnamed = flags_of_nulls(named)
    problems.note(unnamed, "have no micrograph", roles.micrograph)
    keys = micrograph_keys(named)

    stored_psize = floats(columns.column(roles.psize_mic)) if roles.psize_mic else None
    row_in_table = None
    if micrographs is not None:
        row_in_table = micrographs.find(keys)
        absent = (row_in_table < 0) & ~unnamed
        problems.note(
            absent, f"are on a micrograph missing from {micrographs.path}", roles.micrograph
        )
        psize = np.append(micrographs.psize, np.nan)[row_in_table]
    elif stored_psize is not None:
        psize = stored_psize
        bad = ~(np.isfinite(psize) & (psize > 0))
        if needs_pixel_size(roles, params):
            problems.note(bad, "have no pixel size above 0", roles.psize_mic or "")
    elif params.micrograph_pixel_size is not None:
        psize = np.full(n, params.micrograph_pixel_size)
    else:
        psize = np.full(n, np.nan)

    stored = np.column_stack([floats(columns.column(name)) for name in roles.position])
    lost = ~np.isfinite(stored).all(axis=1)
    problems.note(lost, "have no finite position", " ".join(roles.position))
    shift, psize_shift = _shift(columns, roles, table, problems)
    with np.errstate(invalid="ignore", over="ignore"):
        if not needs_pixel_size(roles, params):
            centres = stored if shift is None else stored - shift * psize_shift[:, np.newaxis]
        else:
            pixels = stored
            if roles.unit == "fraction":
                shape = _shape(columns, roles, table, micrographs, row_in_table)
                empty = ~(np.isfinite(shape) & (shape > 0)).all(axis=1)
                problems.note(empty & ~lost, "have no micrograph shape above 0", roles.shape or "")
                pixels = geometry.pixels_from_fractions(stored, shape)
            centres = geometry.centres_in_angstrom(pixels, psize, shift, psize_shift)
    centres += 0.0

    score = floats(columns.column(roles.score)) if roles.score else np.full(n, np.nan)
    if roles.uid:
        uid = integers(columns.column(roles.uid))
        problems.note(flags_of_nulls(columns.column(roles.uid)), "have no uid", roles.uid)
    else:
        first = np.uint64((fragment.source << int(_SOURCE_BITS)) + fragment.first_row)
        uid = first + np.arange(n, dtype=np.uint64)
    half = np.full(n, NO_HALF, dtype=np.int8)
    if roles.half:
        values = floats(columns.column(roles.half))
        np.copyto(
            half, values, where=np.isfinite(values) & (np.abs(values) < 127), casting="unsafe"
        )
    picks = Picks(
        micrograph=keys,
        x=np.ascontiguousarray(centres[:, 0]),
        y=np.ascontiguousarray(centres[:, 1]),
        z=np.ascontiguousarray(centres[:, 2]) if centres.shape[1] > 2 else np.zeros(n),
        score=score,
        uid=uid,
        place=places(fragment.number, n),
        source=np.full(n, fragment.source, dtype=np.uint16),
        half=half,
    )
    used = psize if needs_pixel_size(roles, params) else None
    return _Extract(picks, problems.found, used, stored_psize)


def needs_pixel_size(roles: Roles, params: DedupParams) -> bool:
    """Tell whether the micrograph pixel size matters.

    Coordinates in angstrom need none; at separation 0 without a shift the stored coordinates are
    compared as they are.
    """
    if roles.unit == "angstrom":
        return False
    return params.min_separation > 0 or bool(roles.shift)


def _shift(
    columns: pa.Table, roles: Roles, table: str, problems: _Problems
) -> tuple[Floats | None, Floats | None]:
    """Give the (n, d) shift and the (n,) pixel size it is in (1 for angstrom)."""
    if not roles.shift:
        return None, None
    if len(roles.shift) == 1:
        shift = vectors(columns.column(roles.shift[0]), 2, table, roles.shift[0])
    else:
        shift = np.column_stack([floats(columns.column(name)) for name in roles.shift])
    problems.note(~np.isfinite(shift).all(axis=1), "have no finite shift", " ".join(roles.shift))
    psize = np.ones(columns.num_rows)
    if roles.psize_shift:
        psize = floats(columns.column(roles.psize_shift))
        bad = ~(np.isfinite(psize) & (psize > 0))
        problems.note(bad, "have no pixel size above 0", roles.psize_shift)
    if roles.subtomogram:
        angles = np.column_stack([floats(columns.column(name)) for name in roles.subtomogram])
        lost = ~np.isfinite(angles).all(axis=1)
        problems.note(lost, "have no finite angle", " ".join(roles.subtomogram))
        shift = geometry.rotate_subtomogram_shift(shift * psize[:, np.newaxis], angles)
        psize = np.ones(columns.num_rows)
    return shift, psize


def _shape(
    columns: pa.Table,
    roles: Roles,
    table: str,
    micrographs: MicrographTable | None,
    row_in_table: NDArray[np.intp] | None,
) -> Floats:
    """Give each row's micrograph shape, (n, 2) as (ny, nx)."""
    if roles.shape:
        return vectors(columns.column(roles.shape), 2, table, roles.shape)
    if micrographs is None or micrographs.shape is None or row_in_table is None:
        return np.full((columns.num_rows, 2), np.nan)
    return np.vstack([micrographs.shape, [[np.nan, np.nan]]])[row_in_table]

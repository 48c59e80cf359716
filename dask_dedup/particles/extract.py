"""From a fragment's columns to picks, and a census of what was found on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.arrow import unique_inverse
from dask_dedup.dedup.arrays import all_of
from dask_dedup.dedup.picks import NO_HALF, Picks, row_ids
from dask_dedup.particles import geometry
from dask_dedup.particles.columns import Columns
from dask_dedup.particles.conventions import needs_pixel_size
from dask_dedup.particles.invalid import Reason, count_reasons
from dask_dedup.particles.micrographs import keys_of_names, micrograph_keys
from dask_dedup.particles.score_range import ScoreRange
from dask_dedup.particles.validity import Problem, Problems, not_finite, not_positive, rows_with_any

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import Fragment
    from dask_dedup.particles.conventions import ColumnRoles
    from dask_dedup.particles.micrographs import MicrographTable

    Floats = NDArray[np.float64]

#: Angstrom; a ten-thousandth of this is a large micrograph.
FARTHEST = 1e9
#: Bits of a stand-in uid that hold the row number in the input.
_SOURCE_BITS = np.uint64(48)


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """What a fragment holds.

    Attributes
    ----------
    fragment, source, rows : int
    micrographs : (m,) uint64
        Keys, each once. Where invalid rows do not stop a run, they count for none.
    counts : (m,) int64
        Rows of each.
    names : list of (int, str)
        Every name with its key; more than one where bare names are compared, none for uids.
    uids : (n,) uint64
        Sorted, of all rows that have one.
    psize : tuple of float
        Least and greatest micrograph pixel size used, angstrom; NaN where none is.
    stored_psize : tuple of float
        The same of the table's own column.
    score : ScoreRange or None
    problems : list of Problem
    oddities : list of Problem
        Of valid rows, to be warned of.
    invalid : dict of str to int
        Rows that cannot be compared, by the first reason.
    """

    fragment: int
    source: int
    rows: int
    micrographs: NDArray[np.uint64]
    counts: NDArray[np.int64]
    names: list[tuple[int, str]]
    uids: NDArray[np.uint64]
    psize: tuple[float, float]
    stored_psize: tuple[float, float]
    score: ScoreRange | None
    problems: list[Problem]
    oddities: list[Problem] = field(default_factory=list)
    invalid: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Extract:
    """The picks of some rows, and what is wrong with any.

    Attributes
    ----------
    picks : Picks
        In the order of the rows.
    names : list of str
        Distinct names of the micrographs, if they go by name.
    problems, oddities : list of Problem
        Of invalid rows, which `Picks.invalid` marks, and of valid ones.
    psize, stored_psize : (n,) float64 or None
        Micrograph pixel size used, and that of the table's own column, angstrom.
    """

    picks: Picks
    names: list[str]
    problems: list[Problem]
    oddities: list[Problem]
    psize: Floats | None
    stored_psize: Floats | None


def read_picks(
    rows: pa.Table,
    fragment: Fragment,
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> Picks:
    """Derive the picks of a fragment, in its row order.

    Parameters
    ----------
    rows : pyarrow.Table
        Has (at least) the columns of `roles`.
    fragment : Fragment
    roles : Roles
    params : DedupParams
    micrographs : MicrographTable or None
    """
    return extract(rows, fragment, roles, params, micrographs).picks


def summarize_fragment(
    rows: pa.Table,
    fragment: Fragment,
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> ScanSummary:
    """Count a fragment's rows by micrograph, and note what is wrong with any; see `read_picks`."""
    return count(extract(rows, fragment, roles, params, micrographs), fragment, roles, params)


def count(
    found: Extract, fragment: Fragment, roles: ColumnRoles, params: DedupParams
) -> ScanSummary:
    """Make the census of a fragment from what was extracted of it."""
    picks = found.picks
    # Where they are an error, what they would count for is told all the same.
    lost = Reason.MICROGRAPH if params.invalid == "error" else ~Reason(0)
    compared = (picks.invalid & np.uint16(lost)) == 0
    keys, number = unique_inverse(_those(picks.micrograph, compared))
    keyed = keys_of_names(found.names, roles.match).tolist()
    named = (picks.invalid & np.uint16(Reason.MICROGRAPH)) == 0
    # Also of rows that are not compared: names clash or not, whichever fragment they are in.
    present = {*keys.tolist(), *np.unique(picks.micrograph[named & ~compared]).tolist()}
    names = [pair for pair in zip(keyed, found.names, strict=True) if pair[0] in present]
    uids = np.empty(0, np.uint64)
    if roles.uid:
        uids = np.sort(_those(picks.uid, (picks.invalid & np.uint16(Reason.UID)) == 0))
    return ScanSummary(
        fragment=fragment.number,
        source=fragment.source,
        rows=fragment.rows,
        micrographs=keys,
        counts=np.bincount(number, minlength=keys.size),
        names=names,
        uids=uids,
        psize=_range(found.psize, compared),
        stored_psize=_range(found.stored_psize, compared),
        score=ScoreRange.of(_those(picks.score, compared)) if roles.score else None,
        problems=found.problems,
        oddities=found.oddities,
        invalid=count_reasons(picks.invalid),
    )


def _those(values: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """Select values; mostly all are, which is quick to see."""
    return values if chosen.all() else values[chosen]


def _range(values: Floats | None, compared: NDArray[np.bool_]) -> tuple[float, float]:
    usable = np.empty(0) if values is None else _those(values, compared)
    usable = usable[np.isfinite(usable)]
    return (float(usable.min()), float(usable.max())) if usable.size else (np.nan, np.nan)


def extract(
    rows: pa.Table,
    fragment: Fragment,
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> Extract:
    """Derive the picks of a fragment and note what is wrong with any; see `read_picks`."""
    n = rows.num_rows
    columns = Columns(rows, "the table")
    if fragment.slices:
        columns = Columns(rows, fragment.slices[0].path, fragment.locate)
    problems = Problems(all_of(np.uint16(0), n))

    keys, names = micrograph_keys(columns, roles.micrograph, roles.match)
    unnamed = columns.nulls(roles.micrograph)
    if "" in names:
        # Formats without nulls have an empty name instead.
        codes, texts = columns.texts(roles.micrograph)
        unnamed = unnamed | (codes == texts.index(""))
    problems.note(unnamed, Reason.MICROGRAPH, "have no micrograph", roles.micrograph)

    stored_psize = columns.floats(roles.psize_mic) if roles.psize_mic else None
    row_in_table = None
    absent = np.zeros(n, dtype=bool)
    if micrographs is not None:
        row_in_table = micrographs.find(keys)
        absent = (row_in_table < 0) & ~unnamed
        missing = f"are on a micrograph missing from {micrographs.path}"
        problems.note(absent, Reason.UNKNOWN_MICROGRAPH, missing, roles.micrograph)
        psize = np.append(micrographs.psize, np.nan)[row_in_table]
    elif stored_psize is not None:
        psize = stored_psize
        if needs_pixel_size(roles, params):
            problems.note_pixel_sizes(psize, roles.psize_mic or "")
    elif params.micrograph_pixel_size is not None:
        psize = np.full(n, params.micrograph_pixel_size)
    else:
        psize = np.full(n, np.nan)

    stored = columns.points(roles.position)
    position = " ".join(roles.position)
    problems.note(not_finite(stored), Reason.POSITION, "have no finite position", position)
    outside = _outside(stored, roles, micrographs, row_in_table)
    shift, psize_shift = _shift(columns, roles, problems)
    if fragment.source in params.flip_y:
        height = _height(roles, params, micrographs, row_in_table)
        if isinstance(height, np.ndarray):
            what = "have no micrograph height above 0"
            problems.note(not_positive(height) & ~absent, Reason.SHAPE, what, "")
        stored[:, 1] = height - stored[:, 1]
        if shift is not None:
            shift[:, 1] *= -1
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if not needs_pixel_size(roles, params):
            centres = stored
            if shift is not None and psize_shift is not None:
                centres = stored - shift * psize_shift[:, np.newaxis]
        else:
            pixels = stored
            if roles.unit == "fraction":
                shape = _shape(columns, roles, micrographs, row_in_table)
                empty = not_positive(shape) & (problems.invalid == 0)
                what = "have no micrograph shape above 0"
                problems.note(empty, Reason.SHAPE, what, roles.shape or "")
                pixels = geometry.pixels_from_fractions(stored, shape)
            centres = geometry.centres_in_angstrom(pixels, psize, shift, psize_shift)
    # Adding 0.0 turns -0.0 into 0.0.
    centres += 0.0
    absurd = rows_with_any(~(np.abs(centres) <= FARTHEST)) & (problems.invalid == 0)
    if needs_pixel_size(roles, params) and stored_psize is None and row_in_table is None:
        # Without any pixel size, as in an inspection, there is no telling.
        absurd &= np.isfinite(psize)
    problems.note(absurd, Reason.TOO_FAR, f"lie more than {FARTHEST:.0e} A away", position)

    score = columns.floats(roles.score) if roles.score else all_of(np.nan, n)
    if roles.uid:
        uid = columns.integers(roles.uid)
        problems.note(columns.nulls(roles.uid), Reason.UID, "have no uid", roles.uid)
    else:
        first = np.uint64((fragment.source << int(_SOURCE_BITS)) + fragment.first_row)
        uid = first + np.arange(n, dtype=np.uint64)
    half = all_of(np.int8(NO_HALF), n)
    if roles.half:
        values, half = columns.floats(roles.half), half.copy()
        np.copyto(
            half, values, where=np.isfinite(values) & (np.abs(values) < 127), casting="unsafe"
        )
    label = _labels(columns, roles, params, fragment.source, problems)
    picks = Picks(
        micrograph=keys,
        x=np.ascontiguousarray(centres[:, 0]),
        y=np.ascontiguousarray(centres[:, 1]),
        z=np.ascontiguousarray(centres[:, 2]) if centres.shape[1] > 2 else all_of(0.0, n),
        score=score,
        uid=uid,
        row_id=row_ids(fragment.number, n),
        source=all_of(np.uint16(fragment.source), n),
        half=half,
        label=label,
        invalid=problems.invalid,
    )
    bounds = "0 to 1" if roles.unit == "fraction" else "the micrograph's shape"
    oddities = Problem.of(
        outside & (problems.invalid == 0),
        f"lie off their micrograph, beyond {bounds}",
        position,
    )
    used = psize if needs_pixel_size(roles, params) else None
    return Extract(picks, names, problems.found, oddities, used, stored_psize)


def _labels(
    columns: Columns, roles: ColumnRoles, params: DedupParams, source: int, problems: Problems
) -> NDArray[np.int64]:
    """Give the filament, or the symmetry copies' source, of each row; -1 for none."""
    none = all_of(np.int64(-1), len(columns))
    if not roles.label:
        return none
    absent = columns.nulls(roles.label)
    label = columns.integers(roles.label).view(np.int64)
    if params.undo_symmetry_expansion:
        problems.note(absent, Reason.SOURCE, "have no source", roles.label)
        return label
    if roles.convention == "relion":
        # RELION numbers the tubes of each input anew.
        label = (label & 0xFFFFFFFF) + (source << 32)
    return np.where(absent, none, label & 0x7FFFFFFFFFFFFFFF)


def _shift(
    columns: Columns, roles: ColumnRoles, problems: Problems
) -> tuple[Floats | None, Floats | None]:
    """Give the (n, d) shift and the (n,) pixel size it is in (1 for angstrom)."""
    if not roles.shift:
        return None, None
    shift = (
        columns.vectors(roles.shift[0], 2) if len(roles.shift) == 1 else columns.points(roles.shift)
    )
    lost = not_finite(shift)
    problems.note(lost, Reason.SHIFT, "have no finite shift", " ".join(roles.shift))
    psize = np.ones(len(columns))
    if roles.psize_shift:
        psize = columns.floats(roles.psize_shift)
        problems.note_pixel_sizes(psize, roles.psize_shift)
    if roles.subtomogram:
        angles = columns.points(roles.subtomogram)
        lost = not_finite(angles)
        problems.note(lost, Reason.ANGLE, "have no finite angle", " ".join(roles.subtomogram))
        angles[lost] = 0.0
        shift = geometry.rotate_subtomogram_shift(shift * psize[:, np.newaxis], angles)
        psize = np.ones(len(columns))
    return shift, psize


def _outside(
    stored: Floats,
    roles: ColumnRoles,
    micrographs: MicrographTable | None,
    row_in_table: NDArray[np.intp] | None,
) -> NDArray[np.bool_]:
    """Tell which positions lie off their micrograph, as far as its extent is known."""
    extent: Floats | float = 1.0
    if roles.unit == "angstrom":
        return np.zeros(len(stored), dtype=bool)
    if roles.unit == "pixel":
        if micrographs is None or micrographs.shape is None or row_in_table is None:
            return np.zeros(len(stored), dtype=bool)
        shape = np.vstack([micrographs.shape, [[np.nan, np.nan]]])[row_in_table]
        stored, extent = stored[:, :2], np.where(shape > 0, shape, np.nan)[:, ::-1]
    # A comparison with what is not known, NaN, is false.
    with np.errstate(invalid="ignore"):
        return rows_with_any((stored < 0) | (stored > extent))


def _height(
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
    row_in_table: NDArray[np.intp] | None,
) -> Floats | float:
    """Give the sum of a y coordinate and its mirror image, in the unit of the stored position."""
    if roles.unit != "pixel":
        # Fractions run from 0 to 1; centred coordinates lie around 0.
        return 1.0 if roles.unit == "fraction" else 0.0
    if micrographs is not None and micrographs.shape is not None and row_in_table is not None:
        return np.append(micrographs.shape[:, 0], np.nan)[row_in_table]
    return float(params.micrograph_height or np.nan)


def _shape(
    columns: Columns,
    roles: ColumnRoles,
    micrographs: MicrographTable | None,
    row_in_table: NDArray[np.intp] | None,
) -> Floats:
    """Give each row's micrograph shape, (n, 2) as (ny, nx)."""
    if micrographs is not None and micrographs.shape is not None and row_in_table is not None:
        # The pixel size comes from there, too, and the two belong together.
        return np.vstack([micrographs.shape, [[np.nan, np.nan]]])[row_in_table]
    if roles.shape:
        return columns.vectors(roles.shape, 2)
    return np.full((len(columns), 2), np.nan)

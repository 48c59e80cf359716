"""Extract picks from the rows of a fragment, and mark the rows that cannot be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dask_dedup.dedup.arrays import constant_column
from dask_dedup.dedup.limits import FARTHEST
from dask_dedup.dedup.picks import NO_HALF, Picks, row_ids
from dask_dedup.dedup.rank import SCORE_SENTINEL
from dask_dedup.hints import parameter
from dask_dedup.particles import geometry
from dask_dedup.particles.checks.filaments import find_tubes
from dask_dedup.particles.column_roles import needs_pixel_size
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.content_hash import content_hash
from dask_dedup.particles.micrographs.row_keys import RowMicrographs
from dask_dedup.particles.pixel_sizes import (
    IMAGE,
    TOLERANCE,
    UNKNOWN,
    describe_unclear_rows,
    find_pixel_sizes,
)
from dask_dedup.particles.validity import (
    Problem,
    Problems,
    Reason,
    not_finite,
    not_positive,
    rows_with_any,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import Fragment
    from dask_dedup.particles.checks.filaments import Tubes
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.micrographs.table import MicrographTable
    from dask_dedup.particles.pixel_sizes import PixelSizes, UnclearRows

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Extract:
    """The picks of a fragment, in row order, and the problems found in its rows."""

    picks: Picks
    #: Micrographs of all rows.
    micrographs: RowMicrographs
    #: Problems of invalid rows. ``picks.invalid`` marks these rows and rows with a low score.
    problems: list[Problem]
    #: Problems of valid rows, for warnings.
    oddities: list[Problem]
    #: Pixel sizes of the coordinates.
    sizes: PixelSizes
    #: (n,) pixel size used, angstrom. None if no pixel size is needed.
    psize: Floats | None
    #: (n, 2) micrograph shape (ny, nx) in pixels, used to convert positions in fractions.
    shape: Floats | None
    #: (n,) mask of the rows with pixel coordinates that are fractions from 0 to 1. None if there are none.
    fractional: NDArray[np.bool_] | None
    #: Whether all coordinates are 0.
    zero_filled: bool
    #: Minimum and maximum stored RELION coordinate. NaN if all are 0 or 1.
    coordinates: tuple[float, float]
    #: Summary of the rows with an unclear pixel size. None if there are none.
    unclear_rows: UnclearRows | None
    #: The filaments, if they have track lengths.
    tubes: Tubes | None


def extract(
    rows: pa.Table,
    fragment: Fragment,
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> Extract:
    """Extract the picks of a fragment from its rows. `rows` must have all columns of `roles`."""
    columns = Columns(rows, "the table")
    if fragment.slices:
        columns = Columns(rows, fragment.slices[0].path, fragment.locate)
    reader = _Reader(columns, roles, params, Problems(constant_column(np.uint16(0), len(columns))))
    known = reader.micrographs(micrographs)
    score = reader.score()
    position = reader.finite(roles.position, Reason.POSITION)
    outside = _is_outside(position, roles, known)
    coordinates = _range_of(position) if roles.convention == "relion" else (np.nan, np.nan)
    fractional = _fractional(position) if roles.unit == "pixel" else None
    zero_filled = bool(len(position)) and not position.any()
    shift = reader.shift()
    if fragment.source in params.flip_y:
        reader.flip_y(position, shift, known)
    shape = None
    if roles.unit in ("fraction", "volume") and needs_pixel_size(roles, params):
        shape = reader.shape(known)
    x, y, *z = map(np.ascontiguousarray, reader.centres(position, shift, known, shape).T)
    picks = Picks(
        micrograph=known.rows.keys,
        x=x,
        y=y,
        z=z[0] if z else constant_column(0.0, len(rows)),
        score=score,
        uid=reader.uid(),
        row_id=row_ids(fragment.number, len(rows)),
        source=constant_column(np.uint16(fragment.source), len(rows)),
        half=reader.half(),
        label=reader.label(fragment.source),
        invalid=reader.problems.invalid,
    )
    bounds = "0 to 1" if roles.unit in ("fraction", "volume") else "the micrograph's shape"
    oddities = Problem.of(
        outside & (picks.invalid == 0),
        f"are outside the micrograph (beyond {bounds})",
        " ".join(roles.position),
    )
    psize = unclear = None
    if needs_pixel_size(roles, params):
        psize = known.sizes.used
        unclear = describe_unclear_rows(known.sizes, position, known.rows.keys)
    return Extract(
        picks=picks,
        micrographs=known.rows,
        problems=reader.problems.found,
        oddities=oddities,
        sizes=known.sizes,
        psize=psize,
        shape=shape if roles.unit == "fraction" else None,
        fractional=fractional,
        zero_filled=zero_filled,
        coordinates=coordinates,
        unclear_rows=unclear,
        tubes=reader.tubes(picks),
    )


class _Micrographs(NamedTuple):
    """Micrograph, pixel size and shape for each row of a fragment."""

    rows: RowMicrographs
    sizes: PixelSizes
    #: (n, 2) micrograph shape (ny, nx) from the micrograph table, pixels.
    shape: Floats | None
    #: (n, 3) tomogram shape (nz, ny, nx) from the micrograph table, pixels.
    volume: Floats | None
    #: (n, 3) tomogram shape in angstrom.
    size: Floats | None
    #: (n,) mask of the rows with a micrograph that is missing from the micrograph table.
    missing: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reader of the columns of one fragment. It records invalid rows in `problems`."""

    columns: Columns
    roles: ColumnRoles
    params: DedupParams
    problems: Problems

    def micrographs(self, table: MicrographTable | None) -> _Micrographs:
        columns, roles = self.columns, self.roles
        rows = RowMicrographs.of(columns, roles)
        unnamed = rows.missing
        self.problems.note(unnamed, Reason.MICROGRAPH, "have no micrograph", roles.micrograph)
        shape = volume = size = None
        missing, of_table = np.zeros(len(columns), dtype=bool), None
        if table is not None:
            row = table.find(rows)
            missing = (row < 0) & ~unnamed
            what = f"are on a micrograph missing from {table.path}"
            self.problems.note(missing, Reason.UNKNOWN_MICROGRAPH, what, roles.micrograph)
            of_table, shape = table.psize_at(row), table.shape_at(row)
            volume = table.volume_at(row)
            if volume is not None:
                size = volume * of_table[:, np.newaxis]
            if roles.binned:
                of_table = table.binned_at(row)
        sizes = find_pixel_sizes(columns, roles, of_table)
        if needs_pixel_size(roles, self.params):
            # An inspection also reads tables without any pixel size.
            known = ~missing if roles.image else ~missing & (sizes.source != UNKNOWN)
            if roles.image:
                of_image = sizes.source == IMAGE
                self.problems.note_pixel_sizes(sizes.used, roles.image.psize, known & of_image)
                known &= ~of_image
            column = roles.psize_mic or ""
            option = "coordinate_pixel_size" if roles.binned else "micrograph_pixel_size"
            self.problems.note_pixel_sizes(sizes.used, column, known, option)
        return _Micrographs(rows, sizes, shape, volume, size, missing)

    def score(self) -> Floats:
        """Return the (n,) scores, NaN if there are none. Mark rows with a score worse than `min_score`."""
        if self.roles.score is None:
            return constant_column(np.nan, len(self.columns))
        score, limit = self.columns.floats(self.roles.score), self.roles.min_score
        if limit is not None:
            worse = score < limit if self.roles.higher_is_better else score > limit
            self.problems.set_aside(worse & (score != SCORE_SENTINEL), Reason.SCORE)
        return score

    def finite(self, names: tuple[str, ...], reason: Reason) -> Floats:
        """Read d numbers per row as (n, d) float64. Mark rows with NaN or infinity as invalid."""
        vector = len(names) == 1
        values = self.columns.vectors(names[0], 2) if vector else self.columns.points(names)
        what = f"have no finite {str(reason.name).lower()}"
        self.problems.note(not_finite(values), reason, what, " ".join(names))
        return values

    def shift(self) -> Floats | None:
        """Return the (n, d) alignment shift in angstrom. Return None if no shift is applied."""
        roles = self.roles
        if not roles.shift:
            return None
        shift = self.finite(roles.shift, Reason.SHIFT)
        psize = self.shift_psize()
        if psize is not None:
            with np.errstate(invalid="ignore", over="ignore"):
                shift *= psize[:, np.newaxis]
        if roles.subtomogram:
            angles = self.finite(roles.subtomogram, Reason.ANGLE)
            angles[not_finite(angles)] = 0.0
            shift = geometry.rotate_subtomogram_shift(shift, angles)
        return shift

    def shift_psize(self) -> Floats | None:
        """Return the (n,) pixel size of the shift. Return None for shifts in angstrom."""
        name, given = self.roles.psize_shift, self.roles.given_psize_shift
        if name is None:
            return None if given is None else np.full(len(self.columns), given)
        psize, option = self.columns.floats(name), ""
        if self.roles.convention == "relion":
            option = "particle_pixel_size"
        if given is not None:
            psize = np.where(psize > 0, psize, given)
            wrong = np.abs(psize / given - 1) > TOLERANCE
            what = f"have a pixel size that contradicts {parameter(option, f'{given:g}')}"
            self.problems.note(wrong, Reason.PIXEL_SIZE, what, name, psize)
        self.problems.note_pixel_sizes(psize, name, option=option)
        return psize

    def flip_y(self, position: Floats, shift: Floats | None, known: _Micrographs) -> None:
        """Mirror the y axis of positions and shifts, in place: y becomes the micrograph height minus y."""
        height: Floats | float
        if self.roles.unit in ("fraction", "volume"):
            height = 1.0
        elif self.roles.unit == "angstrom":  # centred coordinates
            height = 0.0
        elif known.shape is not None:
            height = known.shape[:, 0]
            bad = not_positive(height) & ~known.missing
            self.problems.note(bad, Reason.SHAPE, "have no micrograph height above 0", "")
        else:
            height = float(self.params.micrograph_height or np.nan)
        position[:, 1] = height - position[:, 1]
        if shift is not None:
            shift[:, 1] *= -1

    def centres(
        self, position: Floats, shift: Floats | None, known: _Micrographs, shape: Floats | None
    ) -> Floats:
        """Return the (n, d) particle centres in angstrom, or in the stored unit if no pixel size is needed."""
        roles, problems = self.roles, self.problems
        in_pixels = needs_pixel_size(roles, self.params)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            if not in_pixels:
                centres = position if shift is None else position - shift
            else:
                if shape is not None:
                    position = geometry.pixels_from_fractions(position, shape)
                centres = geometry.centres_in_angstrom(position, known.sizes.used, shift)
        centres += 0.0  # turns -0.0 into 0.0
        absurd = rows_with_any(~(np.abs(centres) <= FARTHEST)) & (problems.invalid == 0)
        if in_pixels:
            # An inspection allows tables without any pixel size. Then the distance is unknown.
            absurd &= known.sizes.source != UNKNOWN
        what = f"are more than {FARTHEST:.0e} A away"
        problems.note(absurd, Reason.TOO_FAR, what, " ".join(roles.position))
        return centres

    def shape(self, known: _Micrographs) -> Floats:
        """Return the shape of each row's micrograph (ny, nx) or tomogram (nz, ny, nx)."""
        if self.roles.unit == "volume":
            width = len(self.roles.position)
            shape = np.full((len(self.columns), width), np.nan)
            if known.volume is not None:
                shape = known.volume
        elif known.shape is not None:  # from the same table as the pixel size
            shape = known.shape
        elif self.roles.shape:
            shape = self.columns.vectors(self.roles.shape, 2)
        else:
            shape = np.full((len(self.columns), 2), np.nan)
        bad = not_positive(shape) & (self.problems.invalid == 0)
        what = "have no micrograph shape above 0"
        self.problems.note(bad, Reason.SHAPE, what, self.roles.shape or "")
        return shape

    def uid(self) -> NDArray[np.uint64]:
        """Return the (n,) uids, or the content hashes of a table without uids."""
        name = self.roles.uid
        if name is None:
            return content_hash(self.columns, self.roles)
        self.problems.note(self.columns.nulls(name), Reason.UID, "have no uid", name)
        return self.columns.integers(name)

    def half(self) -> NDArray[np.int8]:
        half = constant_column(np.int8(NO_HALF), len(self.columns))
        if not self.roles.half:
            return half
        values, half = self.columns.floats(self.roles.half), half.copy()
        usable = np.isfinite(values) & (np.abs(values) < 127)
        np.copyto(half, values, where=usable, casting="unsafe")
        return half

    def label(self, source: int) -> NDArray[np.int64]:
        """Return the (n,) labels: filaments or uids of symmetry sources, by the parameters. -1 means no label."""
        none, name = constant_column(np.int64(-1), len(self.columns)), self.roles.label
        if not name:
            return none
        absent = self.columns.nulls(name)
        label = self.columns.integers(name).view(np.int64)
        if self.params.undo_symmetry_expansion:
            self.problems.note(absent, Reason.SOURCE, "have no source", name)
            return label
        if self.roles.convention == "relion":  # RELION numbers the tubes of each input from 1
            label = (label & 0xFFFFFFFF) + (source << 32)
        return np.where(absent, none, label & 0x7FFFFFFFFFFFFFFF)

    def tubes(self, picks: Picks) -> Tubes | None:
        name = self.roles.track
        if name is None:
            return None
        in_angstrom = self.params.measures and name.endswith("Angst")
        return find_tubes(picks, self.columns.floats(name), in_angstrom=in_angstrom)


def _fractional(position: Floats) -> NDArray[np.bool_] | None:
    within = ((position >= 0) & (position <= 1)).all(axis=1)
    if not within.any():  # the usual case
        return None
    return np.asarray(within & (position % 1 > 0).any(axis=1))


def _range_of(position: Floats) -> tuple[float, float]:
    """Return the minimum and maximum coordinate, or NaN if all are 0 or 1, which may be pixels or fractions."""
    if not position.size:
        return np.nan, np.nan
    low, high = float(position.min()), float(position.max())
    if low >= 0 and high <= 1 and (position == np.rint(position)).all():
        return np.nan, np.nan
    if not np.isfinite([low, high]).all():  # few tables have such rows
        finite = position[np.isfinite(position)]
        return _range_of(finite)
    return low, high


def _is_outside(position: Floats, roles: ColumnRoles, known: _Micrographs) -> NDArray[np.bool_]:
    """Return an (n,) mask of the positions outside their micrograph. Micrographs of unknown size have no limits."""
    limit: Floats | float = np.inf
    if roles.unit in ("fraction", "volume"):
        limit = 1.0
    elif roles.unit == "pixel" and known.shape is not None:
        position, limit = position[:, :2], known.shape[:, ::-1]
    elif roles.unit == "pixel" and known.size is not None and position.shape[1] == 3:
        limit = known.size[:, ::-1] / known.sizes.used[:, np.newaxis]
    else:
        return np.zeros(len(position), dtype=bool)
    limit = np.where(np.greater(limit, 0), limit, np.nan)
    with np.errstate(invalid="ignore"):  # comparison with NaN is False
        return rows_with_any((position < 0) | (position > limit))

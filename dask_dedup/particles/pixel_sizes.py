"""Pixel size of the coordinates of each row in angstrom, and the source of this pixel size.

Coordinates of RELION and CryoSPARC are in pixels of the micrograph or tilt series. WarpTools and Warp write the same
columns in pixels of the exported image. Each row is recognised as Warp's by its image name, such as
``TS_1_0000001_4.00A.mrc`` with the pixel size 4.00 of the image, or by 2-D stacks of a ``.tomostar`` tomogram. See
"Recognition of tables from Warp" in docs/explanation/coordinates.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.arrow import to_numpy
from dask_dedup.dedup.arrays import constant_column

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from dask_dedup.particles.column_names import ImageColumns
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.column_values import Columns

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

#: Pixel sizes that differ by more than this fraction contradict each other.
TOLERANCE = 0.01
#: Largest difference, in angstrom, between the pixel size in an image name (two decimals) and in the column.
_ROUNDING = 0.0101
#: Pattern of the names of Warp's exported images. The group is the pixel size.
_WARP_IMAGE = r"_(?P<size>\d+\.\d\d)A(?:_\d+)?\.mrcs?$"
#: Pattern of the names of RELION's pseudo-subtomograms.
_RELION_IMAGE = r"(^|/)\d+_(data|stack2d)\.mrcs?$"
_TOMOSTAR = ".tomostar"
#: Largest numbers of micrographs and picks for measuring the distance to the nearest neighbour.
_MEASURED_MICROGRAPHS, _MEASURED_PICKS = 20, 20_000

#: Sources of a pixel size. `TABLE` and `BINNED` are the pixel sizes of the micrograph and of the binned tomogram in the
#: micrograph table. `COLUMN` is the column of the micrograph, `IMAGE` the column of the image, and `OWN` the pixel size
#: of the positions in pick files. `UNKNOWN` means that there is no pixel size.
COORDINATE_OPTION, IMAGE, TABLE, COLUMN, MICROGRAPH_OPTION, UNKNOWN, BINNED, OWN = range(8)


class UnclearRows(NamedTuple):
    """Rows with coordinates in pixels of either the micrograph or the exported image (it is unclear which)."""

    rows: int
    #: Number of the first such row in the fragment, and the pixel sizes of its micrograph and image, angstrom.
    first: int
    micrograph_psize: float
    image_psize: float
    #: Typical distance to the nearest neighbour in pixels; NaN if there is none.
    nearest: float


@dataclass(frozen=True, slots=True)
class PixelSizes:
    """Pixel size of the coordinates of each row of a fragment."""

    #: (n,) angstrom; NaN where unknown.
    used: Floats
    #: (n,) micrograph pixel size in the column of the table. None without this column.
    stored: Floats | None
    #: (n,) source of each pixel size in `used`, such as `COLUMN`.
    source: NDArray[np.uint8]
    #: (n,) mask of the rows in pixels of either the micrograph or the image.
    unclear: Mask | None = None
    image: Floats | None = None

    @property
    def sources(self) -> list[int]:
        """The distinct sources."""
        constant = not any(self.source.strides)
        found: list[int] = np.unique(self.source[:1] if constant else self.source).tolist()
        return found


def find_pixel_sizes(columns: Columns, roles: ColumnRoles, of_table: Floats | None) -> PixelSizes:
    """Find the pixel size of each row. `of_table` has the pixel sizes of the micrograph table, if there is one.

    The first available source of a row is used:

    1. the parameter `coordinate_pixel_size`,
    2. the pixel size of the positions (pick files),
    3. the pixel size of the image (Warp),
    4. the micrograph table,
    5. the column of the table,
    6. the parameter `micrograph_pixel_size`.
    """
    count, given = len(columns), roles.given_psize
    stored = columns.floats(roles.psize_mic) if roles.psize_mic else None
    of_option = np.full(count, np.nan if given is None else given)
    if roles.overrides_psize:
        used, source = of_option, COORDINATE_OPTION
    elif of_table is not None and not roles.own_psize:
        used, source = of_table, BINNED if roles.binned else TABLE
    elif stored is not None:
        used, source = stored, OWN if roles.own_psize else COLUMN
    else:
        used, source = of_option, UNKNOWN if given is None else MICROGRAPH_OPTION
    found = PixelSizes(used, stored, constant_column(np.uint8(source), count))
    if source in (COLUMN, OWN) and given is not None:
        missing = ~(used > 0)
        by_row = np.where(missing, np.uint8(MICROGRAPH_OPTION), np.uint8(source))
        found = PixelSizes(np.where(missing, given, used), stored, by_row)
    return _with_images(columns, roles, roles.image, found) if roles.image else found


def _with_images(
    columns: Columns, roles: ColumnRoles, names: ImageColumns, found: PixelSizes
) -> PixelSizes:
    """Use the pixel size of the image in rows exported by Warp. Find the rows with an unclear pixel size."""
    image = columns.floats(names.psize)
    with np.errstate(invalid="ignore", divide="ignore"):
        differ = ~(np.abs(image / found.used - 1) <= TOLERANCE) & (image > 0)
    if not differ.any():
        return found
    tomostar = _matches(columns, roles.micrograph, pc.ends_with, _TOMOSTAR)
    warp, relion = np.zeros((2, len(columns)), dtype=bool)
    if names.name:
        named = _size_in_name(columns, names.name)
        warp = np.abs(named - image) <= _ROUNDING
        relion = _matches(columns, names.name, pc.match_substring_regex, _RELION_IMAGE)
    if names.stacks:
        warp |= (columns.floats(names.stacks) == 1) & tomostar & ~relion
    warp &= differ
    from_table = (found.source == TABLE) | (found.source == COLUMN)
    unclear = differ & tomostar & ~warp & ~relion & from_table & (found.used > 0)
    used = np.where(warp, image, found.used)
    source = np.where(warp, np.uint8(IMAGE), found.source)
    return PixelSizes(used, found.stored, source, unclear if unclear.any() else None, image)


def _texts(columns: Columns, name: str) -> tuple[NDArray[np.intp], pa.Array]:
    codes, texts = columns.texts(name)
    return codes, pa.array([*texts, None], pa.string())


def _matches(
    columns: Columns, name: str, test: Callable[[pa.Array, str], pa.Array], pattern: str
) -> Mask:
    """Return an (n,) mask of the rows with a text that passes the Arrow function `test`."""
    codes, texts = _texts(columns, name)
    passed = test(texts, pattern).fill_null(fill_value=False)
    return np.asarray(to_numpy(passed)[codes])


def _size_in_name(columns: Columns, name: str) -> Floats:
    """Return the pixel size in each image name, (n,) float64. NaN for names in other forms than Warp's."""
    codes, texts = _texts(columns, name)
    size = pc.struct_field(pc.extract_regex(texts, _WARP_IMAGE), "size")
    return np.asarray(to_numpy(size.cast(pa.float64())), dtype=np.float64)[codes]


def describe_unclear_rows(
    sizes: PixelSizes, position: Floats, keys: NDArray[np.uint64]
) -> UnclearRows | None:
    """Describe the rows with an unclear pixel size. Return None if there are none.

    Parameters
    ----------
    sizes : PixelSizes
    position : (n, 3) float64
        Coordinates in pixels.
    keys : (n,) uint64
        Micrograph keys.
    """
    if sizes.unclear is None or sizes.image is None:
        return None
    rows = np.flatnonzero(sizes.unclear)
    first = int(rows[0])
    nearest = _nearest(position[rows[:_MEASURED_PICKS]], keys[rows[:_MEASURED_PICKS]])
    psize = float(sizes.used[first]), float(sizes.image[first])
    return UnclearRows(rows.size, first, *psize, nearest)


def _nearest(position: Floats, keys: NDArray[np.uint64]) -> float:
    """Return the median distance to the nearest neighbour, in pixels. NaN if no micrograph has two picks."""
    from scipy.spatial import cKDTree

    distances = [np.empty(0)]
    for key in np.unique(keys)[:_MEASURED_MICROGRAPHS]:
        points = position[keys == key]
        points = points[np.isfinite(points).all(axis=1)]
        if len(points) > 1:
            distances.append(np.asarray(cKDTree(points).query(points, k=2)[0])[:, 1])
    found = np.concatenate(distances)
    return float(np.median(found)) if found.size else np.nan

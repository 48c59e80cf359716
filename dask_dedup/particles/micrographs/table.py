"""The table of micrograph pixel sizes and shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.arrays import find_sorted
from dask_dedup.dedup.limits import LARGEST_PIXEL_SIZE, LEAST_PIXEL_SIZE
from dask_dedup.errors import InputError
from dask_dedup.formats import read, with_texts
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.column_names import TOMOGRAM_BINNING
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.names import hash_texts
from dask_dedup.particles.micrographs.row_keys import RowMicrographs
from dask_dedup.particles.micrographs.stripping import bare_name
from dask_dedup.particles.validity import rows_with_any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import ParticleTable
    from dask_dedup.particles.micrographs.names import Naming


@dataclass(frozen=True, slots=True)
class MicrographTable:
    """Table of the pixel size and shape of each micrograph, sorted by micrograph key."""

    path: str
    #: (m,) sorted micrograph keys.
    keys: NDArray[np.uint64]
    #: (m,) pixel size, angstrom.
    psize: NDArray[np.float64]
    #: (m, 2) shape (ny, nx) in pixels.
    shape: NDArray[np.float64] | None
    #: Group columns of the table. Other group columns of the inputs are ignored.
    groups: tuple[str, ...] = ()
    #: (m, 3) size of each tomogram as (nz, ny, nx), in pixels of `psize`.
    volume: NDArray[np.float64] | None = None
    #: (m,) pixel size of the binned tomograms, angstrom; NaN where unknown.
    binned: NDArray[np.float64] | None = None
    #: Sorted hashes of the compared names, and of their bare names. Empty if micrographs are matched by uid.
    name_keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    bare_keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    #: One of the names, for messages.
    example: str = ""

    def find(self, micrographs: RowMicrographs) -> NDArray[np.intp]:
        """Return the table row of each micrograph, or -1 for micrographs that are not in the table."""
        return find_sorted(self.keys, micrographs.keys_within(self.groups))

    def psize_at(self, row: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the pixel size in each of the table rows `row`, NaN for row -1."""
        return _take(self.psize, row)

    def binned_at(self, row: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the binned pixel size in each of the table rows `row`, NaN where unknown."""
        return np.full(row.size, np.nan) if self.binned is None else _take(self.binned, row)

    def shape_at(self, row: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """Return the (n, 2) shapes in the table rows `row`, NaN for row -1. Return None if the table has no shapes."""
        return None if self.shape is None else _take(self.shape, row)

    def volume_at(self, row: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """Return the (n, 3) tomogram sizes in the table rows `row`, NaN for row -1. Return None if there are none."""
        return None if self.volume is None else _take(self.volume, row)


def _take(values: NDArray[np.float64], row: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the values in the table rows `row`, NaN for row -1."""
    return np.concatenate([values, np.full((1, *values.shape[1:]), np.nan)])[row]


def read_micrographs(
    table: ParticleTable, naming: Naming, group_by: Sequence[str] = ()
) -> MicrographTable:
    """Read the pixel size and shape of each micrograph from a micrograph (exposures) table."""
    table = with_texts(table, set(group_by) - _COLUMNS)
    columns = [name for name in table.schema.names if name in {*_COLUMNS, *group_by}]
    parts = [read(table, fragment, columns) for fragment in table.fragments]
    rows = pa.concat_tables(parts).unify_dictionaries()
    return micrograph_table(rows, table.path, naming, group_by)


class _Convention(NamedTuple):
    name: str
    psize: str
    shape: str | None = None


#: Conventions of micrograph tables. The first convention with its pixel size column in the table is used.
_CONVENTIONS = (
    _Convention("rlnTomoName", "rlnTomoTiltSeriesPixelSize"),
    _Convention("micrograph_blob/path", "micrograph_blob/psize_A", "micrograph_blob/shape"),
    _Convention("rlnMicrographName", "rlnMicrographPixelSize"),
)
_VOLUME = ("rlnTomoSizeZ", "rlnTomoSizeY", "rlnTomoSizeX")
_COLUMNS = {"uid", *_VOLUME, TOMOGRAM_BINNING}
_COLUMNS |= {*(name for convention in _CONVENTIONS for name in convention if name)}


def name_column(columns: Sequence[str]) -> str | None:
    """Return the column of a micrograph table that has the names, or None."""
    found = next((each.name for each in _CONVENTIONS if each.psize in columns), None)
    return found if found in columns else None


def micrograph_table(
    rows: pa.Table, path: str, naming: Naming, group_by: Sequence[str] = ()
) -> MicrographTable:
    """Make a `MicrographTable` from an Arrow table. `path` is the name of the table in messages.

    Raises
    ------
    InputError
        If a column is missing, a pixel size is out of range, or a micrograph has two pixel sizes.
    """
    names = rows.column_names
    found = next((each for each in _CONVENTIONS if each.psize in names), None)
    if found is None:
        raise InputError(
            f"{path}: the micrograph table has no pixel size. It needs one of the columns "
            "micrograph_blob/psize_A (CryoSPARC), rlnMicrographPixelSize or "
            "rlnTomoTiltSeriesPixelSize (RELION)."
        )
    key = "uid" if naming.match == "uid" else found.name
    if key not in names:
        raise InputError(
            f"{path}: the micrograph table has no column {key} to match micrographs by "
            f"{naming.match}. "
            f"Add the column, or choose another {parameter('match_micrographs')}."
        )
    columns = Columns(rows, path)
    groups = tuple(name for name in group_by if name in names)
    micrographs = RowMicrographs.read(columns, key, naming, groups)
    missing = int(micrographs.missing.sum())
    if missing:
        raise InputError(f"{path}: {counted(missing, 'row', 'have no')} {key}.")
    keys = micrographs.keys
    psize = columns.floats(found.psize)
    _check_psize(psize, found.psize, path)
    order = np.argsort(keys, kind="stable")
    keys, psize, shape = keys[order], psize[order], None
    described = {"pixel sizes": psize}
    if found.shape in names:
        shape = described["shapes"] = columns.vectors(str(found.shape), 2)[order]
    volume = None
    if found.name == "rlnTomoName" and set(_VOLUME) <= set(names):
        volume = described["tomogram sizes"] = columns.points(_VOLUME)[order]
    binned = None
    if found.name == "rlnTomoName" and TOMOGRAM_BINNING in names:
        binned = described["binned pixel sizes"] = psize * columns.floats(TOMOGRAM_BINNING)[order]
    for what, values in described.items():
        differs = rows_with_any(values[1:] != values[:-1])
        repeated = np.flatnonzero((keys[1:] == keys[:-1]) & differs)
        if repeated.size:
            row = repeated[0]
            raise InputError(
                f"{path}: the micrograph of row {order[row + 1]} occurs more than once, with the "
                f"{what} {values[row]} and {values[row + 1]}. Remove one of the two rows."
            )
    compared = sorted(map(naming.compared, micrographs.names))
    return MicrographTable(
        path,
        keys,
        psize,
        shape,
        groups,
        volume,
        binned,
        name_keys=np.unique(hash_texts(compared)),
        bare_keys=np.unique(hash_texts(map(bare_name, compared))),
        example=next(iter(compared), ""),
    )


def _check_psize(psize: NDArray[np.float64], column: str, path: str) -> None:
    bad = np.flatnonzero(~((psize >= LEAST_PIXEL_SIZE) & (psize <= LARGEST_PIXEL_SIZE)))
    if bad.size:
        raise InputError(
            f"{path}: {counted(bad.size, 'micrograph', 'have a')} {column} beyond "
            f"{LEAST_PIXEL_SIZE:g} to {LARGEST_PIXEL_SIZE:g} A (first: row {bad[0]}, "
            f"{psize[bad[0]]:g}). Is it in angstrom?"
        )

"""Integer keys of micrographs, and the table of micrograph pixel sizes and shapes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.params import LARGEST_PIXEL_SIZE, LEAST_PIXEL_SIZE
from dask_dedup.errors import InputError
from dask_dedup.formats import read
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.validity import rows_with_any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.formats import ParticleTable


def micrograph_keys(
    columns: Columns, name: str, match: str
) -> tuple[NDArray[np.uint64], list[str]]:
    """Return the 64-bit micrograph key of each row (uid or hash of the name), and the distinct names.

    Returns
    -------
    keys : (n,) uint64
        0 where the column is null.
    names : list of str
        The distinct names as stored; empty for uids.
    """
    if match == "uid":
        return columns.integers(name), []
    codes, names = columns.texts(name)
    return np.append(keys_of_names(names, match), np.uint64(0))[codes], names


def keys_of_names(names: list[str], match: str) -> NDArray[np.uint64]:
    """Hash micrograph names to 64-bit keys, which are the same on every machine."""
    compared = (bare_name(name) if match == "name" else name for name in names)
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in compared)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


#: CryoSPARC prefixes the names of its files with 15 to 21 digits.
_NUMBER = re.compile(r"^\d{15,21}_")
#: Suffixes that programs append to micrograph names.
_TAIL = re.compile(
    r"(\.(mrcs?|tiff?|eer|tomostar|star|gz|bz2)"
    r"|_(patch|rigid|full|local)_aligned|_aligned|_doseweighted|_background|_denoised"
    r"|_dw|_nodw|_fractions|_movie|_eer)$",
    re.IGNORECASE,
)


def bare_name(name: str) -> str:
    """Remove folders, CryoSPARC's number prefix and program suffixes from a micrograph name.

    Examples
    --------
    >>> bare_name("J7/motioncorrected/003942345678901234567_Grid1_0042_patch_aligned_doseweighted.mrc")
    'Grid1_0042'
    >>> bare_name("MotionCorr/job002/Movies/Grid1_0042_fractions.mrc")
    'Grid1_0042'
    """
    bare = _NUMBER.sub("", name.replace("\\", "/").rsplit("/", 1)[-1])
    while (shorter := _TAIL.sub("", bare)) not in (bare, ""):
        bare = shorter
    return bare


@dataclass(frozen=True, slots=True)
class MicrographTable:
    """Table of the pixel size and shape of each micrograph, sorted by micrograph key."""

    path: str
    #: (m,)
    keys: NDArray[np.uint64]
    #: (m,) angstrom.
    psize: NDArray[np.float64]
    #: (m, 2) as (ny, nx) in pixels.
    shape: NDArray[np.float64] | None

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Return the table row of each micrograph key, -1 for keys not in the table."""
        if not self.keys.size:
            return np.full(keys.size, -1, dtype=np.intp)
        row = np.searchsorted(self.keys, keys).clip(max=self.keys.size - 1)
        return np.where(self.keys[row] == keys, row, -1)

    def psize_at(self, row: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the pixel size in each of the table rows `row`, NaN for row -1."""
        return np.append(self.psize, np.nan)[row]

    def shape_at(self, row: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """Return the (n, 2) shapes in the table rows `row`, NaN for row -1. Return None if the table has no shapes."""
        if self.shape is None:
            return None
        return np.vstack([self.shape, [[np.nan, np.nan]]])[row]


def read_micrographs(table: ParticleTable, *, match: str) -> MicrographTable:
    """Read the pixel size and shape of each micrograph from a micrograph (exposures) table."""
    columns = [name for name in table.schema.names if name in _COLUMNS]
    parts = [read(table, fragment, columns) for fragment in table.fragments]
    rows = pa.concat_tables(parts).unify_dictionaries()
    return micrograph_table(rows, table.path, match=match)


class _Convention(NamedTuple):
    name: str
    psize: str
    shape: str | None = None


#: The first whose pixel size column is present applies.
_CONVENTIONS = (
    _Convention("rlnTomoName", "rlnTomoTiltSeriesPixelSize"),
    _Convention("micrograph_blob/path", "micrograph_blob/psize_A", "micrograph_blob/shape"),
    _Convention("rlnMicrographName", "rlnMicrographPixelSize"),
)
_COLUMNS = {"uid", *(name for convention in _CONVENTIONS for name in convention if name)}


def micrograph_table(rows: pa.Table, path: str, *, match: str) -> MicrographTable:
    """Make a `MicrographTable` from an Arrow table. Error messages name that table by `path`.

    Raises
    ------
    InputError
        If a column is missing, a pixel size is absurd, or one micrograph has two of them.
    """
    names = rows.column_names
    found = next((each for each in _CONVENTIONS if each.psize in names), None)
    if found is None:
        raise InputError(
            f"{path}: the micrograph table has no pixel size. It needs one of the columns "
            "micrograph_blob/psize_A (CryoSPARC), rlnMicrographPixelSize or "
            "rlnTomoTiltSeriesPixelSize (RELION)."
        )
    key = "uid" if match == "uid" else found.name
    if key not in names:
        raise InputError(
            f"{path}: the micrograph table has no column {key} to match micrographs by {match}. "
            f"Add the column, or choose another {parameter('match_micrographs')}."
        )
    columns = Columns(rows, path)
    nulls = int(columns.nulls(key).sum())
    if nulls:
        raise InputError(f"{path}: {counted(nulls, 'row', 'have no')} {key}.")
    keys, _ = micrograph_keys(columns, key, match)
    psize = columns.floats(found.psize)
    _check_psize(psize, found.psize, path)
    order = np.argsort(keys, kind="stable")
    keys, psize, shape = keys[order], psize[order], None
    described = {"pixel sizes": psize}
    if found.shape in names:
        shape = described["shapes"] = columns.vectors(str(found.shape), 2)[order]
    for what, values in described.items():
        differs = rows_with_any(values[1:] != values[:-1])
        repeated = np.flatnonzero((keys[1:] == keys[:-1]) & differs)
        if repeated.size:
            row = repeated[0]
            raise InputError(
                f"{path}: the micrograph of row {order[row + 1]} occurs more than once, with the "
                f"{what} {values[row]} and {values[row + 1]}."
            )
    return MicrographTable(path, keys, psize, shape)


def _check_psize(psize: NDArray[np.float64], column: str, path: str) -> None:
    bad = np.flatnonzero(~((psize >= LEAST_PIXEL_SIZE) & (psize <= LARGEST_PIXEL_SIZE)))
    if bad.size:
        raise InputError(
            f"{path}: {counted(bad.size, 'micrograph', 'have a')} {column} beyond "
            f"{LEAST_PIXEL_SIZE:g} to {LARGEST_PIXEL_SIZE:g} A (first: row {bad[0]}, "
            f"{psize[bad[0]]:g}). Is it in angstrom?"
        )

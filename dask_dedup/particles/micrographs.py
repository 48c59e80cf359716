"""Micrographs: their keys, and the table that gives each its own pixel size and shape."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.params import LARGEST_PIXEL_SIZE, LEAST_PIXEL_SIZE
from dask_dedup.errors import InputError
from dask_dedup.formats import read
from dask_dedup.formatting import counted
from dask_dedup.particles.columns import Columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.formats import ParticleTable


def micrograph_keys(
    columns: Columns, name: str, match: str
) -> tuple[NDArray[np.uint64], list[str]]:
    """Give each row's micrograph a 64-bit key: the uid itself, or a hash of the name.

    Parameters
    ----------
    columns : Columns
    name : str
        Of the column with the micrographs' uids (integers) or names (text).
    match : {"uid", "path", "name"}
        What makes two micrographs the same; `bare_name` is what ``name`` compares.

    Returns
    -------
    keys : (n,) uint64
        0 where the column is null.
    names : list of str
        The distinct names, as they stand; empty for uids.
    """
    if match == "uid":
        return columns.integers(name), []
    codes, names = columns.texts(name)
    return np.append(keys_of_names(names, match), np.uint64(0))[codes], names


def keys_of_names(names: list[str], match: str) -> NDArray[np.uint64]:
    """Hash distinct micrograph names to keys, the same on every machine."""
    compared = (bare_name(name) if match == "name" else name for name in names)
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in compared)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


#: CryoSPARC puts a number of 15 to 21 digits before the names of files it makes.
_NUMBER = re.compile(r"^\d{15,21}_")
#: What programs append to the name of a micrograph.
_TAIL = re.compile(
    r"(\.(mrcs?|tiff?|eer|tomostar|star|gz|bz2)"
    r"|_(patch|rigid|full|local)_aligned|_aligned|_doseweighted|_background|_denoised"
    r"|_dw|_nodw|_fractions|_movie|_eer)$",
    re.IGNORECASE,
)


def bare_name(name: str) -> str:
    """Strip a micrograph's name of folders, CryoSPARC's number, and what programs append.

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
    """What is known of each micrograph, sorted by key.

    Attributes
    ----------
    path : str
    keys : (m,) uint64
    psize : (m,) float64
        Pixel size, angstrom.
    shape : (m, 2) float64 or None
        (ny, nx) in pixels.
    """

    path: str
    keys: NDArray[np.uint64]
    psize: NDArray[np.float64]
    shape: NDArray[np.float64] | None

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Give the row of each key; -1 for a micrograph that is not there."""
        if not self.keys.size:
            return np.full(keys.size, -1, dtype=np.intp)
        row = np.searchsorted(self.keys, keys).clip(max=self.keys.size - 1)
        return np.where(self.keys[row] == keys, row, -1)


def read_micrographs(table: ParticleTable, *, match: str) -> MicrographTable:
    """Read a micrograph (exposures) table whole; see `micrograph_table`."""
    columns = [name for name in table.schema.names if name in _COLUMNS]
    parts = [read(table, fragment, columns) for fragment in table.fragments]
    rows = pa.concat_tables(parts).unify_dictionaries()
    return micrograph_table(rows, table.path, match=match)


_COLUMNS = (
    "uid",
    "micrograph_blob/path",
    "micrograph_blob/psize_A",
    "micrograph_blob/shape",
    "rlnMicrographName",
    "rlnMicrographPixelSize",
    "rlnTomoName",
    "rlnTomoTiltSeriesPixelSize",
)


def micrograph_table(rows: pa.Table, path: str, *, match: str) -> MicrographTable:
    """Sort out what is known of each micrograph.

    Parameters
    ----------
    rows : pyarrow.Table
        One row a micrograph, with ``micrograph_blob/psize_A`` and ``uid`` or
        ``micrograph_blob/path`` (CryoSPARC), or ``rlnMicrographPixelSize`` and
        ``rlnMicrographName``, or for tomograms ``rlnTomoTiltSeriesPixelSize`` and ``rlnTomoName``
        (RELION).
    path : str
        The table's name, for messages.
    match : {"uid", "path", "name"}
        How the particles' micrographs are told to be the same.

    Raises
    ------
    InputError
        If a column is missing, a pixel size is not above 0, or a micrograph occurs with two sizes.
    """
    names = rows.column_names
    cryosparc = "micrograph_blob/psize_A" in names
    psize_name = "micrograph_blob/psize_A" if cryosparc else "rlnMicrographPixelSize"
    name_column = "micrograph_blob/path" if cryosparc else "rlnMicrographName"
    if "rlnTomoName" in names:
        psize_name, name_column = "rlnTomoTiltSeriesPixelSize", "rlnTomoName"
    key_name = "uid" if match == "uid" else name_column
    missing = [name for name in (psize_name, key_name) if name not in names]
    if missing:
        raise InputError(
            f"{path}: the micrograph table has no column {missing[0]}; it needs "
            "uid, micrograph_blob/path and micrograph_blob/psize_A (CryoSPARC), or "
            "rlnMicrographName and rlnMicrographPixelSize, or rlnTomoName and "
            "rlnTomoTiltSeriesPixelSize (RELION)"
        )
    shape_name = "micrograph_blob/shape" if "micrograph_blob/shape" in names else None
    columns = Columns(rows, path)
    nulls = int(columns.nulls(key_name).sum())
    if nulls:
        raise InputError(f"{path}: {counted(nulls, 'row', 'have no')} {key_name}")
    keys, _ = micrograph_keys(columns, key_name, match)
    psize = columns.floats(psize_name)
    bad = np.flatnonzero(~(np.isfinite(psize) & (psize > 0)))
    if bad.size:
        raise InputError(
            f"{path}: {counted(bad.size, 'micrograph', 'have a')} {psize_name} that is not above 0 "
            f"(first at row {bad[0]}: {psize[bad[0]]})"
        )
    absurd = np.flatnonzero((psize < LEAST_PIXEL_SIZE) | (psize > LARGEST_PIXEL_SIZE))
    if absurd.size:
        raise InputError(
            f"{path}: {counted(absurd.size, 'micrograph', 'have a')} {psize_name} beyond "
            f"{LEAST_PIXEL_SIZE:g} to {LARGEST_PIXEL_SIZE:g} A (first at row {absurd[0]}: "
            f"{psize[absurd[0]]:g}); is it in angstrom?"
        )
    shape = columns.vectors(shape_name, 2) if shape_name else None
    order = np.argsort(keys, kind="stable")
    keys, psize = keys[order], psize[order]
    if shape is not None:
        shape = shape[order]
    for what, values in (("pixel sizes", psize), ("shapes", shape)):
        if values is None:
            continue
        differs = np.atleast_2d((values[1:] != values[:-1]).T).any(axis=0)
        twice = np.flatnonzero((keys[1:] == keys[:-1]) & differs)
        if twice.size:
            raise InputError(
                f"{path}: the micrograph of row {order[twice[0] + 1]} occurs more than once, with "
                f"{what} {values[twice[0]]} and {values[twice[0] + 1]}"
            )
    return MicrographTable(
        path=path,
        keys=keys,
        psize=psize,
        shape=shape,
    )

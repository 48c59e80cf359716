"""Micrographs: their keys, and the table that gives each its own pixel size and shape."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.columns import Columns
from dask_dedup.errors import InputError
from dask_dedup.formats import read

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.formats import ParticleTable


def micrograph_keys(columns: Columns, name: str) -> tuple[NDArray[np.uint64], list[str]]:
    """Give each row's micrograph a 64-bit key: the uid itself, or a hash of the name.

    Parameters
    ----------
    columns : Columns
    name : str
        Of the column with the micrographs' uids (integers) or names (text).

    Returns
    -------
    keys : (n,) uint64
        0 where the column is null.
    names : list of str
        The distinct names; empty for uids.
    """
    kind = columns.rows.schema.field(name).type
    if pa.types.is_integer(kind):
        return columns.integers(name), []
    codes, names = columns.texts(name)
    return np.append(hash_names(names), np.uint64(0))[codes], names


def hash_names(names: list[str]) -> NDArray[np.uint64]:
    """Hash micrograph names to keys, the same on every machine."""
    digests = (hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


@dataclass(frozen=True, slots=True)
class MicrographTable:
    """What is known of each micrograph, sorted by key.

    Attributes
    ----------
    path : str
    by : {"uid", "path"}
        Whether the keys are uids or hashed names.
    keys : (m,) uint64
    psize : (m,) float64
        Pixel size, angstrom.
    shape : (m, 2) float64 or None
        (ny, nx) in pixels.
    """

    path: str
    by: str
    keys: NDArray[np.uint64]
    psize: NDArray[np.float64]
    shape: NDArray[np.float64] | None

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Give the row of each key; -1 for a micrograph that is not there."""
        if not self.keys.size:
            return np.full(keys.size, -1, dtype=np.intp)
        row = np.searchsorted(self.keys, keys).clip(max=self.keys.size - 1)
        return np.where(self.keys[row] == keys, row, -1)


def read_micrographs(table: ParticleTable, *, by_uid: bool) -> MicrographTable:
    """Read a micrograph (exposures) table whole; see `micrograph_table`."""
    columns = [name for name in table.schema.names if name in _COLUMNS]
    parts = [read(table, fragment, columns) for fragment in table.fragments]
    rows = pa.concat_tables(parts).unify_dictionaries()
    return micrograph_table(rows, table.path, by_uid=by_uid)


_COLUMNS = (
    "uid",
    "micrograph_blob/path",
    "micrograph_blob/psize_A",
    "micrograph_blob/shape",
    "rlnMicrographName",
    "rlnMicrographPixelSize",
)


def micrograph_table(rows: pa.Table, path: str, *, by_uid: bool) -> MicrographTable:
    """Sort out what is known of each micrograph.

    Parameters
    ----------
    rows : pyarrow.Table
        One row a micrograph, with ``micrograph_blob/psize_A`` and ``uid`` or
        ``micrograph_blob/path`` (CryoSPARC), or ``rlnMicrographPixelSize`` and
        ``rlnMicrographName`` (RELION).
    path : str
        The table's name, for messages.
    by_uid : bool
        Whether the particles name their micrographs by uid.

    Raises
    ------
    InputError
        If a column is missing, a pixel size is not above 0, or a micrograph occurs with two sizes.
    """
    names = rows.column_names
    cryosparc = "micrograph_blob/psize_A" in names
    psize_name = "micrograph_blob/psize_A" if cryosparc else "rlnMicrographPixelSize"
    name_column = "micrograph_blob/path" if cryosparc else "rlnMicrographName"
    key_name = "uid" if by_uid else name_column
    missing = [name for name in (psize_name, key_name) if name not in names]
    if missing:
        raise InputError(
            f"{path}: the micrograph table has no column {missing[0]}; it needs "
            "uid, micrograph_blob/path and micrograph_blob/psize_A (CryoSPARC), or "
            "rlnMicrographName and rlnMicrographPixelSize (RELION)"
        )
    shape_name = "micrograph_blob/shape" if "micrograph_blob/shape" in names else None
    columns = Columns(rows, path)
    nulls = int(columns.nulls(key_name).sum())
    if nulls:
        raise InputError(f"{path}: {nulls} rows have no {key_name}")
    keys, _ = micrograph_keys(columns, key_name)
    psize = columns.floats(psize_name)
    bad = np.flatnonzero(~(np.isfinite(psize) & (psize > 0)))
    if bad.size:
        raise InputError(
            f"{path}: {bad.size} micrographs have a {psize_name} that is not above 0 "
            f"(first at row {bad[0]}: {psize[bad[0]]})"
        )
    shape = columns.vectors(shape_name, 2) if shape_name else None
    order = np.argsort(keys, kind="stable")
    keys, psize = keys[order], psize[order]
    twice = np.flatnonzero((keys[1:] == keys[:-1]) & (psize[1:] != psize[:-1]))
    if twice.size:
        raise InputError(
            f"{path}: the micrograph of row {order[twice[0] + 1]} occurs more than once, with "
            f"pixel sizes {psize[twice[0]]} and {psize[twice[0] + 1]}"
        )
    return MicrographTable(
        path=path,
        by="uid" if by_uid else "path",
        keys=keys,
        psize=psize,
        shape=None if shape is None else shape[order],
    )

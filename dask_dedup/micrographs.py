"""Micrographs: their keys, and the table that gives each its own pixel size and shape."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.columns import flags_of_nulls, floats, integers, vectors
from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.formats import ParticleTable


def micrograph_keys(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Give each row's micrograph a 64-bit key: the uid itself, or a hash of the name.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Micrograph uids (integers) or names (strings, dictionary-encoded or not); n rows.

    Returns
    -------
    (n,) uint64
        Rows with a null get 0.
    """
    if pa.types.is_integer(column.type):
        return integers(column)
    codes, names = encode_names(column)
    return np.append(hash_names(names), np.uint64(0))[codes]


def encode_names(column: pa.ChunkedArray) -> tuple[NDArray[np.intp], list[str]]:
    """Number the distinct names of a text column.

    Returns
    -------
    codes : (n,) intp
        -1 for nulls.
    names : list of str
    """
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    one = encoded.unify_dictionaries().combine_chunks()
    if isinstance(one, pa.ChunkedArray):
        one = one.chunk(0) if one.num_chunks else pa.array([], pa.string()).dictionary_encode()
    codes = one.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.intp)
    return codes, one.dictionary.to_pylist()


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
    """Read a micrograph (exposures) table whole; it has one row a micrograph.

    Parameters
    ----------
    table : ParticleTable
        With ``micrograph_blob/psize_A`` and ``uid`` or ``micrograph_blob/path`` (CryoSPARC), or
        ``rlnMicrographPixelSize`` and ``rlnMicrographName`` (RELION).
    by_uid : bool
        Whether the particles name their micrographs by uid.

    Raises
    ------
    InputError
        If a column is missing, a pixel size is not above 0, or a micrograph occurs with two sizes.
    """
    from dask_dedup.formats import parquet

    names = table.schema.names
    cryosparc = "micrograph_blob/psize_A" in names
    psize_name = "micrograph_blob/psize_A" if cryosparc else "rlnMicrographPixelSize"
    name_column = "micrograph_blob/path" if cryosparc else "rlnMicrographName"
    key_name = "uid" if by_uid else name_column
    missing = [name for name in (psize_name, key_name) if name not in names]
    if missing:
        raise InputError(
            f"{table.path}: the micrograph table has no column {missing[0]}; it needs "
            "uid, micrograph_blob/path and micrograph_blob/psize_A (CryoSPARC), or "
            "rlnMicrographName and rlnMicrographPixelSize (RELION)"
        )
    shape_name = "micrograph_blob/shape" if "micrograph_blob/shape" in names else None
    columns = [name for name in (key_name, psize_name, shape_name) if name]
    rows = pa.concat_tables(
        [parquet.read(table, fragment, columns) for fragment in table.fragments]
    ).unify_dictionaries()
    nulls = int(flags_of_nulls(rows.column(key_name)).sum())
    if nulls:
        raise InputError(f"{table.path}: {nulls} rows have no {key_name}")
    keys = micrograph_keys(rows.column(key_name))
    psize = floats(rows.column(psize_name))
    bad = np.flatnonzero(~(np.isfinite(psize) & (psize > 0)))
    if bad.size:
        raise InputError(
            f"{table.path}: {bad.size} micrographs have a {psize_name} that is not above 0 "
            f"(first at row {bad[0]}: {psize[bad[0]]})"
        )
    shape = vectors(rows.column(shape_name), 2, table.path, shape_name) if shape_name else None
    order = np.argsort(keys, kind="stable")
    keys, psize = keys[order], psize[order]
    twice = np.flatnonzero((keys[1:] == keys[:-1]) & (psize[1:] != psize[:-1]))
    if twice.size:
        row = order[twice[0] + 1]
        raise InputError(
            f"{table.path}: the micrograph of row {row} occurs more than once, with pixel sizes "
            f"{psize[twice[0]]} and {psize[twice[0] + 1]}"
        )
    return MicrographTable(
        path=table.path,
        by="uid" if by_uid else "path",
        keys=keys,
        psize=psize,
        shape=None if shape is None else shape[order],
    )

"""Open, read and write particle tables: STAR, CryoSPARC and Parquet files.

Each format has a module that follows the protocol `base.Format` or `base.NativeFormat`.
"""

from __future__ import annotations

import stat
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, cast

from dask_dedup.errors import InputError
from dask_dedup.formats.base import (
    EmptyTableError,
    FileSlice,
    Format,
    Fragment,
    NativeFormat,
    OutputFile,
    ParticleTable,
    StoredSchema,
    by_source,
    opening,
)
from dask_dedup.storage.files import is_folder, status_of
from dask_dedup.storage.table_version import split_version

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import pyarrow as pa

__all__ = [
    "FileSlice",
    "Fragment",
    "OutputFile",
    "ParticleTable",
    "StoredSchema",
    "by_source",
    "native_format",
    "open_table",
    "open_tables",
    "read",
    "with_texts",
]

_SUFFIXES = {".star": "star", ".cs": "cs", ".csg": "csg"}
_MODULES = {
    "parquet": "parquet.table",
    "star": "star.table",
    "cs": "cryosparc.cs",
    "csg": "cryosparc.cs",
}


def open_table(path: str | Path, source: int = 0, *, allow_outside: bool = False) -> ParticleTable:
    """Open a particle table: list its files, read its schema, split its rows into fragments.

    Parameters
    ----------
    path : str or Path
        A ``.star``, ``.cs``, ``.csg`` or Parquet file, a folder of Parquet files, hive-partitioned or not, or
        a Delta table (``PATH?version=3`` for another version than the newest one).
    source : int
        Ordinal among the inputs.
    allow_outside : bool
        Whether a ``.csg`` may point to files outside its folder.
    """
    with opening(path):
        location, version = split_version(path)
        try:
            mode = status_of(location).st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            no_bucket = "bucket" in str(error.strerror)
            reason = error.strerror if no_bucket else "no such file or folder"
            raise InputError(f"{path}: {reason}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            f"{path}: neither a file nor a folder. Save the table to a file: it is read more than once."
        )
    folder = stat.S_ISDIR(mode)
    if folder and is_folder(location / "particles_kept"):
        raise InputError(
            f"{path}: this is the result of a run. Pass one of its tables, such as {path}/particles_kept."
        )
    name = "parquet" if folder else _SUFFIXES.get(location.suffix.lower(), "parquet")
    if name == "parquet":
        from dask_dedup.formats.parquet import table as parquet

        return replace(parquet.open_table(location, source, version), path=str(path))
    if version is not None:
        raise InputError(f"{path}: only Delta tables have versions. Pass {location}.")
    if name == "csg":
        from dask_dedup.formats.cryosparc import csg

        return csg.open_table(location, source, allow_outside=allow_outside)
    return _module(name).open_table(location, source)


def open_tables(
    paths: Sequence[str | Path], *, allow_outside: bool = False
) -> tuple[list[ParticleTable], list[int]]:
    """Open the tables of several inputs, numbered from 0.

    Also return the ordinals in `paths` of STAR files without a table, which are left out. Programs write such
    files for micrographs without picks. If all are like this, the first one is an error.
    """
    tables: list[ParticleTable] = []
    empty: dict[int, EmptyTableError] = {}
    for number, path in enumerate(paths):
        try:
            tables.append(open_table(path, len(tables), allow_outside=allow_outside))
        except EmptyTableError as error:
            empty[number] = error
    if not tables:
        raise next(iter(empty.values()))
    return tables, list(empty)


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Read the named columns of a fragment. Text is dictionary-encoded."""
    return _module(table.format).read(table, fragment, columns)


def with_texts(table: ParticleTable, columns: Collection[str]) -> ParticleTable:
    """Return the table with `columns` of a STAR file as text, exactly as written.

    STAR files do not define the types of columns. Numbers of other formats are exact already.
    """
    if table.format != "star" or not columns:
        return table
    from dask_dedup.formats.star import table as star

    return star.with_texts(table, columns)


def native_format(table: ParticleTable) -> NativeFormat:
    """Return the module that writes the format of `table`, which must be STAR or CryoSPARC."""
    return cast("NativeFormat", _module(table.format))


def _module(name: str) -> Format:
    return cast("Format", import_module(f"dask_dedup.formats.{_MODULES[name]}"))

"""One module a file format; here, what they have in common.

A format's module offers what the protocol `dask_dedup.formats.base.Format` says.
"""

from __future__ import annotations

import stat
from importlib import import_module
from typing import TYPE_CHECKING, cast

from dask_dedup.errors import InputError
from dask_dedup.formats.base import (
    FileSlice,
    Format,
    Fragment,
    OutputFile,
    ParticleTable,
    Payload,
    StoredSchema,
)
from dask_dedup.storage.files import status_of
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

__all__ = [
    "FileSlice",
    "Format",
    "Fragment",
    "OutputFile",
    "ParticleTable",
    "Payload",
    "StoredSchema",
    "format_of",
    "load",
    "open_table",
    "read",
]

_SUFFIXES = {".star": "star", ".cs": "cs", ".csg": "csg"}
#: The module of each format.
_MODULES = {
    "parquet": "parquet.table",
    "star": "star.table",
    "cs": "cryosparc.cs",
    "csg": "cryosparc.csg",
}


def open_table(path: str | Path, source: int = 0, *, allow_outside: bool = False) -> ParticleTable:
    """Open a particle table: list its files, read its schema, cut it into fragments.

    Parameters
    ----------
    path : str or Path
        A RELION ``.star``, a CryoSPARC ``.cs`` or ``.csg``, a Parquet file, a folder of Parquet
        files, or a hive-partitioned folder.
    source : int
        Ordinal among the inputs.
    allow_outside : bool
        Whether a ``.csg`` may point to files outside its folder.

    Raises
    ------
    InputError
        If there is no such table, or it cannot be read.
    """
    place = at(path)
    try:
        kind = status_of(place).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = "bucket" in str(error.strerror)
        what = error.strerror if missing else "no such file or folder"
        raise InputError(f"{path}: {what}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise InputError(f"{path}: neither a file nor a folder; a table is read more than once")
    folder = place.is_dir()
    if folder and (place / "manifest.json").exists() and (place / "particles_kept").is_dir():
        raise InputError(
            f"{path}: is the result of a run; name a table in it, {path}/particles_kept"
        )
    name = "parquet" if folder else _SUFFIXES.get(place.suffix.lower(), "parquet")
    if name == "csg":
        from dask_dedup.formats.cryosparc import csg

        return csg.open_table(place, source, allow_outside=allow_outside)
    return _module(name).open_table(place, source)


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Read columns of a fragment by name; text comes as dictionaries."""
    return format_of(table).read(table, fragment, columns)


def load(table: ParticleTable, fragment: Fragment) -> Payload:
    """Read a fragment whole."""
    return format_of(table).load(table, fragment)


def format_of(table: ParticleTable) -> Format:
    """Give the module of a table's format."""
    return _module(table.format)


def _module(name: str) -> Format:
    return cast("Format", import_module(f"dask_dedup.formats.{_MODULES[name]}"))

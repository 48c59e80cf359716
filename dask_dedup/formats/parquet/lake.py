"""Delta tables as inputs. Folders of other table formats are refused.

The folder of such a table also has files of older versions and deleted rows. The table's log lists the current files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from dask_dedup.errors import InputError
from dask_dedup.formatting import counted
from dask_dedup.storage.credentials import delta_options
from dask_dedup.storage.files import is_folder, list_names
from dask_dedup.storage.paths import enclosing_folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_DELTA_LOG = "_delta_log"
#: Files that only a table of this format has. Paths are relative to the table's folder.
_OTHERS = {
    "Iceberg": re.compile(r"metadata/(\d+-[0-9a-f-]{36}|v\d+)(\.gz)?\.metadata\.json(\.gz)?"),
    "Hudi": re.compile(r"\.hoodie/.*"),
}
_ADVICE = {
    "Iceberg": "an Iceberg table. Its folder also has old rows. Write its current rows to Parquet, for "
    "example with pyiceberg: pyarrow.parquet.write_table(catalog.load_table(NAME).scan().to_arrow(), FILE).",
    "Hudi": "a Hudi table. Its folder also has old rows. Write its current rows to Parquet, for example "
    "with Spark: spark.read.format('hudi').load(FOLDER).write.parquet(NEW_FOLDER).",
}
_PARTITION = "partition."


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of one version of a Delta table.

    Attributes
    ----------
    version : int
    files : tuple of Path
        Sorted by path.
    keys : tuple of dict of str to object
        For each file, the values of the partition columns.
    schema : pyarrow.Schema
        Columns and types from the log.
    partitions : tuple of str
        Names of the partition columns.
    """

    version: int
    files: tuple[Path, ...]
    keys: tuple[dict[str, Any], ...]
    schema: pa.Schema
    partitions: tuple[str, ...]


def is_delta(path: Path) -> bool:
    """Return whether a folder is a Delta table."""
    return is_folder(path / _DELTA_LOG)


def check_not_inside(path: Path) -> None:
    """Raise `InputError` if a local file or folder is inside a Delta, Iceberg or Hudi table. It may have old rows."""
    for folder in enclosing_folders(path):
        if is_delta(folder):
            raise InputError(f"{path}: belongs to the Delta table {folder}. Pass {folder}.")
        for kind, marker in _OTHERS.items():
            if any(map(marker.fullmatch, _markers(folder))):
                raise InputError(f"{path}: belongs to {folder}, {_ADVICE[kind]}")
        if "=" not in folder.name and folder.name != "data":
            return


def _markers(folder: Path) -> Iterator[str]:
    """Yield paths below a folder by which Iceberg and Hudi tables are recognised."""
    if is_folder(folder / ".hoodie"):
        yield ".hoodie/"
    for name in list_names(folder / "metadata"):
        yield f"metadata/{name}"


def check_no_tables(path: Path, files: Iterable[Path]) -> None:
    """Raise `InputError` if `path` is or contains a Delta, Iceberg or Hudi table.

    `files` are all files below `path`.
    """
    for file in files:
        parts = file.relative_to(path).parts
        for depth in range(len(parts) - 1):
            if depth and parts[depth - 1].startswith(("_", ".")):
                break  # hidden folders are not read
            marker = "/".join(parts[depth : depth + 2])
            for kind, pattern in _OTHERS.items():
                if not pattern.fullmatch(marker):
                    continue
                if depth == 0:
                    raise InputError(f"{path}: is {_ADVICE[kind]}")
                raise _contains_error(path, kind, parts[:depth])
            if parts[depth] == _DELTA_LOG:
                raise _contains_error(path, "Delta", parts[:depth])


def _contains_error(path: Path, kind: str, parts: Sequence[str]) -> InputError:
    table = path.joinpath(*parts)
    return InputError(f"{path}: contains the {kind} table {table}. Pass each table instead.")


def read_snapshot(path: Path, version: int | None) -> Snapshot:
    """Read the log of a Delta table: the files of a version, by default the newest version.

    Raise `InputError` if the version does not exist, or if the files are not enough to read the table. This is the
    case with deletion vectors (deleted rows that are still in the files), renamed columns and files of other tables.
    """
    if not is_delta(path):
        raise InputError(f"{path}: not a Delta table, so it has no versions. Pass it without one.")
    try:
        from deltalake import DeltaTable
    except ImportError as error:
        raise InputError(
            f"{path}: Delta tables need a library: pip install 'dask-dedup[delta]' ({error})"
        ) from error
    try:
        table = DeltaTable(str(path.absolute()), storage_options=delta_options(path))
        newest = table.version()
        if version is not None and version <= newest:
            table.load_as_version(version)
        actions = pa.table(table.get_add_actions(flatten=True))
        schema = pa.schema(table.schema().to_arrow())
        description, features = table.metadata(), table.protocol().reader_features or ()
    except Exception as error:
        raise _unreadable(path, error) from error
    if version is not None and version > newest:
        raise InputError(f"{path}: has no version {version}; the newest one is {newest}.")
    _check_mapping(path, description.configuration)
    if "deletionVectors" in features:
        _check_deletions(path, table)
    partitions = tuple(description.partition_columns)
    values = actions.select([f"{_PARTITION}{name}" for name in partitions])
    found = sorted(
        zip(
            (_file_at(path, name) for name in actions.column("path").to_pylist()),
            values.rename_columns(list(partitions)).to_pylist() or [{}] * actions.num_rows,
            strict=True,
        ),
        key=lambda each: str(each[0]),
    )
    return Snapshot(
        version=int(table.version()),
        files=tuple(file for file, _ in found),
        keys=tuple(keys for _, keys in found),
        schema=schema,
        partitions=partitions,
    )


def _unreadable(path: Path, error: Exception) -> InputError:
    # The messages of deltalake have colours and several lines.
    reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines() or [""]
    return InputError(f"{path}: the log of the Delta table cannot be read: {reason[0].rstrip('.')}")


def _file_at(path: Path, name: str) -> Path:
    if re.match(r"[a-z0-9]+:|/", name):
        raise InputError(
            f"{path}: the Delta table refers to files of another table ({name}). {_advise_export(path)}"
        )
    return path / unquote(name)


def _check_mapping(path: Path, configuration: dict[str, str]) -> None:
    mode = configuration.get("delta.columnMapping.mode", "none")
    if mode != "none":
        raise InputError(
            f"{path}: the Delta table maps its columns to other names in the files "
            f"(delta.columnMapping.mode is {mode}). {_advise_export(path)}"
        )


def _check_deletions(path: Path, table: Any) -> None:
    """Raise `InputError` if a file of a Delta table has, or may have, a deletion vector."""
    try:
        files = table.deletion_vectors().read_all().num_rows
    except Exception as error:
        raise InputError(
            f"{path}: the Delta table may have deletion vectors, which this version of deltalake cannot list. "
            f"{_advise_export(path)}"
        ) from error
    if files:
        raise InputError(
            f"{path}: {counted(files, 'file')} of the Delta table {'has' if files == 1 else 'have'} "
            f"deletion vectors: rows that are deleted, but still in the files. {_advise_export(path)}"
        )


def _advise_export(path: Path) -> str:
    return (
        "Write its current rows to Parquet, for example with DuckDB: "
        f"COPY (FROM delta_scan('{path}')) TO 'rows.parquet'."
    )

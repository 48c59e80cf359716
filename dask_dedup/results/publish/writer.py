"""Write the rows of a dataset to large files with the column types of a table, in one pass."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.formats.parquet.schema import held_schema
from dask_dedup.formats.parquet.writer import ROW_GROUP_ROWS
from dask_dedup.results.publish.dataset import read_bounds
from dask_dedup.results.publish.files import (
    TableFile,
    partition_path,
    removed_after_errors,
    unique_suffix,
)
from dask_dedup.storage.capacity import disk_full_errors
from dask_dedup.storage.files import new_file, parquet_source, read_metadata
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dask_dedup.results.publish.dataset import Dataset, DatasetFile

#: Intended bytes of a file. Several files have 2/3 to 4/3 of this each, as the number of files is whole.
FILE_BYTES = 128 * 2**20
#: Files written at once. Each takes the memory of about two row groups.
_THREADS = 4
_BYTE_STREAM_SPLIT = "BYTE_STREAM_SPLIT"


@dataclass(frozen=True, slots=True)
class _Part:
    """The row groups of a dataset that become one file."""

    values: dict[str, str | None]
    groups: list[tuple[Path, int]]


def write_files(dataset: Dataset, schema: pa.Schema, root: str) -> list[TableFile]:
    """Write a dataset to files with the columns of `schema` in a table's folder.

    Each row group is read once, and rows keep their order. Columns are compressed and encoded as in
    the run's files.
    """
    of_partition: dict[tuple[str | None, ...], list[DatasetFile]] = {}
    for file in dataset.files:
        of_partition.setdefault(tuple(file.values.values()), []).append(file)
    parts = [part for files in of_partition.values() for part in _split(files)]
    suffix, settings = unique_suffix(), _settings(dataset)
    paths = [
        partition_path(part.values, dataset.partition_columns, f"part-{number:05}{suffix}")
        for number, part in enumerate(parts)
    ]

    def write(part: _Part, path: str) -> TableFile:
        with new_file(at(root) / path) as file:
            footer = _write(part, dataset.typed(part.values), schema, settings, file)
            size = file.stat().st_size
        bounds = read_bounds(footer, schema)
        rows = footer.num_rows
        return TableFile(root, path, "written", size, rows, part.values, bounds, schema)

    with (
        removed_after_errors(root, paths),
        disk_full_errors(at(root)),
        ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool,
    ):
        return list(pool.map(write, parts, paths))


def _split(files: list[DatasetFile]) -> Iterator[_Part]:
    """Divide the row groups of the files of one partition into parts of about `FILE_BYTES`."""
    total = sum(file.bytes for file in files)
    count = max(1, round(total / FILE_BYTES))
    groups: list[list[tuple[Path, int]]] = [[] for _ in range(count)]
    before = 0.0
    for file in files:
        for number, rows in enumerate(file.groups):
            size = file.bytes * rows / file.rows if file.rows else 0
            groups[min(int((before + size / 2) * count / max(total, 1)), count - 1)].append(
                (file.path, number)
            )
            before += size
    # A partition without rows has an empty file, so that the table lists the run.
    return (_Part(files[0].values, each) for each in list(filter(None, groups)) or [[]])


def _settings(dataset: Dataset) -> dict[str, Any]:
    """Return the compression and the encodings of the run's files as options of `ParquetWriter`."""
    largest = max(dataset.files, key=lambda file: file.rows)
    footer = read_metadata(largest.path)
    if not footer.num_row_groups:
        return {"compression": "zstd"}
    group = footer.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    return {
        "compression": {
            column.path_in_schema: column.compression.replace("UNCOMPRESSED", "NONE")
            for column in columns
        },
        "use_dictionary": [each.path_in_schema for each in columns if each.has_dictionary_page],
        "column_encoding": {
            column.path_in_schema: _BYTE_STREAM_SPLIT
            for column in columns
            if _BYTE_STREAM_SPLIT in column.encodings
        },
    }


def _write(
    part: _Part, values: dict[str, Any], schema: pa.Schema, settings: dict[str, Any], path: Path
) -> pq.FileMetaData:
    # In memory, text is in dictionaries, which takes less time and memory. The files have plain text.
    held = held_schema(schema)
    footers: list[pq.FileMetaData] = []
    with pq.ParquetWriter(
        path, held, store_schema=False, metadata_collector=footers, **settings
    ) as writer:
        pending = held.empty_table()
        for rows in _read(part, values, held):
            pending = pa.concat_tables([pending, rows])
            while pending.num_rows >= ROW_GROUP_ROWS:
                writer.write_table(pending.slice(0, ROW_GROUP_ROWS).unify_dictionaries())
                pending = pending.slice(ROW_GROUP_ROWS)
        writer.write_table(pending.unify_dictionaries())
    return footers[0]


def _read(part: _Part, values: dict[str, Any], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of each row group with the columns of `schema`.

    `values` has the values of the partition columns.
    """
    text = [
        field.name
        for field in schema
        if pa.types.is_dictionary(field.type) and field.name not in values
    ]
    for path, numbers in groupby(part.groups, key=lambda group: group[0]):
        with pq.ParquetFile(**parquet_source(path), read_dictionary=text) as file:
            for _, number in numbers:
                table = file.read_row_group(number)
                columns = [
                    _constant(values[field.name], field.type, table.num_rows)
                    if field.name in values
                    else table.column(field.name)
                    for field in schema
                ]
                types = schema.types
                yield pa.table(list(map(_cast, columns, types)), schema=schema)


def _constant(value: Any, kind: pa.DataType, rows: int) -> pa.Array:
    stored = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.repeat(pa.scalar(value, stored), rows)


def _cast(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """Convert a column. Raise `pyarrow.ArrowInvalid` if a value would change."""
    if column.type != kind and pa.types.is_dictionary(kind):
        # Arrow cannot convert all types of text to dictionaries.
        return column.cast(kind.value_type).dictionary_encode()
    return column.cast(kind)

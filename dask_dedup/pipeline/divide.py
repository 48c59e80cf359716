"""Divide the rows of a fragment among the Parquet files of the result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, to_numpy
from dask_dedup.errors import InputError
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.parquet.encoding import SAMPLE_ROWS, choose_encodings
from dask_dedup.formats.parquet.schema import held_schema
from dask_dedup.hints import parameter
from dask_dedup.pipeline.partitions import file_name, folder_name
from dask_dedup.storage.files import status_of
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import FileSlice, StoredSchema
    from dask_dedup.formats.parquet.encoding import Encodings
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.partitions import FolderFile

#: Largest number of folders for one fragment. More folders are probably a mistake, such as a column of uids.
MOST_FOLDERS = 1_000


@dataclass(frozen=True, slots=True)
class FilePart:
    """Rows of a fragment that are written to one file of kept particles and one file of rejected particles.

    Attributes
    ----------
    path : str
        Relative to the folder of the dataset.
    rows : pyarrow.Table
    selection : slice or (n,) intp
        Numbers of the rows in the fragment.
    schema : pyarrow.Schema
        Schema of both files.
    encodings : Encodings
        Encodings of both files.
    """

    path: str
    rows: pa.Table
    selection: slice | NDArray[np.intp]
    schema: pa.Schema
    encodings: Encodings


def divide(job: Job, number: int, rows: pa.Table) -> Iterator[FilePart]:
    """Divide the rows of a fragment among its files."""
    partitions = job.partitions
    if not partitions.types:
        yield FilePart(file_name(number), rows, slice(None), job.schema, job.encodings)
    elif partitions.by_rows:
        for folder, selection in _folders(rows, [*partitions.types]):
            mine = _compact(rows.drop_columns([*partitions.types]).take(from_numpy(selection)))
            path = f"{folder}/{file_name(number)}"
            yield FilePart(path, mine, selection, job.schema, job.encodings)
    else:
        start = 0
        for file in partitions.files[number]:
            mine = _compact(rows.slice(start, file.rows).drop_columns([*partitions.types]))
            span = slice(start, start + file.rows)
            yield FilePart(file.path, mine, span, *_style(job, file, mine))
            start += file.rows


def _style(job: Job, file: FolderFile, rows: pa.Table) -> tuple[pa.Schema, Encodings]:
    """Return the schema and the encodings of a file. They depend only on the first rows of its folder."""
    if file.first is None:
        return job.schema, job.encodings
    schema = parquet.with_metadata_of(file.first.path, job.schema)
    if not file.begins:
        status = status_of(at(file.first.path))
        columns = job.inputs.tables[file.source].stored_schema
        rows = _read_sample(file.first, columns, status.st_mtime_ns, status.st_size)
    rows = rows.slice(0, min(SAMPLE_ROWS, file.first.rows))
    sample = dict(zip(rows.column_names, rows.columns, strict=True))
    return schema, choose_encodings(job.schema, job.compression, sample)


def _folders(rows: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield each partition folder and the numbers of its rows, in ascending order."""
    if not rows.num_rows:
        yield folder_name([(name, None) for name in columns]), np.empty(0, np.intp)
        return
    folders: list[tuple[tuple[str, Any], ...]] = [()]
    folder = np.zeros(rows.num_rows, dtype=np.int64)
    for name in columns:
        column = rows.column(name).combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        encoded = column.dictionary_encode(null_encoding="encode")
        try:
            values = encoded.dictionary.to_pylist()
        except OverflowError as error:
            raise InputError(
                f"{parameter('partition_by', name)}: {name} has dates outside the years 1 to 9999, which cannot be "
                "used as folder names. Choose another column."
            ) from error
        pairs = folder * len(values) + to_numpy(encoded.indices)
        distinct, folder = np.unique(pairs, return_inverse=True)
        if distinct.size > MOST_FOLDERS:
            raise InputError(
                f"{parameter('partition_by', name)}: more than {MOST_FOLDERS:,} folders would be needed for "
                f"{rows.num_rows:,} rows. Choose a column with few values."
            )
        folders = [
            (*folders[pair // len(values)], (name, values[pair % len(values)]))
            for pair in distinct.tolist()
        ]
    order = np.argsort(folder, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(folder))[:-1])
    yield from zip(map(folder_name, folders), parts, strict=True)


def _compact(rows: pa.Table) -> pa.Table:
    """Return rows in one chunk, with dictionaries that contain only values of these rows."""
    columns = []
    for column in rows.columns:
        values = column.combine_chunks()
        if pa.types.is_dictionary(values.type) and not values.type.ordered:
            used = values.indices.dictionary_encode()
            dictionary = values.dictionary.take(used.dictionary)
            values = pa.DictionaryArray.from_arrays(used.indices, dictionary)
        columns.append(values)
    return pa.table(columns, schema=rows.schema)


@lru_cache(maxsize=16)
def _read_sample(
    first: FileSlice,
    schema: StoredSchema,
    modified_ns: int,  # noqa: ARG001
    size: int,  # noqa: ARG001
) -> pa.Table:
    """Read and cache the first rows of a folder, given the first row group and the columns of the input."""
    rows = parquet.read_slice(first, held_schema(schema.load()))
    # A slice would keep all rows in memory, so copy the rows.
    return rows.take(from_numpy(np.arange(min(SAMPLE_ROWS, rows.num_rows))))

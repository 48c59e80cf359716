"""The partition folders of the Parquet files of a result, and the rows of a fragment in each."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, is_text, to_numpy
from dask_dedup.errors import InputError
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.parquet.encoding import SAMPLE_ROWS, choose_encodings
from dask_dedup.formats.parquet.footer import NULL_KEY
from dask_dedup.formats.parquet.schema import held_schema
from dask_dedup.hints import parameter
from dask_dedup.storage.files import status_of
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import FileSlice, Fragment, ParticleTable, StoredSchema
    from dask_dedup.formats.parquet.encoding import Encodings
    from dask_dedup.pipeline.job import Job

#: Folders that one fragment may be divided into. More are a mistake, such as a column of uids.
MOST_FOLDERS = 1_000
#: Longest name of a folder on usual file systems, in bytes.
_LONGEST_NAME = 255
#: Readers ignore folders whose names begin with one of these.
_HIDDEN = ("_", ".")


log = logging.getLogger("dask_dedup")


@dataclass(frozen=True, slots=True)
class FolderFile:
    """A file with rows of a fragment that are in one partition folder of the input.

    Attributes
    ----------
    path : str
        Below the folder of the dataset.
    rows : int
    source : int
        Ordinal of the first input that has the folder.
    first : FileSlice or None
        First row group of the folder; None if there are no rows.
    begins : bool
        Whether the rows of the file are the first ones of the folder.
    """

    path: str
    rows: int
    source: int
    first: FileSlice | None
    begins: bool


@dataclass(frozen=True, slots=True)
class Partitions:
    """The columns in the names of the result's folders, which are in no Parquet file of particles.

    Attributes
    ----------
    types : dict of str to str
        Names of the columns and their Arrow types, in the order of the folders. Empty if there are no such folders.
    by_rows : bool
        Whether the values are read from the rows, not from the folders of the input.
    files : dict of int to tuple of FolderFile
        For each fragment, the files of its rows; empty if `by_rows`.
    """

    types: dict[str, str] = field(default_factory=dict)
    by_rows: bool = False
    files: dict[int, tuple[FolderFile, ...]] = field(default_factory=dict)

    def without_columns(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns of the files, given those of the tables."""
        kept = [each for each in schema if each.name not in self.types]
        return pa.schema(kept, metadata=schema.metadata)


NO_PARTITIONS = Partitions()


def partition_like(
    tables: Sequence[ParticleTable], schema: pa.Schema, fragments: Sequence[Fragment]
) -> Partitions:
    """Return the partition folders of the inputs that become Parquet, if all of them have the same columns.

    If they have different ones, there are none, and a line of the log says so.

    Parameters
    ----------
    tables : sequence of ParticleTable
        The inputs that become Parquet.
    schema : pyarrow.Schema
        Their columns.
    fragments : sequence of Fragment
        The fragments of all inputs.
    """
    keys = {table.partitions for table in tables}
    if keys <= {()}:
        return NO_PARTITIONS
    if len(keys) > 1:
        log.info(
            "The result has no partition folders, because the inputs have different ones: their keys are columns of "
            "the files."
        )
        return NO_PARTITIONS
    (names,) = keys
    types = {name: folder_type(schema.field(name).type) for name in names}
    hidden = next((name for name in names if name.startswith(_HIDDEN)), None)
    if hidden is not None:
        log.info(
            "The result has no partition folders, because readers ignore folders such as %s=...: it is a column of "
            "the files.",
            hidden,
        )
        return NO_PARTITIONS
    unnamed = next((name for name, kind in types.items() if kind is None), None)
    if unnamed is not None:
        log.info(
            "The result has no partition folders, because %s is %s: it is a column of the files.",
            unnamed,
            schema.field(unnamed).type,
        )
        return NO_PARTITIONS
    sources = {table.source for table in tables}
    counts: Counter[str] = Counter()
    first: dict[str, tuple[int, FileSlice]] = {}
    files: dict[int, tuple[FolderFile, ...]] = {}
    nowhere = folder_name([(name, None) for name in names])
    for fragment in fragments:
        if fragment.source not in sources:
            continue
        mine = []
        for part in fragment.parts:
            folder = folder_name(part.keys)
            start = first.setdefault(folder, (fragment.source, part.first))
            path = f"{folder}/{file_name(counts[folder])}"
            mine.append(FolderFile(path, part.rows, *start, begins=not counts[folder]))
            counts[folder] += 1
        if not mine:
            path = f"{nowhere}/{file_name(counts[nowhere])}"
            mine = [FolderFile(path, 0, fragment.source, None, begins=False)]
            counts[nowhere] += 1
        files[fragment.number] = tuple(mine)
    return Partitions({name: str(kind) for name, kind in types.items()}, files=files)


def partition_by_columns(
    columns: Sequence[str], tables: Sequence[ParticleTable], schema: pa.Schema
) -> Partitions:
    """Return partition folders named after the values of `columns` of the rows of `tables`, whose columns are `schema`.

    Raise `InputError` if a column cannot name folders.
    """
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{parameter('partition_by', twice)} is given twice. Leave out one.")
    types = {}
    for name in columns:
        for table in tables:
            if name not in table.schema.names:
                raise InputError(
                    f"{table.path}: has no column {name}, which {parameter('partition_by', name)} needs. Choose "
                    f"one of {', '.join(map(str, table.schema.names))}."
                )
        stored = schema.field(name).type
        kind = folder_type(stored)
        if kind is None:
            raise InputError(
                f"{parameter('partition_by', name)}: {name} is {stored}, which cannot name folders. Choose a "
                "column of text, whole numbers, dates or truth values."
            )
        if name.startswith(_HIDDEN):
            raise InputError(
                f"{parameter('partition_by', name)}: readers ignore folders whose names begin with {name[0]}. "
                "Choose another column, or rename it in the input."
            )
        types[name] = kind
    if not {*schema.names} - {*columns}:
        raise InputError(
            f"{parameter('partition_by')} names every column, so that none would be left for the files. Leave out one."
        )
    return Partitions(types, by_rows=True)


def folder_type(kind: pa.DataType) -> str | None:
    """Return the name of the Arrow type of a column in the names of folders. Return None for other types."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_text(kind):
        return "string"
    named = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_date32(kind)
    return str(kind) if named else None


def folder_name(keys: Sequence[tuple[str, Any]]) -> str:
    """Return the path of a partition folder.

    Examples
    --------
    >>> folder_name([("session", "A/1"), ("pass", None)])
    'session=A%2F1/pass=__HIVE_DEFAULT_PARTITION__'
    """
    names = [f"{quote(name, safe='')}={_format(value)}" for name, value in keys]
    long = next((name for name in names if len(name) > _LONGEST_NAME), None)
    if long:
        raise InputError(
            f"the value {long[:40]}... is too long for the name of a partition folder. Choose other columns for "
            f"{parameter('partition_by')}."
        )
    return "/".join(names)


def _format(value: Any) -> str:
    if value is None:
        return NULL_KEY
    if value == NULL_KEY:
        raise InputError(
            f"the value {NULL_KEY} cannot name a partition folder, because it stands for null there. Choose other "
            f"columns for {parameter('partition_by')}."
        )
    if isinstance(value, bool):
        return str(value).lower()
    return quote(value.isoformat() if isinstance(value, date) else str(value), safe="")


def file_name(number: int) -> str:
    """Return the name of a Parquet file."""
    return f"part-{number:05d}.parquet"


@dataclass(frozen=True, slots=True)
class FilePart:
    """The rows of a fragment that become one file of kept and one of rejected particles.

    Attributes
    ----------
    path : str
        Below the folder of the dataset.
    rows : pyarrow.Table
    selection : slice or (n,) intp
        Where the rows are in the fragment.
    schema : pyarrow.Schema
        Of the files.
    encodings : Encodings
        Of the files.
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
            mine = _alone(rows.drop_columns([*partitions.types]).take(from_numpy(selection)))
            path = f"{folder}/{file_name(number)}"
            yield FilePart(path, mine, selection, job.schema, job.encodings)
    else:
        start = 0
        for file in partitions.files[number]:
            mine = _alone(rows.slice(start, file.rows).drop_columns([*partitions.types]))
            span = slice(start, start + file.rows)
            yield FilePart(file.path, mine, span, *_style(job, file, mine))
            start += file.rows


def _style(job: Job, file: FolderFile, rows: pa.Table) -> tuple[pa.Schema, Encodings]:
    """Return the schema and the encodings of a file, which follow from the first rows of its folder alone."""
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
    """Yield the partition folders of rows, and the numbers of the rows in each, in ascending order."""
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
                f"{parameter('partition_by', name)}: {name} has dates outside the years 1 to 9999, which cannot name "
                "folders. Choose another column."
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


def _alone(rows: pa.Table) -> pa.Table:
    """Return rows as if no others had been read with them: in one chunk, with the dictionaries of their own values."""
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
    # Not a slice, which would keep all rows in memory.
    return rows.take(from_numpy(np.arange(min(SAMPLE_ROWS, rows.num_rows))))

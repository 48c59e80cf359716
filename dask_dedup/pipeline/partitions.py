"""The partition folders of the Parquet files of a result."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa

from dask_dedup.arrow import is_text
from dask_dedup.errors import InputError
from dask_dedup.formats.parquet.footer import NULL_KEY
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.formats import FileSlice, Fragment, ParticleTable

#: Longest name of a folder on usual file systems, in bytes.
_LONGEST_NAME = 255
#: Readers ignore folders whose names begin with one of these.
_HIDDEN = ("_", ".")


log = logging.getLogger("dask_dedup")


@dataclass(frozen=True, slots=True)
class FolderFile:
    """A file with the rows of a fragment from one partition folder of the input.

    Attributes
    ----------
    path : str
        Relative to the folder of the dataset.
    rows : int
    source : int
        Ordinal of the first input that has the folder.
    first : FileSlice or None
        First row group of the folder; None if there are no rows.
    begins : bool
        Whether the file has the first rows of the folder.
    """

    path: str
    rows: int
    source: int
    first: FileSlice | None
    begins: bool


@dataclass(frozen=True, slots=True)
class Partitions:
    """Columns that are stored in folder names of the result, and not in its Parquet files of particles.

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
        """Return the schema without the columns that are in folder names."""
        kept = [each for each in schema if each.name not in self.types]
        return pa.schema(kept, metadata=schema.metadata)


NO_PARTITIONS = Partitions()


def partition_like(
    tables: Sequence[ParticleTable], schema: pa.Schema, fragments: Sequence[Fragment]
) -> Partitions:
    """Return the partition folders of the inputs that become Parquet, if all have the same partition columns.

    Otherwise log the reason, and return `NO_PARTITIONS`.

    Parameters
    ----------
    tables : sequence of ParticleTable
        The inputs that become Parquet.
    schema : pyarrow.Schema
        Schema of these inputs together.
    fragments : sequence of Fragment
        The fragments of all inputs.
    """
    keys = {table.partitions for table in tables}
    if keys <= {()}:
        return NO_PARTITIONS
    if len(keys) > 1:
        log.info(
            "The result has no partition folders, because the inputs have different partition columns. These columns "
            "are stored in the files."
        )
        return NO_PARTITIONS
    (names,) = keys
    types = {name: folder_type(schema.field(name).type) for name in names}
    hidden = next((name for name in names if name.startswith(_HIDDEN)), None)
    if hidden is not None:
        log.info(
            "The result has no partition folders, because readers ignore folders such as %s=.... The column is stored "
            "in the files.",
            hidden,
        )
        return NO_PARTITIONS
    unnamed = next((name for name, kind in types.items() if kind is None), None)
    if unnamed is not None:
        log.info(
            "The result has no partition folders, because %s is %s. The column is stored in the files.",
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
    """Return partition folders for the values of `columns` in `tables`, which have the schema `schema` together.

    Raise `InputError` if a column cannot be used for folder names.
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
                f"{parameter('partition_by', name)}: {name} is {stored}, which cannot be used for folder names. "
                "Choose a column of text, whole numbers, dates or truth values."
            )
        if name.startswith(_HIDDEN):
            raise InputError(
                f"{parameter('partition_by', name)}: readers ignore folders whose names begin with {name[0]}. "
                "Choose another column, or rename it in the input."
            )
        types[name] = kind
    if not {*schema.names} - {*columns}:
        raise InputError(
            f"{parameter('partition_by')} has every column, so no column would be left for the files. Leave out one."
        )
    return Partitions(types, by_rows=True)


def folder_type(kind: pa.DataType) -> str | None:
    """Return the Arrow type of a column in folder names, as text. Return None if the type cannot be used there."""
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
            f"the value {NULL_KEY} cannot be in the name of a partition folder, because it means null there. Choose "
            f"other columns for {parameter('partition_by')}."
        )
    if isinstance(value, bool):
        return str(value).lower()
    return quote(value.isoformat() if isinstance(value, date) else str(value), safe="")


def file_name(number: int) -> str:
    """Return the name of a Parquet file."""
    return f"part-{number:05d}.parquet"

"""The footer of a Parquet file: its columns, its row groups, and whether it can be true."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.errors import InputError
from dask_dedup.formats.base import FileSlice, InputFile
from dask_dedup.formatting import counted
from dask_dedup.storage.files import parquet_source, read_ranges, status_of
from dask_dedup.storage.memory import check_fits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = (".parquet", ".parq", ".pq")
OTHER_SUFFIXES = (".star", ".cs", ".csg")
#: What pyarrow raises on damaged files; ValueError is of names that are not UTF-8.
UNREADABLE = (pa.ArrowException, OSError, ValueError)

#: Encoding and dictionaries seldom save more than this; row groups that claim more are cut by their rows.
_SAVING = 8

_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"
#: Both magic words and the footer's length.
_LEAST_BYTES = 12
_HIVE_KEY = re.compile(r"([^=]+)=(.*)")


@dataclass(frozen=True)
class Footer:
    """What a file tells of itself, and its folders of it.

    Attributes
    ----------
    file : InputFile
    schema : pyarrow.Schema
        Of the file's own columns.
    keys : tuple of (str, str)
        Columns that the folders tell.
    groups : tuple of (int, int)
        Of each row group the rows, and the bytes before compression.
    """

    file: InputFile
    schema: pa.Schema
    keys: tuple[tuple[str, str], ...]
    groups: tuple[tuple[int, int], ...]

    def pieces(self, schema: pa.Schema) -> Iterator[tuple[FileSlice, int]]:
        """One piece a row group, with its size in bytes before compression."""
        keys = tuple(
            (name, _key_value(value, schema.field(name).type)) for name, value in self.keys
        )
        width = sum(map(_width, schema.types))
        first = 0
        for number, (rows, size) in enumerate(self.groups):
            if rows:
                check_fits(
                    f"{self.file.path}: the row group {number}",
                    rows,
                    max(size, rows * width),
                    "write it again in smaller row groups (pyarrow: row_group_size=1_000_000)",
                )
                piece = FileSlice(self.file.path, first, rows, (number,), keys)
                yield piece, max(size, int(rows * width) // _SAVING)
            first += rows


def _width(kind: pa.DataType) -> float:
    """Bytes of memory a value takes at least; text is held as codes."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    if pa.types.is_dictionary(kind):
        return _width(kind.index_type)
    if pa.types.is_struct(kind):
        return sum(_width(field.type) for field in kind)
    try:
        return int(kind.bit_width) / 8
    except ValueError:
        return 4


def read_footer(path: Path, root: Path) -> Footer:
    """Read the footer of one file of a table whose folder is `root`.

    Raises
    ------
    InputError
        If it is no Parquet file, damaged, or names a column twice.
    """
    try:
        _check_ends(path)
        before = status_of(path)
        with pq.ParquetFile(**parquet_source(path)) as parquet:
            metadata, schema = parquet.metadata, parquet.schema_arrow
            tail = _footer_bytes(path)
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable Parquet file: {reason(error)}") from error
    names = schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: the column {twice[0]} occurs more than once")
    parts = path.relative_to(root).parts[:-1] if path != root else ()
    matches = [match for match in map(_HIVE_KEY.fullmatch, parts) if match]
    keys = tuple((match[1], unquote(match[2])) for match in matches if match[1] not in names)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    rows = [group.num_rows for group in groups]
    if sum(rows) != metadata.num_rows or min(rows, default=0) < 0:
        raise InputError(
            f"{path}: its footer tells of {counted(metadata.num_rows, 'row')}, its row groups of "
            f"{sum(rows):,}; "
            "the file is damaged"
        )
    return Footer(
        file=InputFile(
            path=str(path),
            bytes=before.st_size,
            modified_ns=before.st_mtime_ns,
            rows=metadata.num_rows,
            fingerprint=hashlib.sha256(tail).hexdigest(),
        ),
        schema=schema,
        keys=keys,
        groups=tuple((group.num_rows, group.total_byte_size) for group in groups),
    )


def _check_ends(path: Path) -> None:
    """Tell apart the ways of being no Parquet file that are seen from outside."""
    size = status_of(path).st_size
    begin, end = read_ranges(path, [(0, min(4, size)), (max(0, size - 8), size)])
    if path.suffix not in SUFFIXES and b"PAR" not in begin:
        known = ", ".join(OTHER_SUFFIXES)
        raise InputError(
            f"{path}: not a particle table this program reads ({known} or Parquet); "
            "examples/ has converters for .box and .tbl"
        )
    length = int.from_bytes(end[:4], "little")
    what = None
    if not size:
        what = "it is empty"
    elif begin == _ENCRYPTED or end[4:] == _ENCRYPTED:
        what = "it is encrypted; write it again without encryption"
    elif begin != _MAGIC:
        what = f"it does not begin with {_MAGIC.decode()}"
    elif end[4:] != _MAGIC or size < _LEAST_BYTES:
        what = "it begins as one, but has no end; it is cut off"
    elif length > size - _LEAST_BYTES:
        what = f"its footer is to have {length:,} bytes, but all of it has {size:,}; it is damaged"
    if what:
        raise InputError(f"{path}: not a readable Parquet file: {what}")


def reason(error: BaseException) -> str:
    """Give the first line of a message of pyarrow's, without the full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _footer_bytes(path: Path) -> bytes:
    """Give the footer, which holds the offsets, sizes and statistics of all columns."""
    size = status_of(path).st_size
    (end,) = read_ranges(path, [(size - 8, size - 4)])
    (footer,) = read_ranges(path, [(size - 8 - int.from_bytes(end, "little"), size)])
    return footer


def _key_value(text: str, kind: pa.DataType) -> Any:
    if text == "__HIVE_DEFAULT_PARTITION__":
        return None
    return int(text) if pa.types.is_integer(kind) else text

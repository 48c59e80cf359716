"""Read and check the footer of a Parquet file: its columns and row groups."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.arrow import is_text
from dask_dedup.errors import InputError
from dask_dedup.formats.base import FileSlice, InputFile, opening
from dask_dedup.formats.unsupported import describe_unsupported
from dask_dedup.formatting import counted
from dask_dedup.storage.capacity import check_fits
from dask_dedup.storage.files import read_ranges, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = (".parquet", ".parq", ".pq")
OTHER_SUFFIXES = (".star", ".cs", ".csg")
#: Errors that pyarrow raises for damaged files. ValueError is for names that are not UTF-8.
UNREADABLE = (pa.ArrowException, OSError, ValueError)
#: Text of a null value in a hive key.
NULL_KEY = "__HIVE_DEFAULT_PARTITION__"

#: CryoSPARC's column names have a slash. So location/micrograph_uid becomes two folders: location/micrograph_uid=5.
_CRYOSPARC_GROUPS = (
    *("location", "pick_stats", "blob", "ctf", "filament", "sym_expand", "micrograph_blob"),
    *("alignments2D", "alignments3D"),
)
_HIVE_KEY = re.compile(r"([^=]+)=(.*)")


@dataclass(frozen=True)
class Footer:
    """Columns and row groups of a Parquet file, and the hive keys in its path.

    Attributes
    ----------
    schema : pyarrow.Schema
        Columns in the file.
    keys : tuple of (str, object)
        Other columns: hive keys with values as text, or partition columns from the log of a Delta table.
    groups : tuple of (int, int)
        For each row group, the number of rows and the bytes before compression.
    """

    file: InputFile
    schema: pa.Schema
    keys: tuple[tuple[str, Any], ...]
    groups: tuple[tuple[int, int], ...]

    def slices(self, schema: pa.Schema) -> Iterator[tuple[FileSlice, int]]:
        """Yield a `FileSlice` and its approximate uncompressed size in bytes for each row group with rows."""
        keys = tuple(
            (name, self._key_value(value, schema.field(name))) for name, value in self.keys
        )
        # The type of a key depends on other folders, but the size of a fragment must not.
        names = {name for name, _ in self.keys}
        width = sum(_width(field.type) for field in schema if field.name not in names)
        first = 0
        for number, (rows, size) in enumerate(self.groups):
            if rows:
                check_fits(
                    f"{self.file.path}: row group {number}",
                    rows,
                    max(size, rows * width),
                    "write it again in smaller row groups (pyarrow: row_group_size=1_000_000)",
                )
                rows_of_group = FileSlice(self.file.path, first, rows, (number,), keys)
                yield rows_of_group, max(size, int(rows * width))
            first += rows

    def _key_value(self, value: Any, field: pa.Field) -> Any:
        """Convert the value of a hive key to the type of its column."""
        if value == NULL_KEY:
            return None
        if not isinstance(value, str) or is_text(field.type):
            return value
        try:
            return pa.array([value], pa.string()).cast(field.type)[0].as_py()
        except pa.ArrowException as error:
            raise InputError(
                f"{self.file.path}: the folder {field.name}={value} is no value of the column {field.name}, "
                f"which is {field.type} in other files. Rename the folder, or cast the column to text."
            ) from error


def _width(kind: pa.DataType) -> float:
    """Return the minimum memory for a value of an Arrow type, in bytes. For text, return the size of an index."""
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
    """Read the footer of a Parquet file. Hive keys come from the names of the folders below `root`."""
    with opening(path):
        status = status_of(path)
        footer = _read_footer_bytes(path, status.st_size)
    try:
        with pq.ParquetFile(pa.BufferReader(footer)) as parquet:
            metadata, schema = parquet.metadata, parquet.schema_arrow
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable Parquet file: {reason(error)}") from error
    names = schema.names
    keys = tuple((name, value) for name, value in hive_keys(path, root) if name not in names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"{path}: the column {twice[0]} occurs more than once. Rename or remove one."
        )
    row_groups = map(metadata.row_group, range(metadata.num_row_groups))
    groups = [(group.num_rows, group.total_byte_size) for group in row_groups]
    rows = [count for count, _ in groups]
    if sum(rows) != metadata.num_rows or min(rows, default=0) < 0:
        raise InputError(
            f"{path}: footer claims {counted(metadata.num_rows, 'row')}, but its row groups have "
            f"{sum(rows):,}. The file is damaged."
        )
    fingerprint = hashlib.sha256(footer).hexdigest()
    file = InputFile.of(path, status, metadata.num_rows, fingerprint)
    return Footer(file, schema, keys, tuple(groups))


def parse_hive_key(folder: str) -> tuple[str, str] | None:
    """Return the hive key and the value in the name of a folder, or None if it is not ``key=value``.

    Examples
    --------
    >>> parse_hive_key("session=A%2FB"), parse_hive_key("picks")
    (('session', 'A/B'), None)
    """
    match = _HIVE_KEY.fullmatch(folder)
    return (unquote(match[1]), unquote(match[2])) if match else None


def hive_keys(path: Path, root: Path) -> list[tuple[str, str]]:
    """Return the hive keys and values in the names of the folders between `root` and the file `path`.

    Raises
    ------
    InputError
        If a folder below a ``key=value`` folder is not ``key=value``. The writer probably did not encode a slash
        in the value, so that the value became several folders.
    """
    folders = path.relative_to(root).parts[:-1] if path != root else ()
    keys: list[tuple[str, str]] = []
    begun = ""
    for number, folder in enumerate(folders):
        key = parse_hive_key(begun + folder)
        begun = ""
        if key:
            keys.append(key)
        elif folder in _CRYOSPARC_GROUPS and "=" in "".join(folders[number + 1 : number + 2]):
            begun = f"{folder}/"
        elif keys:
            above = "/".join(folders[:number])
            raise InputError(
                f"{root}: the folder {folder} in {above} is not key=value. If the value of "
                f"{keys[-1][0]} has a slash, write the table again with %2F instead of the slash, as pyarrow, "
                "Polars and DuckDB do (Dask does not). Otherwise move the files of this folder up."
            )
    return keys


def _read_footer_bytes(path: Path, size: int) -> bytes:
    """Read the encoded footer of a Parquet file. Raise `InputError` if the file has another format."""
    begin, end = read_ranges(path, [(0, min(4, size)), (max(0, size - 8), size)])
    if path.suffix not in SUFFIXES and b"PAR" not in begin:
        raise InputError(describe_unsupported(path, ", ".join(OTHER_SUFFIXES)))
    if size < 12 or not begin == end[4:] == b"PAR1":
        raise InputError(
            f"{path}: not a readable Parquet file: it does not begin and end with PAR1. "
            "It is empty, cut off, encrypted or in another format."
        )
    length = int.from_bytes(end[:4], "little")
    (footer,) = read_ranges(path, [(max(0, size - 8 - length), size)])
    return footer


def reason(error: BaseException) -> str:
    """Return the first line of a pyarrow error message, without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")

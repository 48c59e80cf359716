"""Types for all formats: particle tables, fragments, and the functions that each format provides."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from dask_dedup.errors import InputError, RunError
from dask_dedup.storage.files import open_to_read, read_bytes, status_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path

    from numpy.typing import NDArray

#: Block size for copies of files.
COPY_BYTES = 2**20
#: A large table has this many fragments, or more fragments of the maximum size.
_FRAGMENTS, _MOST_FRAGMENT_BYTES = 150, 256 * 2**20


def fragment_bytes(total: int, least: int) -> int:
    """Return the target size of fragments for a table of `total` bytes. The result is at least `least`.

    All sizes are in bytes before compression. The target grows with the table, so that a large table has few tasks
    and few files. It depends only on the table, so that every machine writes the same files.

    Examples
    --------
    >>> [fragment_bytes(total * 2**30, 24 * 2**20) >> 20 for total in (1, 24, 240)]
    [24, 163, 256]
    """
    return min(max(total // _FRAGMENTS, least), _MOST_FRAGMENT_BYTES)


class _OfInput(Protocol):
    @property
    def source(self) -> int: ...


Item = TypeVar("Item", bound=_OfInput)


def by_source(items: Iterable[Item]) -> defaultdict[int, list[Item]]:
    """Group items by input. Each item has the number of its input in `source`. Inputs without items have []."""
    groups: defaultdict[int, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.source].append(item)
    return groups


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Consecutive rows of one file.

    Attributes
    ----------
    first_row : int
        Number of the first row in the file, from 0.
    blocks : tuple of int
        Parquet: the numbers of the row groups. STAR: the byte range (start, stop). Pick files: the byte range and
        the index of the file.
    keys : tuple of (str, object)
        Names and values of columns from the path (hive partitions).
    """

    path: str
    first_row: int
    rows: int
    blocks: tuple[int, ...] = ()
    keys: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class FolderPart:
    """Rows of a fragment from one partition folder of the input. A large folder is divided into several pieces.

    Attributes
    ----------
    keys : tuple of (str, object)
        Names and values of the columns in the folder's path.
    rows : int
    first : FileSlice
        First row group of the folder.
    """

    keys: tuple[tuple[str, Any], ...]
    rows: int
    first: FileSlice


@dataclass(frozen=True, slots=True)
class Fragment:
    """Consecutive rows of an input table, read and written as one unit.

    Attributes
    ----------
    number : int
        Number of the fragment among all fragments of the run, from 0.
    source : int
        Number of the input, from 0.
    first_row : int
        Number of the first row in the input, from 0.
    bytes : int
        Approximate size before compression.
    parts : tuple of FolderPart
        The partition folders with the rows, in order. Empty if the input is not partitioned.
    """

    number: int
    source: int
    first_row: int
    rows: int
    slices: tuple[FileSlice, ...]
    bytes: int = 0
    parts: tuple[FolderPart, ...] = ()

    def __str__(self) -> str:
        if not self.slices:
            return "an empty table"
        first, last = self.slices[0], self.slices[-1]
        if first.path == last.path:
            return f"{first.path} rows {first.first_row} to {last.first_row + last.rows - 1}"
        return f"{first.path} to {last.path}"

    def locate(self, row: int) -> tuple[str, int]:
        """Return the file with row `row` of the fragment, and the number of this row in the file."""
        for part in self.slices:
            if row < part.rows:
                return part.path, part.first_row + row
            row -= part.rows
        raise IndexError(row)


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of an input, with size, modification time and fingerprint to detect changes."""

    path: str
    bytes: int
    modified_ns: int
    rows: int
    fingerprint: str

    @classmethod
    def of(cls, path: Path, status: os.stat_result, rows: int, fingerprint: str) -> InputFile:
        """Return the `InputFile` for a file with the given status."""
        return cls(str(path), status.st_size, status.st_mtime_ns, rows, fingerprint)

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes. Unlike `dataclasses.asdict`, this is fast for thousands of files."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One output file, with its size and SHA-256."""

    path: str
    rows: int
    bytes: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes."""
        return {name: getattr(self, name) for name in self.__slots__}


class Format(Protocol):
    """Interface of the modules that read a file format."""

    def open_table(self, path: Path, source: int) -> ParticleTable:
        """Open a table: list its files, read its schema, split its rows into fragments."""

    def read(self, table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
        """Read the named columns of a fragment. Text is dictionary-encoded."""


class NativeFormat(Format, Protocol):
    """Interface of the modules that can also write their file format. Input rows are copied unchanged."""

    def split(
        self,
        table: ParticleTable,
        fragment: Fragment,
        keep: NDArray[np.bool_],
        kept: Path,
        rejected: Path,
    ) -> None:
        """Write kept rows of a fragment to the part file `kept`, and rejected rows to the part file `rejected`.

        `keep` is a (rows,) bool mask. If the table has several files, there are more part files, with suffixes.
        """

    def assemble(
        self, table: ParticleTable, parts: Sequence[Path], rows: int, folder: Path, name: str
    ) -> list[OutputFile]:
        """Join the part files of all fragments into the file `name`. Part files have `rows` rows in total.

        Other files of a group are written to the same folder. The part files are not removed, so that this can be
        repeated after a crash.
        """


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """An Arrow schema as an IPC message, for pickling. Pickling a `pyarrow.Schema` changes names of list elements."""

    message: bytes

    @classmethod
    def of(cls, schema: pa.Schema) -> StoredSchema:
        """Serialise an Arrow schema."""
        return cls(schema.serialize().to_pybytes())

    def load(self) -> pa.Schema:
        """Deserialise the schema."""
        return pa.ipc.read_schema(pa.py_buffer(self.message))


@dataclass(frozen=True, slots=True)
class ParticleTable:
    """An input table: its columns, files and fragments.

    Attributes
    ----------
    format : str
        ``parquet``, ``star``, ``cs``, ``csg``, ``coordinates`` or ``optimisation_set``.
    path : str
        Path, as the user wrote it.
    source : int
        Number of the input, from 0.
    fragments : tuple of Fragment
        Numbered from 0. A run numbers the fragments of all inputs again.
    detail : object
        Data for the module of the format only.
    version : int or None
        Version of a Delta table.
    picker : str
        Name of the picker, if the user gave a name.
    partitions : tuple of str
        Columns that are in the paths of all files, but not in the files.
    """

    format: str
    path: str
    source: int
    stored_schema: StoredSchema
    files: tuple[InputFile, ...]
    fragments: tuple[Fragment, ...]
    detail: Any = None
    version: int | None = None
    picker: str = ""
    partitions: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self.stored_schema.load()

    @property
    def rows(self) -> int:
        """Number of particles."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Total size of all files, in bytes."""
        return sum(file.bytes for file in self.files)


class EmptyTableError(InputError):
    """Error for a file without a table. Some programs write such a file for a micrograph without picks."""


@contextmanager
def opening(path: str | Path) -> Iterator[None]:
    """Convert an OSError within the context to an `InputError` about the input `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_whole(path: Path) -> tuple[bytes, InputFile]:
    """Read a small file that has no particles, such as a list. Also return its `InputFile`."""
    with opening(path):
        status, content = status_of(path), read_bytes(path)
    return content, InputFile.of(path, status, 0, hashlib.sha256(content).hexdigest())


def with_edits(text: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Replace parts of a text. An edit is (start, stop, new text). The edits are sorted by their start."""
    parts, done = [], 0
    for start, stop, new in edits:
        parts += [text[done:start], new]
        done = stop
    return b"".join([*parts, text[done:]])


def changed_error(path: object) -> RunError:
    """Return an error about a file that changed during the run."""
    return RunError(f"{path}: the file changed during the run. Run again.")


def read_blocks(file: BufferedReader, length: int) -> Iterator[memoryview]:
    """Yield the next `length` bytes of a file in blocks. Each block overwrites the block before it."""
    buffer = memoryview(bytearray(COPY_BYTES))
    while length > 0:
        count = file.readinto(buffer[:length])
        if not count:
            raise changed_error(file.name)
        yield buffer[:count]
        length -= count


def read_parts(parts: Iterable[Path]) -> Iterator[memoryview]:
    """Yield the content of all part files in blocks, file by file."""
    for part in parts:
        with open_to_read(part, buffering=0) as file:
            yield from read_blocks(file, status_of(part).st_size)


def write_index(part: Path, entries: Sequence[tuple[int, ...]]) -> None:
    """Write the index of a part file to a second file. Each entry has integers about a piece of the part file."""
    _index_path(part).write_bytes(np.array(entries, "<i8").tobytes())


def read_index(part: Path, columns: int) -> list[list[int]]:
    """Read the index of a part file. Each entry has `columns` numbers."""
    numbers = np.frombuffer(read_bytes(_index_path(part)), "<i8")
    pieces: list[list[int]] = numbers.reshape(-1, columns).tolist()
    return pieces


def _index_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.index")


def write_blocks(
    folder: Path, name: str, rows: int, blocks: Iterable[bytes | memoryview]
) -> OutputFile:
    """Write blocks of bytes to the output file `name` in `folder`. Return the file's size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with (folder / name).open("wb") as file:
        for block in blocks:
            digest.update(block)
            size += len(block)
            file.write(block)
    return OutputFile(name, rows, size, digest.hexdigest())

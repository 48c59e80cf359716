"""The types that all formats share: a particle table, its fragments, and what a format's module must offer."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from dask_dedup.errors import InputError, RunError
from dask_dedup.storage.files import open_to_read, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

#: Files are copied in blocks of this size.
COPY_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Consecutive rows of one file.

    Attributes
    ----------
    first_row : int
        In the file, from 0.
    blocks : tuple of int
        Parquet: the numbers of the row groups. STAR: the first byte and the byte after the last one.
    keys : tuple of (str, object)
        Columns that come from the path (hive partitions), and their values.
    """

    path: str
    first_row: int
    rows: int
    blocks: tuple[int, ...] = ()
    keys: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Fragment:
    """A contiguous slice of an input's rows: the unit of reading and writing.

    Attributes
    ----------
    number : int
        Position among all fragments of the run.
    source : int
        Ordinal of the input.
    first_row : int
        In the input, from 0.
    """

    number: int
    source: int
    first_row: int
    rows: int
    slices: tuple[FileSlice, ...]

    def __str__(self) -> str:
        if not self.slices:
            return "an empty table"
        first, last = self.slices[0], self.slices[-1]
        if first.path == last.path:
            return f"{first.path} rows {first.first_row} to {last.first_row + last.rows - 1}"
        return f"{first.path} to {last.path}"

    def locate(self, row: int) -> tuple[str, int]:
        """Return the file, and the row number in it, of a row of the fragment."""
        for part in self.slices:
            if row < part.rows:
                return part.path, part.first_row + row
            row -= part.rows
        raise IndexError(row)


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of an input; size, time and fingerprint show whether it has changed."""

    path: str
    bytes: int
    modified_ns: int
    rows: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One output file."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Format(Protocol):
    """What the module of a format offers."""

    def open_table(self, path: Path, source: int) -> ParticleTable:
        """List the files, read the schema, split the rows into fragments."""

    def read(self, table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
        """Read columns of a fragment by name, in the types of the table's schema (text dictionary-encoded)."""


class NativeFormat(Format, Protocol):
    """A format whose output files hold the bytes of the input's rows."""

    def split(
        self,
        table: ParticleTable,
        fragment: Fragment,
        keep: NDArray[np.bool_],
        kept: Path,
        rejected: Path,
    ) -> None:
        """Write the kept and the rejected rows of a fragment, unchanged, to a part file each.

        `keep` is a (rows,) bool. A format of several files writes more part files, with suffixes.
        """

    def assemble(
        self, table: ParticleTable, parts: Sequence[Path], rows: int, folder: Path, name: str
    ) -> list[OutputFile]:
        """Join part files, one per fragment, into the file `name`; a group's other files go beside it.

        The part files stay, so that this can be repeated after a crash. `rows` counts the rows in all parts.
        """


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """An Arrow schema as an IPC message: pickling the schema itself loses the names of list elements."""

    message: bytes

    @classmethod
    def of(cls, schema: pa.Schema) -> StoredSchema:
        """Store a schema."""
        return cls(schema.serialize().to_pybytes())

    def load(self) -> pa.Schema:
        """Return the schema."""
        return pa.ipc.read_schema(pa.py_buffer(self.message))


@dataclass(frozen=True, slots=True)
class ParticleTable:
    """An input: its columns, its files and its fragments.

    Attributes
    ----------
    format : str
        ``parquet``, ``star``, ``cs`` or ``csg``.
    path : str
        As the user wrote it.
    source : int
        Ordinal among the inputs.
    fragments : tuple of Fragment
        Numbered from 0; a run renumbers them over all inputs.
    detail : object
        Private to the format.
    """

    format: str
    path: str
    source: int
    stored_schema: StoredSchema
    files: tuple[InputFile, ...]
    fragments: tuple[Fragment, ...]
    detail: Any = None

    @property
    def schema(self) -> pa.Schema:
        """Columns and their types."""
        return self.stored_schema.load()

    @property
    def rows(self) -> int:
        """Number of particles."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


@contextmanager
def opening(path: str | Path) -> Iterator[None]:
    """Raise `InputError` if an input cannot be opened or read."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def changed_error(path: object) -> RunError:
    """Return the error about a file that changed during the run."""
    return RunError(f"{path}: the file changed during the run. Run again.")


def read_blocks(file: BufferedReader, length: int) -> Iterator[memoryview]:
    """Read the next `length` bytes of a file, block by block; a block is overwritten by the next."""
    buffer = memoryview(bytearray(COPY_BYTES))
    while length > 0:
        count = file.readinto(buffer[:length])
        if not count:
            raise changed_error(file.name)
        yield buffer[:count]
        length -= count


def read_parts(parts: Iterable[Path]) -> Iterator[memoryview]:
    """Read part files one after the other, block by block."""
    for part in parts:
        with open_to_read(part, buffering=0) as file:
            yield from read_blocks(file, status_of(part).st_size)


def write_blocks(path: Path, rows: int, blocks: Iterable[bytes | memoryview]) -> OutputFile:
    """Write an output file from blocks of bytes and compute its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for block in blocks:
            digest.update(block)
            size += len(block)
            file.write(block)
    return OutputFile(path.name, rows, size, digest.hexdigest())

"""An opened particle table, and how it is cut into fragments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Consecutive rows of one file.

    Attributes
    ----------
    path : str
    first_row : int
        Row number in the file of the piece's first row, from 0.
    rows : int
    blocks : tuple of int
        The parts of the file that hold the rows; their meaning is the format's own.
    keys : tuple of (str, object)
        Columns that the path tells, such as hive partitions, and their values here.
    """

    path: str
    first_row: int
    rows: int
    blocks: tuple[int, ...] = ()
    keys: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Fragment:
    """A contiguous slice of an input's rows: the unit of reading and of writing.

    Attributes
    ----------
    number : int
        Position among all fragments of the run.
    source : int
        Ordinal of the input.
    first_row : int
        Row number in the input of the first row.
    rows : int
    slices : tuple of FileSlice
    """

    number: int
    source: int
    first_row: int
    rows: int
    slices: tuple[FileSlice, ...]

    def __str__(self) -> str:
        if not self.slices:
            return "a table of no rows"
        first, last = self.slices[0], self.slices[-1]
        if first.path == last.path:
            return f"{first.path} rows {first.first_row} to {last.first_row + last.rows - 1}"
        return f"{first.path} to {last.path}"

    def locate(self, row: int) -> tuple[str, int]:
        """Give the file, and the row number in it, of a row of the fragment."""
        for piece in self.slices:
            if row < piece.rows:
                return piece.path, piece.first_row + row
            row -= piece.rows
        raise IndexError(row)


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of an input, and what tells whether it is still the same."""

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


class Payload(Protocol):
    """A fragment's rows, whole, as its format holds them."""

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Give columns by name, in the types of the table's schema (text as dictionaries)."""

    def split(self, keep: NDArray[np.bool_], kept: Path, rejected: Path) -> None:
        """Write the kept and the rejected rows, verbatim, as pieces for `Format.assemble`.

        Parameters
        ----------
        keep : (rows,) bool
        kept, rejected : Path
            Where the pieces go; a format of several files adds suffixes.
        """


class Format(Protocol):
    """What the module of a format offers."""

    def open_table(self, path: Path, source: int) -> ParticleTable:
        """List the files, read the schema, cut the rows into fragments."""

    def read(self, table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
        """Read columns of a fragment by name, no more than these."""

    def load(self, table: ParticleTable, fragment: Fragment) -> Payload:
        """Read a fragment whole."""

    def assemble(
        self, table: ParticleTable, pieces: Sequence[Path], rows: int, folder: Path, name: str
    ) -> list[OutputFile]:
        """Join the pieces of one outcome, in order, into the table's own kind of file.

        The pieces stay, so that it can be done again after a crash.

        Parameters
        ----------
        table : ParticleTable
        pieces : sequence of Path
            One a fragment, as `Payload.split` wrote them.
        rows : int
            In all pieces.
        folder, name : Path, str
            The file to make; a table of several files puts the others beside it.
        """


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """An Arrow schema that survives pickling: pyarrow's own loses the names of list elements.

    Attributes
    ----------
    message : bytes
        The schema as an Arrow IPC message.
    """

    message: bytes

    @classmethod
    def of(cls, schema: pa.Schema) -> StoredSchema:
        """Store a schema."""
        return cls(schema.serialize().to_pybytes())

    def load(self) -> pa.Schema:
        """Give the schema back."""
        return pa.ipc.read_schema(pa.py_buffer(self.message))


@dataclass(frozen=True, slots=True)
class ParticleTable:
    """An input: its columns, its files and its fragments.

    Attributes
    ----------
    format : str
        Name of the module in `dask_dedup.formats`.
    path : str
        As the user gave it.
    source : int
        Ordinal among the inputs.
    stored_schema : StoredSchema
    files : tuple of InputFile
    fragments : tuple of Fragment
        Numbered from 0; the run renumbers them over all inputs.
    detail : object
        What the format itself wants to remember.
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

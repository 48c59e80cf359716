r"""Records in CryoSPARC's compressed form, column by column.

::

    \x95CSDAT  u32 length  JSON header  { u32 length  column }  text heap
    header: {"length": rows, "dtype": [[name, type, shape?], ...],
             "compression": "lz4" or null, "compressed_fields": [name, ...]}

A column of text (``|O``) holds the places of its texts in the heap, each text ending in a zero byte.
A table without rows has no columns. Found in `cryosparc-tools`, whose own reader ends the process
when a column is damaged, and takes several times the memory.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

from dask_dedup.errors import InputError, RunError, is_of_the_system
from dask_dedup.formats.base import InputFile, OutputFile
from dask_dedup.formats.cryosparc.fields import read_fields
from dask_dedup.formats.cryosparc.npy import MAX_HEADER_BYTES, fingerprint
from dask_dedup.formatting import counted
from dask_dedup.storage.files import open_to_read, status_of
from dask_dedup.storage.memory import check_fits
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"\x95CSDAT"
#: LZ4 makes of one byte no more than so many.
_EXPANSION = 255


@dataclass(frozen=True, slots=True)
class CsdatFile:
    """A file of records, stored by column.

    Attributes
    ----------
    info : InputFile
    dtype : numpy.dtype
        Of one record; text is ``O``.
    header : dict
        As in the file.
    places : dict of str to (int, int)
        Offset and stored length of each column, bytes.
    heap : int
        Offset of the heap.
    """

    info: InputFile
    dtype: np.dtype[Any]
    header: dict[str, Any]
    places: dict[str, tuple[int, int]]
    heap: int

    #: Rows are spread over the file, so it is read and written whole, a column at a time.
    whole = True

    @property
    def path(self) -> str:
        """Where it is."""
        return self.info.path

    @property
    def rows(self) -> int:
        """Number of records."""
        return self.info.rows

    @property
    def row_bytes(self) -> int:
        """Size of a record in memory, texts not counted."""
        return self.dtype.itemsize

    def read(self, rows: range | NDArray[np.integer], names: Sequence[str]) -> pa.Table:
        """Read fields of some rows, text as dictionaries.

        Parameters
        ----------
        rows : range, or (n,) integers
        names : sequence of str
        """
        chosen = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
        with self._open() as file:
            columns = {name: self._column(file, name)[chosen] for name in names}
            if any(self.dtype[name].kind == "O" for name in names):
                heap = self._heap(file)
                for name in names:
                    if self.dtype[name].kind == "O":
                        columns[name] = self._texts(columns[name], heap, name)
        return read_fields([columns], self.dtype, len(rows), names)

    def split(
        self,
        rows: range | NDArray[np.integer],
        keep: NDArray[np.bool_],
        kept: Path,
        rejected: Path,
    ) -> None:
        """Write the records of some rows to either file, each a whole one of this form.

        The heap is copied whole, with texts that only the other file still needs.
        """
        numbers = np.asarray(rows, np.intp)
        outcomes = [(numbers[keep], kept), (numbers[~keep], rejected)]
        with self._open() as source:
            heap = self._heap(source)
        with self._open() as source, kept.open("wb") as first, rejected.open("wb") as second:
            for (chosen, _), file in zip(outcomes, (first, second), strict=True):
                header = json.dumps({**self.header, "length": len(chosen)}).encode()
                file.write(MAGIC + len(header).to_bytes(4, "little") + header)
            for name in self.places:
                column = self._column(source, name)
                if self.dtype[name].kind == "O" and column.size and column.max() >= len(heap):
                    raise self._damage(name)
                for (chosen, _), file in zip(outcomes, (first, second), strict=True):
                    if len(chosen):
                        content = self._stored(column[chosen].tobytes(), name)
                        file.write(len(content).to_bytes(4, "little"))
                        file.write(content)
            first.write(heap)
            second.write(heap)

    def assemble(self, pieces: Sequence[Path], rows: int, target: Path) -> OutputFile:
        """Copy the one piece there is."""
        (piece,) = pieces
        with open_to_read(piece) as file:
            written = _read_header(file, piece)[0]["length"]
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        if written != rows:
            raise RunError(f"{target}: has {written} rows instead of {rows}; run again")
        with open_to_read(piece) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        return OutputFile(target.name, rows, size, digest)

    def _open(self) -> BinaryIO:
        try:
            return open_to_read(at(self.path))
        except OSError as error:
            if is_of_the_system(error):
                raise
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def _column(self, file: BinaryIO, name: str) -> NDArray[Any]:
        """Read a column; of text, the places in the heap."""
        kind = self.dtype[name]
        base = np.dtype("<u8") if kind.kind == "O" else kind.base
        place, stored = self.places.get(name, (self.heap, 0))
        file.seek(place)
        content = file.read(stored)
        size = self.rows * kind.itemsize
        if size and name in self.header["compressed_fields"]:
            content = self._decompressed(content, size, name)
        if len(content) != size:
            raise InputError(f"{self.path}: has become shorter during the run; run again")
        return np.frombuffer(content, base).reshape(self.rows, *kind.shape)

    def _decompressed(self, content: bytes, size: int, name: str) -> pa.Buffer:
        codec = pa.Codec("lz4_raw")
        try:
            # Arrow does not tell when less than `size` comes out; but then one byte less is enough.
            codec.decompress(content, size - 1)
        except OSError:
            try:
                return codec.decompress(content, size)
            except OSError as error:
                raise self._damage(name) from error
        raise self._damage(name)

    def _stored(self, content: bytes, name: str) -> bytes:
        if name not in self.header["compressed_fields"]:
            return content
        return bytes(pa.Codec("lz4_raw").compress(content, asbytes=True))

    def _heap(self, file: BinaryIO) -> bytes:
        file.seek(self.heap)
        return file.read()

    def _texts(self, places: NDArray[np.uint64], heap: bytes, name: str) -> NDArray[np.object_]:
        distinct, codes = np.unique(places, return_inverse=True)
        if distinct.size and (distinct[-1] >= len(heap) or heap[-1]):
            raise self._damage(name)
        texts = [heap[place : heap.index(b"\0", place)] for place in distinct.tolist()]
        decoded = np.array([text.decode("utf-8", "backslashreplace") for text in texts], object)
        return np.asarray(decoded[codes.reshape(-1)])

    def _damage(self, name: str) -> InputError:
        return InputError(f"{self.path}: the column {name} is damaged and cannot be read")


def open_csdat(path: Path) -> CsdatFile:
    """Read the header and check that the columns can be as long as it says.

    Raises
    ------
    InputError
        If they cannot.
    """
    with open_to_read(path) as file:
        status = status_of(path)
        header, dtype = _read_header(file, path)
        start = file.tell()
        places, heap = _find_columns(file, header, dtype, status.st_size, path)
        check_fits(
            f"{path}: the file",
            header["length"],
            header["length"] * dtype.itemsize,
            "save it again uncompressed, as NumPy does, which is read in parts",
        )
        info = InputFile(
            path=str(path),
            bytes=status.st_size,
            modified_ns=status.st_mtime_ns,
            rows=header["length"],
            fingerprint=fingerprint(path, status.st_size, start),
        )
    return CsdatFile(info, dtype, header, places, heap)


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], np.dtype[Any]]:
    size = status_of(path).st_size
    start = file.read(10)
    length = int.from_bytes(start[6:], "little")
    if start[:6] != MAGIC or len(start) < 10 or length > min(MAX_HEADER_BYTES, size - 10):
        raise InputError(f"{path}: not a CryoSPARC CSDAT file, or cut off in its header")
    try:
        header = json.loads(file.read(length))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about outdated names of types
            dtype = np.dtype(
                [
                    (name, kind, tuple(shape[0])) if shape else (name, kind)
                    for name, kind, *shape in header["dtype"]
                ]
            )
        rows, names = header["length"], dtype.names or ()
        compression = header["compression"]
        usable = (
            type(rows) is int
            and 0 <= rows < 2**48
            and bool(names)
            and all(name.isprintable() for name in names)
            and not any(dtype[name].hasobject and dtype[name] != np.dtype("O") for name in names)
            and set(header["compressed_fields"]) <= set(names)
        )
    except (
        ValueError,
        TypeError,
        SyntaxError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(f"{path}: its header is not readable; the file is damaged") from error
    if not usable:
        raise InputError(f"{path}: its header describes no table; the file is damaged")
    if compression not in (None, "lz4"):
        raise InputError(
            f"{path}: its columns are compressed by {compression!r}, but only lz4 is known; "
            "save the table again"
        )
    return header, dtype


def _find_columns(
    file: BinaryIO, header: dict[str, Any], dtype: np.dtype[Any], size: int, path: Path
) -> tuple[dict[str, tuple[int, int]], int]:
    """Follow the lengths of the columns through the file, before any memory is taken for them."""
    rows = header["length"]
    place = file.tell()
    places = {}
    for name in (dtype.names or ()) if rows else ():
        file.seek(place)
        stored = int.from_bytes(file.read(4), "little")
        places[name] = (place + 4, stored)
        place += 4 + stored
        needed = rows * dtype[name].itemsize
        compressed = name in header["compressed_fields"]
        possible = needed <= _EXPANSION * stored if compressed else needed == stored
        if place > size or not possible:
            raise InputError(
                f"{path}: the column {name} cannot hold the {counted(rows, 'row')} of the header; "
                "the file is cut off or damaged"
            )
    texts = [name for name in places if dtype[name].kind == "O"]
    if texts:
        file.seek(max(place, size - 1))
        if file.read(1) != b"\0":
            raise InputError(f"{path}: its texts do not end; the file is cut off or damaged")
    return places, place

r"""``.cs`` files in CSDAT, CryoSPARC's compressed format that stores a table by column.

::

    \x95CSDAT  u32 length  JSON header  { u32 length  column }  string heap
    header: {"length": rows, "dtype": [[name, type, shape?], ...],
             "compression": "lz4" or null, "compressed_fields": [name, ...]}

A column of text (``|O``) has offsets into the string heap. In the heap, each text ends with a zero byte.
A table without rows has no columns. The format is defined by `cryosparc-tools`. The reader of `cryosparc-tools` is
not used, because it crashes on damaged columns and needs several times the memory.
"""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import take_strings
from dask_dedup.errors import InputError
from dask_dedup.formats.base import OutputFile, changed_error, read_parts, write_blocks
from dask_dedup.formats.cryosparc.arrow_columns import read_fields
from dask_dedup.formats.cryosparc.record_file import (
    DAMAGED,
    MAX_HEADER_BYTES,
    UNREADABLE,
    RecordFile,
    describe_file,
    reading,
)
from dask_dedup.formatting import counted
from dask_dedup.storage.capacity import check_fits
from dask_dedup.storage.files import open_to_read, status_of
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.formats.cryosparc.record_file import Rows

MAGIC = b"\x95CSDAT"
#: Maximum number of bytes that LZ4 can decompress from one byte.
_EXPANSION = 255


@dataclass(frozen=True, slots=True)
class CsdatFile(RecordFile):
    """A ``.cs`` file in CSDAT format, which stores records by column.

    Attributes
    ----------
    header : dict
        JSON header of the file.
    columns : dict of str to (int, int)
        Offset and stored length of each column, in bytes.
    heap : int
        Offset of the string heap.
    """

    header: dict[str, Any]
    columns: dict[str, tuple[int, int]]
    heap: int

    def read(self, rows: Rows, names: Sequence[str]) -> pa.Table:
        """Read the named fields of the given rows. Text is dictionary-encoded."""
        chosen = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
        with self._open() as file:
            columns = {name: self._column(file, name)[chosen] for name in names}
            texts = [name for name in names if self._is_text(name)]
            heap = self._heap(file) if texts else b""
        others = [name for name in names if name not in texts]
        fields = read_fields([columns], self.dtype, len(rows), others)
        found = dict(zip(others, fields.columns, strict=True))
        found |= {name: self._texts(columns[name], heap, name) for name in texts}
        return pa.table([found[name] for name in names], names=list(names))

    def split(self, rows: Rows, keep: NDArray[np.bool_], kept: Path, rejected: Path) -> None:
        """Write kept rows to the file `kept`, and rejected rows to the file `rejected`.

        Both are complete CSDAT files with the complete string heap.
        """
        numbers = np.asarray(rows, np.intp)
        with self._open() as source, kept.open("wb") as first, rejected.open("wb") as second:
            heap = self._heap(source)
            outputs = [(numbers[keep], first), (numbers[~keep], second)]
            for chosen, file in outputs:
                header = json.dumps({**self.header, "length": len(chosen)}).encode()
                file.write(MAGIC + len(header).to_bytes(4, "little") + header)
            for name in self.columns:
                column = self._column(source, name)
                if self._is_text(name) and column.size and column.max() >= len(heap):
                    raise self._damage(name)
                for chosen, file in outputs:
                    if len(chosen):
                        content = self._compress(column[chosen].tobytes(), name)
                        file.write(len(content).to_bytes(4, "little"))
                        file.write(content)
            for _, file in outputs:
                file.write(heap)

    def assemble(self, parts: Sequence[Path], rows: int, folder: Path, name: str) -> OutputFile:
        """Copy the part file to the file `name`. There is only one part file, a complete CSDAT file."""
        return write_blocks(folder, name, rows, read_parts(parts))

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        with reading(self.path):
            file = open_to_read(at(self.path))
        with file:
            yield file

    def _is_text(self, name: str) -> bool:
        return self.dtype[name].kind == "O"

    def _column(self, file: BinaryIO, name: str) -> NDArray[Any]:
        """Read a column as a NumPy array. For a text column, return offsets into the string heap."""
        kind = self.dtype[name]
        base = np.dtype("<u8") if self._is_text(name) else kind.base
        offset, stored = self.columns.get(name, (self.heap, 0))
        file.seek(offset)
        size = self.rows * kind.itemsize
        if not size:
            return np.zeros((self.rows, *kind.shape), base)
        content = file.read(stored)
        if name in self.header["compressed_fields"]:
            content = self._decompress(content, size, name)
        if len(content) != size:
            raise changed_error(self.path)
        return np.frombuffer(content, base).reshape(self.rows, *kind.shape)

    def _decompress(self, content: bytes, size: int, name: str) -> pa.Buffer:
        codec = pa.Codec("lz4_raw")
        try:
            # Arrow does not report that the result is shorter than `size`. If it is, this call succeeds.
            codec.decompress(content, size - 1)
        except OSError:
            try:
                return codec.decompress(content, size)
            except OSError as error:
                raise self._damage(name) from error
        raise self._damage(name)

    def _compress(self, content: bytes, name: str) -> bytes:
        if name not in self.header["compressed_fields"]:
            return content
        return bytes(pa.Codec("lz4_raw").compress(content, asbytes=True))

    def _heap(self, file: BinaryIO) -> bytes:
        file.seek(self.heap)
        return file.read()

    def _texts(self, offsets: NDArray[np.uint64], heap: bytes, name: str) -> pa.DictionaryArray:
        distinct, index = np.unique(offsets, return_inverse=True)
        if distinct.size and (distinct[-1] >= len(heap) or heap[-1]):
            raise self._damage(name)
        texts = [heap[offset : heap.index(b"\0", offset)] for offset in distinct.tolist()]
        # The heap may have the same text more than once.
        words = [text.decode("utf-8", "backslashreplace") for text in texts]
        return take_strings(words, index.reshape(-1))

    def _damage(self, name: str) -> InputError:
        return InputError(f"{self.path}: the column {name} is damaged and cannot be read")


def open_csdat(path: Path) -> CsdatFile:
    """Open a CSDAT file. Check that the size of each column fits the number of rows in the header."""
    status = status_of(path)
    with open_to_read(path) as file:
        header, dtype = _read_header(file, status.st_size, path)
        start = file.tell()
        columns, heap = _find_columns(file, header, dtype, status.st_size, path)
    rows = header["length"]
    advice = "save it uncompressed with numpy.save, because NumPy files are read in parts"
    check_fits(f"{path}: the file", rows, rows * dtype.itemsize, advice)
    return CsdatFile(describe_file(path, status, rows, start), dtype, header, columns, heap)


def _read_header(file: BinaryIO, size: int, path: Path) -> tuple[dict[str, Any], np.dtype[Any]]:
    length = int.from_bytes(file.read(10)[6:], "little")
    try:
        if length > min(MAX_HEADER_BYTES, size - 10):
            raise ValueError(length)
        header = json.loads(file.read(length))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about outdated names of types
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
            and not any(dtype[name].base.shape for name in names)  # no field is an array of arrays
            and not any(dtype[name].hasobject and dtype[name] != np.dtype("O") for name in names)
            and set(header["compressed_fields"]) <= set(names)
        )
        if not usable:
            raise ValueError(dtype)
    except UNREADABLE as error:
        raise InputError(f"{path}: the header describes no table. {DAMAGED}") from error
    if compression not in (None, "lz4"):
        raise InputError(
            f"{path}: columns are compressed with {compression!r}; only lz4 is supported. "
            "Save the table with lz4 or without compression."
        )
    return header, dtype


def _find_columns(
    file: BinaryIO, header: dict[str, Any], dtype: np.dtype[Any], size: int, path: Path
) -> tuple[dict[str, tuple[int, int]], int]:
    """Map column name to offset and length in the file. Also return the offset of the string heap."""
    rows, offset = header["length"], file.tell()
    columns = {}
    for name in (dtype.names or ()) if rows else ():
        file.seek(offset)
        stored = int.from_bytes(file.read(4), "little")
        columns[name] = (offset + 4, stored)
        offset += 4 + stored
        needed = rows * dtype[name].itemsize
        compressed = name in header["compressed_fields"]
        possible = needed == stored
        if compressed:
            # LZ4 compresses an empty column to one byte.
            possible = needed <= _EXPANSION * stored if needed else stored <= 1
        if offset > size or not possible:
            raise InputError(
                f"{path}: the column {name} does not fit the {counted(rows, 'row')} in the header. {DAMAGED}"
            )
    if any(dtype[name].kind == "O" for name in columns):
        file.seek(max(offset, size - 1))
        if file.read(1) != b"\0":
            raise InputError(f"{path}: the text at the end is not terminated. {DAMAGED}")
    return columns, offset

"""``.cs`` files in NumPy's ``.npy`` format. Records are copied in batches, byte for byte."""

from __future__ import annotations

import ast
import io
import re
import warnings
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

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
from dask_dedup.storage.files import local_copy, open_to_read, status_of
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.formats.cryosparc.record_file import Rows

MAGIC = npy.MAGIC_PREFIX
#: Batch size for reading records. A batch fits in the processor's cache.
BATCH_BYTES = 2**19


@dataclass(frozen=True, slots=True)
class NpyFile(RecordFile):
    """A ``.cs`` file in NumPy format. The records begin at byte `offset`.

    Row numbers are a range or (n,) integers.
    """

    offset: int

    def read(self, rows: Rows, names: Sequence[str]) -> pa.Table:
        """Read the named fields of the given rows. Text is dictionary-encoded."""
        batches = (batch.view(self.dtype) for batch in self._batches(rows))
        return read_fields(batches, self.dtype, len(rows), names)

    def split(self, rows: Rows, keep: NDArray[np.bool_], kept: Path, rejected: Path) -> None:
        """Write kept records to the file `kept`, and rejected records to the file `rejected`, without headers."""
        first = 0
        with kept.open("wb") as kept_file, rejected.open("wb") as rejected_file:
            for batch in self._batches(rows):
                chosen = keep[first : first + len(batch)]
                kept_file.write(batch[chosen].data)
                rejected_file.write(batch[~chosen].data)
                first += len(batch)

    def assemble(self, parts: Sequence[Path], rows: int, folder: Path, name: str) -> OutputFile:
        """Join part files into a NumPy file with the header that `numpy.save` would write."""
        header = io.BytesIO()
        fields = {
            "descr": npy.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (rows,),
        }
        try:
            npy.write_array_header_1_0(header, fields)
        except ValueError:  # the header is longer than 64 KiB
            npy.write_array_header_2_0(header, fields)
        written = write_blocks(folder, name, rows, chain([header.getvalue()], read_parts(parts)))
        if written.bytes != header.tell() + rows * self.dtype.itemsize:
            raise changed_error(parts[0].parent)
        return written

    def _batches(self, rows: Rows) -> Iterator[NDArray[np.void]]:
        """Yield the records of the given rows in batches: (n,) `numpy.void` arrays.

        A batch may overwrite the buffer of the previous batch.
        """
        cell = np.dtype((np.void, self.dtype.itemsize))
        step = max(1, BATCH_BYTES // cell.itemsize)
        if not isinstance(rows, range):
            with reading(self.path):
                cells = np.memmap(local_copy(at(self.path)), cell, "r", self.offset, self.rows)
            for first in range(0, len(rows), step):
                yield np.asarray(cells[rows[first : first + step]])
            return
        buffer = memoryview(bytearray(min(step, len(rows)) * cell.itemsize))
        with reading(self.path), open_to_read(at(self.path)) as file:
            file.seek(self.offset + rows.start * cell.itemsize)
            for first in range(rows.start, rows.stop, step):
                batch = buffer[: min(step, rows.stop - first) * cell.itemsize]
                if file.readinto(batch) < len(batch):
                    raise changed_error(self.path)
                yield np.frombuffer(batch, cell)


def open_npy(path: Path) -> NpyFile:
    """Open a ``.cs`` file in NumPy format. Check that its header matches the file size.

    Pickled objects raise `InputError`, because they can run code when they are loaded.
    """
    status = status_of(path)
    size = status.st_size
    with open_to_read(path) as file:
        dtype, shape, fortran = _read_header(file, size, path)
        offset = file.tell()
    if dtype.hasobject:
        raise InputError(f"{path}: contains pickled Python objects, which are not safe to read")
    if not dtype.names or not dtype.itemsize:
        raise InputError(
            f"{path}: contains a plain array of {dtype}, not records with named fields. "
            "A CryoSPARC table has fields such as uid and location/center_x_frac."
        )
    if len(shape) != 1 or fortran:
        order = " in Fortran order" if fortran else ""
        raise InputError(
            f"{path}: contains an array of shape {shape}{order}. A table has one dimension."
        )
    (rows,) = shape
    expected = offset + rows * dtype.itemsize
    if size != expected:
        raise InputError(
            f"{path}: header claims {expected:,} bytes ({counted(rows, 'row')} of {dtype.itemsize} bytes), "
            f"but the file has {size:,}. {DAMAGED}"
        )
    return NpyFile(describe_file(path, status, rows, offset), dtype, offset)


def _read_header(
    file: BinaryIO, size: int, path: Path
) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Read dtype, shape and Fortran order from a NumPy header.

    NumPy's reader is not used, because it takes minutes on some damaged files.
    """
    start = file.read(12)
    if len(start) < 12:
        raise InputError(f"{path}: a NumPy file that is cut off in its first 12 bytes")
    version = (start[6], start[7])
    width = {(1, 0): 2, (2, 0): 4}.get(version)
    if width is None:
        raise InputError(
            f"{path}: NumPy format {version[0]}.{version[1]} is not supported, and CryoSPARC does not write it. "
            "Save the table again with ASCII field names."
        )
    length = int.from_bytes(start[8 : 8 + width], "little")
    if length > min(MAX_HEADER_BYTES, size - 8 - width):
        raise InputError(
            f"{path}: header claims {length:,} bytes, but the file has only {size:,}. {DAMAGED}"
        )
    file.seek(8 + width)
    # Python 2 wrote the number of rows as a long integer, such as 12L.
    text = re.sub(r"('shape': \(\d+)L,", r"\1,", file.read(length).decode("latin-1"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about the text of a damaged header
            header = ast.literal_eval(text.strip())
            shape, fortran = header["shape"], header["fortran_order"]
            dtype = npy.descr_to_dtype(header["descr"])
        if not all(type(extent) is int and extent >= 0 for extent in shape):
            raise ValueError(shape)
        names = dtype.names or ()
        array_of_arrays = any(dtype[name].base.shape for name in names)
        if array_of_arrays or not all(name.isprintable() for name in names):
            raise ValueError(dtype)
    except UNREADABLE as error:
        raise InputError(f"{path}: the header describes no array. {DAMAGED}") from error
    return dtype, tuple(shape), bool(fortran)

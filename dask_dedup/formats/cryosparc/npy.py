"""Records in a NumPy ``.npy`` file: read and selected in batches, their bytes never touched."""

from __future__ import annotations

import ast
import hashlib
import io
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from dask_dedup.errors import InputError, RunError, is_of_the_system
from dask_dedup.formats.base import InputFile, OutputFile
from dask_dedup.formats.cryosparc.fields import read_fields
from dask_dedup.formatting import counted
from dask_dedup.storage.files import local_copy, open_to_read, read_ranges, status_of
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    Records = NDArray[np.void]

MAGIC = npy.MAGIC_PREFIX
#: A header as long as this describes some hundred thousand fields.
MAX_HEADER_BYTES = 10 * 2**20
#: So many bytes are read at a time: they stay in the processor's cache until their fields are copied.
BATCH_BYTES = 2**19
#: The fingerprint looks at so many places of the data, and so many bytes at each.
SAMPLES, SAMPLE_BYTES = 64, 4096


@dataclass(frozen=True, slots=True)
class NpyFile:
    """A file of records.

    Attributes
    ----------
    info : InputFile
    dtype : numpy.dtype
        Of one record.
    offset : int
        Where the first record begins, bytes.
    """

    info: InputFile
    dtype: np.dtype[Any]
    offset: int

    #: Rows lie one after the other, so a part can be read alone.
    whole = False

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
        """Size of a record."""
        return self.dtype.itemsize

    def read(self, rows: range | NDArray[np.integer], names: Sequence[str]) -> pa.Table:
        """Read fields of some rows, text as dictionaries.

        Parameters
        ----------
        rows : range, or (n,) integers
            Consecutive row numbers, or any.
        names : sequence of str
        """
        batches = (batch.view(self.dtype) for batch in self._batches(rows))
        return read_fields(batches, self.dtype, len(rows), names)

    def split(
        self,
        rows: range | NDArray[np.integer],
        keep: NDArray[np.bool_],
        kept: Path,
        rejected: Path,
    ) -> None:
        """Copy the records of some rows to either file, byte for byte, in the order of `rows`."""
        first = 0
        with kept.open("wb") as kept_file, rejected.open("wb") as rejected_file:
            for batch in self._batches(rows):
                chosen = keep[first : first + len(batch)]
                kept_file.write(batch[chosen].data)
                rejected_file.write(batch[~chosen].data)
                first += len(batch)

    def assemble(self, pieces: Sequence[Path], rows: int, target: Path) -> OutputFile:
        """Write the file that `numpy.save` would write for the records in the pieces."""
        digest = hashlib.sha256()
        size = 0
        batch = memoryview(bytearray(BATCH_BYTES))
        with target.open("wb", buffering=0) as out:

            def put(content: bytes | memoryview) -> None:
                nonlocal size
                digest.update(content)
                size += len(content)
                while content:
                    content = content[out.write(content) :]

            header = self._header(rows)
            put(header)
            for piece in pieces:
                with open_to_read(piece, buffering=0) as file:
                    while filled := file.readinto(batch):
                        put(batch[:filled])
        if size != len(header) + rows * self.row_bytes:
            raise RunError(f"{target}: has {size} bytes, which are not {rows} rows; run again")
        return OutputFile(target.name, rows, size, digest.hexdigest())

    def _header(self, rows: int) -> bytes:
        fields = {
            "descr": npy.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (rows,),
        }
        header = io.BytesIO()
        try:
            npy.write_array_header_1_0(header, fields)
        except ValueError:  # longer than 64 KiB
            header = io.BytesIO()
            npy.write_array_header_2_0(header, fields)
        return header.getvalue()

    def _batches(self, rows: range | NDArray[np.integer]) -> Iterator[Records]:
        """Give the records as opaque cells; a batch may be overwritten by the next."""
        return self._consecutive(rows) if isinstance(rows, range) else self._scattered(rows)

    def _consecutive(self, rows: range) -> Iterator[Records]:
        step = max(1, BATCH_BYTES // self.row_bytes)
        buffer = memoryview(bytearray(min(step, len(rows)) * self.row_bytes))
        try:
            with open_to_read(at(self.path), buffering=0) as file:
                file.seek(self.offset + rows.start * self.row_bytes)
                for first in range(rows.start, rows.stop, step):
                    part = buffer[: min(step, rows.stop - first) * self.row_bytes]
                    self._fill(part, file)
                    yield np.frombuffer(part, self._cell)
        except OSError as error:
            if is_of_the_system(error):
                raise
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def _scattered(self, rows: NDArray[np.integer]) -> Iterator[Records]:
        step = max(1, BATCH_BYTES // self.row_bytes)
        try:
            mapped = local_copy(at(self.path))
            cells = np.memmap(mapped, self._cell, "r", self.offset, self.rows)
        except (OSError, ValueError) as error:
            if is_of_the_system(error):
                raise
            raise InputError(f"{self.path}: cannot be read: {error}") from error
        for first in range(0, len(rows), step):
            yield np.asarray(cells[rows[first : first + step]])

    @property
    def _cell(self) -> np.dtype[np.void]:
        return np.dtype((np.void, self.row_bytes))

    def _fill(self, part: memoryview, file: BufferedReader) -> None:
        while part:
            filled = file.readinto(part)
            if not filled:
                raise InputError(f"{self.path}: has become shorter during the run; run again")
            part = part[filled:]


def open_npy(path: Path) -> NpyFile:
    """Read the header and check that the file holds what it says.

    Raises
    ------
    InputError
        If it is cut off, or holds anything but a plain sequence of records. Pickled objects, whose
        loading would run code from the file, are never read.
    """
    with open_to_read(path) as file:
        status = status_of(path)
        dtype, shape, fortran = _read_header(file, status.st_size, path)
        offset = file.tell()
        if dtype.hasobject:
            raise InputError(f"{path}: holds pickled Python objects, which are not safe to read")
        if not dtype.names or not dtype.itemsize:
            raise InputError(
                f"{path}: holds a plain array of {dtype}, not records with named fields; "
                "a CryoSPARC table has fields such as uid and location/center_x_frac"
            )
        if len(shape) != 1 or fortran:
            order = ", in Fortran order" if fortran else ""
            raise InputError(
                f"{path}: holds an array of shape {shape}{order}; a table has one dimension"
            )
        (rows,) = shape
        expected = offset + rows * dtype.itemsize
        if rows < 0:
            raise InputError(
                f"{path}: its header gives the shape {shape}; the file is cut off or damaged"
            )
        if status.st_size != expected:
            raise InputError(
                f"{path}: has {status.st_size} bytes, but {counted(rows, 'row')} of {dtype.itemsize} bytes and "
                f"the header make {expected}; the file is cut off or damaged"
            )
        info = InputFile(
            path=str(path),
            bytes=status.st_size,
            modified_ns=status.st_mtime_ns,
            rows=rows,
            fingerprint=fingerprint(path, status.st_size, offset),
        )
    return NpyFile(info, dtype, offset)


def fingerprint(path: Path, size: int, header: int) -> str:
    """Hash the header and samples of the data: a large file is not read whole to know it again."""
    places = np.linspace(header, max(header, size - SAMPLE_BYTES), SAMPLES, dtype=np.int64).tolist()
    samples = [(place, min(place + SAMPLE_BYTES, size)) for place in places]
    digest = hashlib.sha256()
    for part in read_ranges(path, [(0, header), *samples]):
        digest.update(part)
    return digest.hexdigest()


def _read_header(
    file: BinaryIO, size: int, path: Path
) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Do as NumPy does, but for one thing: its second try at a damaged header can take minutes."""
    start = file.read(12)
    if start[:6] != MAGIC or len(start) < 12:
        raise InputError(f"{path}: not a NumPy file, or cut off in its first bytes")
    version = (start[6], start[7])
    width = {(1, 0): 2, (2, 0): 4}.get(version)
    if width is None:
        raise InputError(
            f"{path}: is NumPy format {version[0]}.{version[1]}, which CryoSPARC does not write; "
            "save the table again with ASCII field names"
        )
    length = int.from_bytes(start[8 : 8 + width], "little")
    if length > min(MAX_HEADER_BYTES, size - 8 - width):
        raise InputError(
            f"{path}: its header is to have {length} bytes, but the file has {size}, and a "
            f"header at most {MAX_HEADER_BYTES}; the file is cut off or damaged"
        )
    file.seek(8 + width)
    # Python 2 wrote the number of rows as a long.
    text = re.sub(r"('shape': \(\d+)L,", r"\1,", file.read(length).decode("latin-1"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the text of a damaged header
            header = ast.literal_eval(text.strip())
            shape, fortran = header["shape"], header["fortran_order"]
            dtype = npy.descr_to_dtype(header["descr"])
    except (
        ValueError,
        TypeError,
        SyntaxError,
        LookupError,
        AttributeError,
        MemoryError,
        RecursionError,
    ) as error:
        raise InputError(f"{path}: its header describes no array; the file is damaged") from error
    if not (isinstance(shape, tuple) and all(type(extent) is int for extent in shape)):
        raise InputError(f"{path}: its header gives the shape {shape!r}; the file is damaged")
    if not all(name.isprintable() for name in dtype.names or ()):
        raise InputError(
            f"{path}: its header names a field with unprintable characters; the file is damaged"
        )
    return dtype, shape, bool(fortran)

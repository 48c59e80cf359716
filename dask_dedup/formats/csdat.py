r"""Records in CryoSPARC's compressed stream form, by way of `cryosparc-tools`.

::

    \x95CSDAT  u32 header length  JSON header  { u32 column length  column }  string heap

The form is column by column and compressed, so a file is read and written whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from dask_dedup.errors import InputError, RunError
from dask_dedup.formats.fields import read_fields
from dask_dedup.formats.npy import fingerprint
from dask_dedup.formats.table import InputFile, Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
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
    heap_bytes : int
        Size of the heap that holds the texts.
    """

    info: InputFile
    dtype: np.dtype[Any]
    heap_bytes: int

    #: It cannot be read in parts.
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
        data = self._load(fields=list(names))
        chosen = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
        batch = {name: np.asarray(data[name])[chosen] for name in names}
        return read_fields([batch], self.dtype, len(rows), names)

    def split(
        self,
        rows: range | NDArray[np.integer],
        keep: NDArray[np.bool_],
        kept: Path,
        rejected: Path,
    ) -> None:
        """Write the records of some rows to either file, each a whole one of this form."""
        data = self._load()
        numbers = np.asarray(rows, np.intp)
        for mask, target in ((keep, kept), (~keep, rejected)):
            data.take(numbers[mask]).save(str(target), format=_library(self.path).CSDAT_FORMAT)

    def assemble(self, pieces: Sequence[Path], rows: int, target: Path) -> Written:
        """Take over the one piece there is."""
        (piece,) = pieces
        with piece.open("rb") as file:
            written = _read_header(file, piece)[0]["length"]
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        if written != rows:
            raise RunError(f"{target}: has {written} rows instead of {rows}; run again")
        if target.exists():
            raise FileExistsError(target)
        shutil.move(piece, target)
        return Written(target.name, rows, size, digest)

    def _load(self, fields: list[str] | None = None) -> Any:
        library = _library(self.path)
        try:
            data = library.Dataset.load(self.path, fields=fields, cstrs=True)
            if self.rows:
                self._check_texts(data)
            return data.to_pystrs()
        except Exception as error:  # whatever the library makes of a damaged file
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{self.path}: cryosparc-tools cannot read it: {reason}") from error

    def _check_texts(self, data: Any) -> None:
        """Check that texts lie in the heap; the library follows their places unseen, and crashes."""
        with Path(self.path).open("rb") as file:
            file.seek(-self.heap_bytes, 2)
            heap = file.read()
        heap.decode()
        starts = np.frombuffer(b"\0" + heap, np.uint8)
        for name in data:
            if self.dtype[name].kind == "O":
                places = np.asarray(data[name])
                if int(places.max()) >= len(heap) or starts[places].any():
                    raise ValueError(f"the column {name} points to no text")


def _library(path: str) -> Any:
    try:
        return import_module("cryosparc.dataset")
    except ImportError as error:
        raise InputError(
            f"{path}: is in CryoSPARC's compressed CSDAT form; "
            "to read that, pip install 'dask-dedup[cryosparc]'"
        ) from error


def open_csdat(path: Path) -> CsdatFile:
    """Read the header and check that the columns can be as long as it says.

    Raises
    ------
    InputError
        If they cannot, or `cryosparc-tools` is not installed.
    """
    _library(str(path))
    with path.open("rb") as file:
        status = path.stat()
        header, dtype = _read_header(file, path)
        start = file.tell()
        heap_bytes = _check_columns(file, header, dtype, status.st_size, path)
        info = InputFile(
            path=str(path),
            bytes=status.st_size,
            modified_ns=status.st_mtime_ns,
            rows=header["length"],
            fingerprint=fingerprint(file, status.st_size, start),
        )
    return CsdatFile(info, dtype, heap_bytes)


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], np.dtype[Any]]:
    size = path.stat().st_size
    start = file.read(10)
    length = int.from_bytes(start[6:], "little")
    if start[:6] != MAGIC or len(start) < 10 or length > size - 10:
        raise InputError(f"{path}: not a CryoSPARC CSDAT file, or cut off in its header")
    try:
        header = json.loads(file.read(length))
        fields = [
            (name, kind, tuple(shape[0])) if shape else (name, kind)
            for name, kind, *shape in header["dtype"]
        ]
        dtype = np.dtype(fields)
        usable = type(header["length"]) is int and 0 <= header["length"] < 2**48
        named = isinstance(header.get("compressed_fields"), list)
        named = named and all(name.isprintable() for name in dtype.names or ())
    except (
        ValueError,
        TypeError,
        SyntaxError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(f"{path}: its header is not readable; the file is damaged") from error
    if not (usable and named):
        raise InputError(f"{path}: its header makes no sense; the file is damaged")
    if "uid" not in (dtype.names or ()):
        raise InputError(f"{path}: has no field uid, which cryosparc-tools would make up")
    return header, dtype


def _check_columns(
    file: BinaryIO, header: dict[str, Any], dtype: np.dtype[Any], size: int, path: Path
) -> int:
    """Follow the lengths of the columns through the file, before any memory is taken for them.

    Returns
    -------
    int
        Length of the heap that follows them.
    """
    rows = header["length"]
    place = file.tell()
    for name in (dtype.names or ()) if rows else ():
        file.seek(place)
        stored = int.from_bytes(file.read(4), "little")
        place += 4 + stored
        needed = rows * dtype[name].itemsize
        compressed = name in header["compressed_fields"]
        possible = needed <= _EXPANSION * stored if compressed else needed == stored
        if place > size or not possible:
            raise InputError(
                f"{path}: the column {name} cannot hold the {rows} rows of the header; "
                "the file is cut off or damaged"
            )
    file.seek(max(place, size - 1))
    if size > place and file.read(1) != b"\0":
        raise InputError(f"{path}: its last text has no end; the file is cut off or damaged")
    return size - place

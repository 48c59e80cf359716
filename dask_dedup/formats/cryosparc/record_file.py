"""Base class of the two kinds of ``.cs`` files: NumPy (`npy`) and CSDAT (`csdat`)."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.errors import InputError, is_system_error
from dask_dedup.formats.base import InputFile
from dask_dedup.storage.files import read_ranges

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Rows = range | NDArray[np.integer]

#: Last sentence of messages about invalid headers.
DAMAGED = "The file is cut off or damaged."
#: Errors that Python and NumPy raise for the text of a damaged header.
UNREADABLE = (
    ValueError,
    TypeError,
    SyntaxError,
    LookupError,
    AttributeError,
    MemoryError,
    RecursionError,
)
#: Maximum size of a header. A header of this size can describe about 100,000 fields.
MAX_HEADER_BYTES = 10 * 2**20
#: The fingerprint includes `SAMPLES` samples of the data. Each sample has `SAMPLE_BYTES` bytes.
SAMPLES, SAMPLE_BYTES = 64, 4096


@dataclass(frozen=True, slots=True)
class RecordFile:
    """A ``.cs`` file with records of the type `dtype`. Text fields of CSDAT files have the type ``O``."""

    info: InputFile
    dtype: np.dtype[Any]

    @property
    def path(self) -> str:
        """Path of the file."""
        return self.info.path

    @property
    def rows(self) -> int:
        """Number of records."""
        return self.info.rows


def describe_file(path: Path, status: os.stat_result, rows: int, header_bytes: int) -> InputFile:
    """Return the size, modification time and fingerprint of a file.

    The fingerprint is the SHA-256 of the header and samples of the data. Large files are not read completely.
    """
    size = status.st_size
    last = max(header_bytes, size - SAMPLE_BYTES)
    offsets = np.linspace(header_bytes, last, SAMPLES, dtype=np.int64).tolist()
    samples = [(offset, min(offset + SAMPLE_BYTES, size)) for offset in offsets]
    digest = hashlib.sha256()
    for part in read_ranges(path, [(0, header_bytes), *samples]):
        digest.update(part)
    return InputFile.of(path, status, rows, digest.hexdigest())


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Convert read errors to `InputError`. Disk and server errors stay unchanged, because a retry may succeed."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, InputError) or is_system_error(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}") from error

"""CryoSPARC ``.cs`` tables, in NumPy's form or in CryoSPARC's own compressed one (CSDAT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.base import FileSlice, Fragment, OutputFile, ParticleTable, StoredSchema
from dask_dedup.formats.cryosparc import csdat, npy
from dask_dedup.formats.cryosparc.fields import arrow_schema
from dask_dedup.storage.files import read_ranges, status_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.formats.cryosparc.csdat import CsdatFile
    from dask_dedup.formats.cryosparc.npy import NpyFile

#: A fragment holds about so many bytes of records; they are never in memory all at once.
FRAGMENT_BYTES = 48 * 2**20


def open_table(path: Path, source: int) -> ParticleTable:
    """Read a file's header and cut its rows into fragments."""
    file = open_file(path)
    return ParticleTable(
        format="cs",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(arrow_schema(file.dtype, file.path)),
        files=(file.info,),
        fragments=cut(file, file.row_bytes, source, whole=file.whole),
        detail=file,
    )


def open_file(path: Path) -> NpyFile | CsdatFile:
    """Open a ``.cs`` file of either form, told by its first bytes.

    Raises
    ------
    InputError
        If it is of neither, damaged, or not readable.
    """
    try:
        (magic,) = read_ranges(path, [(0, min(6, status_of(path).st_size))])
        if magic == npy.MAGIC:
            return npy.open_npy(path)
        if magic == csdat.MAGIC:
            return csdat.open_csdat(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    raise InputError(
        f"{path}: not a CryoSPARC table: it begins neither with \\x93NUMPY nor with \\x95CSDAT"
    )


def cut(
    file: NpyFile | CsdatFile, row_bytes: int, source: int, *, whole: bool
) -> tuple[Fragment, ...]:
    """Cut a file's rows into fragments of about `FRAGMENT_BYTES` and equal length.

    Parameters
    ----------
    file : NpyFile or CsdatFile
    row_bytes : int
        Size of a row, in this file and those beside it.
    source : int
    whole : bool
        Whether the rows must stay together.
    """
    number = 1 if whole else max(1, -(-file.rows * row_bytes // FRAGMENT_BYTES))
    bounds = [file.rows * k // number for k in range(number + 1)]
    return tuple(
        Fragment(
            number=k,
            source=source,
            first_row=bounds[k],
            rows=bounds[k + 1] - bounds[k],
            slices=(FileSlice(file.path, bounds[k], bounds[k + 1] - bounds[k]),)
            if file.rows
            else (),
        )
        for k in range(number)
    )


@dataclass(frozen=True, slots=True)
class CsPayload:
    """A fragment of a file; its records are read as they are asked for, a batch at a time."""

    file: NpyFile | CsdatFile
    rows: range

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Give columns by name, text as dictionaries."""
        return self.file.read(self.rows, names)

    def split(self, keep: NDArray[np.bool_], kept: Path, rejected: Path) -> None:
        """Write the kept and the rejected records, verbatim, as pieces for `assemble`."""
        self.file.split(self.rows, keep, kept, rejected)


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Read columns of a fragment by name; text comes as dictionaries."""
    return load(table, fragment).columns(columns)


def load(table: ParticleTable, fragment: Fragment) -> CsPayload:
    """Give a fragment, whose rows are read when they are asked for."""
    rows = range(fragment.first_row, fragment.first_row + fragment.rows)
    return CsPayload(table.detail, rows)


def assemble(
    table: ParticleTable, pieces: Sequence[Path], rows: int, folder: Path, name: str
) -> list[OutputFile]:
    """Join pieces into a ``.cs`` file of the same form and fields."""
    file: NpyFile | CsdatFile = table.detail
    return [file.assemble(pieces, rows, folder / name)]

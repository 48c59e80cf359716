"""CryoSPARC ``.cs`` tables: one file, or the joined files of a ``.csg`` group (`csg`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from dask_dedup.errors import InputError
from dask_dedup.formats.base import (
    FileSlice,
    Fragment,
    OutputFile,
    ParticleTable,
    StoredSchema,
    opening,
    write_blocks,
)
from dask_dedup.formats.cryosparc import csdat, npy
from dask_dedup.formats.cryosparc.arrow_columns import arrow_schema
from dask_dedup.storage.files import read_ranges, status_of
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from dask_dedup.formats.cryosparc.record_file import Rows

    CsFile = npy.NpyFile | csdat.CsdatFile

#: Target size of a fragment's records. They are read in batches, never all at once.
FRAGMENT_BYTES = 48 * 2**20


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a table.

    Attributes
    ----------
    file : CsFile
    order : (n,) integers, or None
        For each row of the main file, the row of this file with the same uid; None if the order is the same.
    """

    file: CsFile
    order: NDArray[np.integer] | None = field(default=None, compare=False)

    def rows(self, fragment: Fragment) -> Rows:
        """Return the rows of the file that belong to a fragment."""
        rows = range(fragment.first_row, fragment.first_row + fragment.rows)
        return rows if self.order is None else self.order[rows.start : rows.stop]


@dataclass(frozen=True, slots=True)
class GroupText:
    """The text of a ``.csg`` group.

    Attributes
    ----------
    text : str
    edits : tuple of (int, int, str or None)
        Start and end of what a subset replaces, in order, and the new text; None means the number of items.
    """

    text: str
    edits: tuple[tuple[int, int, str | None], ...]

    def with_rows(self, rows: int) -> str:
        """Return the text for a subset of the items, in a folder with all files of the group."""
        text = self.text
        for start, end, new in reversed(self.edits):
            text = text[:start] + (str(rows) if new is None else new) + text[end:]
        return text


@dataclass(frozen=True, slots=True)
class CsDetail:
    """The files of a table, the main file first.

    Attributes
    ----------
    members : tuple of Member
    member_of : dict of str to int
        For each field, the number of the member it is read from.
    group : GroupText, optional
        Of a ``.csg``.
    """

    members: tuple[Member, ...]
    member_of: dict[str, int]
    group: GroupText | None = None


def open_table(path: Path, source: int) -> ParticleTable:
    """Read a file's header and split its rows into fragments."""
    file = open_file(path)
    schema = arrow_schema(file.dtype, file.path)
    return ParticleTable(
        format="cs",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(schema),
        files=(file.info,),
        fragments=make_fragments([file], source),
        detail=CsDetail((Member(file),), dict.fromkeys(schema.names, 0)),
    )


def open_file(path: Path) -> CsFile:
    """Open a ``.cs`` file of either kind."""
    with opening(path):
        (magic,) = read_ranges(path, [(0, min(6, status_of(path).st_size))])
        if magic == npy.MAGIC:
            return npy.open_npy(path)
        if magic == csdat.MAGIC:
            return csdat.open_csdat(path)
    raise InputError(
        f"{path}: not a CryoSPARC table: it begins with neither \\x93NUMPY nor \\x95CSDAT"
    )


def make_fragments(files: Sequence[CsFile], source: int) -> tuple[Fragment, ...]:
    """Split the rows of joined files, the main file first, into equal fragments of about `FRAGMENT_BYTES`.

    A CSDAT file can only be read and written as a whole.
    """
    path, rows = files[0].path, files[0].rows
    size = rows * sum(file.dtype.itemsize for file in files)
    whole = any(isinstance(file, csdat.CsdatFile) for file in files)
    number = 1 if whole else max(1, -(-size // FRAGMENT_BYTES))
    bounds = [rows * k // number for k in range(number + 1)]
    fragments = []
    for k, first in enumerate(bounds[:-1]):
        count = bounds[k + 1] - first
        slices = (FileSlice(path, first, count),) if rows else ()
        fragments.append(Fragment(k, source, first, count, slices))
    return tuple(fragments)


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Read columns of a fragment by name, text dictionary-encoded."""
    detail: CsDetail = table.detail
    found: dict[str, pa.ChunkedArray] = {}
    for number, member in enumerate(detail.members):
        here = [name for name in columns if detail.member_of[name] == number]
        if here:
            part = member.file.read(member.rows(fragment), here)
            found.update(zip(here, part.columns, strict=True))
    return pa.table([found[name] for name in columns], names=list(columns))


def split(
    table: ParticleTable,
    fragment: Fragment,
    keep: NDArray[np.bool_],
    kept: Path,
    rejected: Path,
) -> None:
    """Write the kept and the rejected records of each file, in the main file's order.

    The main file's parts have the given names, the others' end in ``.1``, ``.2`` and so on.
    """
    for number, member in enumerate(table.detail.members):
        rows = member.rows(fragment)
        member.file.split(rows, keep, _part(kept, number), _part(rejected, number))


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def assemble(
    table: ParticleTable, parts: Sequence[Path], rows: int, folder: Path, name: str
) -> list[OutputFile]:
    """Join part files into files of the same kinds; the files of a group keep their names."""
    detail: CsDetail = table.detail
    files = []
    for number, member in enumerate(detail.members):
        target = folder / (at(member.file.path).name if detail.group else name)
        own_parts = [_part(path, number) for path in parts]
        files.append(member.file.assemble(own_parts, rows, target))
    if detail.group:
        text = detail.group.with_rows(rows).encode()
        files.append(write_blocks(folder / name, rows, [text]))
    return files

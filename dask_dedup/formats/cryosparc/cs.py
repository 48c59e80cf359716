"""CryoSPARC tables: a ``.cs`` file, or the ``.cs`` files of a ``.csg`` group, joined on uid."""

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
    fragment_bytes,
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

#: Size of the fragments of small tables. The records of a fragment are read in batches.
FRAGMENT_BYTES = 48 * 2**20


@dataclass(frozen=True, slots=True)
class Member:
    """A ``.cs`` file of a table.

    Attributes
    ----------
    file : CsFile
    order : (n,) integers, or None
        For each row of the main file, the row of this file with the same uid. None if both files have the same
        order.
    """

    file: CsFile
    order: NDArray[np.integer] | None = field(default=None, compare=False)

    def rows(self, fragment: Fragment) -> Rows:
        """Return the row numbers of a fragment's particles in this file."""
        rows = range(fragment.first_row, fragment.first_row + fragment.rows)
        return rows if self.order is None else self.order[rows.start : rows.stop]


@dataclass(frozen=True, slots=True)
class GroupText:
    """The text of an input ``.csg`` file, and the changes for the output file.

    Attributes
    ----------
    text : str
    edits : tuple of (int, int, str or None)
        Start, stop and new text of each change, sorted by start. None means the number of particles.
    """

    text: str
    edits: tuple[tuple[int, int, str | None], ...]

    def with_rows(self, rows: int) -> str:
        """Return the group's text after all changes. The particle counts are `rows`."""
        text = self.text
        for start, end, new in reversed(self.edits):
            text = text[:start] + (str(rows) if new is None else new) + text[end:]
        return text


@dataclass(frozen=True, slots=True)
class CsDetail:
    """The ``.cs`` files of a table, the main file first.

    Attributes
    ----------
    members : tuple of Member
    member_of : dict of str to int
        For each field, the index of the member that contains it.
    group : GroupText, optional
        Text of the ``.csg`` file.
    """

    members: tuple[Member, ...]
    member_of: dict[str, int]
    group: GroupText | None = None


def open_table(path: Path, source: int) -> ParticleTable:
    """Open a single ``.cs`` file: read its header and split its rows into fragments."""
    file = open_file(path)
    schema = arrow_schema(file.dtype)
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
    """Open a ``.cs`` file in NumPy or CSDAT format."""
    with opening(path):
        (magic,) = read_ranges(path, [(0, min(6, status_of(path).st_size))])
        if magic == npy.MAGIC:
            return npy.open_npy(path)
        if magic == csdat.MAGIC:
            return csdat.open_csdat(path)
    raise InputError(
        f"{path}: not a CryoSPARC table: it does not begin with \\x93NUMPY or \\x95CSDAT"
    )


def make_fragments(files: Sequence[CsFile], source: int) -> tuple[Fragment, ...]:
    """Split the rows of a table into fragments of equal size: about `fragment_bytes`, summed over all files.

    A table with a CSDAT file has one fragment, because CSDAT files cannot be read in parts.
    """
    path, rows = files[0].path, files[0].rows
    size = rows * sum(file.dtype.itemsize for file in files)
    whole = any(isinstance(file, csdat.CsdatFile) for file in files)
    number = 1 if whole else max(1, -(-size // fragment_bytes(size, FRAGMENT_BYTES)))
    bounds = [rows * k // number for k in range(number + 1)]
    fragments = []
    for k, first in enumerate(bounds[:-1]):
        count = bounds[k + 1] - first
        slices = (FileSlice(path, first, count),) if rows else ()
        nbytes = size * count // max(rows, 1)
        fragments.append(Fragment(k, source, first, count, slices, nbytes))
    return tuple(fragments)


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Read the named columns of a fragment. Text is dictionary-encoded."""
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
    """Write the rows of a fragment. For each ``.cs`` file, write a part file with kept rows and one with rejected rows.

    Records are in the order of the main file. Names of part files for the other files end in ``.1``, ``.2`` ...
    """
    for number, member in enumerate(table.detail.members):
        rows = member.rows(fragment)
        member.file.split(rows, keep, _part(kept, number), _part(rejected, number))


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def assemble(
    table: ParticleTable, parts: Sequence[Path], rows: int, folder: Path, name: str
) -> list[OutputFile]:
    """Join part files into output ``.cs`` files. The files of a group keep the names of the input files."""
    detail: CsDetail = table.detail
    files = []
    for number, member in enumerate(detail.members):
        target = at(member.file.path).name if detail.group else name
        own_parts = [_part(path, number) for path in parts]
        files.append(member.file.assemble(own_parts, rows, folder, target))
    if detail.group:
        text = detail.group.with_rows(rows).encode()
        files.append(write_blocks(folder, name, rows, [text]))
    return files

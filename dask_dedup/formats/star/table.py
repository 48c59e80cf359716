"""RELION's STAR files, version 3.0 to 5: rows stay as they are written, to the byte.

A row is known by its line. Kept and rejected files have the lines of the input unchanged and in its order, and
around them everything else the input has: comments, optics groups and all other tables. Blank lines and comments
between two rows go where the row before them goes. A blank line ends no table here, as STAR has it; RELION's own
programs read no row behind one.

The columns are the table's labels without the leading underscore. After them come columns that the rows
themselves do not have:

- ``rlnMicrographPixelSize``, ``rlnImagePixelSize``, ``rlnTomoTiltSeriesPixelSize`` and
  ``rlnMicrographOriginalPixelSize`` of each row's optics group (RELION 3.1 and later);
- the pixel size ``1e4 * rlnDetectorPixelSize / rlnMagnification`` (RELION 3.0 and before): of the particle image,
  ``rlnImagePixelSize``; in a table of micrographs, of the micrograph, ``rlnMicrographPixelSize``;
- ``rlnMicrographName`` in a picker's file of coordinates, which names no micrograph, tomogram or image but is itself
  named after one: ``mic1_autopick.star`` is of ``mic1.mrc`` (so ``_manualpick``, ``_topazpicks``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, to_numpy
from dask_dedup.errors import InputError, RunError
from dask_dedup.formats.base import (
    FileSlice,
    Fragment,
    InputFile,
    OutputFile,
    ParticleTable,
    StoredSchema,
)
from dask_dedup.formats.star.blocks import survey
from dask_dedup.formats.star.lines import BLOCK_BYTES, find_rows, whole_lines
from dask_dedup.formats.star.schema import (
    DETECTOR,
    GROUP,
    MAGNIFICATION,
    StarDetail,
    choose_particles,
    describe,
    schema_of,
)
from dask_dedup.formats.star.values import Place, parse_columns
from dask_dedup.storage.files import open_to_read, status_of
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path

    from numpy.typing import NDArray


def open_table(path: Path, source: int) -> ParticleTable:
    """Find the particle table of a file, its columns and the optics groups, and cut it into fragments.

    The file is read once from end to end; its fingerprint covers every byte.

    Raises
    ------
    InputError
        If it is not a STAR file, or it is not plain which of its tables holds the particles.
    """
    try:
        status = status_of(path)
        layout = survey(path)
        loop = choose_particles(path, layout)
        detail = describe(path, layout, loop)
        schema = schema_of(path, loop, detail)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    fragments, first_row = [], 0
    for number, stretch in enumerate(loop.stretches):
        piece = FileSlice(str(path), first_row, stretch.rows, (stretch.start, stretch.stop))
        fragments.append(Fragment(number, source, first_row, stretch.rows, (piece,)))
        first_row += stretch.rows
    file = InputFile(str(path), status.st_size, status.st_mtime_ns, loop.rows, layout.fingerprint)
    return ParticleTable(
        format="star",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(schema),
        files=(file,),
        fragments=tuple(fragments) or (Fragment(0, source, 0, 0, ()),),
        detail=detail,
    )


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Parse columns of a fragment, and compute those that are not written; text comes as dictionaries."""
    detail: StarDetail = table.detail
    schema = table.schema
    needed = {name: schema.field(name).type for name in columns if name in detail.labels}
    if detail.of_group.keys() & set(columns):
        needed[GROUP] = pa.int64()
    if detail.ratio in columns:
        needed |= dict.fromkeys((DETECTOR, MAGNIFICATION), pa.float64())
    place = Place(_unchanged(table), *_range(fragment), fragment.first_row, fragment.rows)
    parsed = parse_columns(place, detail.labels, needed)
    result = {}
    for name in columns:
        if name in detail.labels:
            result[name] = parsed[name]
        elif name in detail.of_group:
            position = _position_of_group(parsed[GROUP], detail, place)
            result[name] = from_numpy(np.array(detail.of_group[name])[position])
        elif name == detail.ratio:
            with np.errstate(divide="ignore", invalid="ignore"):
                size = 1e4 * to_numpy(parsed[DETECTOR]) / to_numpy(parsed[MAGNIFICATION])
            result[name] = from_numpy(size)
        else:
            zeros = from_numpy(np.zeros(fragment.rows, dtype=np.int32))
            result[name] = pa.DictionaryArray.from_arrays(zeros, [detail.micrograph])
    return pa.table(result)


def _range(fragment: Fragment) -> tuple[int, int]:
    """Give the bytes of a fragment's rows."""
    if not fragment.slices:
        return 0, 0
    start, stop = fragment.slices[0].blocks
    return start, stop


def _unchanged(table: ParticleTable) -> Path:
    """Give a table's file, if it still has the size it had when it was opened."""
    path = at(table.path)
    try:
        size = status_of(path).st_size
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error
    if size != table.bytes:
        raise RunError(f"{path}: the file has changed meanwhile; run again")
    return path


def _position_of_group(groups: pa.Array, detail: StarDetail, place: Place) -> NDArray[np.intp]:
    """Give the place of each row's optics group among the known ones."""
    known, group = np.array(detail.groups), to_numpy(groups)
    position = np.searchsorted(known, group).clip(max=known.size - 1)
    missing = known[position] != group
    if missing.any():
        row = int(missing.argmax())
        listed = ", ".join(map(str, detail.groups))
        raise place.error(
            row, f"is of optics group {group[row]}, which data_optics lacks (it has {listed})"
        )
    return np.asarray(position)


@dataclass(frozen=True, slots=True)
class StarPayload:
    """A fragment's lines, which stay in the file: reading them again costs less than holding them.

    Attributes
    ----------
    table : ParticleTable
    fragment : Fragment
    """

    table: ParticleTable
    fragment: Fragment

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Parse columns; text comes as dictionaries."""
        return read(self.table, self.fragment, names)

    def split(self, keep: NDArray[np.bool_], kept: Path, rejected: Path) -> None:
        """Write the lines of the kept and of the rejected rows."""
        row, path = 0, _unchanged(self.table)
        start, stop = at, _ = _range(self.fragment)
        with open_to_read(path) as file, kept.open("wb") as good, rejected.open("wb") as bad:
            file.seek(start)
            for block in whole_lines(file, stop - start):
                starts, _ = find_rows(block, path, at)
                chosen = keep[row : row + starts.size]
                if chosen.size < starts.size:
                    break
                # What stands before the block's first row belongs to the row before it.
                chosen = np.append(keep[row - 1] if row else True, chosen)
                edges = np.concatenate([[0], starts, [min(len(block), stop - at)]])
                lines = pa.Array.from_buffers(
                    pa.binary(),
                    chosen.size,
                    [None, pa.py_buffer(edges.astype(np.int32)), pa.py_buffer(block)],
                )
                for out, mask in ((good, chosen), (bad, ~chosen)):
                    length = int(np.diff(edges)[mask].sum())
                    if length:
                        out.write(lines.filter(from_numpy(mask)).buffers()[2][:length])
                row += starts.size
                at += len(block)
        if row != keep.size:
            raise RunError(f"{self.fragment}: the rows are not those of the start; run again")


def load(table: ParticleTable, fragment: Fragment) -> StarPayload:
    """Give access to a fragment whole."""
    return StarPayload(table, fragment)


def assemble(
    table: ParticleTable, pieces: Sequence[Path], rows: int, folder: Path, name: str
) -> list[OutputFile]:
    """Join pieces, in order, between what stands before and after the rows in the input."""
    detail: StarDetail = table.detail
    digest, size = hashlib.sha256(), 0
    with open_to_read(_unchanged(table)) as original, (folder / name).open("wb") as out:
        for block in _whole(original, detail, pieces, table.bytes):
            digest.update(block)
            size += len(block)
            out.write(block)
    return [OutputFile(name, rows, size, digest.hexdigest())]


def _whole(
    original: BufferedReader, detail: StarDetail, pieces: Sequence[Path], size: int
) -> Iterator[memoryview]:
    """Give what stands before the rows, the pieces, and what stands after the rows."""
    yield from _blocks(original, detail.start)
    for piece in pieces:
        with open_to_read(piece, buffering=0) as part:
            yield from _blocks(part, status_of(piece).st_size)
    original.seek(detail.stop)
    yield from _blocks(original, size - detail.stop)


def _blocks(file: BufferedReader, length: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(BLOCK_BYTES))
    while length > 0:
        count = file.readinto(buffer[: min(length, BLOCK_BYTES)])
        if not count:
            raise RunError(f"{file.name}: has become shorter meanwhile; run again")
        yield buffer[:count]
        length -= count

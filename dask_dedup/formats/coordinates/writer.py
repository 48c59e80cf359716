"""Write kept and rejected picks as pick files. Files have the names of the input files, and lines are unchanged."""

from __future__ import annotations

from functools import lru_cache
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.formats.base import (
    COPY_BYTES,
    OutputFile,
    changed_error,
    read_blocks,
    read_index,
    write_blocks,
    write_index,
)
from dask_dedup.formats.coordinates.detail import CoordinatesDetail, member_of
from dask_dedup.formats.coordinates.lines import find_lines, read_span, split_lines
from dask_dedup.formats.coordinates.pick_list import write_list
from dask_dedup.formats.coordinates.programs import MAP_OF
from dask_dedup.storage.files import open_to_read, read_bytes
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.formats.base import FileSlice, Fragment, ParticleTable
    from dask_dedup.formats.coordinates.detail import Member


def split(
    table: ParticleTable,
    fragment: Fragment,
    keep: NDArray[np.bool_],
    kept: Path,
    rejected: Path,
) -> None:
    """Write the lines of kept rows to the part file `kept`, the lines of rejected rows to `rejected`.

    Lines that are no picks are written to both. Next to a part file, an ``.index`` file has the number of bytes and
    of rows for each slice of the fragment.
    """
    index: dict[Path, list[tuple[int, int]]] = {kept: [], rejected: []}
    row = 0
    with kept.open("wb") as kept_file, rejected.open("wb") as rejected_file:
        for part in fragment.slices:
            start, stop, _ = part.blocks
            block = read_span(at(part.path), start, stop)
            chosen = keep[row : row + part.rows]
            member = table.detail.members[member_of(part)]
            find = MAP_OF[table.detail.layouts[member.layout].map].find_elements
            texts = (
                _split_document(member, find, chosen) if find else _split_lines(part, block, chosen)
            )
            kept_text, rejected_text = texts
            kept_file.write(kept_text)
            rejected_file.write(rejected_text)
            index[kept].append((len(kept_text), int(np.count_nonzero(chosen))))
            index[rejected].append((len(rejected_text), int(np.count_nonzero(~chosen))))
            row += part.rows
    for path, entries in index.items():
        write_index(path, entries)


def _split_lines(part: FileSlice, block: bytes, keep: NDArray[np.bool_]) -> tuple[bytes, bytes]:
    """Return the lines of kept picks and the lines of rejected picks. Both texts also contain the other lines."""
    starts, is_pick = find_lines(block)
    if np.count_nonzero(is_pick) != keep.size:
        raise changed_error(part.path)
    lines = split_lines(block, starts)
    texts = []
    for mask in (keep, ~keep):
        wanted = ~is_pick
        wanted[is_pick] = mask
        texts.append(b"".join(compress(lines, wanted.tolist())))
    return texts[0], texts[1]


def _split_document(
    member: Member, find: Callable[[bytes], list[tuple[int, int]]], keep: NDArray[np.bool_]
) -> tuple[bytes, bytes]:
    """Return the elements of kept picks and the elements of rejected picks.

    Each element begins after the end of the previous element, so commas and blanks are included. The first element
    begins with its own text, because the header ends with the text before it.
    """
    content = read_span(at(member.path), 0, member.bytes)
    spans = find(content)
    if len(spans) != keep.size:
        raise changed_error(member.path)
    texts = []
    for mask in (keep, ~keep):
        parts: list[bytes] = []
        for number in np.flatnonzero(mask).tolist():
            start, stop = spans[number]
            if parts:
                start = spans[number - 1][1]
            parts.append(content[start:stop])
        texts.append(b"".join(parts))
    return texts[0], texts[1]


def assemble(
    table: ParticleTable,
    parts: Sequence[Path],
    rows: int,  # noqa: ARG001
    folder: Path,
    name: str,
) -> list[OutputFile]:
    """Write the pick files. Each file has the header and the tail of the input file, and lines from the part files.

    A single file is written as `name`. The files of a folder or list are written to the folder `name`, with the
    sub-folders of the input.
    """
    detail: CoordinatesDetail = table.detail
    pieces = _find_pieces(table, parts)
    # A part file has the lines of consecutive files, so few part files are needed at a time.
    read_part = lru_cache(maxsize=2)(read_bytes)
    made: set[Path] = set()
    written = []
    for number, member in enumerate(detail.members):
        relative = f"{name}/{member.name}" if detail.tree else name
        parent = (folder / relative).parent
        if parent not in made:
            parent.mkdir(parents=True, exist_ok=True)
            made.add(parent)
        mine = pieces.get(number, [])
        kept = sum(rows for *_, rows in mine)
        written.append(write_blocks(folder, relative, kept, _join(member, mine, read_part)))
    return written


#: Part file, start, stop and number of rows.
_Piece = tuple["Path", int, int, int]


def _find_pieces(table: ParticleTable, parts: Sequence[Path]) -> dict[int, list[_Piece]]:
    """Map the index of each pick file to its pieces in the part files."""
    pieces: dict[int, list[_Piece]] = {}
    for fragment, path in zip(table.fragments, parts, strict=True):
        offset = 0
        for piece, (length, rows) in zip(fragment.slices, read_index(path, 2), strict=True):
            pieces.setdefault(member_of(piece), []).append((path, offset, offset + length, rows))
            offset += length
    return pieces


def _join(
    member: Member, pieces: Sequence[_Piece], read_part: Callable[[Path], bytes]
) -> Iterator[bytes | memoryview]:
    """Yield the content of an output file."""
    with open_to_read(at(member.path)) as original:
        yield from _read(original, member.start)
        for part, start, stop, _ in pieces:
            yield read_part(part)[start:stop]
        original.seek(member.stop)
        yield from _read(original, member.bytes - member.stop)


def _read(file: BufferedReader, length: int) -> Iterator[bytes | memoryview]:
    """Yield the next bytes of a file. A header is short, so it needs no buffer."""
    if length > COPY_BYTES:
        yield from read_blocks(file, length)
    elif length:
        block = file.read(length)
        if len(block) != length:
            raise changed_error(file.name)
        yield block


def write_lists(table: ParticleTable, folder: Path, name: str, final: Path) -> list[OutputFile]:
    """Write the lists and companion tables of the pick files. `assemble` has already written the pick files.

    After the run, all files are moved to the folder `final`.
    """
    detail: CoordinatesDetail = table.detail
    files = [write_list(each, folder, name, final) for each in detail.lists]
    for path, suffix in detail.companions:
        copy = f"{name if detail.tree else name.rpartition('.')[0]}{suffix}"
        files.append(write_blocks(folder, copy, 0, [read_bytes(at(path))]))
    return files

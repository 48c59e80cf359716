"""Write kept and rejected picks as pick files with the names and the bytes of the input files."""

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

    Lines that are no picks go to both. A part file has a second file, ``.index``, with the number of bytes and
    of rows of each slice of the fragment.
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
    """Return the lines of kept picks and those of rejected picks. Lines that are no picks are in both."""
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
    """Return the elements of kept picks and those of rejected picks, each with the text before it.

    The first of them has no text before it: that is at the end of the header.
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
    """Write the pick files, each with its own header, its lines in the part files, and its tail.

    A single file is written as `name`. The files of a folder or list are written into the folder `name`, with the
    sub-folders of the input.
    """
    detail: CoordinatesDetail = table.detail
    pieces = _find_pieces(table, parts)
    # Consecutive files have their lines in the same part file.
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
    """Map the index of each file to its pieces."""
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
    """Write the files that go with pick files, which `assemble` wrote: their lists, and tables that they need.

    All will be moved to the folder `final`. A table is written beside the pick files.
    """
    detail: CoordinatesDetail = table.detail
    files = [write_list(each, folder, name, final) for each in detail.lists]
    for path, suffix in detail.companions:
        copy = f"{name if detail.tree else name.rpartition('.')[0]}{suffix}"
        files.append(write_blocks(folder, copy, 0, [read_bytes(at(path))]))
    return files

"""Divide the row groups of a Parquet table into fragments."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from dask_dedup.formats.base import FolderPart, Fragment, fragment_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dask_dedup.formats.base import FileSlice

    #: A row group and its size before compression.
    RowGroup = tuple[FileSlice, int]
    #: Row groups that must be in the same fragment, their size, and their folder.
    Unit = tuple[list[FileSlice], int, tuple[FolderPart, ...]]

#: A partition folder is divided into about `_PIECES` pieces. A piece has about `PIECE_BYTES` to `_MOST_PIECE_BYTES`
#: before compression.
_PIECES, PIECE_BYTES, _MOST_PIECE_BYTES = 4, 128 * 2**20, 256 * 2**20


def make_fragments(groups: Sequence[RowGroup], source: int, least: int) -> tuple[Fragment, ...]:
    """Group consecutive row groups into fragments of at most `fragment_bytes`. Larger row groups are not divided."""
    return _number([([part], size, ()) for part, size in groups], source, least)


def make_folder_fragments(
    groups: Sequence[RowGroup], source: int, least: int
) -> tuple[Fragment, ...]:
    """Group the row groups of a partitioned table into fragments. Large folders are divided into pieces.

    No output file has rows of two folders. The output files of a folder depend only on the row groups in this folder.
    """
    pieces: list[Unit] = []
    for keys, found in groupby(groups, key=lambda group: group[0].keys):
        folder = list(found)
        sizes = [size for _, size in folder]
        target = min(max(-(-sum(sizes) // _PIECES), PIECE_BYTES), _MOST_PIECE_BYTES)
        for start, stop in _divide(sizes, target):
            slices = [part for part, _ in folder[start:stop]]
            rows = sum(part.rows for part in slices)
            parts = (FolderPart(keys, rows, folder[0][0]),)
            pieces.append((slices, sum(sizes[start:stop]), parts))
    return _number(pieces, source, least)


def _number(units: Sequence[Unit], source: int, least: int) -> tuple[Fragment, ...]:
    sizes = [size for _, size, _ in units]
    fragments: list[Fragment] = []
    first_row = 0
    # A table without rows has one fragment.
    for start, stop in list(_divide(sizes, fragment_bytes(sum(sizes), least))) or [(0, 0)]:
        slices = tuple(_merged([part for found, _, _ in units[start:stop] for part in found]))
        rows = sum(part.rows for part in slices)
        parts = tuple(part for _, _, found in units[start:stop] for part in found)
        size = sum(sizes[start:stop])
        fragments.append(Fragment(len(fragments), source, first_row, rows, slices, size, parts))
        first_row += rows
    return tuple(fragments)


def _divide(sizes: Sequence[int], target: int) -> Iterator[tuple[int, int]]:
    """Divide consecutive items into groups of at most the size `target`. Larger items are groups with one item.

    Yield the index range (start, stop) of each group.
    """
    start = size_of_group = 0
    for number, size in enumerate(sizes):
        if number > start and size_of_group + size > target:
            yield start, number
            start, size_of_group = number, 0
        size_of_group += size
    if sizes:
        yield start, len(sizes)


def _merged(slices: list[FileSlice]) -> Iterator[FileSlice]:
    """Merge consecutive slices of the same file, to read all their row groups at once."""
    for _, found in groupby(slices, key=lambda part: part.path):
        parts = list(found)
        blocks = tuple(block for part in parts for block in part.blocks)
        yield replace(parts[0], rows=sum(part.rows for part in parts), blocks=blocks)

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
    #: Row groups that stay together, their size, and the folder that they are in.
    Unit = tuple[list[FileSlice], int, tuple[FolderPart, ...]]

#: A partition folder is divided into this many pieces, of at least and at most these sizes before compression.
_PIECES, PIECE_BYTES, _MOST_PIECE_BYTES = 4, 64 * 2**20, 256 * 2**20


def make_fragments(groups: Sequence[RowGroup], source: int, least: int) -> tuple[Fragment, ...]:
    """Group consecutive row groups into fragments of about the size of `fragment_bytes`."""
    return _number([([part], size, ()) for part, size in groups], source, least)


def make_folder_fragments(
    groups: Sequence[RowGroup], source: int, least: int
) -> tuple[Fragment, ...]:
    """Group the row groups of a partitioned table into fragments of whole folders, or of pieces of large folders.

    Each folder has files of its own, which depend on its row groups alone.
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
    """Divide consecutive items into groups of about the size `target`. Yield the first item and the end of each.

    Groups have at most the size `target` and that of one item.
    """
    total = max(sum(sizes), 1)
    count = -(-total // target)
    start = before = group = 0
    for number, size in enumerate(sizes):
        # The group in which the middle of the item is.
        mine = min((2 * before + size) * count // (2 * total), count - 1)
        if mine != group and number > start:
            yield start, number
            start = number
        before, group = before + size, mine
    if sizes:
        yield start, len(sizes)


def _merged(slices: list[FileSlice]) -> Iterator[FileSlice]:
    """Merge consecutive slices of the same file, to read all their row groups at once."""
    for _, found in groupby(slices, key=lambda part: part.path):
        parts = list(found)
        blocks = tuple(block for part in parts for block in part.blocks)
        yield replace(parts[0], rows=sum(part.rows for part in parts), blocks=blocks)

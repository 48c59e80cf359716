"""Warp: results of template matching. Positions are fractions of the volume, from 0 to 1."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.coordinates.column_map import ColumnMap, Header, Layout, with_roles
from dask_dedup.formats.coordinates.lines import (
    cut_table,
    find_lines,
    first_row,
    split_lines,
    star_loops,
)
from dask_dedup.formats.coordinates.tomogram_tables import PIXEL_SIZE, SIZES, TomogramTables

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.formats.coordinates.column_map import Scale

_ROLES = {
    "rlnCoordinateX": "x",
    "rlnCoordinateY": "y",
    "rlnCoordinateZ": "z",
    "rlnAutopickFigureOfMerit": "score",
    "rlnTomoName": "micrograph",
    "rlnMicrographName": "micrograph",
}
#: Warp writes fractions with many digits. Positions in pixels are larger.
_FRACTION = re.compile(rb"[01]\.\d+|[01]")


def _recognise(head: bytes, path: Path) -> Header | None:  # noqa: ARG001
    for _, labels, start in star_loops(head):
        columns = with_roles(labels, _ROLES)
        if not {"x", "y", "z", "micrograph", "score"} <= set(columns):
            continue
        rows = cut_table(head[start:])
        if first_row(rows) and not _all_fractions(rows, [columns.index(axis) for axis in "xyz"]):
            return None
        return Header(Layout(MATCHING.name, columns), start)
    return None


def has_sizes(head: bytes, path: Path) -> bool:
    """Return whether a STAR file has matches of Warp in a tomogram of known size.

    `head` is the beginning of the file. The size must be in a table of tomograms near the file. Only the tomogram of
    the first match is checked.
    """
    header = _recognise(head, path)
    values = first_row(head, header.start).split() if header else []
    if header is None or len(values) != len(header.layout.columns):
        return False
    tomogram = values[header.layout.columns.index("micrograph")].decode(errors="replace")
    try:
        return TomogramTables().find(path, tomogram, (PIXEL_SIZE, *SIZES)) is not None
    except InputError:  # the damaged table may not belong to this file
        return False


def _all_fractions(text: bytes, columns: list[int]) -> bool:
    """Return whether all positions in the first lines are from 0 to 1."""
    starts, is_pick = find_lines(text)
    lines = [line for line, pick in zip(split_lines(text, starts), is_pick, strict=True) if pick]
    rows = [line.split() for line in lines[:100]]
    return all(
        len(row) > max(columns)
        and all(_FRACTION.fullmatch(row[column]) and float(row[column]) <= 1 for column in columns)
        for row in rows
    )


def _find_scale(tables: TomogramTables, path: Path, tomogram: str) -> tuple[Scale, Path]:
    """Return the size of a tomogram as a scale. Positions times the size are in angstrom."""
    found = tables.find(path, tomogram, (PIXEL_SIZE, *SIZES))
    if found is None:
        raise InputError(
            f"{path}: its positions are fractions of the volume (0 to 1), and no tomograms.star beside it or in "
            f"the folders above has the size of {tomogram}. Put that table into the folder."
        )
    (pixel_size, *sizes), table = found
    return (tuple(size * pixel_size for size in sizes), 1.0), table


MATCHING = ColumnMap(
    "Warp template matching", (".star",), _recognise, star=True, find_scale=_find_scale
)

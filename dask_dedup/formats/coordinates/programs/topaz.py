"""Topaz: a table with a header line, with the picks of one or many micrographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.formats.coordinates.column_map import ColumnMap, Header, Layout
from dask_dedup.formats.coordinates.lines import first_row

if TYPE_CHECKING:
    from pathlib import Path

_ROLES = {
    b"image_name": "micrograph",
    b"x_coord": "x",
    b"y_coord": "y",
    b"z_coord": "z",
    b"score": "score",
}


def _recognise(head: bytes, path: Path) -> Header | None:  # noqa: ARG001
    line = first_row(head)
    delimiter = next((each for each in (b"\t", b",") if each in line), b"")
    names = [name.strip() for name in (line.split(delimiter) if delimiter else line.split())]
    if not {b"image_name", b"x_coord", b"y_coord"}.issubset(names):
        return None
    columns = tuple(_ROLES.get(name, name.decode(errors="replace")) for name in names)
    start = head.find(b"\n", head.index(line)) + 1 or len(head)
    return Header(Layout(TOPAZ.name, columns, delimiter.decode()), start)


TOPAZ = ColumnMap("topaz", (".txt", ".csv", ".tsv"), _recognise)

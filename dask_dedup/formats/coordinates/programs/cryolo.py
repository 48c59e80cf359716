"""crYOLO: CBOX files of version 1.8 and later (STAR) and before (five or seven columns), and ``.coords``.

In CBOX files x and y are corners, and z is a centre.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.formats.coordinates.column_map import (
    ColumnMap,
    Header,
    Layout,
    star_map,
    without_empty_roles,
)
from dask_dedup.formats.coordinates.lines import first_row
from dask_dedup.formats.coordinates.values import is_numeric

if TYPE_CHECKING:
    from pathlib import Path

_OLD = ("x", "y", "width", "height", "score", "EstWidth", "EstHeight")
_COORDS = ("x", "y", "z", "filament")


def _recognise_old(head: bytes, path: Path) -> Header | None:  # noqa: ARG001
    values = first_row(head).split()
    if len(values) not in (5, 7) or not all(map(is_numeric, values)):
        return None
    columns = without_empty_roles(_OLD[: len(values)], values)
    return Header(Layout(CBOX_OLD.name, columns))


def _recognise_coords(head: bytes, path: Path) -> Header | None:  # noqa: ARG001
    values = first_row(head).split()
    if len(values) not in (3, 4) or not all(map(is_numeric, values)):
        return None
    return Header(Layout(COORDS.name, _COORDS[: len(values)]))


CBOX = star_map(
    "crYOLO CBOX",
    {
        "CoordinateX": "x",
        "CoordinateY": "y",
        "CoordinateZ": "z",
        "Width": "width",
        "Height": "height",
        "Confidence": "score",
        "filamentid": "filament",
    },
    block="cryolo",
    needs=("x", "y", "width", "height"),
    extensions=(".cbox",),
    expected="a block data_cryolo with boxes, or lines of 5 or 7 numbers",
)
CBOX_OLD = ColumnMap("crYOLO CBOX (before 1.8)", (".cbox",), _recognise_old, CBOX.expected)
COORDS = ColumnMap(
    "coordinates", (".coords",), _recognise_coords, "lines of x, y, z and, for filaments, a number"
)

"""EMAN: ``.box`` files with the corners of boxes, and ``.box`` files of helices with the centres of segments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dask_dedup.formats.coordinates.column_map import ColumnMap, Header, Layout, number_map
from dask_dedup.formats.coordinates.lines import first_row

if TYPE_CHECKING:
    from pathlib import Path

_HELIX_COMMENT = re.compile(rb"^#(?:micrograph|segment length|helix):", re.MULTILINE)
_EXPECTED = (
    "lines of 4 or 5 numbers (x, y, width, height, score), or 2 numbers below a #helix comment"
)


def _recognise_helix(head: bytes, path: Path) -> Header | None:  # noqa: ARG001
    values = first_row(head).split()
    if len(values) not in (0, 2) or not _HELIX_COMMENT.search(head):
        return None
    return Header(Layout(HELIX.name, ("x", "y")))


HELIX = ColumnMap("EMAN helices", (".box",), _recognise_helix, _EXPECTED, helix=True)
BOX = number_map("EMAN boxes", (".box",), ("x", "y", "width", "height", "score"), (4, 5), _EXPECTED)

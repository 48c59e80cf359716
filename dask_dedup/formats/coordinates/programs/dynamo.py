"""Dynamo: ``.tbl`` tables. Positions and shifts are in voxels of the tomogram. Shifts are added to positions.

Column 20 has the number of the tomogram. A ``.doc`` file of the same name maps numbers to tomograms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.formats.coordinates.column_map import ColumnMap, Header, Layout
from dask_dedup.formats.coordinates.lines import first_row
from dask_dedup.formats.coordinates.values import whole_number

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = (
    *("tag", "aligned", "averaged", "shift_x", "shift_y", "shift_z", "tdrot", "tilt", "narot"),
    *("score", "cc2", "cpu", "ftype", "ymintilt", "ymaxtilt", "xmintilt", "xmaxtilt", "fs1", "fs2"),
    *("micrograph", "reg", "class", "annotation", "x", "y", "z"),
    *("dshift", "daxis", "dnarot", "dcc"),
    *("otag", "npar", "spare", "ref", "sref", "apix", "def"),
)
#: Extension of files with the names of tomograms.
NAMES_EXTENSION = ".doc"
#: A table must have at least the columns up to z.
_LEAST = _NAMES.index("z") + 1


def _recognise(head: bytes, path: Path) -> Header | None:  # noqa: ARG001
    count = len(first_row(head).split())
    if count < _LEAST:
        return None
    more = tuple(f"column_{number}" for number in range(len(_NAMES) + 1, count + 1))
    return Header(Layout(DYNAMO.name, (*_NAMES, *more)[:count]))


DYNAMO = ColumnMap(
    *("Dynamo table", (".tbl",), _recognise, "lines of at least 26 numbers"),
    numbered=True,
    shifts=("dx", "dy", "dz"),
)


def read_names(path: Path) -> tuple[tuple[str, str], ...]:
    """Return the numbers and names of tomograms in the ``.doc`` file of a table. Without this file, return ()."""
    doc = path.with_suffix(NAMES_EXTENSION)
    if path.suffix.lower() not in DYNAMO.extensions or not doc.is_file():
        return ()
    lines = (line.split(None, 1) for line in doc.read_text(errors="replace").splitlines())
    return tuple((whole_number(line[0]), line[1].strip()) for line in lines if len(line) == 2)

"""EM motive lists of TOM, AV3 and ArtiaX, in voxels. Shifts are added. Read only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.formats.coordinates.column_map import ColumnMap
from dask_dedup.formats.coordinates.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HEADER, _ROWS = 512, 20
#: Byte 3 of the header has this value for 4-byte floats.
_FLOAT32 = 5
#: Indices of values of a particle, from 0.
_SCORE, _TAG, _TOMOGRAM, _CLASS = 0, 3, 4, 19
_POSITION, _SHIFT = slice(7, 10), slice(10, 13)


def _parse(content: bytes, path: Path) -> Mapping[str, Any] | None:  # noqa: ARG001
    if len(content) < _HEADER or content[3] != _FLOAT32:
        return None
    order = "<" if content[0] in (1, 6) else ">"
    nx, ny, nz = np.frombuffer(content, f"{order}i4", 3, 4).tolist()
    if nx != _ROWS or nz != 1 or len(content) != _HEADER + 4 * nx * ny:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        values = np.frombuffer(content, f"{order}f4", offset=_HEADER).astype(np.float64)
        values = values.reshape(ny, nx)
        positions, shifts = values[:, _POSITION], values[:, _SHIFT]
    numbers, index = np.unique(values[:, _TOMOGRAM], return_inverse=True)
    names = np.array([whole_number(repr(number)) for number in numbers.tolist()], dtype=object)
    return {
        "micrograph": names[index] if ny else np.empty(0, object),
        **dict(zip("xyz", positions.T, strict=True)),
        **dict(zip(("shift_x", "shift_y", "shift_z"), shifts.T, strict=True)),
        "score": values[:, _SCORE],
        "subtomogram": values[:, _TAG],
        "class": values[:, _CLASS],
    }


MOTIVE_LIST = ColumnMap("EM motive list", (".em",), parse=_parse, shifts=("rows 11 to 13",))

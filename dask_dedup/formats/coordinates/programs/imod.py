"""IMOD: ``.mod`` models. Points are in pixels of the image in which they were drawn. Read only."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.formats.coordinates.column_map import ColumnMap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Length of the header of a model and of an object, without the identifier before it.
_MODEL, _OBJECT = 232, 176


def _parse(content: bytes, path: Path) -> Mapping[str, Any] | None:  # noqa: ARG001
    """Return the points of all contours."""
    if content[:8] != b"IMODV1.2":
        return None
    points: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    numbers: list[int] = []
    position, model_object = 8 + _MODEL, 0
    try:
        while position < len(content):
            name = content[position : position + 4]
            position += 4
            if name == b"IEOF":
                break
            if name == b"OBJT":
                model_object += 1
                position += _OBJECT
            elif name == b"CONT":
                (count,) = struct.unpack_from(">I", content, position)
                position += 16
                found = np.frombuffer(content, ">f4", 3 * count, position).reshape(-1, 3)
                with np.errstate(invalid="ignore"):
                    points.append(found.astype(np.float64))
                numbers += [model_object] * count
                position += 12 * count
            elif name == b"MESH":
                vertices, indices = struct.unpack_from(">II", content, position)
                position += 16 + 12 * vertices + 4 * indices
            else:
                (length,) = struct.unpack_from(">I", content, position)
                position += 4 + length
    except (struct.error, ValueError):
        return None
    if position > len(content):
        return None
    every = np.concatenate([np.empty((0, 3)), *points])
    return {
        **dict(zip("xyz", every.T, strict=True)),
        "object": np.array(numbers, np.float64),
    }


IMOD = ColumnMap("IMOD model", (".mod",), parse=_parse)

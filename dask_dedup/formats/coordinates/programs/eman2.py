"""EMAN2: ``info`` files, JSON files with picks and other data. Read only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formats.coordinates.column_map import ColumnMap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def _parse(content: bytes, path: Path) -> Mapping[str, Any] | None:
    """Return the picks of a 2-D micrograph. Positions of boxes are centres, in pixels.

    Picks in tomograms raise `InputError`. Their positions are relative to the centre of the tomogram, and its size is
    unknown.
    """
    if not path.stem.endswith("_info"):
        return None
    try:
        info = json.loads(content)
        if info.get("boxes_3d"):
            raise InputError(
                f"{path}: has picks in a tomogram (boxes_3d), which cannot be read. Export them from EMAN2 as text."
            )
        boxes = [(float(x), float(y)) for x, y, *_ in info["boxes"]]
    except InputError:
        raise
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    points = np.array(boxes, dtype=np.float64).reshape(-1, 2)
    return {"x": points[:, 0], "y": points[:, 1]}


EMAN2 = ColumnMap("EMAN2 info", (".json",), parse=_parse)

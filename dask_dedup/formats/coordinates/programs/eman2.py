"""EMAN2: ``info`` files, which hold picks and much else in JSON. Read only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.formats.coordinates.column_map import ColumnMap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def _parse(content: bytes, path: Path) -> Mapping[str, Any] | None:
    """Return the picks of a 2-D micrograph. Boxes are centres, in pixels."""
    if not path.stem.endswith("_info"):
        return None
    try:
        info = json.loads(content)
        boxes = [(float(x), float(y)) for x, y, *_ in info["boxes"]]
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    points = np.array(boxes, dtype=np.float64).reshape(-1, 2)
    return {"x": points[:, 0], "y": points[:, 1]}


EMAN2 = ColumnMap("EMAN2 info", (".json",), parse=_parse)

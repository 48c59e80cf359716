"""CryoET data portal: point annotations, one JSON object per line, in voxels. Read only.

The path has the voxel spacing (``VoxelSpacing15.000``) and the name of the tomogram (the folder before
``Reconstructions``).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.formats.coordinates.column_map import ColumnMap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SPACING = re.compile(r"VoxelSpacing(\d+(?:\.\d+)?)")


def _parse(content: bytes, path: Path) -> Mapping[str, Any] | None:
    try:
        points = [json.loads(line)["location"] for line in content.splitlines() if line.strip()]
        position = np.array([[point[axis] for axis in "xyz"] for point in points], np.float64)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    folders = path.absolute().parts
    spacing = _SPACING.search(str(path.absolute()))
    run = path.stem
    if "Reconstructions" in folders[1:]:
        run = folders[folders.index("Reconstructions") - 1]
    columns: dict[str, Any] = dict(zip("xyz", position.reshape(-1, 3).T, strict=True))
    columns["micrograph"] = np.full(len(points), run, dtype=object)
    if spacing:
        columns["pixel_size"] = np.full(len(points), float(spacing[1]))
    return columns


PORTAL = ColumnMap(
    *("CryoET data portal points", (".ndjson",)),
    parse=_parse,
    by_run=True,
    pixel_size="VoxelSpacing in the path",
)

"""copick: picks in one tomogram (run) as JSON, in angstrom from the corner of the tomogram.

The centre is the location plus the translation in ``transformation_``.
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

_BETWEEN = re.compile(r"[ \t\r\n,:]*")


def _parse(content: bytes, path: Path) -> Mapping[str, Any] | None:
    """Return the picks of a file. Return None if the file is not from copick."""
    try:
        picks = json.loads(content.decode("utf-8-sig"))
        points = picks["points"]
        if "pickable_object_name" not in picks:
            return None
        location = [[point["location"][axis] for axis in "xyz"] for point in points]
        moved = [
            [row[3] for row in (point.get("transformation_") or np.eye(4).tolist())[:3]]
            for point in points
        ]
        score = [point.get("score") for point in points]
        instance = [point.get("instance_id") for point in points]
        positions = np.array(location, np.float64).reshape(-1, 3)
        shifts = np.array(moved, np.float64).reshape(-1, 3)
        columns = {
            **dict(zip("xyz", positions.T, strict=True)),
            **dict(zip(("shift_x", "shift_y", "shift_z"), shifts.T, strict=True)),
            "score": np.array(score, np.float64),
            "instance_id": np.array(instance, np.float64),
        }
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    # JSON strings can have characters that UTF-8 cannot encode.
    run = str(picks.get("run_name") or _run_of(path)).encode(errors="backslashreplace").decode()
    return {
        **columns,
        "micrograph": np.full(len(points), run, dtype=object),
        "pixel_size": np.ones(len(points)),
    }


def _run_of(path: Path) -> str:
    """Return the run from a path ``<run>/Picks/<user>_<session>_<object>.json``."""
    folders = path.absolute().parts[:-1]
    return folders[-2] if folders[-1] == "Picks" and len(folders) > 1 else path.stem


def _find_elements(content: bytes) -> list[tuple[int, int]]:
    """Return the byte range of each point."""
    text = content.decode()
    decoder, spans = json.JSONDecoder(), []
    position = _find_points(text, decoder) + 1
    while text[position := _skip(text, position)] != "]":
        _, stop = decoder.raw_decode(text, position)
        spans.append((position, stop))
        position = stop
    if len(text) == len(content):
        return spans
    return [(len(text[:a].encode()), len(text[:b].encode())) for a, b in spans]


def _find_points(text: str, decoder: json.JSONDecoder) -> int:
    """Return the start of the value of ``points``. If there are several, return the last, as JSON readers do."""
    found, position = 0, text.index("{") + 1
    while text[position := _skip(text, position)] != "}":
        key, position = decoder.raw_decode(text, position)
        position = _skip(text, position)
        found = position if key == "points" else found
        _, position = decoder.raw_decode(text, position)
    return found


def _skip(text: str, position: int) -> int:
    """Return the position of the next value or closing bracket."""
    found = _BETWEEN.match(text, position)
    return found.end() if found else position


COPICK = ColumnMap(
    "copick picks",
    (".json",),
    parse=_parse,
    find_elements=_find_elements,
    by_run=True,
    shifts=("transformation_",),
)

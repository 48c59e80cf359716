"""Errors about folders with damaged pick files, and about folders without pick files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.base import opening
from dask_dedup.formats.coordinates.folder import suffix_of
from dask_dedup.formats.coordinates.lines import first_row, read_head, star_loops
from dask_dedup.formats.coordinates.optimisation_set import is_set
from dask_dedup.formats.coordinates.programs.delimited import explain_unknown
from dask_dedup.formatting import counted
from dask_dedup.storage.files import read_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_dedup.formats.coordinates.folder import PickPath
    from dask_dedup.formats.coordinates.pick_file import PickFile

#: The number 20 as four bytes, in both byte orders. In EM motive lists, it is the number of values per particle.
_MOTIVE_LIST = (b"\x14\0\0\0", b"\0\0\0\x14")


def check_unread(
    folder: Path,
    opened: Sequence[PickFile],
    unknown: Sequence[PickPath],
) -> None:
    """Check that no pick file of a folder is damaged.

    Only files with the extension and suffix of the folder's pick files are checked. Such a file is damaged if

    - its format is unknown (it is in `unknown`) and it is no complete file of another kind, or
    - it ends within its header, and no other file has this header.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    picks = [(file.pick_path, file.layout) for file in opened if file.layout and file.spans]
    kinds = {_kind_of(path): path for path, _ in picks}
    layouts = {layout.columns for _, layout in picks}
    damaged = [file for file in unknown if _kind_of(file) in kinds]
    damaged = [file for file in damaged if not _is_of_other_kind(file)]
    damaged += [
        file.pick_path
        for file in opened
        if file.layout and not file.spans and file.layout.columns not in layouts
        if _kind_of(file.pick_path) in kinds and not _read(file.pick_path).endswith(b"\n")
    ]
    if damaged:
        other = kinds[_kind_of(damaged[0])].name
        more = f" ({counted(len(damaged), 'such file')})" if len(damaged) > 1 else ""
        raise InputError(
            f"{damaged[0].path}: cannot be read as picks{_fault(damaged[0])}, unlike {other}{more}. Repair it, "
            f"or move it out of {folder}."
        )


def _kind_of(file: PickPath) -> tuple[str, str]:
    return file.path.suffix.lower(), suffix_of(file.name)


def _read(file: PickPath) -> bytes:
    with opening(file.path):
        return read_bytes(file.path)


def _fault(file: PickPath) -> str:
    """Return the known fault of a damaged file as the end of a sentence, or an empty text."""
    content, extension = _read(file), file.path.suffix.lower()
    if extension == ".star" and b"loop_" not in content:
        return ", because it has no loop_"
    if extension in (".json", ".ndjson"):
        lines = content.splitlines() if extension == ".ndjson" else [content]
        try:
            [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return ", because it is cut off or not JSON"
    if extension == ".star" and not content.endswith(b"\n"):
        return ", because it is cut off"
    return ""


def _is_of_other_kind(file: PickPath) -> bool:
    """Return whether a file is a complete STAR table without positions, JSON without picks, or an EM image."""
    content, extension = _read(file), file.path.suffix.lower()
    if extension == ".star":
        loops = star_loops(content + b"\n")
        has_positions = any("Coordinate" in label for _, labels, _ in loops for label in labels)
        has_rows = any(first_row(content, start) for _, _, start in loops)
        return is_set(content) or (has_rows and not has_positions)
    if extension == ".json":
        try:
            return "pickable_object_name" not in json.loads(content)
        except (ValueError, TypeError, RecursionError):
            return False
    return extension == ".em" and content[4:8] not in _MOTIVE_LIST


def no_picks_error(folder: Path, found: Sequence[PickPath], empty: int) -> InputError:
    """Return the error for a folder without picks. `empty` is the number of empty files in `found`."""
    if found and empty == len(found):
        return InputError(
            f"{folder}: no picks: {counted(empty, 'file', 'are empty')}. Leave it out."
        )
    hint = ". Pass the folder with the pick files"
    for file in found[:1]:
        explained = explain_unknown(file.path, read_head(file.path))
        if explained:
            return InputError(explained)
    if found:
        hint = f". Pass particle tables by name, such as {found[0].name}"
    return InputError(
        f"{folder}: the folder has neither Parquet files nor pick files of a known format{hint}."
    )

"""Decide whether an input is a table of picks."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from dask_dedup.formats.base import opening
from dask_dedup.storage.files import open_to_read
from dask_dedup.storage.walk import walk

if TYPE_CHECKING:
    from pathlib import Path

#: Extensions of pick files. STAR files can be particle tables as well.
_EXTENSIONS = {
    *(".box", ".cbox", ".coords", ".txt", ".csv", ".tsv", ".star", ".json", ".ndjson", ".tbl"),
    *(".em", ".mod"),
}
#: A folder is searched to this depth, until this many files are found.
_DEPTH, _FILES = 8, 1000
_HEAD = 2**16
#: Names that only lists of pick files, and tables of other programs than RELION, have.
_NAMES = re.compile(
    rb"^[ \t]*(?:_rlnMicrographCoordinates|_rlnTomoImportParticleFile|_wrpCoordinateX1"
    rb"|data_stopgap_motivelist)\b",
    re.MULTILINE,
)


def is_coordinates(path: Path, *, folder: bool) -> bool:
    """Return whether an input is a pick file, a folder of pick files, or a list of them.

    A folder that has Parquet files at any depth is none.
    """
    if folder:
        return _holds_picks(path)
    extension = path.suffix.lower()
    if extension != ".star":
        return extension in _EXTENSIONS
    if path.name.startswith("coords_suffix_"):
        return True
    with opening(path), open_to_read(path) as file:
        head = file.read(_HEAD)
    return _NAMES.search(head) is not None


def _holds_picks(folder: Path) -> bool:
    """Return whether a folder has pick files, and no Parquet files."""
    found = False
    for file in islice(walk(folder, _DEPTH), _FILES):
        name = file.name.lower()
        if name.endswith((".parquet", ".parq", ".pq")) or "=" in name or "_delta_log" in name:
            return False
        found = found or file.path.suffix.lower() in _EXTENSIONS
    return found


def is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern of file names, such as ``picks/*.box``."""
    return any(character in str(path) for character in "*?[")

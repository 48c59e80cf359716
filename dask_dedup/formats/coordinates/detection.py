"""Detect whether an input is a table of picks."""

from __future__ import annotations

import re
import time
from pathlib import Path

from dask_dedup.formats.coordinates.lines import read_head
from dask_dedup.formats.coordinates.optimisation_set import is_set
from dask_dedup.formats.coordinates.programs import EXTENSIONS
from dask_dedup.formats.coordinates.programs.relion import ANNOTATIONS_FOLDER
from dask_dedup.formats.coordinates.programs.warp import has_sizes
from dask_dedup.formats.parquet.footer import SUFFIXES
from dask_dedup.storage.files import list_names
from dask_dedup.storage.walk import FoundFile, walk

#: Limits for the search of a folder: depth, number of pick files, seconds.
_DEPTH, _FILES, _SECONDS = 8, 1000, 30
#: Labels that occur only in lists of pick files and in tables of other programs than RELION.
_NAMES = re.compile(
    rb"^[ \t]*(?:_rlnMicrographCoordinates|_rlnTomoImportParticleFile|data_stopgap_motivelist)\b",
    re.MULTILINE,
)


def detect(path: Path, *, folder: bool) -> str | None:
    """Return the format of an input of picks: ``coordinates`` or ``optimisation_set``. Return None for other inputs.

    Inputs of picks are pick files, lists of pick files, and folders with pick files but without Parquet files.
    """
    if folder:
        return "coordinates" if _holds_picks(path) else None
    extension = path.suffix.lower()
    if extension != ".star":
        return "coordinates" if extension in EXTENSIONS else None
    if path.name.startswith("coords_suffix_") or path.parent.name == ANNOTATIONS_FOLDER:
        return "coordinates"
    head = read_head(path)
    if is_set(head):
        return "optimisation_set"
    return "coordinates" if _NAMES.search(head) or has_sizes(head, path) else None


def _holds_picks(folder: Path) -> bool:
    """Return whether a folder has pick files and no Parquet files."""
    # If the names in the folder suffice, a data set in an object store is not listed completely.
    names = list_names(folder)
    if any(map(_is_parquet, names)):
        return False
    found = int(any(name.lower().endswith(tuple(EXTENSIONS)) for name in names))
    end = time.monotonic() + _SECONDS
    for file in walk(folder, _DEPTH):
        if _is_parquet(file.name):
            return False
        found += file.path.suffix.lower() in EXTENSIONS
        if found == _FILES or time.monotonic() > end:
            break
    return found > 0


def _is_parquet(name: str) -> bool:
    """Return whether the name of a file or folder belongs to a Parquet data set."""
    return name.endswith(SUFFIXES) or "=" in name or "_delta_log" in name


def is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern of file names, such as ``picks/*.box``."""
    return any(character in str(path) for character in "*?")


def fixed_folder(pattern: Path) -> Path:
    """Return the folder above the first ``*`` or ``?`` of a pattern."""
    parts = pattern.parts
    first = next(number for number, part in enumerate(parts) if is_pattern(Path(part)))
    return Path(*parts[:first])


def matches(pattern: Path) -> tuple[Path, list[FoundFile]]:
    """Return the folder above the first ``*`` or ``?`` of a pattern, and the files below it that match.

    Names that begin with a dot are left out.
    """
    root = fixed_folder(pattern)
    found = []
    for path in sorted(root.glob(pattern.relative_to(root).as_posix())):
        name = path.relative_to(root).as_posix()
        name = path.name if ".." in Path(name).parts else name
        if not path.is_dir() and not any(part.startswith(".") for part in name.split("/")):
            found.append(FoundFile(path, name, path.is_file()))
    return root, found

"""Combine pick files that were named one by one, as a shell does with ``CBOX/*.cbox``, into one input."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.formats.coordinates.folder import suffix_of
from dask_dedup.formats.coordinates.pick_file import recognise
from dask_dedup.storage.files import open_to_read
from dask_dedup.storage.paths import is_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Extensions of formats with one file per micrograph, which does not name it.
_EXTENSIONS = {".box", ".cbox", ".coords", ".csv", ".tsv", ".star"}
_HEAD = 2**16


def group_files(
    paths: Sequence[str | Path], names: Mapping[str, str] | None = None
) -> list[str | Path]:
    """Replace pick files of one folder by a pattern, if all files that match the pattern are named.

    Only files that do not name their micrographs are replaced: they cannot be tables of several micrographs.
    Files that `names` maps to a picker stay.

    Examples
    --------
    ``["a/1.box", "a/2.box", "b.star"]`` becomes ``["a/*.box", "b.star"]``.
    """
    keys = [None if str(path) in (names or {}) else _key(path) for path in paths]
    counts = Counter(key for key in keys if key)
    patterns: dict[tuple[Path, str], bool] = {}
    grouped: list[str | Path] = []
    for path, key in zip(paths, keys, strict=True):
        if key is None or counts[key] == 1:
            grouped.append(path)
            continue
        if key not in patterns:
            named = {Path(other) for other, each in zip(paths, keys, strict=True) if each == key}
            patterns[key] = named == set(key[0].glob(key[1])) and _is_unnamed(Path(path))
            if patterns[key]:
                grouped.append(str(key[0] / key[1]))
        if not patterns[key]:
            grouped.append(path)
    return grouped


def _key(path: str | Path) -> tuple[Path, str] | None:
    """Return the folder of a pick file, and a pattern for files like it."""
    local = None if is_uri(path) else Path(path)
    if local is None or local.suffix.lower() not in _EXTENSIONS:
        return None
    return local.parent, f"*{suffix_of(local.name)}{local.suffix}"


def _is_unnamed(path: Path) -> bool:
    """Return whether a file is a pick file that does not name its micrograph."""
    try:
        with open_to_read(path) as file:
            header = recognise(file.read(_HEAD), path)
    except (OSError, ValueError):
        return False  # opening the input reports it
    return header is not None and "micrograph" not in header.layout.columns

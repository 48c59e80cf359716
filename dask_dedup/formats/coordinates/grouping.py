"""Combine pick files that were named one by one, as a shell does with ``CBOX/*.cbox``, into one input."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.formats.coordinates.column_map import first_row
from dask_dedup.formats.coordinates.detection import is_pattern, matches
from dask_dedup.formats.coordinates.folder import suffix_of
from dask_dedup.formats.coordinates.pick_file import recognise
from dask_dedup.formats.coordinates.programs import EXTENSIONS
from dask_dedup.storage.files import open_to_read
from dask_dedup.storage.paths import is_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dask_dedup.formats.coordinates.column_map import Header

#: Extensions of formats with one file per micrograph, which does not name it.
_EXTENSIONS = {".box", ".cbox", ".coords", ".csv", ".tsv", ".star"}
_HEAD = 2**16


def group_files(
    paths: Sequence[str | Path], names: Mapping[str, str] | None = None
) -> list[str | Path]:
    """Replace pick files of one folder by a pattern, if all files that match the pattern are named.

    Only files that do not name their micrographs are replaced: they cannot be tables of several micrographs.
    Files that `names` maps to a picker stay. A pattern of other files than pick files is replaced by
    these files.

    Examples
    --------
    ``["a/1.box", "a/2.box", "b*.cs"]`` becomes ``["a/*.box", "b1.cs", "b2.cs"]``.
    """
    paths = list(chain.from_iterable(_expand(path, names or {}) for path in paths))
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
            patterns[key] = named == set(key[0].glob(key[1])) and _are_unnamed(sorted(named))
            if patterns[key]:
                grouped.append(str(key[0] / key[1]))
        if not patterns[key]:
            grouped.append(path)
    return grouped


def _expand(path: str | Path, names: Mapping[str, str]) -> Sequence[str | Path]:
    """Return the files that match a pattern, unless all are pick files, which are one input."""
    if str(path) in names or is_uri(path) or not is_pattern(Path(path)) or Path(path).exists():
        return [path]
    _, found = matches(Path(path))
    if all(each.suffix.lower() in EXTENSIONS for each in found) and all(
        header is not None for header, _ in _headers(each for each in found if _is_star(each))
    ):
        return [path]
    return found


def _key(path: str | Path) -> tuple[Path, str] | None:
    """Return the folder of a pick file, and a pattern for files like it."""
    local = None if is_uri(path) else Path(path)
    if local is None or local.suffix.lower() not in _EXTENSIONS:
        return None
    return local.parent, f"*{suffix_of(local.name)}{local.suffix}"


def _are_unnamed(paths: Sequence[Path]) -> bool:
    """Return whether files of one kind are pick files that do not name their micrographs, and one has a pick."""
    has_picks = False
    for header, has_row in _headers(paths):
        if header is None or "micrograph" in header.layout.columns:
            return False
        has_picks = has_picks or has_row
        if has_picks and not _is_star(paths[0]):  # only STAR files can be particle tables as well
            break
    return has_picks


def _headers(paths: Iterable[Path]) -> Iterator[tuple[Header | None, bool]]:
    """Yield what is known of each file that is not empty: the header of a pick file or None, and if it has a row."""
    for path in paths:
        try:
            with open_to_read(path) as file:
                head = file.read(_HEAD)
            header = recognise(head, path) if head.strip() else None
        except (OSError, ValueError):  # opening the input reports it
            yield None, False
            continue
        if head.strip():
            yield header, bool(header and first_row(head, header.start).strip())


def _is_star(path: Path) -> bool:
    return path.suffix.lower() == ".star"

"""Combine several pick files of the same picker into one input. A shell expands ``CBOX/*.cbox`` to such files."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dask_dedup.formats.coordinates.detection import is_pattern, matches
from dask_dedup.formats.coordinates.folder import is_ignored, suffix_of
from dask_dedup.formats.coordinates.lines import HEAD_BYTES, first_row
from dask_dedup.formats.coordinates.named_files import NamedFiles
from dask_dedup.formats.coordinates.pick_file import parse_document, recognise
from dask_dedup.formats.coordinates.programs import EXTENSIONS, maps_of
from dask_dedup.formatting import counted
from dask_dedup.storage.files import is_file, open_to_read
from dask_dedup.storage.paths import is_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats.coordinates.column_map import ColumnMap

#: Kinds of pick files: with the names of micrographs in the file, without them, and without picks. Other files are "".
_NAMED, _UNNAMED, _EMPTY = "named", "unnamed", "empty"


class _Kind(NamedTuple):
    """Folder, suffix and extension of a pick file."""

    folder: Path
    suffix: str
    extension: str


class GroupedInput(NamedTuple):
    """An input of a run, and the indices of the paths that were combined into this input."""

    path: str | Path
    ordinals: tuple[int, ...]


def group_files(
    paths: Sequence[str | Path],
    names: Mapping[str, str] | None = None,
    params: DedupParams | None = None,
) -> list[GroupedInput]:
    """Combine pick files with the same folder, suffix and extension into one input.

    - The new input is a pattern if only these files match the pattern, else `NamedFiles`.
    - Files that contain the names of their micrographs are not combined.
    - Files in `names` or in the parameter `columns` are not combined.
    - A pattern for other files than pick files is replaced by these files.

    Examples
    --------
    ``["a/1.box", "a/2.box", "b*.cs"]`` becomes ``a/*.box`` (0, 1), ``b1.cs`` (2) and ``b2.cs`` (2).
    """
    separate = {path for path in map(str, paths) if _is_separate(path, names or {}, params)}
    maps = maps_of(params.columns_of("")) if params else maps_of()
    found = [(n, path) for n, given in enumerate(paths) for path in _expand(given, separate)]
    groups = _find_groups([path for _, path in found if str(path) not in separate], maps)
    members: dict[str, list[int]] = {}
    for number, path in found:
        if str(path) in groups:
            members.setdefault(groups[str(path)], []).append(number)
    grouped = []
    for number, path in found:
        group = groups.get(str(path))
        if group is None:
            grouped.append(GroupedInput(path, (number,)))
        elif group in members:
            grouped.append(GroupedInput(group, tuple(members.pop(group))))
    return grouped


def _is_separate(path: str, names: Mapping[str, str], params: DedupParams | None) -> bool:
    return path in names or bool(params and params.names_input("columns", path))


def _expand(path: str | Path, separate: set[str]) -> Sequence[str | Path]:
    """Return the files that match a pattern. If all of them are pick files, return the pattern."""
    if str(path) in separate or is_uri(path) or not is_pattern(Path(path)) or Path(path).exists():
        return [path]
    _, found = matches(Path(path))
    files = [each.path for each in found if each.usable]
    if all(each.suffix.lower() in EXTENSIONS for each in files) and all(
        _detect_kind(each, maps_of()) for each in files if each.suffix.lower() == ".star"
    ):
        return [path]
    return files


def _find_groups(
    paths: Sequence[str | Path], maps: Sequence[ColumnMap]
) -> dict[str, str | NamedFiles]:
    """Map each file that is combined with others to the new input."""
    kinds = [_kind_of(path) for path in paths]
    group_sizes = Counter((kind.folder, kind.extension) for kind in kinds if kind)
    members: dict[_Kind, list[str]] = {}
    have_picks: set[_Kind] = set()
    ignored: list[tuple[_Kind, str]] = []
    for path, kind in zip(paths, kinds, strict=True):
        if kind is None or group_sizes[kind.folder, kind.extension] == 1:
            continue
        if is_ignored(Path(path).name):
            ignored.append((kind, str(path)))
            continue
        detected = _detect_kind(Path(path), maps)
        if detected in (_UNNAMED, _EMPTY):
            members.setdefault(kind, []).append(str(path))
            have_picks |= {kind} if detected == _UNNAMED else set()
    for kind, path in ignored:  # added to an input, so that its notes list the ignored files
        others = (each for each in have_picks if each[::2] == kind[::2])
        members.get(min(others, default=kind), []).append(path)
    groups: dict[str, str | NamedFiles] = {}
    for kind, files in members.items():
        if kind in have_picks and len(set(map(Path, files))) == len(files) > 1:
            groups |= dict.fromkeys(files, _as_input(kind, files))
    return groups


def _as_input(kind: _Kind, files: Sequence[str]) -> str | NamedFiles:
    folder, pattern = Path(files[0]).parent, f"*{kind.suffix}{kind.extension}"
    found = {each.name for each in kind.folder.glob(pattern)}
    if found == {Path(each).name for each in files}:
        return str(folder / pattern)
    text = f"{folder / pattern} ({counted(len(files), 'file')})"
    return NamedFiles.of(text, folder, sorted(files))


def _kind_of(path: str | Path) -> _Kind | None:
    local = None if is_uri(path) else Path(path)
    if local is None or local.suffix.lower() not in EXTENSIONS or is_pattern(local):
        return None
    if not is_file(local):  # a FIFO would block
        return None
    return _Kind(_resolved(local.parent), suffix_of(local.name), local.suffix)


@lru_cache(maxsize=16)
def _resolved(folder: Path) -> Path:
    return folder.resolve()


def _detect_kind(path: Path, maps: Sequence[ColumnMap]) -> str:
    """Return the kind of a file: `_NAMED`, `_UNNAMED` or `_EMPTY`. Return "" for other and unreadable files."""
    if not path.is_file():  # opening a FIFO waits for its writer
        return ""
    try:
        with open_to_read(path) as file:
            head = file.read(HEAD_BYTES)
            if not first_row(head):
                return _EMPTY
            found = parse_document(head, path, file, maps)
            if found:
                columns = found[1]
                return _NAMED if "micrograph" in columns else _UNNAMED
            header = recognise(head, path, maps)
    except (OSError, ValueError):  # the error is raised again when the input is opened
        return ""
    if header is None:
        return ""
    if "micrograph" in header.layout.columns:
        return _NAMED
    return _UNNAMED if first_row(head, header.start).strip() else _EMPTY

"""Lists of pick files that RELION writes, and the new lists for the output.

- RELION 4 and later: ``autopick.star``, ``manualpick.star``, ``extractpick.star`` with the columns
  ``rlnMicrographName`` and ``rlnMicrographCoordinates``. Tomograms: ``rlnTomoName`` and
  ``rlnTomoImportParticleFile``.
- RELION 3.1: ``coords_suffix_autopick.star`` has one line, the path of a micrograph table. The job Import
  writes a pattern of micrographs instead, such as ``Picks/*.mrc``. In some releases, the file is a list as in
  RELION 4.

Paths in a list are relative to the project folder. The project folder is the nearest folder above the list in which
a listed file exists.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.base import (
    InputFile,
    OutputFile,
    opening,
    read_whole,
    with_edits,
    write_blocks,
)
from dask_dedup.formats.coordinates.column_map import MICROGRAPH, TOMOGRAM
from dask_dedup.formats.coordinates.folder import PickPath, suffix_of
from dask_dedup.formats.coordinates.lines import (
    find_lines,
    first_row,
    read_head,
    split_lines,
    star_loops,
)
from dask_dedup.formats.coordinates.relion_job import JOB, JOB_FOLDER
from dask_dedup.formatting import counted
from dask_dedup.storage.files import (
    exists,
    is_file,
    list_names,
    read_bytes,
)
from dask_dedup.storage.paths import at, is_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Names of lists in a job folder.
_LIST_NAMES = ("autopick.star", "manualpick.star", "extractpick.star")
_SUFFIX_LIST = re.compile(r"coords_suffix(_\w+)?\.(?:star|box|txt)")
#: Columns of a list: the micrograph and its pick file.
_COLUMNS = (
    (MICROGRAPH, "rlnMicrographCoordinates"),
    (TOMOGRAM, "rlnTomoImportParticleFile"),
)
_VALUE = re.compile(rb"\"[^\"]*\"|'[^']*'|\S+")


@dataclass(frozen=True, slots=True)
class PickList:
    """A list of pick files.

    Attributes
    ----------
    info : InputFile
    project : str
        Folder to which the paths are relative.
    rows : tuple of (int, int, str)
        Byte range and output name of each path, in the order of the list.
    suffix : bool
        Whether this is a list of RELION 3.1. It has only one path, the path of the micrograph table.
    """

    info: InputFile
    project: str
    rows: tuple[tuple[int, int, str], ...]
    suffix: bool = False

    @property
    def name(self) -> str:
        """File name of the list."""
        return Path(self.info.path).name


@dataclass(frozen=True, slots=True)
class ListedPicks:
    """The listed pick files, and their list."""

    files: list[PickPath]
    lists: tuple[PickList, ...]
    tomograms: bool = False


def find_list(folder: Path) -> Path | None:
    """Return the list of a RELION job folder, or None. In a folder such as ``job010``, a list can have any name."""
    names = list_names(folder)
    found = [name for name in names if name in _LIST_NAMES]
    found = found or [name for name in names if _SUFFIX_LIST.fullmatch(name)]
    if not found and JOB.fullmatch(folder.absolute().name):
        stars = [name for name in names if name.lower().endswith(".star") and not suffix_of(name)]
        files = [path for path in map(folder.joinpath, stars) if is_file(path)]
        found = [path.name for path in files if is_list(path, read_head(path))]
    if len(found) > 1:
        raise InputError(
            f"{folder}: has several lists of picks ({', '.join(found)}). Pass one of them."
        )
    return folder / found[0] if found else None


def is_list(path: Path, head: bytes) -> bool:
    """Return whether a file that begins with `head` is a list of pick files."""
    if _SUFFIX_LIST.fullmatch(path.name):
        return True
    return path.suffix.lower() == ".star" and _is_star_list(head)


def _is_star_list(head: bytes) -> bool:
    return any(set(pair) <= set(labels) for _, labels, _ in star_loops(head) for pair in _COLUMNS)


def read_list(path: Path) -> ListedPicks:
    """Read a list of pick files.

    Raises
    ------
    InputError
        If a listed file does not exist, or is listed twice.
    """
    text, info = read_whole(path)
    suffix = _SUFFIX_LIST.fullmatch(path.name)
    if suffix is None or _is_star_list(text):
        return _read_star(path, text, info)
    return _read_suffix_list(path, text, info, suffix[1] or "")


def _read_star(path: Path, text: bytes, info: InputFile) -> ListedPicks:
    text += b"" if text.endswith(b"\n") else b"\n"
    tables = ((labels, start, pair) for _, labels, start in star_loops(text) for pair in _COLUMNS)
    found = next((table for table in tables if set(table[2]) <= set(table[0])), None)
    if found is None:
        raise InputError(
            f"{path}: not a list of pick files: it has no columns {MICROGRAPH} and rlnMicrographCoordinates. "
            "Pass the folder with the pick files."
        )
    labels, start, pair = found
    rows = _read_rows(path, text, start, labels, pair)
    if not rows:
        raise InputError(f"{path}: lists no pick files. Leave it out.")
    project = _find_project(path, [target for _, target, _ in rows])
    moved = not any(exists(_listed_path(project, target)) for _, target, _ in rows)
    files: dict[str, PickPath] = {}
    missing: list[str] = []
    spans = []
    for micrograph, target, (first, last) in rows:
        file = _find_moved(path, target) if moved else _listed_path(project, target)
        if file is None or not exists(file):
            missing.append(target)
            continue
        name = _name_in_tree(path, project, str(file) if moved else target)
        if name in files:
            raise InputError(
                f"{path}: lists {target} twice, or two files of one name. Remove one, or pass the folder with "
                "the pick files."
            )
        files[name] = PickPath(file, name, micrograph)
        spans.append((first, last, name))
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise InputError(
            f"{path}: {counted(len(missing), 'listed file', 'are missing')}: {shown}. Paths are relative to the "
            f"project folder (searched in {project}). Restore the files or remove their rows, or pass the folder with "
            "the pick files."
        )
    listed = PickList(info, str(project), tuple(spans))
    return ListedPicks(list(files.values()), (listed,), pair[0] == TOMOGRAM)


def _read_rows(
    path: Path, text: bytes, start: int, labels: Sequence[str], pair: tuple[str, str]
) -> list[tuple[str, str, tuple[int, int]]]:
    """Return micrograph, pick file and byte range of the pick file's path for each row of a list."""
    rows = []
    name, target = (labels.index(label) for label in pair)
    starts, is_row = find_lines(text[start:])
    lines = split_lines(text[start:], starts)
    for offset, line, wanted in zip(starts.tolist(), lines, is_row.tolist(), strict=True):
        if not wanted:
            continue
        if line.lstrip().lower().startswith((b"data_", b"loop_")):
            break
        values = list(_VALUE.finditer(line))
        if len(values) != len(labels):
            number = text[: start + offset].count(b"\n") + 1
            raise InputError(
                f"{path}: line {number} has {counted(len(values), 'value')}, but the list has {len(labels)} columns. "
                "Correct it."
            )
        span = values[target].span()
        texts = [values[each][0].decode(errors="replace").strip("'\"") for each in (name, target)]
        first = start + offset
        rows.append((texts[0], texts[1], (first + span[0], first + span[1])))
    return rows


def _read_suffix_list(path: Path, text: bytes, info: InputFile, suffix: str) -> ListedPicks:
    """Read a list of RELION 3.1. Pick files are in its folder, and their names are micrograph plus suffix."""
    row = first_row(text)
    start, target = text.index(row), row.decode(errors="replace")
    span = (start, start + len(row), target)
    if "*" in target:
        matching = _read_pattern(path, target, suffix)
        return ListedPicks(matching, (PickList(info, str(path.parent), (span,), suffix=True),))
    project = _find_project(path, [target])
    table = project / target
    if not target or not is_file(table):
        raise InputError(
            f"{path}: the micrograph table {target or '(nothing)'} does not exist. Its path is relative to the "
            f"project folder (searched in {project}). Correct it, or pass the folder with the pick files."
        )
    files: dict[str, PickPath] = {}
    for micrograph in _micrographs_of(table):
        name = JOB_FOLDER.sub("", micrograph)
        stem = name.removesuffix(PurePosixPath(name).suffix)
        for extension in ("star", "box", "txt"):
            file = path.absolute().parent / f"{stem}{suffix}.{extension}"
            if exists(file):
                name = _name_in_tree(path, file.parent, str(file))
                other = files.setdefault(name, PickPath(file, name, micrograph)).micrograph
                if other != micrograph:
                    raise InputError(
                        f"{path}: {other} and {micrograph} in {table} have one pick file, {name}. Remove one of the "
                        "two micrographs, or pass the folder with the pick files."
                    )
                break
    if not files:
        raise InputError(
            f"{path}: none of the micrographs in {table} has a file *{suffix}.star. Pass the folder with the pick "
            "files."
        )
    listed = PickList(info, str(project), (span,), suffix=True)
    return ListedPicks(list(files.values()), (listed,))


def _read_pattern(path: Path, target: str, suffix: str) -> list[PickPath]:
    """Return the pick files of the micrographs that match a pattern such as ``Picks/*.mrc``.

    The pattern is relative to the folder of the list.
    """
    name = PurePosixPath(JOB_FOLDER.sub("", target.lstrip("/")))
    pattern = f"{name.parent}/*{suffix}"
    found = [
        file
        for extension in dict.fromkeys((path.suffix, ".star", ".box", ".txt"))
        for file in sorted(path.absolute().parent.glob(pattern + extension))
        if not _SUFFIX_LIST.fullmatch(file.name)
    ]
    if not found:
        raise InputError(
            f"{path}: has the micrographs {target}, but there is no pick file {pattern}{path.suffix} below its folder. "
            "Pass the folder with the pick files."
        )
    files = []
    for file in found:
        if file.suffix != found[0].suffix:
            break
        below = file.relative_to(path.absolute().parent).as_posix()
        micrograph = f"{below.removesuffix(file.suffix).removesuffix(suffix)}{name.suffix}"
        files.append(PickPath(file, below, micrograph))
    return files


def _micrographs_of(path: Path) -> list[str]:
    """Return the names in the column rlnMicrographName of a STAR file."""
    with opening(path):
        text = read_bytes(path) + b"\n"
    for _, labels, start in star_loops(text):
        if MICROGRAPH in labels:
            rows = _read_rows(path, text, start, labels, (MICROGRAPH, MICROGRAPH))
            return list(dict.fromkeys(micrograph for micrograph, _, _ in rows))
    raise InputError(
        f"{path}: has no column {MICROGRAPH}, so it is no list of micrographs. Pass the folder with the pick files."
    )


def _find_project(path: Path, targets: Sequence[str]) -> Path:
    """Return the nearest folder above `path` in which a listed file exists. Also try the working folder."""
    listed = path.absolute().parent
    folders = [listed, *listed.parents, Path.cwd()]
    for folder in folders:
        if any(exists(_listed_path(folder, target)) for target in targets[:5]):
            return folder
    return next(
        (each for each in folders if any(exists(_listed_path(each, t)) for t in targets)), listed
    )


def _listed_path(folder: Path, target: str) -> Path:
    """Return the path of a listed file. `target` may be relative, absolute or a URI."""
    return at(target) if is_uri(target) else folder / target


def _find_moved(path: Path, target: str) -> Path | None:
    """Return the file below the list's folder that matches the longest end of `target`, or None.

    For lists that were moved with their files.
    """
    parts, folder = PurePosixPath(target).parts, path.absolute().parent
    ends = (folder.joinpath(*parts[n:]) for n in range(1, len(parts)))
    return next(filter(exists, ends), None)


def _name_in_tree(path: Path, project: Path, target: str) -> str:
    """Return the output name of a listed file: its path relative to the list's folder, else to the project folder."""
    if is_uri(target):
        below = target.removeprefix(f"{path.parent}/")
        return Path(target).name if below == target or ".." in Path(below).parts else below
    file = Path(os.path.normpath(project / target))
    for folder in (path.absolute().parent, project):
        if file.is_relative_to(folder):
            return file.relative_to(folder).as_posix()
    return file.name


def write_list(picks: PickList, folder: Path, tree: str, final: Path) -> OutputFile:
    """Write a list of the new pick files. After the run, these files are in the sub-folder `tree` of `final`.

    If the project folder contains `final`, paths are relative to the project folder, else absolute.
    """
    text = read_bytes(at(picks.info.path))
    project, output_folder = Path(picks.project), (final / tree).absolute()
    inside = output_folder.is_relative_to(project)
    base = output_folder.relative_to(project) if inside else output_folder
    edits = []
    for start, stop, name in picks.rows:
        new = str(base / name)
        if picks.suffix and "*" in name:
            new = name
        elif picks.suffix:
            new = name if inside else str(project / name)
        elif any(character.isspace() for character in new):
            new = f'"{new}"'
        edits.append((start, stop, new.encode()))
    return write_blocks(folder, f"{tree}/{picks.name}", 0, [with_edits(text, edits)])

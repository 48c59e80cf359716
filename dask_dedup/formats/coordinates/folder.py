"""Find the pick files of a folder, and check that they are from one picker."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.coordinates.programs import EXTENSIONS, MAP_OF
from dask_dedup.formats.pick_suffixes import PICK_SUFFIX
from dask_dedup.formatting import counted
from dask_dedup.storage.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from dask_dedup.storage.walk import FoundFile

#: Folders below an input are searched to this depth.
_DEPTH = 8
#: Files of Gautomatch and RELION without picks, or with picks that these programs rejected.
_IGNORED = re.compile(
    r".*_rejected\.\w+|job\.star|.*_pipeline\.star|.*_model\.star|run\.(out|err|txt)"
    r"|note\.txt|readme\w*\.\w+|licen[cs]e\w*\.\w+",
    re.IGNORECASE,
)
_IGNORED_FOLDERS = {"DISTR", "Trash", "gmon"}
_CRYOLO_FOLDERS = {"CBOX", "EMAN", "STAR"}


@dataclass(frozen=True, slots=True)
class PickPath:
    """A pick file.

    Attributes
    ----------
    path : Path
    name : str
        Path of the file below the input, with ``/``.
    micrograph : str
        Name of the micrograph or tomogram.
    """

    path: Path
    name: str
    micrograph: str


def suffix_of(name: str) -> str:
    """Return the suffix that a program appended to the name of a micrograph, such as ``_autopick``.

    Examples
    --------
    >>> suffix_of("Micrographs/mic1_autopick.star"), suffix_of("mic1.box")
    ('_autopick', '')
    """
    found = PICK_SUFFIX.search(name.rpartition(".")[0] or name)
    return found[0] if found else ""


def micrograph_of(name: str) -> str:
    """Return the micrograph of a pick file: its name, with sub-folders, but without suffix and extension.

    Examples
    --------
    >>> micrograph_of("Micrographs/mic1_autopick.star"), micrograph_of("00255.box")
    ('Micrographs/mic1', '00255')
    """
    stem = name.rpartition(".")[0] or name
    return stem.removesuffix(suffix_of(name)) or stem


def is_ignored(name: str) -> bool:
    """Return whether a file is never read as picks. `name` includes sub-folders."""
    *folders, last = name.split("/")
    return bool(_IGNORED.fullmatch(last)) or not _IGNORED_FOLDERS.isdisjoint(folders)


def find_files(folder: Path) -> tuple[list[PickPath], list[PickPath], list[str]]:
    """Find the files that can be pick files. Return files in the folder, files in its sub-folders, and notes."""
    files, notes = choose_files(walk(folder, _DEPTH))
    here = [file for file in files if "/" not in file.name]
    return here, [file for file in files if "/" in file.name], notes


def choose_files(found: Iterable[FoundFile]) -> tuple[list[PickPath], list[str]]:
    """Return the files that can be pick files, and notes about the others.

    Raises
    ------
    InputError
        If a file or folder cannot be used: it cannot be read, it is not a regular file, its name has a line
        break, or two names differ only by upper and lower case.
    """
    files: list[PickPath] = []
    ignored: Counter[str] = Counter()
    for path, name, usable in found:
        last = name.rpartition("/")[2]
        if path.suffix.lower() not in EXTENSIONS:
            ignored[path.suffix or last] += 1
        elif is_ignored(name):
            ignored["_rejected" if "_rejected" in last else last] += 1
        elif not name.isprintable():
            what = "characters that cannot be printed, such as a line break"
            if any("\udc80" <= letter <= "\udcff" for letter in name):
                what = "bytes that are not UTF-8"
            raise InputError(f"{path}: the name of the file has {what}. Rename it.")
        elif not usable:
            raise InputError(f"{path}: a broken link, or not a regular file. Repair or remove it.")
        else:
            files.append(PickPath(path, name, micrograph_of(name)))
    _check_case(files)
    notes = []
    if ignored:
        kinds = ", ".join(sorted(ignored)[:5]) + (", ..." if len(ignored) > 5 else "")
        notes.append(f"{counted(ignored.total(), 'other file')} ignored ({kinds})")
    return files, notes


def _check_case(files: Sequence[PickPath]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        other = seen.setdefault(file.name.lower(), file.name)
        if other != file.name:
            raise InputError(
                f"{file.path}: differs only by upper and lower case from {other}. Rename one of the two files."
            )


def check_folders(folder: Path, files: Sequence[PickPath], formats: Sequence[str]) -> None:
    """Check that all pick files in the sub-folders of a folder are from the same picker.

    `formats` are the formats of `files`.
    """
    if formats and all(MAP_OF[name].by_run for name in formats):
        _check_names(folder, files)
        return
    of_folder: dict[str, set[str]] = {}
    for file, name in zip(files, formats, strict=True):
        of_folder.setdefault(file.name.partition("/")[0], set()).add(name)
    cryolo = sorted(_CRYOLO_FOLDERS & of_folder.keys())
    if len(cryolo) > 1:
        best = folder / cryolo[0]
        note = " with the scores" if cryolo[0] == "CBOX" else ""
        others = " or ".join(str(folder / name) for name in cryolo[1:])
        raise InputError(
            f"{folder}: contains the same picks in several formats ({', '.join(cryolo)}). Pass one of its folders: "
            f"{best}{note}, or {others}."
        )
    if len(of_folder) > 1:
        names = sorted(of_folder)
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise InputError(
            f"{folder}: has picks in {len(names)} folders ({shown}). Pass one of them, or each as an input."
        )


def _check_names(folder: Path, files: Sequence[PickPath]) -> None:
    """Check that the pick files of all tomograms have the same file name."""
    names = sorted({file.path.name for file in files})
    if len(names) > 1:
        first = next(file for file in files if file.path.name == names[0])
        pattern = "/".join(["*" for _ in first.name.split("/")[:-1]] + [names[0]])
        raise InputError(
            f"{folder}: has {len(names)} sets of picks ({', '.join(names[:3])}). Pass one of them, such as "
            f"'{folder / pattern}'."
        )


def check_files(folder: Path, files: Sequence[PickPath], formats: Sequence[str | None]) -> None:
    """Check that all pick files of a folder have the same format, and that each micrograph has one file.

    `formats` are the formats of `files`. The format of an empty file is None.
    """
    counts = Counter(name for name in formats if name)
    if len(counts) > 1:
        first = dict(reversed([*zip(formats, files, strict=True)]))
        shown = ", ".join(
            f"{name} ({counted(count, 'file')}, such as {first[name].name})"
            for name, count in counts.items()
        )
        raise InputError(
            f"{folder}: has pick files of several formats: {shown}. Put each format into its own folder."
        )
    seen: dict[str, PickPath] = {}
    for file, name in zip(files, formats, strict=True):
        other = seen.setdefault(file.micrograph, file)
        if other is not file and name and MAP_OF[name].by_run:
            raise InputError(
                f"{folder}: has two sets of picks of {file.micrograph}: {other.name} and {file.name}. Pass each as an "
                "input, or one of them."
            )
        if other is not file:
            suffixes = sorted(
                each for each in (suffix_of(other.name), suffix_of(file.name)) if each
            )
            what = f"{other.path.name} and {file.path.name}"
            advice = "Put them into two folders"
            if len(suffixes) > 1:
                advice += f", one for {' and one for '.join(suffixes)}"
            raise InputError(f"{folder}: has two pick files for one micrograph: {what}. {advice}.")

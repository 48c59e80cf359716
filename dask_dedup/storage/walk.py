"""Find the files below a folder. The folder may have links and special files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dask_dedup.errors import InputError
from dask_dedup.storage.files import list_files
from dask_dedup.storage.paths import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator


class FoundFile(NamedTuple):
    """A file below a folder.

    Attributes
    ----------
    path : Path
    name : str
        Path of the file below the folder, with ``/``.
    usable : bool
        False for a broken link, and for anything else than a regular file, such as a FIFO.
    """

    path: Path
    name: str
    usable: bool = True


def walk(folder: Path, depth: int) -> Iterator[FoundFile]:
    """Yield the files of a folder, then the files of its sub-folders down to `depth`, sorted by name.

    Names that begin with a dot are left out. A folder that several links point to is searched once.
    """
    if is_remote(folder):
        root = str(folder).rstrip("/") + "/"
        for path in list_files(folder):
            yield FoundFile(path, str(path).removeprefix(root))
        return
    seen: set[tuple[int, int]] = set()
    waiting = [(str(folder), "", 0)]
    while waiting:
        here, prefix, level = waiting.pop()
        folders = []
        for entry in _list(here, seen):
            if entry.name.startswith("."):
                continue
            kind = _kind(entry)
            name = f"{prefix}{entry.name}"
            if kind != "folder":
                yield FoundFile(Path(entry.path), name, kind == "file")
            elif level < depth:
                folders.append((entry.path, f"{name}/", level + 1))
        waiting += reversed(folders)


def _list(folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name. Return [] if the folder is in `seen`."""
    try:
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            return []
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from error


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    except OSError:  # a link to itself
        return "other"

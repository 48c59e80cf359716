"""Versions of lake tables in paths: ``lake/picks?version=3``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dask_dedup.storage.files import exists
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from pathlib import Path

_VERSIONED = re.compile(r"(.+)\?version=(\d+)")


def split_version(location: str | Path) -> tuple[Path, int | None]:
    """Split a location into the path and the version of a table. Without a version, the version is None.

    An existing file or folder is never split.

    Examples
    --------
    >>> path, version = split_version("lake/picks?version=3")
    >>> path.as_posix(), version
    ('lake/picks', 3)
    """
    path = at(location)
    match = _VERSIONED.fullmatch(path.name)
    if match is None or exists(path):
        return path, None
    return path.with_name(match[1]), int(match[2])


def without_version(location: str) -> str:
    """Return a location without its version.

    Examples
    --------
    >>> without_version("lake/picks?version=2"), without_version("lake/picks")
    ('lake/picks', 'lake/picks')
    """
    match = _VERSIONED.fullmatch(location)
    return match[1] if match else location


def with_version(location: str, version: int | None) -> str:
    """Add a version to a location, unless the location has a version already.

    Examples
    --------
    >>> with_version("lake/picks", 3), with_version("lake/picks?version=2", 3)
    ('lake/picks?version=3', 'lake/picks?version=2')
    """
    if version is None or _VERSIONED.fullmatch(location):
        return location
    return f"{location.rstrip('/')}?version={version}"

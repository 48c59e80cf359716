"""Paths on a local file system or, for a URI, in an object store.

Any protocol of `fsspec` works (``s3://``, ``gs://``, ``abfs://``, ...). `storage.protocols` has the settings of each
protocol. The libraries find the credentials in the environment, a profile or the machine's role. URIs with
credentials are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from dask_dedup.errors import InputError
from dask_dedup.storage.protocols import check_no_secret, uri_path

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WILDCARDS = re.compile(r"[*\[\]]|\?(?!version=\d+$)")


def at(location: str | Path) -> Path:
    """Convert a location to a path. An object store's URI becomes a `UPath`, which behaves like `pathlib.Path`.

    Raise `InputError` if a URI has credentials or wildcards, or if the library for its protocol is not installed.
    """
    if not isinstance(location, str):
        # `Path` has removed a slash.
        uri = str(location).replace(":/", "://", 1)
        if isinstance(location, Path) and _URI.match(uri):
            check_no_secret(uri)
            raise InputError(f"{location}: a URI must be passed as str, not as Path.")
        return location
    if not _URI.match(location):
        return Path(location)
    check_no_secret(location)
    if location.startswith("file://"):
        return Path(unquote(location.removeprefix("file://")))
    if _WILDCARDS.search(location):
        raise InputError(f"{location}: wildcards are not supported. Name a file or a folder.")
    try:
        return uri_path(location)
    except ImportError as error:
        raise InputError(
            f"{location}: object stores need a library: pip install 'dask-dedup[s3]'"
        ) from error
    except ValueError as error:
        raise InputError(f"{location}: not a valid location: {error}") from error


def listed(locations: Iterable[str | Path] | str | Path) -> list[str | Path]:
    """Return a list of locations, given one location or several."""
    if isinstance(locations, str) or not isinstance(locations, Iterable):
        return [locations]
    return list(locations)


def is_uri(location: str | Path) -> bool:
    """Return whether a location is in an object store: a URI, or a path made from a URI."""
    return not isinstance(location, str | Path) or _URI.match(str(location)) is not None


def is_remote(path: Path) -> bool:
    """Return whether a path is in an object store. Objects cannot be renamed."""
    return not isinstance(path, Path)


def resolve(path: Path) -> Path:
    """Resolve symbolic links in a local path. Return paths in object stores unchanged."""
    return path if is_remote(path) else path.resolve()


def under(folder: str, location: str) -> str:
    """Return a relative location as a path in `folder`. Return absolute paths and URIs unchanged.

    If `folder` is "", return every location unchanged.

    Examples
    --------
    >>> under("/data", "a.star"), under("/data", "s3://lab/a.star"), under("", "a.star")
    ('/data/a.star', 's3://lab/a.star', 'a.star')
    """
    if not folder or _URI.match(location):
        return location
    return str(Path(folder, location))


def enclosing_folders(path: Path) -> tuple[Path, ...]:
    """Return the parent folders of a local path, the nearest first. Return () for a path in an object store."""
    return () if is_remote(path) else tuple(path.resolve().parents)

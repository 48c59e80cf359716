"""Where files are: a path of a local file system, or of an object store if it is written as a URI.

Whatever `fsspec` speaks will do (``s3://``, ``gs://``, ``abfs://``, ...). Credentials come from where its own
libraries look for them: the environment, profiles, the machine's role; never from a URI.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from dask_dedup.errors import InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow.parquet as pq

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
#: How often, and how long, an object store that is busy or out of order is asked again: some two minutes in all.
_S3_OPTIONS = {"config_kwargs": {"retries": {"mode": "standard", "max_attempts": 8}}}
#: What others write meanwhile must be seen.
_OPTIONS = {"use_listings_cache": False}
#: The environment variable that names another server than Amazon's; all libraries for S3 heed it.
ENDPOINT = "AWS_ENDPOINT_URL"
_EXTRA = "pip install 'dask-dedup[s3]'"


def at(location: str | Path) -> Path:
    """Give the path of a location; those of object stores behave like `pathlib.Path`.

    Raises
    ------
    InputError
        If a URI holds credentials, or there is no library for it.
    """
    if not isinstance(location, str):
        return location
    if not _URI.match(location):
        return Path(location)
    if location.startswith("file://"):
        return Path(urlsplit(location).path)
    if "@" in urlsplit(location).netloc:
        public = location.replace(urlsplit(location).netloc.rpartition("@")[0] + "@", "")
        raise InputError(
            f"{public}: credentials do not belong into a URI, which ends up in logs and manifests; "
            "set them in the environment or a profile"
        )
    try:
        from upath import UPath

        options: dict[str, Any] = _OPTIONS
        if location.startswith("s3://"):
            options = _OPTIONS | _S3_OPTIONS | {"endpoint_url": os.environ.get(ENDPOINT)}
        return cast("Path", UPath(location, **options))
    except ImportError as error:
        raise InputError(f"{location}: no library to read it with: {_EXTRA} ({error})") from error
    except ValueError as error:
        raise InputError(f"{location}: not a place that can be read: {error}") from error


def is_remote(path: Path) -> bool:
    """Tell whether a path is of an object store: there, files appear whole, but nothing can be renamed."""
    return not isinstance(path, Path)


def resolve(path: Path) -> Path:
    """Give the one way to write a path."""
    return path if is_remote(path) else path.resolve()


def parquet_source(path: str | Path) -> dict[str, Any]:
    """Give the arguments by which `pyarrow.parquet` opens a file, wherever it is."""
    place = at(path)
    if is_remote(place):
        remote: Any = place
        # Column chunks that lie together are asked for together.
        return {"source": remote.path, "filesystem": remote.fs, "pre_buffer": True}
    return {"source": str(place)}


def read_metadata(path: str | Path) -> pq.FileMetaData:
    """Read the footer of a Parquet file, wherever it is."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(**parquet_source(path)) as file:
        return file.metadata


def remove(folder: Path) -> None:
    """Remove a folder and all that is in it; none is fine."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    remote: Any = folder
    remote.fs.invalidate_cache()
    if remote.exists():
        remote.fs.rm(remote.path, recursive=True)


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files of an object store."""
    for path in paths:
        path.unlink(missing_ok=True)


def upload(file: Path, target: Path) -> None:
    """Put a local file into an object store; it appears whole."""
    remote: Any = target
    remote.fs.put_file(str(file), remote.path)


def create(path: Path, content: bytes) -> None:
    """Create a file of an object store whole, and only if there is none.

    Raises
    ------
    FileExistsError
        If there is one.
    RunError
        If the store cannot tell.
    """
    remote: Any = path
    try:
        remote.fs.pipe_file(remote.path, content, mode="create")
    except (NotImplementedError, ValueError) as error:
        raise RunError(f"{path}: this store cannot create a file only if there is none") from error


def use_endpoint(url: str | None) -> None:
    """Send requests for ``s3://`` to another server than Amazon's, in this process from here on."""
    if url:
        os.environ[ENDPOINT] = url

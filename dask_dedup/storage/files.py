"""Read, write, list and remove files on local file systems and in object stores."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dask_dedup.errors import RunError
from dask_dedup.storage.access import store_errors
from dask_dedup.storage.paths import at, is_remote
from dask_dedup.storage.protocols import is_s3

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow.parquet as pq

#: Bytes requested at a time when an object is read from start to end.
READ_BYTES = 8 * 2**20
#: Number of threads for many small requests.
_THREADS = 16
#: Attempts to create an object while the store handles another request for this object, and the seconds between
#: two attempts.
_CONFLICTS, _CONFLICT_SECONDS = 5, 0.5


class _Object(io.RawIOBase):
    """Raw stream that reads an object from an object store. Each read requests one byte range."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name = str(path)
        self._path = path
        self._size = int(status_of(path).st_size)
        self._next = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._next, io.SEEK_END: self._size}[whence]
        self._next = base + offset
        return self._next

    def readinto(self, buffer: Any) -> int:
        stop = min(self._next + len(buffer), self._size)
        content = _fetch(self._path, self._next, stop)
        buffer[: len(content)] = content
        self._next += len(content)
        return len(content)


def _request(method: str, path: Path, *arguments: Any, **options: Any) -> Any:
    """Call a method of an object's `fsspec` file system with the object's path. Translate errors."""
    remote: Any = path
    with store_errors(path):
        return getattr(remote.fs, method)(remote.path, *arguments, **options)


def _fetch(path: Path, start: int, stop: int) -> bytes:
    """Read a byte range of an object."""
    return bytes(_request("cat_file", path, start=start, end=stop)) if start < stop else b""


def open_to_read(path: Path, buffering: int = -1) -> io.BufferedReader:
    """Open a file for reading. Objects are fetched `READ_BYTES` at a time."""
    if is_remote(path):
        return io.BufferedReader(_Object(path), READ_BYTES)
    return cast("io.BufferedReader", path.open("rb", buffering=buffering))


def status_of(path: Path) -> os.stat_result:
    """Return the status of a file, with its size and modification time."""
    with store_errors(path):
        return path.stat()


def exists(path: Path) -> bool:
    """Return whether a file or folder exists."""
    with store_errors(path), _names_too_long():
        return path.exists()
    return False


def is_file(path: Path) -> bool:
    """Return whether a path is an existing file."""
    with store_errors(path), _names_too_long():
        return path.is_file()
    return False


@contextmanager
def _names_too_long() -> Iterator[None]:
    """Suppress the error about a name that is too long for a file."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise


def is_folder(path: Path) -> bool:
    """Return whether a path is an existing folder."""
    with store_errors(path):
        return path.is_dir()


def list_names(folder: Path) -> list[str]:
    """Return the sorted names of files and folders in a folder. Return [] if the folder is missing."""
    with store_errors(folder):
        entries = folder.iterdir() if folder.is_dir() else ()
        # Object stores may list the folder as an entry without a name.
        return sorted(entry.name for entry in entries if entry.name)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_ranges(path: Path, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Read byte ranges ``(start, stop)`` of a file. Ranges of an object are fetched in parallel."""
    if is_remote(path):
        first, last = min(start for start, _ in ranges), max(stop for _, stop in ranges)
        if last - first <= READ_BYTES:
            content = _fetch(path, first, last)
            return [content[start - first : stop - first] for start, stop in ranges]
        with ThreadPoolExecutor(min(len(ranges), _THREADS)) as pool:
            return list(pool.map(lambda part: _fetch(path, *part), ranges))
    parts = []
    with path.open("rb") as file:
        for start, stop in ranges:
            file.seek(start)
            parts.append(file.read(stop - start))
    return parts


def parquet_source(path: str | Path) -> dict[str, Any]:
    """Return keyword arguments for `pyarrow.parquet.ParquetFile` that open a file."""
    path = at(path)
    if is_remote(path):
        # Merges the requests of adjacent column chunks.
        return {"source": _Object(path), "pre_buffer": True}
    return {"source": str(path)}


def read_metadata(path: str | Path) -> pq.FileMetaData:
    """Read the footer of a Parquet file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(**parquet_source(path)) as file:
        return file.metadata


_copying = Lock()


@lru_cache(maxsize=16)
def _copies(path: str, modified_ns: int, size: int) -> Any:  # noqa: ARG001
    file = tempfile.NamedTemporaryFile(prefix="dask-dedup-")  # noqa: SIM115
    with open_to_read(at(path)) as source:
        shutil.copyfileobj(source, cast("BinaryIO", file), READ_BYTES)
    file.flush()
    return file


def local_copy(path: Path) -> Path:
    """Return a local path to a file. Copy an object to a temporary file, once per process."""
    if not is_remote(path):
        return path
    status = status_of(path)
    # Without the lock, two callers would make two copies. The cache would then delete a copy that is in use.
    with _copying:
        return Path(_copies(str(path), status.st_mtime_ns, status.st_size).name)


def list_files(folder: Path) -> dict[Path, int]:
    """Map each file below a folder, at any depth, to its size in bytes. Files are sorted by path."""
    if not is_remote(folder):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return {file: file.stat().st_size for file in files}
    found = _request("find", folder, detail=True)
    root = cast("Any", folder).path.rstrip("/") + "/"
    return {
        folder / name.removeprefix(root): int(entry["size"] or 0)
        for name, entry in sorted(found.items())
        # Some tools create an empty object for a folder.
        if name.startswith(root) and not name.endswith("/")
    }


def read_bytes(path: Path) -> bytes:
    """Read a complete file. Raise `FileNotFoundError` if the file does not exist."""
    return bytes(_request("cat_file", path)) if is_remote(path) else path.read_bytes()


def write_bytes(path: Path, content: bytes, **condition: str) -> None:
    """Write a small object. `condition` is an option for conditional writes, such as ``IfMatch``."""
    _request("pipe_file", path, content, **condition)


def upload(file: Path, target: Path) -> None:
    """Copy a local file into an object store. The object appears only when it is complete."""
    remote: Any = target
    with store_errors(target):
        remote.fs.put_file(str(file), remote.path)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a local path to write to. If the block succeeds, the complete file appears at `path`.

    The parent folders of a local `path` are created.
    """
    if is_remote(path):
        with tempfile.NamedTemporaryFile(prefix="dask-dedup-") as file:
            yield Path(file.name)
            upload(Path(file.name), path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def create(path: Path, content: bytes) -> None:
    """Create an object. Raise `FileExistsError` if the object exists already.

    The error can also occur if this call created the object, but the response was lost and the request was repeated.
    """
    for _ in range(_CONFLICTS):
        try:
            write_bytes(path, content, mode="create")
        except (NotImplementedError, ValueError, TypeError) as error:
            raise RunError(
                f"{path}: the library for this store does not support conditional writes, which a run needs."
            ) from error
        except FileExistsError:
            raise
        except (OSError, RunError) as error:
            # Stores differ in how they report an object that exists or is being created.
            if path.exists():
                raise FileExistsError(str(path)) from error
            if "Conflict" not in str(error):
                raise
            time.sleep(_CONFLICT_SECONDS)
        else:
            return
    raise RunError(f"{path}: other processes keep writing this object at the same time.")


def replace(path: Path, content: bytes, tag: str | None) -> bool:
    """Replace an object. On S3, return False if its entity tag is no longer `tag`."""
    if not (tag and is_s3(path)):
        write_bytes(path, content)
        return True
    # Ceph accepts the tag only without its quotes.
    forms = (tag, tag.strip('"'))
    for form in forms:
        try:
            write_bytes(path, content, IfMatch=form)
        except (OSError, RunError):
            if tag_of(path) != tag:
                # If the response of the first request was lost, the repeated request is refused.
                return read_bytes(path) == content
            if form == forms[-1]:
                raise
        else:
            return True
    return False


def tag_of(path: Path) -> str | None:
    """Return the entity tag of an object, or None if the store has no entity tags."""
    tag: str | None = _request("info", path).get("ETag")
    return tag


def copy_file(source: Path, target: Path) -> str:
    """Link a file if possible, otherwise copy it. The target's parent folders are created.

    Return "linked" (a hard link), "copied by the store", or "copied". Raise `FileExistsError` if a local target
    exists. If this target is a link, a copy would replace the content of the linked file.
    """
    here: Any = source
    there: Any = target
    if not is_remote(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    elif is_remote(source) and here.protocol == there.protocol:
        _request("copy", source, there.path)
        return "copied by the store"
    if is_remote(source):
        with store_errors(target), open_to_read(source) as file, target.open("xb") as copy:
            shutil.copyfileobj(file, copy, READ_BYTES)
    elif is_remote(target):
        upload(source, target)
    else:
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:
            # The target is on another file system, links are not supported, or another user owns the file.
            target.touch(exist_ok=False)
            shutil.copyfile(source, target)
        else:
            return "linked"
    return "copied"


def remove_file(path: Path, root: Path) -> None:
    """Remove a file if it exists. Also remove parent folders below `root` that become empty."""
    if is_remote(path):
        remove_files([path])
        return
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:
            return  # not empty


def remove(folder: Path) -> None:
    """Remove a folder and everything in it, if it exists."""
    if is_remote(folder):
        remove_files(list_files(folder))
    else:
        shutil.rmtree(folder, ignore_errors=True)


def remove_files(paths: Iterable[Path]) -> None:
    """Remove objects. Missing objects are ignored."""

    def drop(path: Path) -> None:
        # The library's `rm` would read some characters of names as wildcards.
        with suppress(FileNotFoundError):
            _request("rm_file", path)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(drop, paths))

"""Bytes in files and in object stores: reading parts of them, putting them there whole, listing, removing."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dask_dedup.errors import RunError
from dask_dedup.storage.access import telling
from dask_dedup.storage.paths import at, is_remote, is_s3

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow.parquet as pq

#: So much of an object is asked for at a time where it is read from end to end.
READ_BYTES = 8 * 2**20
#: Requests side by side where there are many small ones.
_THREADS = 16
#: A store that is at work on another request for the same object says so, and is asked again so often.
_CONFLICTS, _CONFLICT_SECONDS = 5, 0.5


class _Object(io.RawIOBase):
    """An object of a store, read by ranges: each read is one request for just the bytes wanted."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.name = str(place)
        self._place: Any = place
        with telling(place):
            self._size = int(place.stat().st_size)
        self._next = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._next

    def size(self) -> int:
        """Pyarrow asks for it."""
        return self._size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._next, io.SEEK_END: self._size}[whence]
        self._next = base + offset
        return self._next

    def readinto(self, buffer: Any) -> int:
        stop = min(self._next + len(buffer), self._size)
        if stop <= self._next:
            return 0
        with telling(self._place):
            content = self._place.fs.cat_file(self._place.path, start=self._next, end=stop)
        buffer[: len(content)] = content
        self._next += len(content)
        return len(content)


def open_to_read(path: Path, buffering: int = -1) -> io.BufferedReader:
    """Open a file to be read from some place on; of an object, some megabytes are asked for at a time."""
    if is_remote(path):
        return io.BufferedReader(_Object(path), READ_BYTES)
    return cast("io.BufferedReader", path.open("rb", buffering=buffering))


def status_of(path: Path) -> os.stat_result:
    """Tell size and time of modification of a file."""
    with telling(path) if is_remote(path) else nullcontext():
        return path.stat()


def read_ranges(path: Path, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Read some parts of a file, each from its first byte to before its last; of an object all at once."""
    if is_remote(path):
        remote: Any = path

        def read(part: tuple[int, int]) -> bytes:
            start, stop = part
            with telling(path):
                if start == stop:
                    return b""
                return bytes(remote.fs.cat_file(remote.path, start=start, end=stop))

        first, last = min(start for start, _ in ranges), max(stop for _, stop in ranges)
        if last - first <= READ_BYTES:
            content = read((first, last))
            return [content[start - first : stop - first] for start, stop in ranges]
        with ThreadPoolExecutor(min(len(ranges), _THREADS)) as pool:
            return list(pool.map(read, ranges))
    parts = []
    with path.open("rb") as file:
        for start, stop in ranges:
            file.seek(start)
            parts.append(file.read(stop - start))
    return parts


def parquet_source(path: str | Path) -> dict[str, Any]:
    """Give the arguments by which `pyarrow.parquet` opens a file, wherever it is."""
    place = at(path)
    if is_remote(place):
        # Column chunks that lie together are asked for together.
        return {"source": _Object(place), "pre_buffer": True}
    return {"source": str(place)}


def read_metadata(path: str | Path) -> pq.FileMetaData:
    """Read the footer of a Parquet file, wherever it is."""
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
    """Give a file that can be mapped into memory: of an object a copy, made once in this process."""
    if not is_remote(path):
        return path
    status = status_of(path)
    # Of two that ask at once, the second would get a copy that nobody keeps.
    with _copying:
        return Path(_copies(str(path), status.st_mtime_ns, status.st_size).name)


def list_files(folder: Path) -> dict[Path, int]:
    """Give the files below a folder, sorted, and their sizes; of an object store with few requests."""
    if not is_remote(folder):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return {file: file.stat().st_size for file in files}
    remote: Any = folder
    with telling(folder):
        found = remote.fs.find(remote.path, detail=True)
    root = remote.path.rstrip("/") + "/"
    return {
        folder / name.removeprefix(root): int(entry["size"] or 0)
        for name, entry in sorted(found.items())
        # Some tools put an empty object in the place of a folder.
        if name.startswith(root) and not name.endswith("/")
    }


def read_bytes(path: Path) -> bytes:
    """Read a small file whole.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if not is_remote(path):
        return path.read_bytes()
    remote: Any = path
    with telling(path):
        return bytes(remote.fs.cat_file(remote.path))


def write_bytes(path: Path, content: bytes) -> None:
    """Put a small file into an object store, whole."""
    remote: Any = path
    with telling(path):
        remote.fs.pipe_file(remote.path, content)


def upload(file: Path, target: Path) -> None:
    """Put a local file into an object store; it appears whole."""
    remote: Any = target
    with telling(target):
        remote.fs.put_file(str(file), remote.path)


def create(path: Path, content: bytes) -> None:
    """Create a file of an object store whole, and only if there is none.

    Raises
    ------
    FileExistsError
        If there is one. It may be this very one: if an answer is lost on its way, the request is made again.
    RunError
        If the store cannot tell.
    """
    remote: Any = path
    for _ in range(_CONFLICTS):
        try:
            with telling(path):
                remote.fs.pipe_file(remote.path, content, mode="create")
        except (NotImplementedError, ValueError, TypeError) as error:
            raise RunError(
                f"{path}: the library for this store ({type(remote.fs).__name__}) cannot create a file "
                "only if there is none"
            ) from error
        except FileExistsError:
            raise
        except (OSError, RunError) as error:
            # Not every store says in the same words that there is one, or that one is just being made.
            if path.exists():
                raise FileExistsError(str(path)) from error
            if "Conflict" not in str(error):
                raise
            time.sleep(_CONFLICT_SECONDS)
        else:
            return
    raise RunError(f"{path}: others keep writing there at the same time")


def replace(path: Path, content: bytes, tag: str | None) -> bool:
    """Replace a file of an object store, on S3 only if it is still the one that has this entity tag.

    Returns
    -------
    bool
        False if it is another one.
    """
    remote: Any = path
    if not (tag and is_s3(path)):
        write_bytes(path, content)
        return True
    # Ceph compares the tag without its quotes, and refuses it with them.
    forms = (tag, tag.strip('"'))
    for form in forms:
        try:
            with telling(path):
                remote.fs.pipe_file(remote.path, content, IfMatch=form)
        except (OSError, RunError):
            if tag_of(path) != tag:
                # An answer may have been lost on its way, and the request made again in vain.
                return read_bytes(path) == content
            if form == forms[-1]:
                raise
        else:
            return True
    return False


def tag_of(path: Path) -> str | None:
    """Give what tells this state of an object from any other, where the store has that."""
    remote: Any = path
    with telling(path):
        tag = remote.fs.info(remote.path).get("ETag")
    return str(tag) if tag else None


def remove(folder: Path) -> None:
    """Remove a folder and all that is in it; none is fine."""
    if is_remote(folder):
        remove_files(list_files(folder))
    else:
        shutil.rmtree(folder, ignore_errors=True)


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files of an object store; those that are gone already are fine."""

    def drop(path: Any) -> None:
        # Not by way of the library's `rm`, which takes some characters of names for wildcards.
        try:
            with telling(path):
                path.fs.rm_file(path.path)
        except FileNotFoundError:
            pass

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(drop, paths))


def copy_file(source: Path, target: Path) -> str:
    """Copy a file without changing it, and return how.

    Returns
    -------
    {"linked", "copied by the store", "copied"}
        A hard link on one file system; a copy inside one object store; else a copy.
    """
    here, there = is_remote(source), is_remote(target)
    remote: Any = source if here else target
    if here and there and remote.protocol == target.protocol:  # type: ignore[attr-defined]
        remote.fs.copy(remote.path, target.path)  # type: ignore[attr-defined]
        return "copied by the store"
    if not there:
        target.parent.mkdir(parents=True, exist_ok=True)
    if here and there:
        target.write_bytes(source.read_bytes())
    elif there:
        upload(source, target)
    elif here:
        remote.fs.get_file(remote.path, str(target))
    else:
        try:
            os.link(source, target)
        except OSError:
            # Another file system, one without hard links, or a file of another user.
            shutil.copyfile(source, target)
        else:
            return "linked"
    return "copied"


def remove_file(path: Path, root: Path) -> None:
    """Remove a file if it exists, and the folders below `root` that become empty."""
    path.unlink(missing_ok=True)
    if is_remote(path):
        return
    for folder in path.relative_to(root).parents[:-1]:
        try:
            (root / folder).rmdir()
        except OSError:
            return

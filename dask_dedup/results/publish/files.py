"""A run's files put among those of a lake table, byte for byte: linked where possible, copied by the store, or copied.

A table cannot refer to them where the run has left them. Most readers of Delta take paths within the table's own
folder only (``docs/lake.md``); ``run --overwrite`` puts other rows under the same names; and vacuuming a table whose
folder held a run would delete the run's other files.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dask_dedup.errors import RunError
from dask_dedup.storage.files import upload
from dask_dedup.storage.paths import at, is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_dedup.results.publish.dataset import Part

#: How a file came to its place, as it is told.
LINKED, IN_STORE, COPIED = "linked", "copied by the store", "copied"


@dataclass(frozen=True, slots=True)
class Placed:
    """A file of a run among those of a table.

    Attributes
    ----------
    part : Part
    relative : str
        Its path below the folder it was put into: a folder for each constant column, then its name.
    path : Path
    how : str
    """

    part: Part
    relative: str
    path: Path
    how: str


def place(parts: Sequence[Part], constants: Sequence[str], root: str | Path) -> list[Placed]:
    """Put files into folders named after what the table tells of them, under names that no other publisher uses.

    Polars takes the constant columns from the names of these folders, whatever the table says.

    Raises
    ------
    RunError
        If it fails; nothing is left.
    """
    token = uuid4().hex[:8]
    folder = at(str(root))

    def put(part: Part) -> Placed:
        stem = part.path.name.removesuffix(".parquet")
        names = [f"{name}={part.values[name]}" for name in constants]
        relative = "/".join([*names, f"{stem}-{token}.parquet"])
        target = folder / relative
        return Placed(part, relative, target, _put(part.path, target))

    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(put, part) for part in parts]
    failed = next((error for f in futures if (error := f.exception()) is not None), None)
    if failed is None:
        return [future.result() for future in futures]
    take_back([future.result() for future in futures if future.exception() is None])
    if isinstance(failed, OSError):
        raise RunError(
            f"the files cannot be put into {root}, nothing was published: {failed.strerror or failed}"
        ) from failed
    raise failed


def take_back(placed: Sequence[Placed]) -> None:
    """Remove files that did not get into a table, and the folders made for them."""
    for one in placed:
        one.path.unlink(missing_ok=True)
        if is_remote(one.path):
            continue
        for folder in list(one.path.parents)[: one.relative.count("/")]:
            try:
                folder.rmdir()
            except OSError:
                break  # others' files are in it


def how_placed(placed: Sequence[Placed]) -> str:
    """Tell how files came to their places: "2 linked, 1 copied"."""
    counts = Counter(one.how for one in placed)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count:,} {how}" for how, count in sorted(counts.items()))


def _put(source: Path, target: Path) -> str:
    here, there = is_remote(source), is_remote(target)
    if not there:
        target.parent.mkdir(parents=True, exist_ok=True)
    remote: Any = source if here else target
    if here and there and remote.protocol == target.protocol:  # type: ignore[attr-defined]
        remote.fs.copy(remote.path, target.path)  # type: ignore[attr-defined]
        return IN_STORE
    if here and there:
        target.write_bytes(source.read_bytes())
        return COPIED
    if there:
        upload(source, target)
        return COPIED
    if here:
        remote.fs.get_file(remote.path, str(target))
        return COPIED
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or one without hard links, or another user's file.
        shutil.copyfile(source, target)
        return COPIED
    return LINKED

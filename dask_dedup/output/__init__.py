"""The output folder: staging, checkpoints, commit and manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.output.local import LocalStore
from dask_dedup.output.object_store import ObjectStore
from dask_dedup.storage.paths import at, is_remote

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.output.store import ResultStore


def open_store(output: str | Path) -> ResultStore:
    """Return the result store for an output folder. The folder need not exist."""
    path = at(output)
    return ObjectStore(path) if is_remote(path) else LocalStore(path)


def open_staging(staging: str) -> tuple[ResultStore, Path]:
    """Return the result store that contains a staging folder, and the folder's path."""
    folder = at(staging)
    return open_store(folder.parent), folder

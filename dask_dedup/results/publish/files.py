"""Copy the files of a run into a table's folder, as hard links where possible.

A table cannot list the files where the run wrote them. Most readers of Delta accept only paths
within the table's folder (``docs/guides/lake.md``). Overwriting the run would change the rows of the
table. And if the table's folder held the run, a vacuum would delete the run's other files.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING
from uuid import uuid4

from dask_dedup.errors import RunError
from dask_dedup.storage.files import copy_file, remove_file
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.results.publish.dataset import DatasetFile


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """A copy of a run's file in a table's folder.

    Attributes
    ----------
    file : DatasetFile
    root : str
        The folder of the table: its path or URI.
    relative : str
        Path below `root`: a folder for each constant column, then the name.
    how : str
        "linked", "copied by the store" or "copied".
    """

    file: DatasetFile
    root: str
    relative: str
    how: str


def copy_files(
    files: Sequence[DatasetFile], constants: Sequence[str], root: str
) -> list[CopiedFile]:
    """Copy files under new names into Hive-partitioned folders, with one level per constant column.

    Polars reads the constant columns from the folder names. If a file cannot be copied, all copies
    are removed.
    """
    token, folder = uuid4().hex[:8], at(root)
    paths = []
    for file in files:
        name = f"{file.path.name.removesuffix('.parquet')}-{token}.parquet"
        paths.append("/".join([*(f"{key}={file.values[key]}" for key in constants), name]))
    try:
        with ThreadPoolExecutor() as pool:
            ways = list(
                pool.map(copy_file, [each.path for each in files], [folder / p for p in paths])
            )
    except BaseException as error:
        for path in paths:
            remove_file(folder / path, folder)
        if not isinstance(error, OSError):
            raise
        raise RunError(
            f"{root}: the files cannot be written, nothing was published: {error.strerror or error}"
        ) from error
    return [CopiedFile(*each) for each in zip(files, repeat(root), paths, ways, strict=False)]


def remove_copies(copies: Sequence[CopiedFile]) -> None:
    """Remove copied files, and folders that become empty. The table must not list the copies."""
    for copy in copies:
        remove_file(at(copy.root) / copy.relative, at(copy.root))


def describe_copies(copies: Sequence[CopiedFile]) -> str:
    """Return how files were copied, such as "linked" or "1 copied, 2 linked"."""
    counts = Counter(copy.how for copy in copies)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count:,} {how}" for how, count in sorted(counts.items()))

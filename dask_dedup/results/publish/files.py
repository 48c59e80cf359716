"""The files that publishing adds to a table's folder: links to the files of a run, or copies.

A table cannot list the files in the folder of the run, for three reasons:

- Most readers of Delta accept only paths within the table's folder (``docs/guides/lake.md``).
- Overwriting the run would change the rows of the table.
- If the run were in the table's folder, a vacuum would delete the run's other files.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from dask_dedup.errors import RunError
from dask_dedup.pipeline.partitions import folder_name
from dask_dedup.storage.files import copy_file, remove_file
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from dask_dedup.results.publish.dataset import Bounds, Dataset


@dataclass(frozen=True, slots=True)
class TableFile:
    """A Parquet file in a table's folder.

    Attributes
    ----------
    root : str
        The folder of the table: its path or URI.
    relative : str
        Path below `root`: a folder for each partition column, then the name.
    how : str
        "written", "linked", "copied by the store" or "copied".
    bytes, rows, values, bounds
        As in `DatasetFile`.
    schema : pyarrow.Schema
        The schema, with field ids, that the table had when the file was made.
    """

    root: str
    relative: str
    how: str
    bytes: int
    rows: int
    values: dict[str, str | None]
    bounds: dict[str, Bounds]
    schema: pa.Schema

    def fits(self, root: str, schema: pa.Schema) -> bool:
        """Return whether the file is in the folder `root` and for a table with this schema."""
        return self.root == root and self.schema.equals(schema, check_metadata=True)


def partition_path(values: Mapping[str, str | None], columns: Sequence[str], name: str) -> str:
    """Return a path below a table's folder, with one Hive folder per partition column.

    Polars reads the columns from the folder names.
    """
    return f"{folder_name([(column, values[column]) for column in columns])}/{name}"


def unique_suffix() -> str:
    """Return the end of a file name that no other publisher uses."""
    return f"-{uuid4().hex[:8]}.parquet"


@contextmanager
def removed_after_errors(root: str, paths: Sequence[str]) -> Iterator[None]:
    """Remove the files `paths` below `root` if the block fails. Raise `RunError` if two paths are the same."""
    twice = next((path for path, count in Counter(paths).items() if count > 1), None)
    if twice is not None:
        raise RunError(f"{root}: two files would be {twice}; nothing was published.")
    try:
        yield
    except BaseException as error:
        for path in paths:
            remove_file(at(root) / path, at(root))
        if not isinstance(error, OSError):
            raise
        raise RunError(
            f"{root}: the files cannot be written, nothing was published: {error.strerror or error}"
        ) from error


def link_files(dataset: Dataset, schema: pa.Schema, root: str) -> list[TableFile]:
    """Link the files of a dataset under new names into a table's folder. Copy them if that fails."""
    suffix = unique_suffix()
    paths = [
        partition_path(
            file.values, dataset.partition_columns, file.path.name.removesuffix(".parquet") + suffix
        )
        for file in dataset.files
    ]
    with removed_after_errors(root, paths), ThreadPoolExecutor() as pool:
        targets = [at(root) / path for path in paths]
        ways = list(pool.map(copy_file, [file.path for file in dataset.files], targets))
    return [
        TableFile(root, path, how, file.bytes, file.rows, file.values, file.bounds, schema)
        for path, how, file in zip(paths, ways, dataset.files, strict=True)
    ]


def remove_files(files: Sequence[TableFile]) -> None:
    """Remove files, and folders that become empty. The table must not list the files."""
    for file in files:
        remove_file(at(file.root) / file.relative, at(file.root))


def describe_files(files: Sequence[TableFile]) -> str:
    """Return text on the way in which files were made, such as "linked" or "1 copied, 2 linked"."""
    counts = Counter(file.how for file in files)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count:,} {how}" for how, count in sorted(counts.items()))

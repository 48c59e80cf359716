"""Read the datasets that describe particles: ``duplicates`` and ``votes``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from dask_dedup.pipeline.rejected_rows import find_rows, located
from dask_dedup.results.verify.outcome import MismatchError
from dask_dedup.storage.files import parquet_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment

    Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """The files of ``duplicates`` or ``votes``.

    Attributes
    ----------
    paths : mapping of int to sequence of Path
        Maps fragment number to the path of the fragment's only file.
    schema : pyarrow.Schema
    folder : str
        Folder that relative paths in the files start from; "" for the current folder.
    repeated : bool
        Whether a particle may have several rows.
    """

    paths: Mapping[int, Sequence[Path]]
    schema: pa.Schema
    folder: str = ""
    repeated: bool = False

    def read(self, fragment: Fragment) -> tuple[pa.Table, Indices]:
        """Read the file of a fragment. Also return the row numbers in the fragment of the particles that it describes.

        The row numbers, (n,) intp, are ascending. Paths in the table are written as in the fragments.
        """
        (path,) = self.paths[fragment.number]
        with pq.ParquetFile(**parquet_source(path)) as file:
            table = file.read(use_threads=False)
        names = table.schema.names
        if names != self.schema.names:
            raise MismatchError(f"{path}: its columns are {', '.join(names)}")
        for name in names if self.folder else ():
            if name.split("_")[-1] == "file":
                table = located(table, name, self.folder)
        return table, find_rows(table, path, fragment, repeated=self.repeated)

    def read_kept(self, fragment: Fragment) -> NDArray[np.bool_]:
        """Return a (n,) bool mask of a fragment's rows that ``duplicates`` does not list."""
        _, rows = self.read(fragment)
        keep = np.ones(fragment.rows, dtype=bool)
        keep[rows] = False
        return keep

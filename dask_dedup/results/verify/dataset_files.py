"""Read the datasets that describe particles: ``duplicates`` and ``votes``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.particles.column_values import Columns
from dask_dedup.results.verify.verification import MismatchError
from dask_dedup.storage.files import parquet_source
from dask_dedup.storage.paths import under

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment

    Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """The files of ``duplicates`` or ``votes``.

    Attributes
    ----------
    paths : dict of int to Path
        By fragment number.
    schema : pyarrow.Schema
    folder : str
        Folder of relative paths in the columns of file names; "" for the current folder.
    repeated : bool
        Whether a particle may have several rows.
    """

    paths: dict[int, Path]
    schema: pa.Schema
    folder: str = ""
    repeated: bool = False

    def read(self, fragment: Fragment) -> tuple[pa.Table, Indices]:
        """Read the file of a fragment. Also return the row in the fragment of each particle that it describes.

        Rows are ascending, (n,) intp. File names are as in the fragments.
        """
        path = self.paths[fragment.number]
        with pq.ParquetFile(**parquet_source(path)) as file:
            table = file.read(use_threads=False)
        names = table.schema.names
        if names != self.schema.names:
            raise MismatchError(f"{path}: its columns are {', '.join(names)}")
        located = [name for name in names if name.split("_")[-1] == "file"]
        for name in located if self.folder else ():
            table = self._located(table, name)
        return table, _find_rows(table, path, fragment, repeated=self.repeated)

    def _located(self, table: pa.Table, name: str) -> pa.Table:
        column = table.column(name).combine_chunks()
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        names = [
            None if text is None else under(self.folder, text)
            for text in column.dictionary.to_pylist()
        ]
        located = pa.DictionaryArray.from_arrays(column.indices, pa.array(names, pa.string()))
        return table.set_column(table.schema.get_field_index(name), name, located)


def _find_rows(table: pa.Table, path: Path, fragment: Fragment, *, repeated: bool) -> Indices:
    """Return the row in the fragment of the particle in each row of a table, ascending, (n,) intp."""
    columns = Columns(table, str(path))
    codes, files = columns.texts("file")
    # A last slice without rows stands for every file that is not in the fragment.
    number = {part.path: n for n, part in enumerate(fragment.slices)}
    slice_of = np.array([*(number.get(name, -1) for name in files), -1])[codes]
    first_row = np.array([*(part.first_row for part in fragment.slices), 0])
    size = np.array([*(part.rows for part in fragment.slices), 0])
    within = columns.integers("row").astype(np.int64) - first_row[slice_of]
    rows = (np.cumsum(size) - size)[slice_of] + within
    wrong = (within < 0) | (within >= size[slice_of]) | columns.nulls("row")
    wrong[1:] |= rows[1:] < rows[:-1] + (not repeated)
    if wrong.any():
        row = int(np.argmax(wrong))
        name = f"{table.column('file')[row]} row {table.column('row')[row]}"
        raise MismatchError(f"{path}: row {row} names {name}, which is out of place there")
    return np.asarray(rows, dtype=np.intp)

"""The rejected rows of a fragment, read from its file of ``duplicates``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.errors import InputError, RunError
from dask_dedup.output.layout import DUPLICATES
from dask_dedup.particles.column_values import Columns
from dask_dedup.storage.files import read_bytes
from dask_dedup.storage.paths import at, under

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment, ParticleTable

    Indices = NDArray[np.intp]

_FILE, _ROW = "file", "row"


@dataclass(frozen=True, slots=True)
class RejectedRows:
    """The file of ``duplicates`` that lists the rejected rows of a fragment.

    Attributes
    ----------
    path : str
    sha256 : str
    folder : str
        Folder of the relative paths in the file; "" for the current folder.
    """

    path: str
    sha256: str
    folder: str = ""

    def read_kept(self, fragment: Fragment) -> NDArray[np.bool_]:
        """Return a (n,) bool mask of the kept rows of the fragment.

        Raise RunError if the file is missing or was changed since the run.
        """
        try:
            content = read_bytes(at(self.path))
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise RunError(
                f"{self.path}: missing or changed since the run, so the rejected rows are not known. "
                "Restore the file, or run again into another folder."
            )
        table = pq.read_table(pa.BufferReader(content), columns=[_FILE, _ROW], use_threads=False)
        if self.folder:
            table = located(table, _FILE, self.folder)
        keep = np.ones(fragment.rows, dtype=bool)
        keep[find_rows(table, self.path, fragment)] = False
        return keep


def find_rejected_rows(
    output: Path, manifest: dict[str, Any], table: ParticleTable, folder: str
) -> list[RejectedRows]:
    """Return the file of ``duplicates`` for each fragment of an input, in order.

    Raise InputError if the run divided the input into another number of fragments.
    """
    files = {
        entry["fragment"]: RejectedRows(str(output / entry["path"]), entry["sha256"], folder)
        for entry in manifest["outputs"]
        if entry["path"].startswith(f"{DUPLICATES}/") and entry["input"] == table.source
    }
    if len(files) != len(table.fragments):
        made = manifest["versions"]["dask-dedup"]
        raise InputError(
            f"{output}: made by version {made}, which read {table.path} in {len(files)} fragments, but this version "
            f"makes {len(table.fragments)}. Use version {made}."
        )
    return [files[number] for number in sorted(files)]


def located(table: pa.Table, name: str, folder: str) -> pa.Table:
    """Return the table with `folder` added in front of the relative paths in the column `name`."""
    column = table.column(name).combine_chunks().dictionary_encode()
    paths = [
        None if text is None else under(folder, text) for text in column.dictionary.to_pylist()
    ]
    encoded = pa.DictionaryArray.from_arrays(column.indices, pa.array(paths, pa.string()))
    return table.set_column(table.schema.get_field_index(name), name, encoded)


def find_rows(
    table: pa.Table, path: str | Path, fragment: Fragment, *, repeated: bool = False
) -> Indices:
    """Return the row numbers in the fragment of the particles that a table lists, (n,) intp, ascending.

    The table has the columns ``file`` and ``row``. If `repeated`, a particle may be listed several times.
    Raise RunError if a particle is of another fragment or out of order.
    """
    columns = Columns(table, str(path))
    codes, files = columns.texts(_FILE)
    # An additional last slice without rows is used for files that are not in the fragment.
    number = {part.path: n for n, part in enumerate(fragment.slices)}
    slice_of = np.array([*(number.get(name, -1) for name in files), -1])[codes]
    first_row = np.array([*(part.first_row for part in fragment.slices), 0])
    size = np.array([*(part.rows for part in fragment.slices), 0])
    within = columns.integers(_ROW).astype(np.int64) - first_row[slice_of]
    rows = (np.cumsum(size) - size)[slice_of] + within
    wrong = (within < 0) | (within >= size[slice_of]) | columns.nulls(_ROW)
    wrong[1:] |= rows[1:] < rows[:-1] + (not repeated)
    if wrong.any():
        row = int(np.argmax(wrong))
        name = f"{table.column(_FILE)[row]} row {table.column(_ROW)[row]}"
        raise RunError(
            f"{path}: row {row} lists {name}, which is out of order or belongs to another fragment"
        )
    return np.asarray(rows, dtype=np.intp)

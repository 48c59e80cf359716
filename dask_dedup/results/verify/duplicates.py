"""Read the ``duplicates`` dataset and derive its expected content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.dedup.picks import NO_HALF
from dask_dedup.particles.column_values import Columns
from dask_dedup.pipeline.duplicates import DUPLICATE, DUPLICATES_SCHEMA
from dask_dedup.results.verify.close_pairs import NOT_FOUND
from dask_dedup.results.verify.verification import MismatchError
from dask_dedup.storage.files import parquet_source
from dask_dedup.storage.paths import under

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.formats import Fragment
    from dask_dedup.particles.inputs import Inputs

    Bools = NDArray[np.bool_]
    Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class DuplicateFiles:
    """The files of ``duplicates``.

    Attributes
    ----------
    paths : dict of int to Path
        By fragment number.
    folder : str
        Folder of relative paths in the columns ``file`` and ``winner_file``; "" for the current folder.
    """

    paths: dict[int, Path]
    folder: str = ""

    def read(self, fragment: Fragment) -> tuple[pa.Table, Indices]:
        """Read the file of a fragment. Also return each rejected particle's row in the fragment.

        Rows are ascending, (n,) intp. File names are as in the fragments.
        """
        path = self.paths[fragment.number]
        with pq.ParquetFile(**parquet_source(path)) as file:
            table = file.read(use_threads=False)
        if table.schema.names[: len(DUPLICATES_SCHEMA)] != DUPLICATES_SCHEMA.names:
            raise MismatchError(f"{path}: its columns are {', '.join(table.schema.names)}")
        for name in ("file", "winner_file") if self.folder else ():
            table = self._located(table, name)
        return table, _find_rows(table, path, fragment)

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


def _find_rows(table: pa.Table, path: Path, fragment: Fragment) -> Indices:
    """Return the row in the fragment of each row of ``duplicates``, ascending, (n,) intp."""
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
    wrong[1:] |= rows[1:] <= rows[:-1]
    if wrong.any():
        row = int(np.argmax(wrong))
        name = f"{table.column('file')[row]} row {table.column('row')[row]}"
        raise MismatchError(f"{path}: row {row} names {name}, which is out of place there")
    return np.asarray(rows, dtype=np.intp)


def expected_duplicates(
    inputs: Inputs,
    picks: Picks,
    rejected: Indices,
    winner: Indices,
    distance: NDArray[np.float64],
) -> dict[str, pa.Array]:
    """Map each column name of ``duplicates``, except the micrograph, to the expected values of duplicates.

    Parameters
    ----------
    inputs : Inputs
    picks : Picks
    rejected, winner : (n,) intp
        Indices in `picks`; a winner may be `NOT_FOUND`.
    distance : (n,) float64
        Angstrom; NaN if there is none.
    """
    with_uid = np.array([roles.uid is not None for roles in inputs.roles])
    paths = pa.array([table.path for table in inputs.tables], pa.string())
    slices = [(part, piece) for part in inputs.fragments for piece in part.slices]
    files = pa.array([piece.path for _, piece in slices], pa.string())
    first_row = np.array([piece.first_row for _, piece in slices], dtype=np.int64)
    size = np.array([piece.rows for _, piece in slices], dtype=np.int64)
    fragment = np.array([part.number for part, _ in slices], dtype=np.int64)
    before = np.cumsum(size) - size
    before -= before[np.searchsorted(fragment, fragment)]
    first_row_id = (fragment << 32) + before

    def known(values: NDArray[np.generic], where: Bools) -> pa.Array:
        return pa.array(values, mask=~where)

    def text(codes: NDArray[np.generic], values: pa.Array, where: Bools) -> pa.Array:
        return pa.DictionaryArray.from_arrays(known(codes.astype(np.int32), where), values)

    duplicate = pa.array([DUPLICATE] * rejected.size, pa.string()).dictionary_encode()
    columns = {"reason": duplicate, "distance_A": known(distance, ~np.isnan(distance))}
    every, has_winner = np.ones(rejected.size, dtype=bool), winner != NOT_FOUND
    for prefix, side, where in (
        ("", picks.take(rejected), every),
        ("winner_", picks.take(winner), has_winner),
    ):
        row_id = side.row_id.astype(np.int64)
        slice_of = np.searchsorted(first_row_id, row_id, side="right") - 1
        rows = first_row[slice_of] + row_id - first_row_id[slice_of]
        columns |= {
            f"{prefix}uid": known(side.uid, where & with_uid[side.source]),
            f"{prefix}score": known(side.score, where & ~np.isnan(side.score)),
            f"{prefix}input": text(side.source, paths, where),
            f"{prefix}file": text(slice_of, files, where),
            f"{prefix}row": known(rows, where),
            f"{prefix}half_set": known(side.half, where & (side.half != NO_HALF)),
        }
    return columns


def differs(found: Columns, expected: Columns, name: str) -> Bools:
    """Return a (n,) bool mask of the rows that differ in the column `name`. Floats are compared bit by bit."""
    kind = expected.rows.schema.field(name).type
    if pa.types.is_dictionary(kind):
        (codes, texts), (expected_codes, expected_texts) = found.texts(name), expected.texts(name)
        # Two inputs may have the same path, so texts are compared and not codes.
        number = {text: n for n, text in enumerate(expected_texts)}
        numbers = np.array([*(number.get(text, -2) for text in texts), -1])
        expected_numbers = np.array([*(number[text] for text in expected_texts), -1])
        return np.asarray(numbers[codes] != expected_numbers[expected_codes])
    missing = found.nulls(name)
    if pa.types.is_floating(kind):
        same = found.floats(name).view(np.uint64) == expected.floats(name).view(np.uint64)
    else:
        same = found.integers(name) == expected.integers(name)
    return np.asarray((missing != expected.nulls(name)) | (~missing & ~same))

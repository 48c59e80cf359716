"""Conservation: what became of each input row, and whether it came through unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dask_dedup import formats
from dask_dedup.columns import Columns
from dask_dedup.errors import DedupError
from dask_dedup.stages import DUPLICATES, DUPLICATES_SCHEMA, KEPT, REJECTED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment
    from dask_dedup.stages import Job

FOLDERS = (KEPT, REJECTED, DUPLICATES)
_PAIRED = ["uid", "winner_uid", "half_set", "winner_half_set"]


class FindingError(DedupError):
    """A finished run is not as a run leaves it; the message is one line."""


def read_duplicates(path: Path, fragment: Fragment) -> tuple[pa.Table, NDArray[np.intp]]:
    """Read what a run tells of the rejected rows of a fragment.

    Returns
    -------
    told : pyarrow.Table
    rows : (n,) intp
        Row number in the fragment of each, ascending.

    Raises
    ------
    FindingError
        If it names rows that the fragment does not have, or any twice, or out of order.
    """
    with pq.ParquetFile(path) as file:
        told = file.read(use_threads=False)
    if told.schema.names != DUPLICATES_SCHEMA.names:
        raise FindingError(f"{path}: the columns are {', '.join(told.schema.names)}")
    columns = Columns(told, str(path))
    codes, files = columns.texts("file")
    # A last piece without rows stands for every file that is not the fragment's.
    number = {piece.path: n for n, piece in enumerate(fragment.pieces)}
    piece = np.array([*(number.get(name, -1) for name in files), -1])[codes]
    first_row = np.array([*(piece.first_row for piece in fragment.pieces), 0])
    size = np.array([*(piece.rows for piece in fragment.pieces), 0])
    within = columns.integers("row").astype(np.int64) - first_row[piece]
    rows = (np.cumsum(size) - size)[piece] + within
    wrong = (within < 0) | (within >= size[piece]) | columns.nulls("row")
    wrong[1:] |= rows[1:] <= rows[:-1]
    if wrong.any():
        row = int(np.argmax(wrong))
        name = f"{told.column('file')[row]} row {told.column('row')[row]}"
        raise FindingError(f"{path}: row {row} names {name}, which is out of place there")
    return told, rows


def compare_rows(job: Job, parts: Mapping[str, Sequence[Path]], pool: Executor) -> str:
    """Check that every input row is in one of the two datasets, unchanged, in its order.

    Parameters
    ----------
    job : Job
    parts : mapping of str to sequence of Path
        The files of each folder, one a fragment.
    pool : Executor
        Compares the fragments.

    Returns
    -------
    str
        What was found, in one line.

    Raises
    ------
    FindingError
        Names the first part that is wrong.
    """
    schema = job.schema

    def compare(fragment: Fragment) -> None:
        _, rows = read_duplicates(parts[DUPLICATES][fragment.number], fragment)
        keep = np.ones(fragment.rows, dtype=bool)
        keep[rows] = False
        table = job.tables[fragment.source]
        payload = formats.read(table, fragment, table.schema.names)
        for name, mask in ((KEPT, keep), (REJECTED, ~keep)):
            _compare_part(payload, mask, schema, fragment, parts[name][fragment.number])

    for _ in pool.map(compare, job.fragments):
        pass
    rows = sum(fragment.rows for fragment in job.fragments)
    return f"{rows:,} rows of {len(schema)} columns are there once each, the same to the bit"


def compare_totals(place: Path, manifest: dict[str, Any]) -> str:
    """Count the datasets again and compare with the manifest; the inputs are not needed.

    Returns
    -------
    str
        What was found, in one line.

    Raises
    ------
    FindingError
        Names the first number that is wrong.
    """
    rows: dict[str, list[int]] = {name: [] for name in FOLDERS}
    same_uid = across = 0
    for entry in manifest["outputs"]:
        path, folder = place / entry["path"], Path(entry["path"]).parts[0]
        number = pq.read_metadata(path).num_rows
        if number != entry["rows"]:
            raise FindingError(f"{path} has {number} rows, but {entry['rows']} in the manifest")
        rows[folder].append(number)
        if folder == DUPLICATES:
            with pq.ParquetFile(path) as file:
                uid, winner_uid, half, winner_half = file.read(_PAIRED).select(_PAIRED).columns
            same_uid += pc.sum(pc.equal(uid, winner_uid)).as_py() or 0
            across += pc.sum(pc.not_equal(half, winner_half)).as_py() or 0
    kept, rejected, told = (np.array(rows[name], dtype=np.int64) for name in FOLDERS)
    if not np.array_equal(rejected, told):
        raise FindingError(
            f"{rejected.sum():,} rows are rejected, but {DUPLICATES} has {told.sum():,}"
        )
    whole = kept + rejected
    sizes = [entry["rows"] for entry in manifest["inputs"]]
    source = np.searchsorted(np.cumsum(sizes), np.cumsum(whole) - whole, side="right")
    by_input = [
        {
            "path": entry["path"],
            "rows": int(whole[source == number].sum()),
            "kept": int(kept[source == number].sum()),
            "rejected": int(rejected[source == number].sum()),
        }
        for number, entry in enumerate(manifest["inputs"])
    ]
    counted = {
        "rows": sum(sizes),
        "kept": int(kept.sum()),
        "rejected": int(rejected.sum()),
        "same_uid": same_uid,
        "across_half_sets": across,
        "by_input": by_input,
    }
    for key, value in counted.items():
        if manifest["totals"][key] != value:
            stated = manifest["totals"][key]
            raise FindingError(f"{key} is {stated} in the manifest, but {value} by the datasets")
    if counted["kept"] + counted["rejected"] != counted["rows"]:
        raise FindingError(
            f"kept and rejected do not add up to the inputs' {counted['rows']:,} rows"
        )
    return f"{counted['kept']:,} kept and {counted['rejected']:,} rejected, as the manifest says"


def _compare_part(
    payload: pa.Table, mask: NDArray[np.bool_], schema: pa.Schema, fragment: Fragment, path: Path
) -> None:
    text = [field.name for field in schema if pa.types.is_string(field.type)]
    # Dictionaries, as the inputs' text comes too: quicker to decode and to compare.
    with pq.ParquetFile(path) as plain, pq.ParquetFile(path, read_dictionary=text) as file:
        if not plain.schema_arrow.equals(schema, check_metadata=True):
            raise FindingError(f"{path}: the schema is not that of the inputs")
        part = file.read(use_threads=False)
    if part.num_rows != mask.sum():
        raise FindingError(f"{path}: {part.num_rows} rows, but {mask.sum()} were decided so")
    chosen = pa.array(mask)
    for kind in schema:
        told = _as_bits(part.column(kind.name), kind.type)
        if kind.name in payload.column_names:
            true = _as_bits(payload.column(kind.name).filter(chosen), kind.type)
        else:
            true = pa.chunked_array([pa.nulls(len(told), told.type)])
        if true.equals(told):
            continue
        first, length = 0, len(told)
        while length > 1:
            half = length // 2
            if true.slice(first, half).equals(told.slice(first, half)):
                first, half = first + half, length - half
            length = half
        origin, row = fragment.locate(int(np.flatnonzero(mask)[first]))
        raise FindingError(
            f"{path}: row {first}, column {kind.name} differs from {origin} row {row}"
        )


def _as_bits(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """View floats as integers, since NaNs are no less to be kept, and hold text plainly."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if column.type != kind:
        column = column.cast(kind)
    bits = _bits_type(kind)
    if bits == kind:
        return column
    return pa.chunked_array([chunk.view(bits) for chunk in column.chunks], bits)


def _bits_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_floating(kind):
        return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[kind.bit_width]
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_bits_type(field.type)) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_bits_type(kind.value_type)), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_bits_type(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_bits_type(kind.value_type)))
    return kind

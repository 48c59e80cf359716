"""Write Parquet files: the kept and the rejected rows of a fragment, or a table."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dask_dedup.arrow import from_numpy
from dask_dedup.formats.base import OutputFile, write_blocks
from dask_dedup.formats.parquet.schema import cast, held_schema, is_list

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

#: Number of rows in a row group.
ROW_GROUP_ROWS = 2**17
#: Dictionary encoding pays off for a column if at most half the values of a sample of this many rows are distinct.
SAMPLE_ROWS = 4096


def split(
    rows: pa.Table,
    keep: NDArray[np.bool_],
    schema: pa.Schema,
    kept: Path,
    rejected: Path,
) -> tuple[OutputFile, OutputFile]:
    """Write a fragment's kept rows to the file `kept`, its rejected rows to the file `rejected`.

    Both files have the columns of `schema`. Columns that `rows` lacks are null.
    """
    held = held_schema(schema)
    present = set(rows.column_names)
    whole = pa.table(
        [
            cast(rows.column(field.name), field.type, field.name)
            if field.name in present
            else pa.nulls(rows.num_rows, field.type)
            for field in held
        ],
        schema=held,
    ).unify_dictionaries()
    encoded = _columns_worth_a_dictionary(whole)
    return (
        _write(whole.filter(from_numpy(keep)), schema, encoded, kept),
        _write(whole.filter(from_numpy(~keep)), schema, encoded, rejected),
    )


def write(table: pa.Table, path: Path) -> OutputFile:
    """Write an Arrow table to one Parquet file, with the same settings as `split`."""
    return _write(table, table.schema, _columns_worth_a_dictionary(table), path)


def _write(table: pa.Table, schema: pa.Schema, encoded: list[str], path: Path) -> OutputFile:
    # Text is held as dictionaries; ARROW:schema makes readers see the schema of the input.
    stored = {**(schema.metadata or {}), b"ARROW:schema": base64.b64encode(schema.serialize())}
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema.remove_metadata(),
        compression="zstd",
        compression_level=1,
        use_dictionary=encoded or False,
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata(stored)
    return write_blocks(path, table.num_rows, [memoryview(sink.getvalue())])


def _columns_worth_a_dictionary(table: pa.Table) -> list[str]:
    """Return the names of the columns to dictionary-encode. Encoding random floats makes writing 4 times slower."""
    chosen = []
    sample = table.slice(0, SAMPLE_ROWS)
    for field in table.schema:
        name, values, kind = field.name, sample.column(field.name), field.type
        if pa.types.is_dictionary(kind):
            chosen.append(name)
            continue
        while is_list(kind):
            values, kind = pc.list_flatten(values), kind.value_type
            name = f"{name}.list.element"
        if not pa.types.is_primitive(kind) or kind in (pa.bool_(), pa.float16()):
            continue
        if len(values.unique()) * 2 <= len(values):
            chosen.append(name)
    return chosen

"""Write Parquet files: the kept and the rejected rows of a fragment, or a table."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.arrow import from_numpy
from dask_dedup.formats.base import OutputFile, write_blocks
from dask_dedup.formats.parquet.schema import cast, held_schema

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from dask_dedup.formats.parquet.encoding import Encodings

#: Number of rows in a row group.
ROW_GROUP_ROWS = 2**17
#: Values per batch of the encoder. pyarrow's default of 1024 takes 10% more time.
BATCH_VALUES = 2**14


def split(
    rows: pa.Table,
    keep: NDArray[np.bool_],
    schema: pa.Schema,
    encodings: Encodings,
    kept: Path,
    rejected: Path,
) -> tuple[OutputFile, OutputFile]:
    """Write kept rows of a fragment to the file `kept`, and rejected rows to the file `rejected`.

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
    return (
        write(whole.filter(from_numpy(keep)), schema, encodings, kept),
        write(whole.filter(from_numpy(~keep)), schema, encodings, rejected),
    )


def write(table: pa.Table, schema: pa.Schema, encodings: Encodings, path: Path) -> OutputFile:
    """Write an Arrow table to a Parquet file. Readers get the types of `schema`, even if the table has other types."""
    # In the table, text is dictionary-encoded. With ARROW:schema, readers get the types of the input.
    stored = {**(schema.metadata or {}), b"ARROW:schema": base64.b64encode(schema.serialize())}
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema.remove_metadata(),
        write_batch_size=BATCH_VALUES,
        store_schema=False,
        **encodings.options(),
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata(stored)
    return write_blocks(path.parent, path.name, table.num_rows, [memoryview(sink.getvalue())])

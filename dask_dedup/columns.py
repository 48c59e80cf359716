"""Arrow columns to NumPy arrays, with nulls accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Give a numeric column as float64; nulls become NaN."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    return np.asarray(column.to_numpy(), dtype=np.float64)


def integers(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Give an integer column as uint64, bit for bit; nulls become 0."""
    whole = column.fill_null(0) if column.null_count else column
    values = whole.to_numpy()
    return (
        values.astype(np.int64).view(np.uint64)
        if values.dtype.kind == "i"
        else (values.astype(np.uint64))
    )


def flags_of_nulls(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Tell which rows are null."""
    if not column.null_count:
        return np.zeros(len(column), dtype=bool)
    return np.asarray(column.is_null().to_numpy(), dtype=bool)


def vectors(column: pa.ChunkedArray, width: int, table: str, name: str) -> NDArray[np.float64]:
    """Give a column of lists of `width` numbers as (n, width) float64; nulls become NaN.

    Raises
    ------
    InputError
        If the column holds no lists, or lists of another length.
    """
    kind = column.type
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        raise InputError(
            f"{table}: the column {name} is {kind}; it must hold {width} numbers a row"
        )
    result = np.full((len(column), width), np.nan)
    start = 0
    for chunk in column.chunks:
        valid = np.asarray(chunk.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
        values = floats(pa.chunked_array([chunk.drop_null().flatten()]))
        lengths = pc.list_value_length(chunk.drop_null()).to_numpy(zero_copy_only=False)
        if (lengths != width).any():
            row = start + int(np.flatnonzero(valid)[np.argmax(lengths != width)])
            raise InputError(
                f"{table}: the column {name} must hold {width} numbers a row (row {row})"
            )
        result[start : start + len(chunk)][valid] = values.reshape(-1, width)
        start += len(chunk)
    return result

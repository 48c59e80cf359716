"""Conversion of Arrow columns, which may contain nulls, to NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.arrow import is_text, to_numpy
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Columns:
    """Reader of Arrow columns as NumPy arrays. A column of the wrong type raises `InputError`."""

    rows: pa.Table
    #: Name of the table, for messages.
    table: str
    #: Function that converts a row number to the file and the row in this file.
    locate: Callable[[int], tuple[str, int]] | None = None

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def _decoded(self, name: str) -> pa.ChunkedArray:
        column = self.rows.column(name)
        if pa.types.is_dictionary(column.type):
            return column.cast(column.type.value_type)
        return column

    def nulls(self, name: str) -> NDArray[np.bool_]:
        """Return an (n,) mask of the rows in which the column `name` is null."""
        column = self._decoded(name)
        if not column.null_count:
            return np.zeros(len(self), dtype=bool)
        return to_numpy(column.is_null())

    def floats(self, name: str) -> NDArray[np.float64]:
        """Return a numeric column as (n,) float64, with NaN for nulls."""
        return self._floats(self._decoded(name), name)

    def _floats(self, column: pa.ChunkedArray, name: str) -> NDArray[np.float64]:
        kind = column.type
        if pa.types.is_null(kind):
            return np.full(len(column), np.nan)
        if pa.types.is_decimal(kind):
            # Arrow's cast does not always return the nearest float, but its parser does.
            column, kind = column.cast(pa.string()).cast(pa.float64()), pa.float64()
        if not _is_number(kind):
            raise InputError(f"{self.table}: the column {name} holds {kind}, not numbers. Cast it.")
        if pa.types.is_integer(kind) and column.null_count:
            column = column.cast(pa.float64(), safe=False)
        return np.asarray(to_numpy(column), dtype=np.float64)

    def points(self, names: tuple[str, ...]) -> NDArray[np.float64]:
        """Return d numeric columns as one (n, d) float64 array, with NaN for nulls."""
        return np.stack([self.floats(name) for name in names]).T

    def integers(self, name: str) -> NDArray[np.uint64]:
        """Return an integer column as (n,) uint64, with 0 for nulls. Negative values wrap around."""
        column = self._decoded(name)
        if pa.types.is_decimal(column.type):
            column = self._whole(column, name)
        if not pa.types.is_integer(column.type):
            raise InputError(
                f"{self.table}: the column {name} holds {column.type}, not integers. Cast it."
            )
        values = to_numpy(column.fill_null(0) if column.null_count else column)
        if values.dtype.kind == "i":
            return np.asarray(values, dtype=np.int64).view(np.uint64)
        return np.asarray(values, dtype=np.uint64)

    def _whole(self, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
        """Convert a column of decimals to uint64. Delta tables store unsigned integers as decimals."""
        try:
            return column.cast(pa.uint64())
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{self.table}: the column {name} holds {column.type} that are not whole numbers from 0 to 2**64 - 1. "
                "Cast it."
            ) from error

    def vectors(self, name: str, width: int) -> NDArray[np.float64]:
        """Return a column of lists of `width` numbers as (n, width) float64, with NaN for nulls."""
        column = self.rows.column(name)
        kind = column.type
        # Each column is contiguous in memory, because NumPy is slow along a short axis.
        result = np.empty((width, len(self))).T
        if column.null_count:
            result[:] = np.nan
        if pa.types.is_null(kind):
            return result
        if not _is_list(kind):
            raise InputError(
                f"{self.table}: the column {name} holds {kind}, not {width} numbers a row. "
                f"Replace it by lists of {width} numbers."
            )
        start = 0
        for chunk in column.chunks:
            present = chunk.drop_null() if chunk.null_count else chunk
            lengths = to_numpy(pc.list_value_length(present))
            if (lengths != width).any():
                row = start + int(_valid_rows(chunk)[np.argmax(lengths != width)])
                path, row = self.locate(row) if self.locate else (self.table, row)
                raise InputError(
                    f"{path}: the column {name} must hold {width} numbers a row (row {row} does not). "
                    "Fix this row, or remove it."
                )
            values = self._floats(pa.chunked_array([present.flatten()]), name)
            rows = (
                start + _valid_rows(chunk) if chunk.null_count else slice(start, start + len(chunk))
            )
            result[rows] = values.reshape(-1, width)
            start += len(chunk)
        return result

    def optional(self, name: str, width: int) -> NDArray[np.float64]:
        """Return `width` numbers per row as (n, width) float64, with NaN for nulls.

        If there is no column `name` of numbers (if `width` > 1, of lists of numbers), all values are NaN.
        """
        kind = self.rows.schema.field(name).type if name in self.rows.schema.names else pa.null()
        if width > 1 and _is_list(kind) and _is_number(kind.value_type):
            return self.vectors(name, width)
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if width == 1 and _is_number(kind):
            return self.floats(name)[:, np.newaxis]
        return np.broadcast_to(np.nan, (len(self), width))

    def texts(self, name: str) -> tuple[NDArray[np.intp], list[str]]:
        """Return (n,) codes and the distinct texts. Row i holds ``texts[codes[i]]``, or null if its code is -1."""
        column = self.rows.column(name)
        kind = column.type
        if pa.types.is_null(kind):
            return np.full(len(self), -1, dtype=np.intp), []
        if pa.types.is_string_view(kind):
            column, kind = column.cast(pa.string()), pa.string()
        if not is_text(kind):
            raise InputError(f"{self.table}: the column {name} holds {kind}, not text. Cast it.")
        if not pa.types.is_dictionary(kind):
            column = column.dictionary_encode()
        column = column.unify_dictionaries()
        codes = [
            to_numpy(chunk.indices.fill_null(-1) if chunk.null_count else chunk.indices)
            for chunk in column.chunks
        ]
        if not codes:
            return np.empty(0, dtype=np.intp), []
        texts = column.chunk(0).dictionary.to_pylist()
        # A dictionary may contain a null.
        known = [text for text in texts if text is not None]
        number = np.cumsum([text is not None for text in texts]) - 1
        renumbered = np.where([text is None for text in texts], -1, number)
        return np.append(renumbered, -1)[np.concatenate(codes)].astype(np.intp), known

    def as_texts(self, name: str) -> tuple[NDArray[np.intp], list[str]]:
        """Return codes and distinct texts as `texts` does, for a column of any simple type."""
        column = self._decoded(name)
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise InputError(
                f"{self.table}: the column {name} holds {column.type}, so micrographs cannot be grouped by it. "
                f"Cast it to text, or choose another {parameter('group_by')}."
            )
        if not is_text(column.type) and not pa.types.is_null(column.type):
            encoded = column.dictionary_encode().unify_dictionaries()
            chunks = [
                pa.DictionaryArray.from_arrays(chunk.indices, _to_texts(chunk.dictionary))
                for chunk in encoded.chunks
            ]
            column = pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string()))
        return Columns(pa.table({name: column}), self.table).texts(name)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _to_texts(values: pa.Array) -> pa.Array:
    """Convert values to text. Equal times have equal text in any unit."""
    texts, kind = values.cast(pa.string()), values.type
    if (pa.types.is_timestamp(kind) or pa.types.is_time(kind)) and kind.unit != "s":
        return pc.replace_substring_regex(texts, r"\.?0+(Z|[+-]\d+)?$", r"\1")
    return texts


def _valid_rows(chunk: pa.Array) -> NDArray[np.intp]:
    return np.flatnonzero(to_numpy(chunk.is_valid()))

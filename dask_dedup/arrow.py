"""Convert between Arrow and NumPy arrays. Unlike pyarrow's own conversions, this does not import pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


def to_numpy(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """Convert an Arrow column of numbers or booleans to a NumPy array.

    Only floats may have nulls. They become NaN. If the column is one chunk of numbers without nulls, the array is a
    read-only view.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_values(chunk) for chunk in chunks]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([np.empty(0, _dtype(column.type)), *parts], dtype=_dtype(column.type))


def _dtype(kind: pa.DataType) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return dtype


def _values(chunk: pa.Array) -> NDArray[Any]:
    dtype = _dtype(chunk.type)
    start, stop = chunk.offset, chunk.offset + len(chunk)
    valid, content = chunk.buffers()
    if content is None or not len(chunk):
        return np.full(len(chunk), np.nan if dtype.kind == "f" else 0, dtype)
    if dtype.kind == "b":
        return _unpack_bits(content, start, stop)
    values = np.frombuffer(content, dtype)[start:stop]
    if chunk.null_count:
        values = np.where(_unpack_bits(valid, start, stop), values, dtype.type(np.nan))
    return values


def _unpack_bits(bits: pa.Buffer, start: int, stop: int) -> NDArray[np.bool_]:
    octets = np.frombuffer(bits, np.uint8)[start // 8 : (stop + 7) // 8]
    flags = np.unpackbits(octets, bitorder="little")[start % 8 :][: stop - start]
    return flags.view(np.bool_)


def from_numpy(values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """Convert a NumPy array of numbers or booleans to Arrow, with nulls where `valid` is False."""
    nulls = None
    if valid is not None and not valid.all():
        nulls = pa.py_buffer(np.packbits(valid, bitorder="little"))
    kind = pa.from_numpy_dtype(values.dtype)
    content = np.packbits(values, bitorder="little") if values.dtype.kind == "b" else values
    buffer = pa.py_buffer(np.ascontiguousarray(content))
    return pa.Array.from_buffers(kind, values.size, [nulls, buffer])


def from_strings(texts: Sequence[str]) -> pa.Array:
    """Convert Python strings to an Arrow array."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def take_strings(texts: Sequence[str], index: NDArray[np.integer]) -> pa.DictionaryArray:
    """Return `texts[i]` for each i in `index`, dictionary-encoded. Equal texts get the same code."""
    distinct = from_strings(texts).dictionary_encode()
    codes = to_numpy(distinct.indices)[index]
    return pa.DictionaryArray.from_arrays(from_numpy(codes), distinct.dictionary)


def is_text(kind: pa.DataType) -> bool:
    """Return whether an Arrow type is text or dictionary-encoded text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def without_views(kind: pa.DataType) -> pa.DataType:
    """Replace the types ``string_view`` and ``binary_view`` within a type. Arrow cannot filter their values.

    Examples
    --------
    >>> without_views(pa.list_(pa.string_view()))
    ListType(list<item: string>)
    """
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, without_views(kind.value_type), kind.ordered)
    return map_children(kind, without_views)


def cast_views(table: pa.Table) -> pa.Table:
    """Cast the columns of a table to types without views. See `without_views`."""
    plain = pa.schema([field.with_type(without_views(field.type)) for field in table.schema])
    if plain.equals(table.schema):
        return table
    return table.cast(plain.with_metadata(table.schema.metadata))


def filter_rows(table: pa.Table, mask: NDArray[np.bool_]) -> pa.Table:
    """Return the rows of a table where `mask` is True, with the table's types."""
    rows = cast_views(table).filter(from_numpy(mask))
    return rows if rows.schema.equals(table.schema) else rows.cast(table.schema)


def map_children(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Apply `change` to the types of the children of a nested type. Return other types unchanged."""

    def changed(field: pa.Field) -> pa.Field:
        return field.with_type(change(field.type))

    if pa.types.is_struct(kind):
        return pa.struct([changed(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(changed(kind.key_field), changed(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(changed(kind.value_field), kind.list_size)
    for is_kind, make in (
        (pa.types.is_list, pa.list_),
        (pa.types.is_large_list, pa.large_list),
        (pa.types.is_list_view, pa.list_view),
        (pa.types.is_large_list_view, pa.large_list_view),
    ):
        if is_kind(kind):
            return make(changed(kind.value_field))
    return kind

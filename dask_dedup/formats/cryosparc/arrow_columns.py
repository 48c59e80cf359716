"""Convert the fields of NumPy records to Arrow columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, from_strings, to_numpy
from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Dtype = np.dtype[Any]
    Array = NDArray[Any]


def arrow_schema(dtype: Dtype, path: str) -> pa.Schema:
    """Return the Arrow schema for a structured NumPy dtype: one column with the same name for each field.

    Numbers keep their type, text becomes a string. A field of shape (K, 3) becomes a nested
    ``fixed_size_list<fixed_size_list<., 3>, K>``, and a complex number a list of its two parts.
    """
    return pa.schema([(name, _column_type(dtype[name], name, path)) for name in dtype.names or ()])


def _column_type(dtype: Dtype, name: str, path: str) -> pa.DataType:
    base, shape = dtype.base, _shape(dtype)
    if base.kind in "biuf" and base.itemsize <= 8:
        kind = pa.from_numpy_dtype(base.newbyteorder("="))
    elif base.kind == "c" and base.itemsize <= 16:
        kind = pa.from_numpy_dtype(np.dtype(f"f{base.itemsize // 2}"))
    elif base.kind in "SUO":
        kind = pa.string()
    else:
        raise InputError(
            f"{path}: the field {name} has the type {base}, which is not supported. Remove it."
        )
    if 0 in shape:
        raise InputError(
            f"{path}: the field {name} is empty: its shape is {dtype.shape}. Remove it."
        )
    for size in reversed(shape):
        kind = _list_of(kind, size)
    return kind


def _list_of(kind: pa.DataType, size: int) -> pa.DataType:
    # Parquet gives this name to a list's values, so the schema stays the same there.
    return pa.list_(pa.field("element", kind), size)


def _shape(dtype: Dtype) -> tuple[int, ...]:
    return (*dtype.shape, 2) if dtype.base.kind == "c" else dtype.shape


def read_fields(
    batches: Iterable[Array | Mapping[str, Array]], dtype: Dtype, rows: int, names: Sequence[str]
) -> pa.Table:
    """Combine the named fields of all batches into one Arrow table of `rows` rows. Text is dictionary-encoded.

    The batches may share one buffer.
    """
    texts = {name: _TextColumn(dtype[name].base) for name in names if dtype[name].base.kind in "SU"}
    numbers = {
        name: np.empty((rows, *dtype[name].shape), dtype[name].base.newbyteorder("="))
        for name in names
        if name not in texts
    }
    first = 0
    for batch in batches:
        for name, text in texts.items():
            text.add(batch[name])
        for name, values in numbers.items():
            values[first : first + len(batch[name])] = batch[name]
        first += len(batch[names[0]]) if names else 0
    columns = [texts[name].finish() if name in texts else _flat(numbers[name]) for name in names]
    return pa.table(
        [_nested(column, _shape(dtype[name])) for name, column in zip(names, columns, strict=True)],
        names=list(names),
    )


def _flat(values: Array) -> pa.Array:
    flat = values.reshape(-1)
    return from_numpy(flat.view(f"f{flat.itemsize // 2}") if flat.dtype.kind == "c" else flat)


def _nested(values: pa.Array, shape: tuple[int, ...]) -> pa.Array:
    if shape and pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    for size in reversed(shape):
        values = pa.FixedSizeListArray.from_arrays(values, type=_list_of(values.type, size))
    return values


class _TextColumn:
    """Builder of an Arrow text column. Consecutive equal values are stored once."""

    def __init__(self, dtype: Dtype) -> None:
        # Old NumPy turns text of width 0 into text of width 1 when it is copied.
        self._is_empty = dtype.itemsize == 0
        self._texts = [np.empty(0, dtype)]
        self._lengths = [np.empty(0, np.intp)]

    def add(self, values: Array) -> None:
        flat = values.reshape(-1)
        starts = np.flatnonzero(np.concatenate(([flat.size > 0], flat[1:] != flat[:-1])))
        self._texts.append(flat[starts])
        self._lengths.append(np.diff(starts, append=flat.size))

    def finish(self) -> pa.DictionaryArray:
        """Return the column as a dictionary array. Bytes that are not UTF-8 become backslash escapes."""
        texts = np.concatenate(self._texts)  # in the byte order of this machine
        if self._is_empty:
            cells = pa.repeat(pa.scalar(b""), texts.size)
        else:
            # Arrow compares texts of fixed width fastest as bytes.
            kind, content = pa.binary(texts.itemsize), pa.py_buffer(texts)
            cells = pa.FixedSizeBinaryArray.from_buffers(kind, texts.size, [None, content])
        distinct = cells.dictionary_encode()
        codes = np.repeat(to_numpy(distinct.indices), np.concatenate(self._lengths))
        codec = "utf-32-le" if texts.dtype.kind == "U" else "utf-8"
        words = [
            cell.decode(codec, "backslashreplace").rstrip("\0")
            for cell in distinct.dictionary.to_pylist()
        ]
        return pa.DictionaryArray.from_arrays(from_numpy(codes), from_strings(words))

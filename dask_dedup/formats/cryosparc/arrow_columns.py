"""Convert the fields of NumPy records to Arrow columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, from_strings, to_numpy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Dtype = np.dtype[Any]
    Array = NDArray[Any]


def arrow_schema(dtype: Dtype) -> pa.Schema:
    """Return the Arrow schema for a structured NumPy dtype: one column with the same name for each field.

    - Numbers keep their type.
    - Text becomes a string.
    - A field of shape (K, 3) becomes a nested ``fixed_size_list<fixed_size_list<., 3>, K>``.
    - A complex number becomes a list of its real and imaginary part.
    - Fields of other types, such as ``V8``, become bytes.
    - Fields of size 0 are left out.
    """
    names = [name for name in dtype.names or () if dtype[name].itemsize or _is_text(dtype[name])]
    return pa.schema([(name, _column_type(dtype[name])) for name in names])


def _column_type(dtype: Dtype) -> pa.DataType:
    base = dtype.base
    if _is_raw(base):
        kind = pa.binary(base.itemsize)
    elif base.kind == "c":
        kind = pa.from_numpy_dtype(np.dtype(f"f{base.itemsize // 2}"))
    elif _is_text(base):
        kind = pa.string()
    else:
        kind = pa.from_numpy_dtype(base.newbyteorder("="))
    for size in reversed(_shape(dtype)):
        kind = _list_of(kind, size)
    return kind


def _is_text(dtype: Dtype) -> bool:
    return dtype.kind in "SUO"


def _is_raw(base: Dtype) -> bool:
    """Return whether a NumPy type has no Arrow type: records, dates, long floats."""
    largest = {"b": 1, "i": 8, "u": 8, "f": 8, "c": 16}.get(base.kind, 0)
    return not _is_text(base) and base.itemsize > largest


def _list_of(kind: pa.DataType, size: int) -> pa.DataType:
    # Parquet uses the same name for list elements, so that the schema is unchanged in Parquet files.
    return pa.list_(pa.field("element", kind), size)


def _shape(dtype: Dtype) -> tuple[int, ...]:
    pairs = dtype.base.kind == "c" and not _is_raw(dtype.base)
    return (*dtype.shape, 2) if pairs else dtype.shape


def read_fields(
    batches: Iterable[Array | Mapping[str, Array]], dtype: Dtype, rows: int, names: Sequence[str]
) -> pa.Table:
    """Combine the named fields of all batches into one Arrow table of `rows` rows. Text is dictionary-encoded.

    A batch may overwrite the buffer of the previous batch.
    """
    texts = {name: _TextColumn(dtype[name].base) for name in names if dtype[name].base.kind in "SU"}
    numbers = {
        name: np.empty((rows, *dtype[name].shape), _held(dtype[name].base))
        for name in names
        if name not in texts
    }
    first = 0
    for batch in batches:
        for name, text in texts.items():
            text.add(batch[name])
        for name, values in numbers.items():
            cells = batch[name]
            values[first : first + len(cells)] = (
                cells.view(values.dtype) if values.dtype.kind == "V" else cells
            )
        first += len(batch[names[0]]) if names else 0
    columns = [texts[name].finish() if name in texts else _flat(numbers[name]) for name in names]
    return pa.table(
        [_nested(column, _shape(dtype[name])) for name, column in zip(names, columns, strict=True)],
        names=list(names),
    )


def _held(base: Dtype) -> Dtype:
    return np.dtype((np.void, base.itemsize)) if _is_raw(base) else base.newbyteorder("=")


def _flat(values: Array) -> pa.Array:
    flat = values.reshape(-1)
    if flat.dtype.kind == "V":
        kind, content = pa.binary(flat.itemsize), pa.py_buffer(flat)
        return pa.FixedSizeBinaryArray.from_buffers(kind, flat.size, [None, content])
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

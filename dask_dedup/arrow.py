"""Arrow arrays as NumPy arrays and back, by their buffers.

pyarrow's own conversions import pandas, which takes as long as deciding a million particles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def to_numpy(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """Give numbers or booleans as an array; read-only and without a copy where numbers lie in one piece.

    Parameters
    ----------
    column : pyarrow.ChunkedArray or pyarrow.Array
        Nulls among floats become NaN; there are none among others.
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
        return _unpacked(content, start, stop)
    values = np.frombuffer(content, dtype)[start:stop]
    if chunk.null_count:
        values = np.where(_unpacked(valid, start, stop), values, dtype.type(np.nan))
    return values


def _unpacked(bits: pa.Buffer, start: int, stop: int) -> NDArray[np.bool_]:
    octets = np.frombuffer(bits, np.uint8)[start // 8 : (stop + 7) // 8]
    flags = np.unpackbits(octets, bitorder="little")[start % 8 :][: stop - start]
    return flags.view(np.bool_)


def from_numpy(values: NDArray[Any], known: NDArray[np.bool_] | None = None) -> pa.Array:
    """Give an array of numbers or booleans to Arrow, numbers without a copy.

    Parameters
    ----------
    values : (n,) integers, floats or booleans
    known : (n,) bool, optional
        False where the value is to be null.
    """
    nulls = None
    if known is not None and not known.all():
        nulls = pa.py_buffer(np.packbits(known, bitorder="little"))
    kind = pa.from_numpy_dtype(values.dtype)
    content = np.packbits(values, bitorder="little") if values.dtype.kind == "b" else values
    buffer = pa.py_buffer(np.ascontiguousarray(content))
    return pa.Array.from_buffers(kind, values.size, [nulls, buffer])


def from_strings(texts: Sequence[str]) -> pa.Array:
    """Give texts to Arrow."""
    encoded = [text.encode() for text in texts]
    edges = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def unique_inverse(keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """Give the distinct keys, sorted, and each row's number among them.

    As `numpy.unique` with its inverse, but by hashing, and once for each run of a key: picks of a micrograph mostly
    come in one.

    Parameters
    ----------
    keys : (n,) uint64

    Returns
    -------
    distinct : (m,) uint64
    number : (n,) intp
    """
    if not keys.size:
        return keys, np.empty(0, dtype=np.intp)
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    runs = from_numpy(keys[starts]).dictionary_encode()
    found = to_numpy(runs.dictionary)
    order = np.argsort(found)
    number_of = np.empty(order.size, dtype=np.intp)
    number_of[order] = np.arange(order.size)
    number = number_of[to_numpy(runs.indices)]
    return found[order], np.repeat(number, np.diff(starts, append=keys.size))

"""The content hash, which stands in for the uid of particles without one.

It depends on the particle and not on its file or row number, so neither decides between equal scores. With
``h = 0`` at first, each 64-bit word of the row is folded in: ``h = splitmix64(h ^ word)``. The words are, in order:

1. the stored position (`ColumnRoles.position`), as in the table: before any shift, unit or flip,
2. the shifts, then the angles, that the table has, applied or not (`CONTENT_COLUMNS`),
3. the score (`ColumnRoles.score`), if the run uses one,
4. the particle name, if the table has one: the first of `NAME_COLUMNS`.

A number is one word, its float64 bits. -0.0 counts as 0.0, and a missing number as the NaN 0x7FF8000000000000.
A text is its UTF-8 bytes in words of 8 bytes, little-endian, the last one filled up with zero bytes. A missing or
empty text has no words. The micrograph's name is left out, so the result is the same after folders were moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import to_numpy
from dask_dedup.dedup.rank import splitmix64

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.column_values import Columns

    Words = NDArray[np.uint64]

_NAN = np.uint64(0x7FF8000000000000)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
#: Rows hashed at a time: their arrays fit in the processor's cache.
_BLOCK_ROWS = 2**14


def content_hash(columns: Columns, roles: ColumnRoles) -> Words:
    """Return the (n,) content hash of each row."""
    hashed = np.zeros(len(columns), dtype=np.uint64)
    names = (*roles.position, *roles.content, *([roles.score] if roles.score else ()))
    for name in names:
        for words in _number_words(columns, name):
            hashed ^= words
            hashed = splitmix64(hashed)
    if roles.particle_name:
        _fold_texts(hashed, columns.rows.column(roles.particle_name))
    return hashed


def _number_words(columns: Columns, name: str) -> Iterator[Words]:
    """Yield the words of a column of numbers, or of lists of numbers. A column of another type has none."""
    kind = columns.rows.schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind):
        vectors = columns.vectors(name, 3 if name.endswith("/pose") else 2)
        yield from map(_float_words, vectors.T)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        yield _float_words(columns.floats(name))
    elif pa.types.is_null(kind):
        yield np.full(len(columns), _NAN)


def _float_words(values: NDArray[np.float64]) -> Words:
    words = (values + 0.0).view(np.uint64)  # turns -0.0 into 0.0
    missing = np.isnan(values)
    if missing.any():
        words[missing] = _NAN
    return words


def _fold_texts(hashed: Words, column: pa.ChunkedArray) -> None:
    """Fold the texts of a column into the hashes of the rows, in place."""
    start = 0
    for chunk in column.chunks:
        stop = start + len(chunk)
        index = None
        if pa.types.is_dictionary(chunk.type):
            # An index beyond the texts stands for null.
            index = to_numpy(chunk.indices.fill_null(len(chunk.dictionary)))
            chunk = chunk.dictionary
        if pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type):
            _fold_chunk(hashed[start:stop], chunk, index)
        start = stop


def _fold_chunk(hashed: Words, texts: pa.Array, index: NDArray[np.integer] | None) -> None:
    """Fold texts into the hashes of the rows, in place. Row i has ``texts[index[i]]``, by default ``texts[i]``."""
    texts = texts.cast(pa.large_string()).fill_null("")
    _, offsets, data = texts.buffers()
    if offsets is None or data is None or not len(texts):
        return
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    first, length = bounds[:-1], np.diff(bounds)
    if index is not None:
        first, length = np.append(first, 0)[index], np.append(length, 0)[index]
    # Two words more, because a word is cut out of two aligned ones.
    aligned = np.zeros(len(data) // 8 + 3, dtype="<u8")
    aligned.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    for start in range(0, hashed.size, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        _fold_block(hashed[block], aligned, first[block], length[block])


def _fold_block(
    hashed: Words, aligned: Words, first: NDArray[np.int64], length: NDArray[np.int64]
) -> None:
    """Fold the texts at the bytes `first` of `aligned` into the hashes of the rows, in place."""
    for done in range(0, int(length.max(initial=0)), 8):
        left = length - done
        rows = slice(None) if left.min() > 0 else np.flatnonzero(left > 0)
        at, left = first[rows] + done, left[rows]
        shift = (at & 7).view(np.uint64)
        shift <<= np.uint64(3)
        at >>= 3
        word = aligned[at]
        word >>= shift
        at += 1
        # NumPy returns 0 for a shift by 64 bits.
        word |= aligned[at] << (np.uint64(64) - shift)
        if left.min() < 8:
            unused = 8 - np.minimum(left, 8)
            word &= _ONES >> (unused << 3).view(np.uint64)
        hashed[rows] = splitmix64(hashed[rows] ^ word)

"""The content hash, which replaces the uid of particles without a uid.

The hash depends only on the particle, so file and row number do not decide between equal scores. The hash ``h`` is 0
at first. Then each 64-bit word of the row is added by ``h = splitmix64(h ^ word)``. The words are, in order:

1. the stored position (`ColumnRoles.position`), before shifts, conversion of units or a flip,
2. the shifts, then the angles: all columns in `CONTENT_COLUMNS`, even if they are not applied,
3. the score (`ColumnRoles.score`),
4. the particle name, if the table has one: the first of `PARTICLE_NAME_COLUMNS`.

A number is one word, its float64 bits. -0.0 counts as 0.0, and a missing number as the NaN 0x7FF8000000000000.
Numbers are missing if the value is null or NaN, or if the table has no such column of numbers. So files with
different columns have the same hashes if they are read as one table or as several tables.
A text is its UTF-8 bytes in little-endian words of 8 bytes. Zero bytes fill up the last word. A missing or empty
text has no words. The name of the micrograph is left out, so moved folders do not change the hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import is_text, to_numpy
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.particles.column_names import CONTENT_COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.column_values import Columns

    Words = NDArray[np.uint64]

_NAN = np.uint64(0x7FF8000000000000)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
#: Rows per block. The arrays of a block fit in the cache of the processor.
_BLOCK_ROWS = 2**14


def content_hash(columns: Columns, roles: ColumnRoles) -> Words:
    """Return the (n,) content hash of each row."""
    hashed = np.zeros(len(columns), dtype=np.uint64)
    position = dict.fromkeys(roles.position, 1)
    others = CONTENT_COLUMNS[roles.convention]
    for name, width in (*position.items(), *others.items(), (roles.score or "", 1)):
        for values in columns.optional(name, width).T:
            _fold_numbers(hashed, values)
    if roles.particle_name:
        _fold_texts(hashed, columns.rows.column(roles.particle_name))
    return hashed


def _fold_numbers(hashed: Words, values: NDArray[np.float64]) -> None:
    """Add one number per row to the hashes of the rows, in place."""
    for start in range(0, hashed.size, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        words = (values[block] + 0.0).view(np.uint64)  # turns -0.0 into 0.0
        words[np.isnan(values[block])] = _NAN
        hashed[block] = splitmix64(hashed[block] ^ words)


def _fold_texts(hashed: Words, column: pa.ChunkedArray) -> None:
    """Add the texts of a column to the hashes of the rows, in place."""
    start = 0
    for chunk in column.chunks:
        stop = start + len(chunk)
        index = None
        if pa.types.is_dictionary(chunk.type):
            # Nulls have an index beyond the texts.
            index = to_numpy(chunk.indices.fill_null(len(chunk.dictionary)))
            chunk = chunk.dictionary
        if is_text(chunk.type):
            _fold_chunk(hashed[start:stop], chunk, index)
        start = stop


def _fold_chunk(hashed: Words, texts: pa.Array, index: NDArray[np.integer] | None) -> None:
    """Add texts to the hashes of the rows, in place. Row i has ``texts[index[i]]``, by default ``texts[i]``."""
    texts = texts.cast(pa.large_string()).fill_null("")
    _, offsets, data = texts.buffers()
    if offsets is None or data is None or not len(texts):
        return
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    first, length = bounds[:-1], np.diff(bounds)
    if index is not None:
        first, length = np.append(first, 0)[index], np.append(length, 0)[index]
    # With two words more, because each word is made from two aligned words.
    aligned = np.zeros(len(data) // 8 + 3, dtype="<u8")
    aligned.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    for start in range(0, hashed.size, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        _fold_block(hashed[block], aligned, first[block], length[block])


def _fold_block(
    hashed: Words, aligned: Words, first: NDArray[np.int64], length: NDArray[np.int64]
) -> None:
    """Add texts to the hashes of the rows, in place. The texts begin at the bytes `first` of `aligned`."""
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

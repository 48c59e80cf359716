"""Parse selected columns of a STAR table into Arrow arrays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.arrow import from_numpy, to_numpy
from dask_dedup.formats.base import changed_error
from dask_dedup.formats.star.lines import find_rows, line_error
from dask_dedup.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from dask_dedup.errors import InputError, RunError
    from dask_dedup.formats.star.lines import Span

_NUMBER = re.compile(
    rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:inf|infinity|nan)", re.IGNORECASE
)
#: Whole numbers above this are not exact in float64.
_EXACT = 2.0**53
_EMPTY = (b"''", b'""')
#: Texts for missing numbers, in lower case, as pandas, starfile and other programs write them. The STAR standard
#: defines ``.`` and ``?``.
_MISSING = ("", "''", '""', "<na>", "none", "null", "na", "n/a", "nat", ".", "?")
_SINGLE, _DOUBLE, _HASH = (ord(character) for character in "'\"#")
#: A quoted value. After the closing quote, there is a blank.
_QUOTED = re.compile(rb"(['\"]).*?\1(?=[\0- ])")


def is_number(token: bytes) -> bool:
    """Return whether a token is a number, nan or inf."""
    return _NUMBER.fullmatch(token) is not None


def is_whole_number(token: bytes) -> bool:
    """Return whether a token is a whole number (1 or 1.000) that float64 represents exactly."""
    return is_number(token) and float(token).is_integer() and abs(float(token)) < _EXACT


def is_missing(token: bytes) -> bool:
    """Return whether a token means a missing number: ``<NA>``, ``None``, ``null``, an empty text ..."""
    return token.decode(errors="replace").lower() in _MISSING


def read_tokens(block: bytes, labels: Sequence[str], span: Span) -> dict[str, list[bytes]]:
    """Map each column label to its unparsed values in `block`, the first lines of a span. Quotes are removed."""
    bounds, _ = _token_bounds(block, len(labels), span, span.start)
    tokens = bounds.reshape(-1, len(labels), 2)
    if len(tokens) != find_rows(block, span.path, span.start)[0].size:
        raise _wrong_count_error(span, len(labels))
    return {
        label: [
            b"" if block[start:stop] in _EMPTY else block[start:stop]
            for start, stop in tokens[:, number].tolist()
        ]
        for number, label in enumerate(labels)
    }


def parse_columns(
    span: Span, labels: Sequence[str], wanted: Mapping[str, pa.DataType]
) -> dict[str, pa.Array]:
    """Parse the `wanted` columns of a span into Arrow arrays.

    Parameters
    ----------
    span : Span
    labels : sequence of str
        Labels of all columns.
    wanted : mapping of str to pyarrow.DataType
        Type of each wanted column: int64, float64 or string.

    Returns
    -------
    dict of str to pyarrow.Array
        Strings are dictionary-encoded with int32 indices. Numbers are the nearest float64. Missing numbers are
        NaN, or null in a column of integers.
    """
    numbers = [name for name, kind in wanted.items() if not pa.types.is_string(kind)]
    texts = [name for name in wanted if name not in numbers]
    number_of = {label: number for number, label in enumerate(labels)}
    rows = 0
    number_parts: list[NDArray[np.float64]] = []
    text_parts: dict[str, list[pa.Array]] = {name: [] for name in texts}
    for offset, block in span.blocks():
        bounds, has_empty = _token_bounds(block, len(labels), span, offset)
        count = bounds.size // (2 * len(labels))
        if not count:
            continue
        values = as_values(bounds, block)
        first = np.arange(0, bounds.size, 2 * len(labels), dtype=np.int32)
        if numbers:
            columns = np.array([2 * number_of[name] for name in numbers], dtype=np.int32)
            taken = values.take(from_numpy((columns[:, np.newaxis] + first).ravel()))
            parsed = _parse_numbers(taken, numbers, count, span, rows)
            number_parts.append(parsed.reshape(len(numbers), count))
        for name in texts:
            taken = values.take(from_numpy(first + np.int32(2 * number_of[name])))
            if has_empty:
                taken = pc.if_else(pc.is_in(taken, pa.array(_EMPTY, pa.binary())), b"", taken)
            text_parts[name].append(taken)
        rows += count
    if rows != span.rows:
        raise _wrong_count_error(span, len(labels))
    result = {name: _encode(name, text_parts[name], span) for name in texts}
    parsed = np.concatenate(number_parts, axis=1) if number_parts else np.empty((len(numbers), 0))
    for name, column in zip(numbers, parsed, strict=True):
        values = np.ascontiguousarray(column)
        whole = pa.types.is_integer(wanted[name])
        result[name] = _as_whole(name, values, span) if whole else from_numpy(values)
    return result


def _token_bounds(
    block: bytes, columns: int, span: Span, offset: int
) -> tuple[NDArray[np.int32], bool]:
    """Find the start and stop byte of every value in a block of lines. Each row must have `columns` values.

    Returns
    -------
    bounds : (2 * columns * rows,) int32
        start, stop, start, stop ... without quotes. Each row ends at a line end. Callers must compare the number
        of rows with the number of lines, because a row can still have several lines.
    has_empty : bool
        Whether there are empty quoted values. The bounds of an empty value include its two quotes.
    """
    plain, has_empty = _mask_quotes_and_comments(block, span, offset)
    bounds = find_bounds(plain)
    if bounds.size % (2 * columns):
        raise _wrong_count_error(span, columns)
    after = bounds[2 * columns - 1 :: 2 * columns]
    while after.size:
        following = plain[after]
        if (following > 32).any():
            raise _wrong_count_error(span, columns)
        after = after[following != 10] + 1
    return bounds, has_empty


def find_bounds(plain: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the start and stop of every value between blanks: start, stop, start, stop ..."""
    blank = np.empty(plain.size + 1, dtype=np.bool_)
    blank[0] = True
    np.less_equal(plain, 32, out=blank[1:])
    return np.flatnonzero(blank[1:] != blank[:-1]).astype(np.int32)


def as_values(bounds: NDArray[np.int32], text: bytes) -> pa.Array:
    """Return the values of a text as an Arrow array of bytes, without a copy of the text.

    Every second element is the white space between two values.
    """
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.binary(), bounds.size - 1, buffers)


def _wrong_count_error(span: Span, columns: int) -> InputError | RunError:
    """Return an error about the first row with too few or too many values."""
    rows = 0
    for offset, block in span.blocks():
        plain, _ = _mask_quotes_and_comments(block, span, offset)
        newlines = np.flatnonzero(plain == 10)
        values = np.bincount(np.searchsorted(newlines, find_bounds(plain)[::2]))
        values = values[values > 0]
        bad = np.flatnonzero(values != columns)
        if bad.size:
            found = counted(int(values[bad[0]]), "value")
            expected = counted(columns, "column")
            return span.error(rows + int(bad[0]), f"has {found}, but the table has {expected}")
        rows += values.size
    return changed_error(span.path)


def _mask_quotes_and_comments(
    block: bytes, span: Span, offset: int
) -> tuple[NDArray[np.uint8], bool]:
    """Mask a block: replace comments and quotes by spaces, and quoted text by ``x``. The length is unchanged.

    An opening quote follows white space, and white space follows a closing quote. In ``O'Neil.mrc``, the quote is
    an ordinary character.
    """
    characters = np.frombuffer(block, dtype=np.uint8)
    if b"'" not in block and b'"' not in block and b"#" not in block:
        return characters, False
    special = (characters == _SINGLE) | (characters == _DOUBLE) | (characters == _HASH)
    special[1:] &= characters[:-1] <= 32
    positions = np.flatnonzero(special)
    after = characters[np.minimum(positions + 2, characters.size - 1)]
    empty = (characters[positions + 1] == characters[positions]) & (after <= 32)
    empty &= characters[positions] != _HASH
    plain, done = characters.copy(), 0
    for start in positions[~empty].tolist():
        if start < done:
            continue
        if characters[start] == _HASH:
            done = block.index(b"\n", start)
            plain[start:done] = 32
        elif quoted := _QUOTED.match(block, start):
            done = quoted.end()
            plain[start:done] = 32
            plain[start + 1 : done - 1] = ord("x")
        else:
            raise line_error(span.path, offset + start, "a quote is not closed")
    return plain, bool(empty.any())


def _parse_numbers(
    values: pa.Array, names: Sequence[str], count: int, span: Span, rows: int
) -> NDArray[np.float64]:
    """Convert values to float64, and missing values to NaN. `values` has `count` values per column, by column."""
    try:
        return _as_floats(values)
    except pa.ArrowInvalid:
        tokens = values.to_pylist()
        for number, token in enumerate(tokens):
            if not (is_number(token) or is_missing(token)):
                column, row = divmod(number, count)
                shown = token.decode(errors="replace")
                problem = f"has {shown!r} for {names[column]}, which is not a number"
                raise span.error(rows + row, problem) from None
        return np.array([float("nan" if is_missing(token) else token) for token in tokens])


def _as_floats(values: pa.Array) -> NDArray[np.float64]:
    texts = values.cast(pa.string())
    try:
        parsed = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        missing = pc.is_in(pc.utf8_lower(texts), pa.array(_MISSING))
        parsed = pc.if_else(missing, "nan", texts).cast(pa.float64())
    return np.asarray(to_numpy(parsed), dtype=np.float64)


def _as_whole(name: str, values: NDArray[np.float64], span: Span) -> pa.Array:
    """Convert float64 to int64. NaN becomes null."""
    missing = np.isnan(values)
    with np.errstate(invalid="ignore"):
        whole = np.where(missing, 0, values).astype(np.int64)
    bad = ((whole != values) | (np.abs(values) >= _EXACT)) & ~missing
    if bad.any():
        row = int(bad.argmax())
        raise span.error(row, f"has {values[row]} for {name}, which is not a whole number")
    return from_numpy(whole, ~missing)


def _encode(name: str, parts: list[pa.Array], span: Span) -> pa.DictionaryArray:
    values = pa.concat_arrays(parts) if parts else pa.array([], pa.binary())
    encoded = values.dictionary_encode()
    try:
        texts = encoded.dictionary.cast(pa.string())
    except pa.ArrowInvalid:
        for row, value in enumerate(values.to_pylist()):
            try:
                value.decode()
            except UnicodeDecodeError:
                problem = f"has {value!r} for {name}, which is not UTF-8 text"
                raise span.error(row, problem) from None
        raise
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)

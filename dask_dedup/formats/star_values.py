"""The values in the rows of a STAR table: from lines to Arrow columns, only those asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.errors import InputError
from dask_dedup.formats.star_blocks import line_of_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_NUMBER = re.compile(
    rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:inf|infinity|nan)", re.IGNORECASE
)
#: Whole numbers beyond this are not exact as float64.
_EXACT = 2.0**53


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows lie, for messages.

    Attributes
    ----------
    path : Path
    start, stop : int
        Bytes of the stretch.
    first_row : int
        Number in the table of its first row.
    """

    path: Path
    start: int
    stop: int
    first_row: int

    def error(self, row: int, what: str) -> InputError:
        """Make the error about a row, counted from 0 in the stretch."""
        line = line_of_row(self.path, (self.start, self.stop), row)
        return InputError(f"{self.path}: row {self.first_row + row} (line {line}) {what}")


def is_number(token: bytes) -> bool:
    """Tell whether a value is written as a number; nan and inf are."""
    return _NUMBER.fullmatch(token) is not None


def is_whole(token: bytes) -> bool:
    """Tell whether a value is a whole number that float64 holds exactly; 1.000 is."""
    return is_number(token) and float(token).is_integer() and abs(float(token)) < _EXACT


def tokens_by_column(block: bytes, labels: Sequence[str], place: Place) -> dict[str, list[bytes]]:
    """Give all values of some rows as they are written, without quotes."""
    edges, _ = _token_edges(block, len(labels), place, 0)
    spans = edges.reshape(-1, len(labels), 2)
    return {
        label: [
            b"" if block[start:stop] in _EMPTY else block[start:stop]
            for start, stop in spans[:, number].tolist()
        ]
        for number, label in enumerate(labels)
    }


def parse_columns(
    blocks: Iterable[bytes],
    labels: Sequence[str],
    wanted: Mapping[str, pa.DataType],
    place: Place,
) -> dict[str, pa.Array]:
    """Parse some columns of a stretch of rows.

    Parameters
    ----------
    blocks : iterable of bytes
        The rows, in blocks of whole lines.
    labels : sequence of str
        Of all the columns.
    wanted : mapping of str to pyarrow.DataType
        int64, float64 or string.
    place : Place

    Returns
    -------
    dict of str to pyarrow.Array
        Strings as dictionaries of int32 codes. Numbers are the nearest float64 to what is written.

    Raises
    ------
    InputError
        If a row has too few or too many values, or a value is not what its column holds; names the row.
    """
    numbers = [name for name, kind in wanted.items() if not pa.types.is_string(kind)]
    texts = [name for name in wanted if name not in numbers]
    number_of = {label: number for number, label in enumerate(labels)}
    rows = 0
    number_parts: list[NDArray[np.float64]] = []
    text_parts: dict[str, list[pa.Array]] = {name: [] for name in texts}
    for block in blocks:
        edges, empties = _token_edges(block, len(labels), place, rows)
        count = edges.size // (2 * len(labels))
        if not count:
            continue
        # Every second element is the white space between two values: so the text needs no copy.
        values = pa.Array.from_buffers(
            pa.binary(), edges.size - 1, [None, pa.py_buffer(edges), pa.py_buffer(block)]
        )
        first = np.arange(0, edges.size, 2 * len(labels), dtype=np.int32)
        if numbers:
            columns = np.array([2 * number_of[name] for name in numbers], dtype=np.int32)
            taken = values.take(_indices((columns[:, np.newaxis] + first).ravel()))
            parsed = _parse_numbers(taken, numbers, count, place, rows)
            number_parts.append(parsed.reshape(len(numbers), count))
        for name in texts:
            taken = values.take(_indices(first + np.int32(2 * number_of[name])))
            if empties:
                taken = pc.if_else(pc.is_in(taken, _EMPTY_VALUES), b"", taken)
            text_parts[name].append(taken)
        rows += count
    result = {name: _encode(name, text_parts[name], place) for name in texts}
    parsed = np.concatenate(number_parts, axis=1) if number_parts else np.empty((len(numbers), 0))
    for name, column in zip(numbers, parsed, strict=True):
        result[name] = _numbers(name, column, wanted[name], place)
    return result


def _indices(values: NDArray[np.int32]) -> pa.Array:
    # pa.array() takes 40 ns a value here.
    return pa.Array.from_buffers(pa.int32(), values.size, [None, pa.py_buffer(values)])


def _token_edges(
    block: bytes, columns: int, place: Place, rows: int
) -> tuple[NDArray[np.int32], bool]:
    """Find where values start and stop.

    Parameters
    ----------
    block : bytes
        Whole lines.
    columns : int
        How many values a row must have.
    place, rows : Place, int
        The stretch, and how many of its rows come before, for messages.

    Returns
    -------
    edges : (2 * columns * rows,) int32
        start, stop, start, stop ...; the quotes are outside.
    empties : bool
        Whether there are empty quoted values; `edges` has their two quotes.
    """
    characters = np.frombuffer(block, dtype=np.uint8)
    plain, empties = _plain(block, characters, place, rows)
    blank = np.empty(plain.size + 1, dtype=np.bool_)
    blank[0] = True
    np.less_equal(plain, 32, out=blank[1:])
    edges = np.flatnonzero(blank[1:] != blank[:-1]).astype(np.int32)
    newlines = np.flatnonzero(characters == 10).astype(np.int32)
    if not _one_row_a_line(edges, newlines, columns):
        values = np.bincount(np.searchsorted(newlines, edges[::2]), minlength=newlines.size)
        values = values[values > 0]
        bad = int(np.argmax(values != columns))
        raise place.error(rows + bad, f"has {values[bad]} values, but {columns} columns")
    return edges, empties


def _one_row_a_line(edges: NDArray[np.int32], newlines: NDArray[np.int32], columns: int) -> bool:
    if edges.size % (2 * columns):
        return False
    start, stop = edges[:: 2 * columns], edges[2 * columns - 1 :: 2 * columns]
    if newlines.size == start.size:
        return bool((start[1:] > newlines[:-1]).all() and (stop <= newlines).all())
    line = np.searchsorted(newlines, start)
    return bool((line == np.searchsorted(newlines, stop)).all() and (np.diff(line) > 0).all())


_EMPTY = (b"''", b'""')
_EMPTY_VALUES = pa.array(_EMPTY, pa.binary())
_SINGLE, _DOUBLE, _HASH = (ord(character) for character in "'\"#")


def _plain(
    block: bytes, characters: NDArray[np.uint8], place: Place, rows: int
) -> tuple[NDArray[np.uint8], bool]:
    """Blank out comments and quotes and fill the blanks between quotes, the length staying as it is.

    A quote opens after a blank and closes before one: in ``O'Neil.mrc`` it is a letter.
    """
    if b"'" not in block and b'"' not in block and b"#" not in block:
        return characters, False
    special = (characters == _SINGLE) | (characters == _DOUBLE) | (characters == _HASH)
    special[1:] &= characters[:-1] <= 32
    marks = np.flatnonzero(special).tolist()
    if not marks:
        return characters, False
    plain, empties, done = characters.copy(), False, 0
    for mark in marks:
        if mark < done:
            continue
        newline = block.index(b"\n", mark)
        if characters[mark] == _HASH:
            plain[mark:newline] = 32
            done = newline
            continue
        done = _closing(block, mark, newline)
        if done < 0:
            row = len([line for line in block[:mark].split(b"\n")[:-1] if not _rowless(line)])
            raise place.error(rows + row, "has a quote that is not closed")
        if done == mark + 1:
            empties = True
        else:
            plain[mark], plain[done] = 32, 32
            plain[mark + 1 : done] = ord("x")
    return plain, empties


def _closing(block: bytes, mark: int, newline: int) -> int:
    """Find the quote that closes the one at `mark`: it has a blank after it; -1 if none does."""
    at = mark
    while (at := block.find(block[mark : mark + 1], at + 1, newline)) >= 0:
        if block[at + 1] <= 32:
            return at
    return -1


def _rowless(line: bytes) -> bool:
    return not line.strip() or line.lstrip().startswith(b"#")


def _parse_numbers(
    values: pa.Array, names: Sequence[str], count: int, place: Place, rows: int
) -> NDArray[np.float64]:
    """Parse values of several columns, one column after the other."""
    try:
        parsed = values.cast(pa.string()).cast(pa.float64())
    except pa.ArrowInvalid:
        tokens = values.to_pylist()
        for number, token in enumerate(tokens):
            if not is_number(token):
                column, row = divmod(number, count)
                shown = token.decode(errors="replace")
                raise place.error(
                    rows + row, f"has {shown!r} for {names[column]}, which is not a number"
                ) from None
        return np.array([float(token) for token in tokens])
    return np.asarray(parsed.to_numpy(), dtype=np.float64)


def _numbers(
    name: str, values: NDArray[np.float64], kind: pa.DataType, place: Place
) -> pa.Array:
    values = np.ascontiguousarray(values)
    if not pa.types.is_integer(kind):
        return pa.array(values)
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    bad = (whole != values) | (np.abs(values) >= _EXACT)
    if bad.any():
        row = int(bad.argmax())
        raise place.error(row, f"has {values[row]} for {name}, which is not a whole number")
    return pa.array(whole)


def _encode(name: str, parts: list[pa.Array], place: Place) -> pa.DictionaryArray:
    values = pa.concat_arrays(parts) if parts else pa.array([], pa.binary())
    encoded = values.dictionary_encode()
    try:
        texts = encoded.dictionary.cast(pa.string())
    except pa.ArrowInvalid:
        for row, value in enumerate(values.to_pylist()):
            try:
                value.decode()
            except UnicodeDecodeError:
                raise place.error(row, f"has {value!r} for {name}, not UTF-8 text") from None
        raise
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)

"""The values in the rows of a STAR table: from lines to Arrow columns, only those asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.arrow import from_numpy, to_numpy
from dask_dedup.errors import InputError, RunError
from dask_dedup.formats.star.lines import at_line, find_rows, line_of_row, whole_lines
from dask_dedup.formatting import counted
from dask_dedup.storage.files import open_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
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
        Number in the table of its first row; rows count from 0, lines from 1.
    rows : int
        How many there are.
    """

    path: Path
    start: int
    stop: int
    first_row: int
    rows: int

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Give the stretch in blocks of whole lines, with where each begins in the file."""
        at = self.start
        with open_to_read(self.path) as file:
            file.seek(at)
            for block in whole_lines(file, self.stop - at):
                yield at, block
                at += len(block)

    def error(self, row: int, what: str) -> InputError:
        """Make the error about a row, counted from 0 in the stretch."""
        line = line_of_row(self.path, (self.start, self.stop), row)
        return InputError(f"{self.path}: row {self.first_row + row} (line {line}) {what}")


def is_number(token: bytes) -> bool:
    """Tell whether a value is written as a number; nan and inf are."""
    return _NUMBER.fullmatch(token) is not None


def is_whole_number(token: bytes) -> bool:
    """Tell whether a value is a whole number that float64 holds exactly; 1.000 is."""
    return is_number(token) and float(token).is_integer() and abs(float(token)) < _EXACT


def tokens_by_column(block: bytes, labels: Sequence[str], place: Place) -> dict[str, list[bytes]]:
    """Give all values of the first rows of a stretch as they are written, without quotes."""
    edges, _ = _token_edges(block, len(labels), place, place.start)
    spans = edges.reshape(-1, len(labels), 2)
    if len(spans) != find_rows(block, place.path, place.start)[0].size:
        raise _miscounted(place, len(labels))
    return {
        label: [
            b"" if block[start:stop] in _EMPTY else block[start:stop]
            for start, stop in spans[:, number].tolist()
        ]
        for number, label in enumerate(labels)
    }


def parse_columns(
    place: Place, labels: Sequence[str], wanted: Mapping[str, pa.DataType]
) -> dict[str, pa.Array]:
    """Parse some columns of a stretch of rows.

    Parameters
    ----------
    place : Place
    labels : sequence of str
        Of all the columns.
    wanted : mapping of str to pyarrow.DataType
        int64, float64 or string.

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
    for at, block in place.blocks():
        edges, empties = _token_edges(block, len(labels), place, at)
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
            taken = values.take(from_numpy((columns[:, np.newaxis] + first).ravel()))
            parsed = _parse_numbers(taken, numbers, count, place, rows)
            number_parts.append(parsed.reshape(len(numbers), count))
        for name in texts:
            taken = values.take(from_numpy(first + np.int32(2 * number_of[name])))
            if empties:
                taken = pc.if_else(pc.is_in(taken, pa.array(_EMPTY, pa.binary())), b"", taken)
            text_parts[name].append(taken)
        rows += count
    if rows != place.rows:
        raise _miscounted(place, len(labels))
    result = {name: _encode(name, text_parts[name], place) for name in texts}
    parsed = np.concatenate(number_parts, axis=1) if number_parts else np.empty((len(numbers), 0))
    for name, column in zip(numbers, parsed, strict=True):
        result[name] = _numbers(name, column, wanted[name], place)
    return result


def _token_edges(
    block: bytes, columns: int, place: Place, at: int
) -> tuple[NDArray[np.int32], bool]:
    """Find where values start and stop.

    Parameters
    ----------
    block : bytes
        Whole lines.
    columns : int
        How many values a row must have.
    place, at : Place, int
        The stretch, and where in the file the block begins, for messages.

    Returns
    -------
    edges : (2 * columns * rows,) int32
        start, stop, start, stop ...; the quotes are outside. Each row ends with its line, but may begin lines
        before: if the number of rows is that of the lines with values, none does.
    empties : bool
        Whether there are empty quoted values; `edges` has their two quotes.
    """
    plain, empties = _plain(block, place.path, at)
    edges = _edges(plain)
    if edges.size % (2 * columns):
        raise _miscounted(place, columns)
    after = edges[2 * columns - 1 :: 2 * columns]
    while after.size:
        following = plain[after]
        if (following > 32).any():
            raise _miscounted(place, columns)
        after = after[following != 10] + 1
    return edges, empties


def _edges(plain: NDArray[np.uint8]) -> NDArray[np.int32]:
    blank = np.empty(plain.size + 1, dtype=np.bool_)
    blank[0] = True
    np.less_equal(plain, 32, out=blank[1:])
    return np.flatnonzero(blank[1:] != blank[:-1]).astype(np.int32)


def _miscounted(place: Place, columns: int) -> InputError | RunError:
    """Look for the first row with too few or too many values."""
    rows = 0
    for at, block in place.blocks():
        plain, _ = _plain(block, place.path, at)
        newlines = np.flatnonzero(plain == 10)
        values = np.bincount(np.searchsorted(newlines, _edges(plain)[::2]))
        values = values[values > 0]
        bad = np.flatnonzero(values != columns)
        if bad.size:
            count = values[bad[0]]
            return place.error(
                rows + int(bad[0]),
                f"has {counted(int(count), 'value')}, but {counted(columns, 'column')}",
            )
        rows += values.size
    return RunError(f"{place.path}: the file has changed meanwhile; run again")


_EMPTY = (b"''", b'""')
_SINGLE, _DOUBLE, _HASH = (ord(character) for character in "'\"#")


def _plain(block: bytes, path: Path, at: int) -> tuple[NDArray[np.uint8], bool]:
    """Blank out comments and quotes and fill the blanks between quotes, the length staying as it is.

    A quote opens after a blank and closes before one: in ``O'Neil.mrc`` it is a letter.
    """
    characters = np.frombuffer(block, dtype=np.uint8)
    if b"'" not in block and b'"' not in block and b"#" not in block:
        return characters, False
    special = (characters == _SINGLE) | (characters == _DOUBLE) | (characters == _HASH)
    special[1:] &= characters[:-1] <= 32
    marks = np.flatnonzero(special)
    after = characters[np.minimum(marks + 2, characters.size - 1)]
    empty = (characters[marks + 1] == characters[marks]) & (after <= 32)
    empty &= characters[marks] != _HASH
    plain, done = characters.copy(), 0
    for mark in marks[~empty].tolist():
        if mark < done:
            continue
        newline = block.index(b"\n", mark)
        if characters[mark] == _HASH:
            plain[mark:newline] = 32
            done = newline
            continue
        done = _closing(block, mark, newline)
        if done < 0:
            raise at_line(path, at + mark, "a quote is not closed")
        plain[mark], plain[done] = 32, 32
        plain[mark + 1 : done] = ord("x")
    return plain, bool(empty.any())


def _closing(block: bytes, mark: int, newline: int) -> int:
    """Find the quote that closes the one at `mark`: it has a blank after it; -1 if none does."""
    at = mark
    while (at := block.find(block[mark : mark + 1], at + 1, newline)) >= 0:
        if block[at + 1] <= 32:
            return at
    return -1


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
    return np.asarray(to_numpy(parsed), dtype=np.float64)


def _numbers(name: str, values: NDArray[np.float64], kind: pa.DataType, place: Place) -> pa.Array:
    values = np.ascontiguousarray(values)
    if not pa.types.is_integer(kind):
        return from_numpy(values)
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    bad = (whole != values) | (np.abs(values) >= _EXACT)
    if bad.any():
        row = int(bad.argmax())
        raise place.error(row, f"has {values[row]} for {name}, which is not a whole number")
    return from_numpy(whole)


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

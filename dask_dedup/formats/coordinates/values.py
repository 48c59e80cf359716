"""Convert the lines of pick files to arrays, one per column."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from dask_dedup.arrow import from_numpy, to_numpy
from dask_dedup.formats.star.values import as_values, find_bounds, is_number
from dask_dedup.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Texts for missing values, in lower case.
_MISSING = ("", "<na>", "na", "n/a", "nan", "none", "null", "-nan", "+nan")
#: MATLAB writes some numbers as complex numbers.
_COMPLEX = re.compile(
    r"(?P<real>[+-]?[\d.]+(?:e[+-]?\d+)?)[+-][\d.]+(?:e[+-]?\d+)?i", re.IGNORECASE
)


class RowError(ValueError):
    """Error about the values of a row. `row` is the number of the row, from 0."""

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(problem)
        self.row, self.problem = row, problem


@dataclass(frozen=True, slots=True)
class Table:
    """The values of lines as text, one Arrow array per column."""

    text: bytes
    names: tuple[str, ...]
    delimiter: str
    rows: int

    def columns(self, wanted: Sequence[str]) -> dict[str, pa.Array]:
        """Return the wanted columns as Arrow arrays of text."""
        if not self.rows:
            return {name: pa.array([], pa.string()) for name in wanted}
        return self._delimited(wanted) if self.delimiter else self._blank_separated(wanted)

    def _blank_separated(self, wanted: Sequence[str]) -> dict[str, pa.Array]:
        characters = np.frombuffer(self.text, dtype=np.uint8)
        bounds = find_bounds(characters)
        width = 2 * len(self.names)
        newlines = np.flatnonzero(characters == 10)
        if bounds.size != width * self.rows or not self._ends_fit(bounds, width, newlines):
            raise self._wrong_count(bounds, newlines)
        values = as_values(bounds, self.text)
        first = np.arange(0, bounds.size, width, dtype=np.int32)
        return {
            name: _as_text(values.take(from_numpy(first + np.int32(2 * self.names.index(name)))))
            for name in wanted
        }

    @staticmethod
    def _ends_fit(bounds: NDArray[np.int32], width: int, newlines: NDArray[np.intp]) -> bool:
        """Return whether all values of a row are on the same line, for all rows."""
        rows = bounds.reshape(-1, width)
        return bool((rows[:, -1] <= newlines).all() and (rows[1:, 0] > newlines[:-1]).all())

    def _wrong_count(self, bounds: NDArray[np.int32], newlines: NDArray[np.intp]) -> RowError:
        counts = np.bincount(np.searchsorted(newlines, bounds[::2]), minlength=newlines.size)
        row = int((counts != len(self.names)).argmax())
        return RowError(
            row,
            f"has {counted(int(counts[row]), 'value')}, but the file has {len(self.names)} columns",
        )

    def _delimited(self, wanted: Sequence[str]) -> dict[str, pa.Array]:
        names = [str(number) for number in range(len(self.names))]
        kept = [str(self.names.index(name)) for name in wanted]
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(self.text),
                read_options=pa.csv.ReadOptions(column_names=names, use_threads=False),
                parse_options=pa.csv.ParseOptions(delimiter=self.delimiter),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=kept,
                    column_types=dict.fromkeys(names, pa.binary()),
                    strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid:
            raise self._wrong_fields() from None
        if table.num_rows != self.rows:
            raise self._wrong_fields()
        return {
            name: pc.utf8_trim_whitespace(_as_text(table.column(number).combine_chunks()))
            for name, number in zip(wanted, kept, strict=True)
        }

    def _wrong_fields(self) -> RowError:
        """Return an error about the first line that has too few or too many fields."""
        columns = len(self.names)
        for row, line in enumerate(self.text.split(b"\n")[: self.rows]):
            try:
                text = line.rstrip(b"\r").decode(errors="replace")
                (fields,) = csv.reader([text], delimiter=self.delimiter, strict=True)
            except (csv.Error, ValueError):
                return RowError(row, "has a quote that is not closed, or control characters")
            if len(fields) != columns:
                return RowError(
                    row, f"has {counted(len(fields), 'value')}, but the file has {columns} columns"
                )
        return RowError(0, "or a line after it is no row of a text table")


def _as_text(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        text = [value.decode(errors="replace") for value in values.to_pylist()]
        return pa.array(text, pa.string())


def to_floats(values: pa.Array, name: str) -> NDArray[np.float64]:
    """Convert text to float64, with NaN for missing values. `name` is the name of the column, for errors."""
    try:
        return np.asarray(to_numpy(values.cast(pa.float64())), dtype=np.float64)
    except pa.ArrowInvalid:
        pass
    missing = pc.is_in(pc.utf8_lower(values), pa.array(_MISSING))
    present = pc.if_else(missing, None, values)
    try:
        return np.asarray(to_numpy(present.cast(pa.float64())), dtype=np.float64)
    except pa.ArrowInvalid:
        pass
    found = np.full(len(values), np.nan)
    for row, text in enumerate(present.to_pylist()):
        if text is None:
            continue
        complex_number = _COMPLEX.fullmatch(text)
        text = complex_number["real"] if complex_number else text.strip("'\"")
        if not is_number(text.encode()):
            raise RowError(row, f"has {text[:40]!r} for {name}, which is not a number")
        found[row] = float(text)
    return found


def whole_number(text: str) -> str:
    """Return a whole number without decimals, for example a tomogram number. Return other text unchanged.

    Examples
    --------
    >>> whole_number("5.0000"), whole_number("1.234567e+06"), whole_number("00255"), whole_number("5.5")
    ('5', '1234567', '00255', '5.5')
    """
    if text.isdecimal() or not is_number(text.encode()):
        return text
    number = float(text)
    return str(int(number)) if number.is_integer() else text


def is_numeric(value: bytes) -> bool:
    """Return whether a value is a number or means a missing value."""
    return is_number(value.strip(b"'\"")) or value.decode(errors="replace").lower() in _MISSING

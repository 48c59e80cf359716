"""Convert values to the text of a STAR file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.arrow import from_numpy
from dask_dedup.formats.coordinates.values import RowError, to_floats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: RELION's values for a missing number and a missing class of a pick.
NO_VALUE, NO_CLASS = "-999.000000", "-999"
#: Largest relative difference between a number and its text.
_ROUNDING = 1e-9
_QUOTED = r"^$|\s|^[\"'#;_]|^(data_|loop_)"


def as_text(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column of text or numbers as text. Numbers have as many digits as are needed to read them exactly."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()).fill_null("None")


def choose_text(values: Floats, text: pa.Array | None, *, missing: str = "nan") -> pa.Array:
    """Return numbers as text. If the input's text is the same number, keep this text, else write 6 decimals.

    Parameters
    ----------
    values : (n,) float64
    text : pyarrow.Array of str or None
        Text of the input. May have nulls.
    missing : str
        Text for NaN.
    """
    computed = pa.array(np.char.mod("%.6f", values).tolist(), pa.string())
    if text is not None:
        try:
            stored = to_floats(text.fill_null("nan"), "")
        except RowError:
            stored = np.full(values.size, np.nan)
        with np.errstate(invalid="ignore"):
            same = np.abs(stored - values) <= _ROUNDING * np.maximum(1.0, np.abs(values))
        plain = pc.fill_null(pc.match_substring_regex(text, r"^[0-9eE+.-]+$"), fill_value=False)
        computed = pc.if_else(pc.and_(from_numpy(same), plain), text, computed)
    return pc.if_else(from_numpy(np.isnan(values)), missing, computed)


def constant(text: str, rows: int) -> pa.Array:
    """Return the same text for all rows."""
    return pa.repeat(pa.scalar(text, pa.string()), rows)


def quote(values: pa.Array) -> pa.Array:
    """Put values into quotes if STAR requires it."""
    needs = pc.match_substring_regex(values, _QUOTED)
    if not pc.any(needs).as_py():
        return values
    double = pc.binary_join_element_wise('"', values, '"', "")
    single = pc.binary_join_element_wise("'", values, "'", "")
    return pc.if_else(needs, pc.if_else(pc.match_substring(values, '"'), single, double), values)


def join_lines(columns: Sequence[pa.Array]) -> pa.Array:
    """Return one line of text for each row, with a newline."""
    lines = pc.binary_join_element_wise(*map(quote, columns), " ")
    return pc.binary_join_element_wise(lines, "", "\n")


def to_bytes(lines: pa.Array) -> bytes:
    """Return the text of all lines."""
    if not len(lines):
        return b""
    joined = pa.concat_arrays([lines])
    start, stop = joined.offset, joined.offset + len(joined)
    offsets = np.frombuffer(joined.buffers()[1], np.int32)
    return bytes(joined.buffers()[2][int(offsets[start]) : int(offsets[stop])])


def write_lines(lines: pa.Array, mask: NDArray[np.bool_], path: Path) -> None:
    """Write the lines that `mask` selects."""
    path.write_bytes(to_bytes(lines.filter(from_numpy(mask))))


def header(block: str, labels: Sequence[str]) -> bytes:
    """Return the lines of a STAR table before its rows."""
    listed = [f"_{label} #{number}" for number, label in enumerate(labels, 1)]
    return "\n".join(["", f"data_{block}", "", "loop_", *listed, ""]).encode()

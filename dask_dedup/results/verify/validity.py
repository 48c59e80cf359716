"""Find the rows that cannot be compared, from the stored columns; no code is shared with `particles`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.dedup.params import FARTHEST, LARGEST_PIXEL_SIZE, LEAST_PIXEL_SIZE
from dask_dedup.formatting import counted
from dask_dedup.results.verify.verification import MismatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.particles.inputs import Inputs

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

#: Number of rows that cannot be compared, by input and reason.
InvalidCounts = Counter[tuple[int, str]]


def find_reasons(inputs: Inputs, source: int, rows: pa.Table, picks: Picks) -> NDArray[np.object_]:
    """Return the first reason why each row cannot be compared, or an empty text; (n,) object.

    Parameters
    ----------
    inputs : Inputs
    source : int
        Ordinal of the input.
    rows : pyarrow.Table
        The columns named by the roles.
    picks : Picks
        The same rows; gives the micrograph keys and the centres.
    """
    found = np.full(len(picks), "", dtype=object)
    for reason, wrong in _reasons(inputs, source, rows, picks):
        if wrong.any():
            found[wrong & (found == "")] = reason
    return found


def _reasons(
    inputs: Inputs, source: int, rows: pa.Table, picks: Picks
) -> Iterator[tuple[str, Bools]]:
    """Yield each reason, in order, and the rows it applies to."""
    roles, params, table = inputs.roles[source], inputs.params, inputs.micrographs

    def numbers(*names: str) -> list[Floats]:
        return [values for name in names for values in _numbers(rows.column(name))]

    yield "micrograph", _empty(rows.column(roles.micrograph))
    listed = np.empty(0, np.intp)
    if table is not None:
        yield "unknown_micrograph", ~np.isin(picks.micrograph, table.keys)
        listed = np.searchsorted(table.keys, picks.micrograph)
    yield "position", ~_all_finite(numbers(*roles.position))
    if roles.shift:
        yield "shift", ~_all_finite(numbers(*roles.shift))
        if roles.subtomogram:
            yield "angle", ~_all_finite(numbers(*roles.subtomogram))
    in_pixels = roles.unit != "angstrom" and (params.measures or bool(roles.shift))
    sizes = [roles.psize_shift] if roles.shift and roles.psize_shift else []
    if in_pixels and table is None and roles.psize_mic:
        sizes.append(roles.psize_mic)
    for size in numbers(*sizes):
        yield "pixel_size", ~((size >= LEAST_PIXEL_SIZE) & (size <= LARGEST_PIXEL_SIZE))
    flipped = source in params.flip_y and roles.unit == "pixel"
    if (in_pixels and roles.unit == "fraction") or flipped:
        shape: list[Floats] = []
        if table is not None and table.shape is not None:
            known = np.vstack([table.shape, np.full(2, np.nan)])
            shape = list(known[listed].T)[: 1 if flipped else 2]
        elif roles.shape:
            shape = numbers(roles.shape)
        for length in shape:
            yield "shape", ~((length > 0) & np.isfinite(length))
    centres = np.column_stack([picks.x, picks.y, picks.z])
    yield "too_far", np.asarray(~(np.abs(centres) <= FARTHEST).all(axis=1))
    if roles.uid:
        yield "uid", _empty(rows.column(roles.uid))
    if params.undo_symmetry_expansion and roles.label:
        yield "source", _empty(rows.column(roles.label))


def _numbers(column: pa.ChunkedArray) -> list[Floats]:
    """Return the numbers of a column, or of both elements of its pairs; NaN for nulls."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_nested(kind):
        return [_numbers(pc.list_element(column, index))[0] for index in (0, 1)]
    return [np.array(column.to_pandas(), dtype=np.float64)]


def _all_finite(columns: list[Floats]) -> Bools:
    return np.asarray(np.isfinite(np.column_stack(columns)).all(axis=1))


def _empty(column: pa.ChunkedArray) -> Bools:
    """Return which rows have no value or an empty text."""
    if pa.types.is_dictionary(column.type):
        words = [word for chunk in column.chunks for word in chunk.dictionary.to_pylist()]
        if not column.null_count and all(words):
            return np.zeros(len(column), dtype=bool)
        column = column.cast(column.type.value_type)
    empty = column.is_null()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        empty = pc.or_(empty, pc.fill_null(pc.equal(column, ""), fill_value=False))
    return np.array(empty.to_pandas(), dtype=bool)


def compare_counts(inputs: Inputs, totals: dict[str, Any], counts: InvalidCounts) -> str:
    """Compare the counts of invalid rows in the manifest with those found here."""
    by_reason: Counter[str] = Counter()
    by_input = [0] * len(inputs.tables)
    for (source, reason), rows in counts.items():
        by_reason[reason] += rows
        by_input[source] += rows
    number = sum(by_input)
    for key, stated, value in (
        ("invalid", totals["invalid"], number),
        ("invalid_by_reason", totals["invalid_by_reason"], dict(by_reason)),
        ("invalid by input", [entry["invalid"] for entry in totals["by_input"]], by_input),
    ):
        if stated != value:
            raise MismatchError(f"{key} is {stated} in the manifest, but {value} in the inputs")
    if not number:
        return "every row can be compared"
    outcome = "kept" if inputs.params.invalid == "keep" else "rejected"
    what = "is" if number == 1 else "are"
    return f"{counted(number, 'row')} cannot be compared and {what} {outcome}; no other row was set aside"

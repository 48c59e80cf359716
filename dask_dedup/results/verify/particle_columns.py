"""Derive the columns that describe particles in ``duplicates`` and ``votes``, and compare them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.arrow import to_numpy
from dask_dedup.dedup.picks import NO_HALF

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.particles.column_values import Columns
    from dask_dedup.particles.inputs import Inputs

    Bools = NDArray[np.bool_]


def known(values: NDArray[np.generic], valid: Bools) -> pa.Array:
    """Return an array that is null where `valid` is False."""
    return pa.array(values, mask=~valid)


def texts(codes: NDArray[np.generic], values: pa.Array, valid: Bools) -> pa.Array:
    """Return ``values[codes]`` as an array that is null where `valid` is False."""
    return pa.DictionaryArray.from_arrays(known(codes.astype(np.int32), valid), values)


def particle_columns(inputs: Inputs, picks: Picks, valid: Bools) -> dict[str, pa.Array]:
    """Map uid, score, input, file, row and half_set to the expected values of `picks`.

    The values are null where `valid`, (n,) bool, is False.
    """
    with_uid = np.array([roles.uid is not None for roles in inputs.roles])
    paths = pa.array([table.path for table in inputs.tables], pa.string())
    slices = [(part, piece) for part in inputs.fragments for piece in part.slices]
    files = pa.array([piece.path for _, piece in slices], pa.string())
    first_row = np.array([piece.first_row for _, piece in slices], dtype=np.int64)
    size = np.array([piece.rows for _, piece in slices], dtype=np.int64)
    fragment = np.array([part.number for part, _ in slices], dtype=np.int64)
    before = np.cumsum(size) - size
    before -= before[np.searchsorted(fragment, fragment)]
    first_row_id = (fragment << 32) + before
    row_id = picks.row_id.astype(np.int64)
    slice_of = np.searchsorted(first_row_id, row_id, side="right") - 1
    return {
        "uid": known(picks.uid, valid & with_uid[picks.source]),
        "score": known(picks.score, valid & ~np.isnan(picks.score)),
        "input": texts(picks.source, paths, valid),
        "file": texts(slice_of, files, valid),
        "row": known(first_row[slice_of] + row_id - first_row_id[slice_of], valid),
        "half_set": known(picks.half, valid & (picks.half != NO_HALF)),
    }


def differs(found: Columns, expected: Columns, name: str) -> Bools:
    """Return a (n,) bool mask of the rows that differ in the column `name`. Floats are compared bit by bit."""
    kind = expected.rows.schema.field(name).type
    if pa.types.is_dictionary(kind):
        (codes, names), (expected_codes, expected_names) = found.texts(name), expected.texts(name)
        # Two inputs may have the same path, so texts are compared and not codes.
        number = {text: n for n, text in enumerate(expected_names)}
        numbers = np.array([*(number.get(text, -2) for text in names), -1])
        expected_numbers = np.array([*(number[text] for text in expected_names), -1])
        return np.asarray(numbers[codes] != expected_numbers[expected_codes])
    missing = found.nulls(name)
    if pa.types.is_floating(kind):
        same = found.floats(name).view(np.uint64) == expected.floats(name).view(np.uint64)
    elif pa.types.is_boolean(kind):
        equal = pc.equal(found.rows.column(name), expected.rows.column(name))
        same = to_numpy(pc.fill_null(equal, fill_value=False))
    else:
        same = found.integers(name) == expected.integers(name)
    return np.asarray((missing != expected.nulls(name)) | (~missing & ~same))

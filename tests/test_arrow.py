"""Arrow and NumPy arrays convert to each other without a change of values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_dedup.arrow import from_numpy, from_strings, to_numpy
from dask_dedup.dedup.arrays import unique_inverse

KINDS = [pa.bool_(), pa.int8(), pa.uint16(), pa.int32(), pa.uint64(), pa.float32(), pa.float64()]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(data=st.data())
def test_numbers_are_converted_to_numpy_unchanged(kind, data):
    number = st.booleans() if kind == pa.bool_() else st.integers(0, 100)
    rows = data.draw(st.lists(st.lists(number, max_size=20), max_size=3))
    chunks = [pa.array(row, kind) for row in rows]
    start = data.draw(st.integers(0, 25))
    column = pa.chunked_array(chunks, kind).slice(start)
    found = to_numpy(column)
    assert found.dtype == kind.to_pandas_dtype()
    assert found.tolist() == column.to_pylist()


@given(st.lists(st.none() | st.floats(allow_nan=False), max_size=20), st.integers(0, 20))
def test_nulls_among_floats_become_nan(values, start):
    column = pa.array(values, pa.float64()).slice(start)
    expected = [np.nan if value is None else value for value in column.to_pylist()]
    np.testing.assert_array_equal(to_numpy(column), expected)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(data=st.data())
def test_numbers_are_converted_to_arrow_with_nulls(kind, data):
    known = np.array(data.draw(st.lists(st.booleans(), max_size=30)), dtype=bool)
    values = np.arange(known.size).astype(kind.to_pandas_dtype())
    array = from_numpy(values, known)
    array.validate(full=True)
    assert array.equals(pa.array(values, kind, mask=~known))
    assert from_numpy(values[::2]).equals(pa.array(values[::2], kind))


@given(st.lists(st.text(max_size=5), max_size=5))
def test_strings_are_converted_to_arrow_unchanged(texts):
    array = from_strings(texts)
    array.validate(full=True)
    assert array.to_pylist() == texts


KEYS = st.integers(0, 5) | st.integers(2**64 - 3, 2**64 - 1)


@given(st.lists(st.tuples(KEYS, st.integers(1, 4))), st.booleans())
def test_unique_inverse_agrees_with_numpy(runs, read_only):
    keys = np.array([key for key, times in runs for _ in range(times)], dtype=np.uint64)
    keys.flags.writeable = not read_only
    distinct, number = unique_inverse(keys)
    expected, inverse = np.unique(keys, return_inverse=True)
    assert distinct.dtype == np.uint64
    assert distinct.tolist() == expected.tolist()
    assert number.tolist() == inverse.tolist()


def test_unique_inverse_agrees_with_numpy_where_hashes_collide():
    keys = np.random.default_rng(0).integers(2**64, size=20_000, dtype=np.uint64)
    keys = np.concatenate([keys, keys[::-1]])
    for found, expected in zip(
        unique_inverse(keys), np.unique(keys, return_inverse=True), strict=True
    ):
        np.testing.assert_array_equal(found, expected)

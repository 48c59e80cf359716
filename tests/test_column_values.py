"""Every Arrow type of a column gives the same numbers; other types are errors with its name."""

from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
import pytest

from dask_dedup.errors import InputError
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.names import Naming, hash_texts
from dask_dedup.particles.micrographs.row_keys import RowMicrographs

INTEGERS = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
LISTS = [
    pa.list_(pa.float32()),
    pa.large_list(pa.float32()),
    pa.list_(pa.float32(), 2),
    pa.list_(pa.uint32()),
    pa.list_(pa.int16(), 2),
    pa.large_list(pa.float64()),
]
TEXTS = [
    pa.string(),
    pa.large_string(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int64(), pa.large_string()),
]
PAIRS = [[1, 2], None, [3, 4], [5, 6]]


def shown(values):
    """Return a test id that is the same in every process."""
    return f"array of {values.type}" if isinstance(values, pa.Array) else repr(values)


def column(values):
    return Columns(pa.table({"c": values}), "some.parquet")


def stored_as(kind, values):
    """Return an Arrow array; pyarrow 17 cannot make every dictionary in one step."""
    if not pa.types.is_dictionary(kind):
        return pa.array(values, kind)
    plain = pa.array(values, kind.value_type).dictionary_encode()
    return pa.DictionaryArray.from_arrays(plain.indices.cast(kind.index_type), plain.dictionary)


def layouts(values, kind):
    """One chunk; many, some empty; and a slice of more."""
    array = stored_as(kind, values)
    chunks = [array.slice(0, 1), array.slice(1, 0), array.slice(1)]
    padded = pa.concat_arrays([array, array, array]).slice(len(values), len(values))
    return [array, pa.chunked_array(chunks), padded]


def error_of(read, *words):
    with pytest.raises(InputError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith("some.parquet: the column c ")
    for word in words:
        assert word in message


@pytest.mark.parametrize("kind", [*INTEGERS, *FLOATS], ids=str)
def test_numbers_read_as_float64(kind):
    for values in layouts([np.float16(1), np.float16(7), np.float16(120)], kind):
        read = column(values).floats("c")
        assert read.dtype == np.float64
        assert read.tolist() == [1.0, 7.0, 120.0]


@pytest.mark.parametrize("kind", [*INTEGERS, *FLOATS[1:]], ids=str)
def test_null_numbers_read_as_nan(kind):
    for values in layouts([1, None, 120], kind):
        np.testing.assert_array_equal(column(values).floats("c"), [1.0, np.nan, 120.0])


def test_float32_widens_exactly():
    values = np.random.default_rng(0).random(100, dtype=np.float32)
    np.testing.assert_array_equal(column(values).floats("c"), values.astype(np.float64))


def test_dictionary_numbers_and_decimals_read_as_numbers():
    encoded = pa.array([1.5, None, 1.5, 2.0]).dictionary_encode()
    np.testing.assert_array_equal(column(encoded).floats("c"), [1.5, np.nan, 1.5, 2.0])
    exact = pa.array([decimal.Decimal("1.25"), None])
    np.testing.assert_array_equal(column(exact).floats("c"), [1.25, np.nan])


def test_decimals_become_the_nearest_float():
    numbers = np.random.default_rng(0).integers(-(10**17), 10**17, 1000)
    exact = [decimal.Decimal(int(number)).scaleb(-9) for number in numbers]
    for kind in (pa.decimal128(38, 9), pa.decimal256(60, 9)):
        read = column(pa.array(exact, kind)).floats("c")
        assert read.tolist() == [float(number) for number in exact]


def test_a_column_of_nothing_is_all_nan():
    read = column(pa.nulls(3))
    assert np.isnan(read.floats("c")).all()
    assert np.isnan(read.vectors("c", 2)).all()
    codes, texts = read.texts("c")
    assert codes.tolist() == [-1, -1, -1]
    assert texts == []
    assert read.nulls("c").all()


def test_columns_side_by_side():
    table = Columns(pa.table({"x": [1.0, 2.0], "y": pa.array([3, None], pa.int8())}), "t")
    np.testing.assert_array_equal(table.points(("x", "y")), [[1.0, 3.0], [2.0, np.nan]])


@pytest.mark.parametrize(
    "values", [["1.5"], [True], [[1.0]], pa.array(["a"]).dictionary_encode()], ids=shown
)
def test_other_types_than_numbers_are_refused(values):
    error_of(lambda: column(values).floats("c"), "not numbers")


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
def test_integers_read_bit_for_bit(kind):
    for values in layouts([0, 1, 127], kind):
        read = column(values).integers("c")
        assert read.dtype == np.uint64
        assert read.tolist() == [0, 1, 127]


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
def test_null_integers_read_as_zero_and_are_reported(kind):
    for values in layouts([5, None, 127], kind):
        assert column(values).integers("c").tolist() == [5, 0, 127]
        assert column(values).nulls("c").tolist() == [False, True, False]


@pytest.mark.parametrize("nulls", [[], [None]])
@pytest.mark.parametrize("encode", [False, True])
def test_uids_above_two_to_the_63_survive(nulls, encode):
    uids = [2**63 + 5, 2**64 - 1, 2**53 + 1]
    values = pa.array([*uids, *nulls], pa.uint64())
    if encode:
        values = values.dictionary_encode()
    assert column(values).integers("c").tolist()[:3] == uids


def test_negative_integers_keep_their_bits():
    read = column(pa.array([-1, -(2**63), 3])).integers("c")
    assert read.tolist() == [2**64 - 1, 2**63, 3]
    assert column(pa.array([-1], pa.int8())).integers("c").tolist() == [2**64 - 1]


def test_dictionaries_that_differ_from_chunk_to_chunk_are_joined():
    chunks = [pa.array(part, pa.uint64()).dictionary_encode() for part in ([7, 9], [9, 4, None])]
    assert column(pa.chunked_array(chunks)).integers("c").tolist() == [7, 9, 9, 4, 0]


@pytest.mark.parametrize("values", [[1.0, 2.0], ["1"], pa.nulls(2), [True]], ids=shown)
def test_other_types_than_integers_are_refused(values):
    error_of(lambda: column(values).integers("c"), "not integers")


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_lists_read_as_rows_of_numbers(kind):
    wanted = [[1, 2], [np.nan, np.nan], [3, 4], [5, 6]]
    for values in layouts(PAIRS, kind):
        read = column(values).vectors("c", 2)
        assert read.dtype == np.float64
        np.testing.assert_array_equal(read, wanted)


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_nulls_within_a_list_read_as_nan(kind):
    read = column(pa.array([[1, None], [3, 4]], kind)).vectors("c", 2)
    np.testing.assert_array_equal(read, [[1, np.nan], [3, 4]])


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_lists_may_all_be_null_or_none_at_all(kind):
    assert np.isnan(column(pa.array([None, None], kind)).vectors("c", 2)).all()
    assert column(pa.array([], kind)).vectors("c", 2).shape == (0, 2)
    assert column(pa.chunked_array([], kind)).vectors("c", 2).shape == (0, 2)


@pytest.mark.parametrize("short", [[9], [], [7, 8, 9]])
@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64())], ids=str)
def test_a_list_of_another_length_is_refused_with_its_row(kind, short):
    chunks = [pa.array([[1, 2], [3, 4]], kind), pa.array([None, [5, 6], short], kind)]
    values = pa.chunked_array(chunks)
    error_of(lambda: column(values).vectors("c", 2), "2 numbers a row", "row 4")


def test_fixed_lists_of_another_length_are_refused():
    values = pa.array([None, [1, 2, 3]], pa.list_(pa.float32(), 3))
    error_of(lambda: column(values).vectors("c", 2), "2 numbers a row", "row 1")


def test_other_types_than_lists_of_numbers_are_refused():
    error_of(lambda: column(["[1, 2]"]).vectors("c", 2), "string", "2 numbers a row")
    error_of(lambda: column([1.0]).vectors("c", 2), "double", "2 numbers a row")
    error_of(lambda: column([["a", "b"]]).vectors("c", 2), "not numbers")


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_texts_are_numbered(kind):
    for values in layouts(["b", "a", None, "b", "é"], kind):
        codes, texts = column(values).texts("c")
        assert [texts[code] if code >= 0 else None for code in codes] == ["b", "a", None, "b", "é"]
        assert column(values).nulls("c").tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_columns_without_text(kind):
    for values in (stored_as(kind, []), pa.chunked_array([], kind)):
        codes, _ = column(values).texts("c")
        assert codes.size == 0


def test_text_dictionaries_that_differ_from_chunk_to_chunk_are_joined():
    chunks = [pa.array(part).dictionary_encode() for part in (["a", "b"], ["c", "a", None])]
    codes, texts = column(pa.chunked_array(chunks)).texts("c")
    assert [texts[code] if code >= 0 else None for code in codes] == ["a", "b", "c", "a", None]


@pytest.mark.parametrize(
    "values", [[1], [b"a"], [["a"]], pa.array([1]).dictionary_encode()], ids=shown
)
def test_other_types_than_text_are_refused(values):
    error_of(lambda: column(values).texts("c"), "not text")


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_a_micrographs_key_does_not_depend_on_how_its_name_is_stored(kind):
    for values in layouts(["J1/b.mrc", "J1/a.mrc", None, "J1/b.mrc"], kind):
        found = RowMicrographs.read(column(values), "c", Naming("path"))
        wanted = hash_texts(["J1/b.mrc", "J1/a.mrc"]).tolist()
        assert found.keys.tolist() == [wanted[0], wanted[1], 0, wanted[0]]
        assert found.missing.tolist() == [False, False, True, False]
        assert {(each.key, each.name) for each in found.named()} == {
            (wanted[0], "J1/b.mrc"),
            (wanted[1], "J1/a.mrc"),
        }


@pytest.mark.parametrize("kind", [pa.uint64(), pa.dictionary(pa.int32(), pa.uint64())], ids=str)
def test_a_micrographs_key_is_its_uid(kind):
    found = RowMicrographs.read(column(stored_as(kind, [2**63 + 1, 4])), "c", Naming("uid"))
    assert found.keys.tolist() == [2**63 + 1, 4]
    assert found.named() == []


def test_keys_of_micrograph_names_are_the_same_on_every_machine():
    keys = Naming("path").keys(["J1/a.mrc", ""])
    assert keys.tolist() == [2068059208678623579, 13020603013274838756]

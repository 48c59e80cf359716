"""Parquet: how tables are stored, and that every value of a row is preserved."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import (
    OLD_PYARROW,
    Output,
    assert_same_rows,
    bits,
    cryosparc,
    let_off_old_pyarrow,
    relion,
    uids,
    write_file,
    write_folder,
    write_hive,
)

import dask_dedup
from dask_dedup import DedupParams, InputError, run
from dask_dedup.formats import open_table
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.parquet import writer
from dask_dedup.formats.parquet.encoding import encodings_by_type

PICKS_ONLY = ["alignments"]
#: Six values for a table of six rows; Z stands for null.
Z = None
NAN_WITH_A_PAYLOAD = np.array([0x7FF8DEADBEEF0001], np.uint64).view(np.float64)[0]


def fragments_of(path):
    return open_table(path).fragments


def rows_of(path):
    table = open_table(path)
    return pa.concat_tables([parquet.read(table, part) for part in table.fragments])


def answer(path, out, **params):
    run(path, out, DedupParams(**params))
    return Output(out)


class TestReading:
    def test_a_file_may_have_any_name(self, tmp_path):
        table = cryosparc(30)
        assert uids(rows_of(write_file(table, tmp_path / "picks.dat"))) == uids(table)

    @pytest.mark.parametrize("suffix", [".parquet", ".parq", ".pq"])
    def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(self, tmp_path, suffix):
        table = cryosparc(30)
        for first, name in ((20, "b"), (0, "a/2"), (10, "a/b/c/1")):
            write_file(table.slice(first, 10), tmp_path / "in" / f"{name}{suffix}")
        assert uids(rows_of(tmp_path / "in")) == uids(table)

    def test_a_folder_named_like_a_file_is_a_folder(self, tmp_path):
        table = cryosparc(30)
        folder = write_folder(table, tmp_path / "picks.parquet" / "inner.parquet")
        assert uids(rows_of(folder.parent)) == uids(table)

    def test_hidden_files_and_folders_are_not_read(self, tmp_path):
        folder = write_folder(cryosparc(30), tmp_path / "in")
        strange = cryosparc(5, seed=9)
        for name in ("_metadata.parquet", ".part.parquet", "_temporary/0.parquet", ".old/0.pq"):
            write_file(strange, folder / name)
        (folder / "_SUCCESS").touch()
        (folder / "readme.txt").write_text("no table")
        assert uids(rows_of(folder)) == uids(cryosparc(30))

    def test_a_folder_below_a_hidden_folder_is_read_if_it_is_the_input(self, tmp_path):
        folder = write_folder(cryosparc(30), tmp_path / ".cache" / "_picks")
        assert uids(rows_of(folder)) == uids(cryosparc(30))

    def test_hive_keys_become_columns(self, tmp_path):
        session = [f"s{n % 3}" for n in range(30)]
        run_number = [n % 2 for n in range(30)]
        table = cryosparc(30, columns={"session": session, "run": run_number})
        write_hive(table, tmp_path / "flat", "session")
        for part in sorted((tmp_path / "flat").iterdir()):
            nested = pq.read_table(part / "data.parquet", partitioning=None)
            write_hive(nested, tmp_path / "in" / part.name, "run")
        rows = rows_of(tmp_path / "in")
        assert rows.schema.names[-2:] == ["session", "run"]
        found = zip(uids(rows), rows["session"].to_pylist(), rows["run"].to_pylist(), strict=True)
        assert sorted(found) == sorted(zip(uids(table), session, run_number, strict=True))

    def test_a_hive_key_may_name_the_micrographs(self, tmp_path):
        table = relion(60)
        whole = answer(write_file(table, tmp_path / "one.parquet"), tmp_path / "whole")
        folder = write_hive(table, tmp_path / "in", "rlnMicrographName")
        answer(folder, tmp_path / "parts")
        kept = rows_of(tmp_path / "parts" / "particles_kept")
        names = kept["rlnMicrographName"].cast(pa.string())
        kept = kept.set_column(
            kept.column_names.index("rlnMicrographName"), "rlnMicrographName", names
        )
        assert kept.sort_by("rlnCoordinateX").select(table.column_names) == (
            whole.kept.sort_by("rlnCoordinateX")
        )

    def test_the_hive_default_partition_is_null(self, tmp_path):
        table = cryosparc(20)
        write_file(table.slice(0, 10), tmp_path / "in" / "batch=7" / "0.parquet")
        nameless = "batch=__HIVE_DEFAULT_PARTITION__"
        write_file(table.slice(10), tmp_path / "in" / nameless / "0.parquet")
        batch = rows_of(tmp_path / "in")["batch"].to_pylist()
        assert sorted(batch, key=str) == [7] * 10 + [None] * 10

    def test_a_column_in_the_file_overrides_a_hive_key(self, tmp_path):
        table = cryosparc(10, columns={"batch": pa.array([1.5] * 10)})
        write_file(table, tmp_path / "in" / "batch=7" / "0.parquet")
        assert rows_of(tmp_path / "in")["batch"].to_pylist() == [1.5] * 10

    @pytest.mark.parametrize("note", [["a"] * 20, [1.5] * 20, [[1, 2]] * 20])
    def test_a_column_missing_in_some_files_is_null_there(self, tmp_path, note):
        table = cryosparc(20, columns={"note": pa.array(note)})
        write_file(table.slice(0, 10), tmp_path / "in" / "0.parquet")
        write_file(table.slice(10).drop_columns(["note"]), tmp_path / "in" / "1.parquet")
        rows = rows_of(tmp_path / "in")
        assert rows["note"].to_pylist() == [*note[:10], *[None] * 10]


class TestFragments:
    def test_small_files_are_grouped(self, tmp_path):
        folder = write_folder(cryosparc(200), tmp_path / "in", files=50)
        (only,) = fragments_of(folder)
        assert only.rows == 200
        assert len(only.slices) == 50

    def test_files_are_grouped_up_to_the_limit(self, tmp_path, monkeypatch):
        folder = write_folder(cryosparc(200), tmp_path / "in", files=50)
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 6_000)
        parts = fragments_of(folder)
        assert 2 < len(parts) < 50
        assert sum(part.rows for part in parts) == 200

    def test_a_large_file_is_split_at_its_row_groups(self, tmp_path, monkeypatch):
        table = cryosparc(200)
        path = write_file(table, tmp_path / "in.parquet", row_group_size=20)
        assert len(fragments_of(path)) == 1
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        parts = fragments_of(path)
        assert [part.rows for part in parts] == [20] * 10
        assert [part.first_row for part in parts] == list(range(0, 200, 20))
        assert uids(rows_of(path)) == uids(table)

    def test_each_fragment_has_a_part_in_each_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        path = write_file(cryosparc(60), tmp_path / "in.parquet", row_group_size=20)
        result = answer(path, tmp_path / "out")
        for name in ("particles_kept", "particles_rejected", "duplicates"):
            names = [part.name for part in result.parts(name)]
            assert names == [f"part-0000{number}.parquet" for number in range(3)]

    def test_a_part_without_rows_is_readable(self, tmp_path):
        path = write_file(cryosparc(2, micrographs=1), tmp_path / "in.parquet")
        result = answer(path, tmp_path / "out", min_separation=0)
        assert result.rejected.num_rows == 0
        assert_same_rows(result.kept, pq.read_table(path))

    def test_an_empty_table_gives_empty_datasets(self, tmp_path):
        path = write_file(cryosparc(0), tmp_path / "in.parquet")
        result = answer(path, tmp_path / "out")
        assert (result.kept.num_rows, result.rejected.num_rows) == (0, 0)
        assert result.kept.schema.equals(pq.read_schema(path), check_metadata=True)

    def test_an_empty_file_among_others_is_harmless(self, tmp_path):
        folder = write_folder(cryosparc(30), tmp_path / "in")
        write_file(cryosparc(0), folder / "batch-000a.parquet")
        assert uids(rows_of(folder)) == uids(cryosparc(30))


TYPES = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]


def text(kind, values):
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


class TestTypesOfSeveralFiles:
    def mix(self, folder, name, columns):
        for number, column in enumerate(columns):
            rows = cryosparc(20, seed=number, columns={name: column}, drop=PICKS_ONLY)
            write_file(rows, folder / f"{number}.parquet")
        return folder

    @pytest.mark.parametrize("one", TYPES, ids=str)
    @pytest.mark.parametrize("other", [*TYPES, pa.null()], ids=str)
    def test_all_kinds_of_text_fit_together(self, tmp_path, one, other):
        values = [f"v{n % 3}" for n in range(20)]
        second = pa.nulls(20) if pa.types.is_null(other) else text(other, values)
        folder = self.mix(tmp_path / "in", "note", [text(one, values), second])
        result = answer(folder, tmp_path / "out", min_separation=0)
        expected = [*values, *second.to_pylist()]
        assert result.kept["note"].to_pylist() == expected

    @pytest.mark.parametrize(
        ("one", "other", "common"),
        [
            (pa.int32(), pa.int64(), pa.int64()),
            (pa.int8(), pa.int16(), pa.int16()),
            (pa.uint64(), pa.uint8(), pa.uint64()),
            (pa.float32(), pa.float64(), pa.float64()),
            (pa.null(), pa.float32(), pa.float32()),
            (pa.int64(), pa.float64(), pa.float64()),
            (pa.float32(), pa.int8(), pa.float64()),
            (pa.uint8(), pa.int32(), pa.int32()),
            (pa.int8(), pa.uint32(), pa.int64()),
            (pa.decimal128(20, 0), pa.int64(), pa.decimal128(20, 0)),
            (pa.uint64(), pa.decimal128(9, 2), pa.decimal128(22, 2)),
        ],
        ids=str,
    )
    def test_the_wider_type_holds_both(self, tmp_path, one, other, common):
        def column(kind):
            return pa.array([None if pa.types.is_null(kind) else 3] * 20, kind)

        folder = self.mix(tmp_path / "in", "extra", [column(one), column(other)])
        result = answer(folder, tmp_path / "out", min_separation=0)
        assert result.kept.schema.field("extra").type == common
        expected = [*column(one).to_pylist(), *column(other).to_pylist()]
        assert result.kept["extra"].to_pylist() == expected

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (pa.int64(), pa.uint64()),
            (pa.string(), pa.float64()),
            (pa.decimal128(38, 20), pa.uint64()),
            (pa.list_(pa.float32(), 2), pa.list_(pa.float32(), 3)),
            (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        ],
        ids=str,
    )
    def test_types_that_do_not_fit_are_refused_with_file_and_column(self, tmp_path, one, other):
        columns = [pa.nulls(20, kind) for kind in (one, other)]
        folder = self.mix(tmp_path / "in", "extra", columns)
        with pytest.raises(InputError, match=r"1\.parquet: the column extra has type"):
            open_table(folder)

    @pytest.mark.parametrize(
        ("one", "other", "common"),
        [
            (pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ns")),
            (pa.binary(), pa.binary(3), pa.binary()),
            (pa.list_(pa.int64()), pa.list_(pa.float32()), pa.list_(pa.float64())),
            (pa.list_(pa.int32(), 2), pa.list_(pa.float64(), 2), pa.list_(pa.float64(), 2)),
        ],
        ids=str,
    )
    def test_a_type_that_holds_both_is_found(self, tmp_path, one, other, common):
        folder = self.mix(tmp_path / "in", "extra", [pa.nulls(20, one), pa.nulls(20, other)])
        assert open_table(folder).schema.field("extra").type == common

    @pytest.mark.parametrize("number", [2**53, -(2**53)])
    def test_whole_numbers_become_floats_exactly(self, tmp_path, number):
        """pandas stores whole numbers as floats where some are missing."""
        columns = [pa.array([number] * 20), pa.array([0.5] * 20)]
        folder = self.mix(tmp_path / "in", "extra", columns)
        result = answer(folder, tmp_path / "out", min_separation=0)
        assert result.kept["extra"].to_pylist() == [float(number)] * 20 + [0.5] * 20
        assert dask_dedup.verify(tmp_path / "out").verified

    def test_a_whole_number_that_no_float_holds_is_refused(self, tmp_path):
        columns = [pa.array([0.5] * 20), pa.array([2**53 + 1] * 20)]
        folder = self.mix(tmp_path / "in", "extra", columns)
        message = r"1\.parquet: the column extra is int64 here and double in other files"
        with pytest.raises(InputError, match=message):
            answer(folder, tmp_path / "out", min_separation=0)
        assert not (tmp_path / "out").exists()

    def test_positions_may_be_whole_numbers_in_one_file(self, tmp_path):
        whole = pa.array(np.arange(40) * 7)
        for number, column in enumerate((whole, whole.cast(pa.float64()))):
            rows = relion(40, seed=number, columns={"rlnCoordinateX": column})
            write_file(rows, tmp_path / "mixed" / f"{number}.parquet")
            rows = rows.set_column(1, "rlnCoordinateX", column.cast(pa.float64()))
            write_file(rows, tmp_path / "floats" / f"{number}.parquet")
        mixed, floats = (
            answer(tmp_path / name, tmp_path / f"{name}-out", score_field="none")
            for name in ("mixed", "floats")
        )
        assert mixed.duplicates["row"] == floats.duplicates["row"]
        assert mixed.duplicates.num_rows

    def test_pandas_categories_of_many_files_are_merged(self, tmp_path):
        # pandas stores up to 127 categories with int8; here each file has its own.
        kind = pa.dictionary(pa.int8(), pa.string())
        for number in range(2):
            names = [f"grid-{number}-{n}" for n in range(100)]
            rows = cryosparc(100, seed=number, columns={"note": text(kind, names)})
            write_file(rows, tmp_path / "in" / f"{number}.parquet")
        result = answer(tmp_path / "in", tmp_path / "out", min_separation=0)
        assert len(set(result.kept["note"].to_pylist())) == 200

    def test_inputs_with_different_columns_give_one_schema(self, tmp_path):
        one = write_file(
            cryosparc(30, columns={"only/here": pa.array(range(30))}), tmp_path / "1.parquet"
        )
        two = write_file(
            cryosparc(30, seed=1, columns={"only/there": ["x"] * 30}), tmp_path / "2.parquet"
        )
        run([one, two], tmp_path / "out")
        result = Output(tmp_path / "out")
        parts = [*result.parts("particles_kept"), *result.parts("particles_rejected")]
        schemas = [pq.read_schema(part) for part in parts]
        assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)
        first, second = (pq.read_table(part) for part in result.parts("particles_kept"))
        assert first["only/there"].null_count == first.num_rows
        assert second["only/here"].null_count == second.num_rows
        assert first["only/here"].null_count == 0
        assert pq.read_table(tmp_path / "out" / "particles_kept").num_rows == result.kept.num_rows

    def test_vectors_missing_in_an_input_can_be_read_by_all_readers(self, tmp_path):
        # Before version 26, pyarrow cannot read nulls among lists of fixed size (apache/arrow#35692).
        one = write_file(cryosparc(30), tmp_path / "1.parquet")
        two = write_file(cryosparc(30, seed=1, drop=["alignments2D"]), tmp_path / "2.parquet")
        run([one, two], tmp_path / "out")
        kept = Output(tmp_path / "out").kept
        assert kept["alignments2D/shift"].null_count > 0
        assert kept.schema.field("alignments2D/shift").type == pa.list_(pa.float32())
        assert pa.types.is_fixed_size_list(kept.schema.field("alignments3D/shift").type)


TEXTS = ["a", "b", Z, "a", "", "é"]
PAYLOADS = {
    "integers": pa.array([1, Z, -3, 2**62, 5, 6]),
    "small integers": pa.array([1, Z, 255, 0, 5, 6], pa.uint8()),
    "large integers": pa.array([2**64 - 1, Z, 2**63, 0, 5, 6], pa.uint64()),
    "floats": pa.array([NAN_WITH_A_PAYLOAD, Z, -0.0, np.inf, -np.nan, 5e-324]),
    "single floats": pa.array([np.nan, Z, -0.0, -np.inf, 1e-45, 0.1], pa.float32()),
    "half floats": pa.array(np.array([0, np.nan, 1, -0.0, np.inf, 6e-8], np.float16)),
    "booleans": pa.array([True, Z, False] * 2),
    "strings": pa.array(TEXTS),
    "large strings": pa.array(TEXTS, pa.large_string()),
    "categories": text(pa.dictionary(pa.int32(), pa.string()), TEXTS),
    "pandas categories": text(pa.dictionary(pa.int8(), pa.string()), TEXTS),
    "ordered categories": pa.DictionaryArray.from_arrays(
        pa.array([1, Z, 0, 1, 0, 0], pa.int32()), ["low", "high"], ordered=True
    ),
    "all null categories": text(pa.dictionary(pa.int32(), pa.string()), [Z] * 6),
    "bytes": pa.array([b"\0", Z, b"", b"x", b"\xff", b"y"]),
    "large bytes": pa.array([b"\0", Z, b"", b"x", b"\xff", b"y"], pa.large_binary()),
    "fixed bytes": pa.array([b"ab", Z, b"\0\0"] * 2, pa.binary(2)),
    "decimals": pa.array([Decimal("1.23"), Z, Decimal("-9.99")] * 2, pa.decimal128(10, 2)),
    "dates": pa.array([dt.date(2026, 11, 23), Z] * 3),
    "times of a zone": pa.array([0, Z, -1, 2**50, 4, 5], pa.timestamp("us", "Europe/Berlin")),
    "nanoseconds": pa.array([0, Z, -1, 2**62, 4, 5], pa.timestamp("ns")),
    "times of day": pa.array([0, Z, 1, 2, 3, 4], pa.time64("us")),
    "durations": pa.array([0, Z, -1, 2, 3, 4], pa.duration("ns")),
    "null": pa.nulls(6),
    "pairs": pa.array([[1, 2], Z, [np.nan, Z]] * 2, pa.list_(pa.float32(), 2)),
    "lists": pa.array([[1.5], Z, [], [Z, 2], [3], []]),
    "large lists": pa.array([[1.5], Z, [], [Z, 2], [3], []], pa.large_list(pa.float64())),
    "lists of text": pa.array([["a", Z], Z, [], ["b"], ["a"], ["c"]]),
    "matrices": pa.array([[[1.0, 2.0], [Z]], Z, [], [[]], [Z], [[3.0]]]),
    "lists of pairs": pa.array([[[1, 2]], Z, []] * 2, pa.list_(pa.list_(pa.float32(), 2))),
    "structs": pa.array([{"a": 1, "b": [1.0, Z]}, Z, {"a": Z, "b": []}] * 2),
    "lists of structs": pa.array([[{"a": 1}, {"a": Z}], Z, []] * 2),
    "maps": pa.array([[("k", 1), ("l", Z)], Z, []] * 2, pa.map_(pa.string(), pa.int32())),
    "maps of floats": pa.array(
        [[("k", np.nan), ("l", Z)], Z, [("k", -0.0)]] * 2, pa.map_(pa.string(), pa.float64())
    ),
    "structs of floats": pa.array([{"a": np.nan, "b": {"c": [-np.nan]}}, Z] * 3),
    "lists of maps": pa.array(
        [[[("k", np.nan)], []], Z, []] * 2, pa.list_(pa.map_(pa.string(), pa.float32()))
    ),
}
#: Arrow cannot filter these types.
VIEWS = {
    "strings": pa.array(TEXTS, pa.string_view()),
    "bytes": pa.array([b"\0", Z, b"", b"x" * 40, b"\xff", b"y"], pa.binary_view()),
    "lists": pa.array([["a", Z], Z, [], ["b" * 40], ["a"], ["c"]], pa.list_(pa.string_view())),
    "structs": pa.array([{"a": "x"}, Z] * 3, pa.struct([("a", pa.string_view())])),
    "maps": pa.array([[("k", b"v")], Z, []] * 2, pa.map_(pa.string_view(), pa.binary_view())),
}


def can_be_stored(values):
    """Return whether this version of pyarrow can write and read a column."""
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(pa.table({"extra": values}), sink)
        pq.read_table(pa.BufferReader(sink.getvalue()))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        assert OLD_PYARROW
        return False
    return True


class TestPayload:
    """Six rows at three positions: at separation 0, three are kept and three rejected."""

    def six(self, **options):
        fractions = np.array([0.1, 0.1, 0.2, 0.2, 0.3, 0.3], np.float32)
        options.setdefault("drop", PICKS_ONLY)
        columns = {"location/center_x_frac": fractions, "location/center_y_frac": fractions}
        columns |= options.pop("columns", {})
        return cryosparc(6, micrographs=1, columns=columns, **options)

    def stored(self, path, columns, **options):
        """Write the input; skip the test if this version of pyarrow cannot read it."""
        try:
            write_file(self.six(columns=columns), path, **options)
            pq.read_table(path)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            let_off_old_pyarrow(error)
        return path

    def check(self, path, out):
        source = pq.read_table(path)
        result = answer(path, out, min_separation=0)
        rejected = result.duplicates["row"].to_pylist()
        assert len(rejected) == 3
        kept = [row for row in range(6) if row not in rejected]
        assert_same_rows(result.kept, source.take(kept))
        assert_same_rows(result.rejected, source.take(rejected))
        assert dask_dedup.verify(out).verified

    def test_every_type_is_preserved_to_the_bit(self, tmp_path):
        columns = {name: values for name, values in PAYLOADS.items() if can_be_stored(values)}
        path = write_file(self.six(columns=columns), tmp_path / "in.parquet")
        self.check(path, tmp_path / "out")

    def test_types_are_preserved_over_row_groups_and_files(self, tmp_path):
        names = ["strings", "categories", "pairs", "lists", "structs"]
        columns = {name: PAYLOADS[name] for name in names}
        table = pq.read_table(write_file(self.six(columns=columns), tmp_path / "whole.parquet"))
        folder = write_folder(table, tmp_path / "in", files=2, row_group_size=2)
        result = answer(folder, tmp_path / "out", min_separation=0)
        both = pa.concat_tables([result.kept, result.rejected])
        for name in names:
            values = dict(zip(uids(table), bits(table[name]), strict=True))
            assert dict(zip(uids(both), bits(both[name]), strict=True)) == values, name

    @pytest.mark.parametrize("name", VIEWS)
    def test_views_are_preserved(self, tmp_path, name):
        """Arrow cannot filter them, so the rows are compared as lists."""
        path = self.stored(tmp_path / "in.parquet", {"extra": VIEWS[name]})
        result = answer(path, tmp_path / "out", min_separation=0)
        source = dict(zip(uids(self.six()), VIEWS[name].to_pylist(), strict=True))
        both = pa.concat_tables([result.kept, result.rejected])
        assert dict(zip(uids(both), both["extra"].to_pylist(), strict=True)) == source
        assert both.schema.equals(pq.read_schema(path))
        assert dask_dedup.verify(tmp_path / "out").verified

    def test_extension_types_are_verified(self, tmp_path):
        tensors = pa.array([[1.0, np.nan]] * 6, pa.list_(pa.float32(), 2))
        column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (2,)), tensors)
        path = self.stored(tmp_path / "in.parquet", {"extra": column})
        result = answer(path, tmp_path / "out", min_separation=0)
        assert result.kept.schema.field("extra").type == column.type
        assert dask_dedup.verify(tmp_path / "out").verified

    def test_a_changed_value_in_a_map_is_found(self, tmp_path):
        path = self.stored(tmp_path / "in.parquet", {"extra": PAYLOADS["maps of floats"]})
        run(path, tmp_path / "out", min_separation=0)
        table = open_table(path)
        kept = np.zeros(6, dtype=bool)
        kept[
            [
                row
                for row in range(6)
                if row not in Output(tmp_path / "out").duplicates["row"].to_pylist()
            ]
        ] = True
        changed = pa.array([[("a", 2.0)]] * 6, pa.map_(pa.string(), pa.float64()))
        rows = rows_of(path).drop_columns(["extra"]).append_column("extra", changed)
        part = tmp_path / "out" / "particles_kept" / "part-00000.parquet"
        encodings = encodings_by_type(table.schema, "auto")
        writer.split(rows, kept, table.schema, encodings, part, tmp_path / "rest.parquet")
        verification = dask_dedup.verify(tmp_path / "out")
        (rows_check,) = (check for check in verification.checks if check.name == "rows")
        assert "column extra" in rows_check.detail

    def test_schema_metadata_and_nullability_are_preserved(self, tmp_path):
        table = self.six(columns={"note": ["a"] * 6})
        fields = [
            field.with_nullable(field.name not in ("uid", "note")).with_metadata(
                {"unit": f"of {field.name}"}
            )
            for field in table.schema
        ]
        schema = pa.schema(fields, metadata={"pandas": "{}", "origin": "J42"})
        path = write_file(table.cast(schema), tmp_path / "in.parquet")
        self.check(path, tmp_path / "out")
        part = Output(tmp_path / "out").parts("particles_kept")[0]
        note = pq.read_schema(part).field("note")
        assert not note.nullable
        assert note.metadata[b"unit"] == b"of note"
        assert pq.read_schema(part).metadata[b"origin"] == b"J42"

    def test_a_pandas_index_is_preserved(self, tmp_path):
        frame = self.six(drop=[*PICKS_ONLY, "location/micrograph_shape"]).to_pandas()
        frame = frame.assign(shape=[[240, 300]] * 6).rename(
            columns={"shape": "location/micrograph_shape"}
        )
        frame.index = list("fedcba")
        frame.to_parquet(tmp_path / "in.parquet")
        self.check(tmp_path / "in.parquet", tmp_path / "out")
        kept = Output(tmp_path / "out").kept.to_pandas()
        assert set(kept.index) < set("abcdef")

    def test_unusual_column_names_are_preserved(self, tmp_path):
        odd = {"a.b": PAYLOADS["lists"], "list": PAYLOADS["strings"], "é =/ü": PAYLOADS["floats"]}
        path = write_file(self.six(columns=odd), tmp_path / "in.parquet")
        self.check(path, tmp_path / "out")

    @pytest.mark.parametrize("options", [{"store_schema": False}, {"version": "1.0"}], ids=str)
    def test_files_of_other_writers_are_preserved(self, tmp_path, options):
        table = self.six(columns={"extra": PAYLOADS["lists of text"]})
        self.check(write_file(table, tmp_path / "in.parquet", **options), tmp_path / "out")

    def test_lists_in_the_layout_of_old_writers_keep_their_type(self, tmp_path):
        table = self.six(columns={"extra": PAYLOADS["lists of text"]})
        path = write_file(table, tmp_path / "in.parquet", use_compliant_nested_type=False)
        # The name of the elements changes from "item" to the name in the Parquet standard.
        result = answer(path, tmp_path / "out", min_separation=0)
        assert result.kept.schema.types == pq.read_schema(path).types
        assert dask_dedup.verify(tmp_path / "out").verified

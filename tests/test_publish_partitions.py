"""Publish results in partition folders: the keys are partition columns of the table."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date

import pyarrow as pa
import pytest
from lake import NULL, grouped, in_folders, kept_uids
from tables import Output, cryosparc, write_file
from test_publish_iceberg import catalog  # noqa: F401 (a fixture)

from dask_dedup import DedupParams, run
from dask_dedup.errors import InputError, RunError
from dask_dedup.results.publish import files, publish, writer

pytestmark = pytest.mark.slow

deltalake = pytest.importorskip("deltalake")
duckdb = pytest.importorskip("duckdb")
pl = pytest.importorskip("polars")
pytest.importorskip("pyiceberg")

PARAMS = DedupParams(min_separation=20, group_by="session")
ICEBERG = ("lab", "em.kept")


def read_delta(lake, key="session"):
    """Return what three readers find in a Delta table."""
    table = deltalake.DeltaTable(str(lake)).to_pyarrow_table()
    yield grouped(zip(table[key].to_pylist(), table["uid"].to_pylist(), strict=True))
    yield grouped(pl.scan_delta(str(lake)).select(key, "uid").collect().rows())
    with duckdb.connect() as connection:
        connection.register("kept", table)
        yield grouped(connection.sql(f'select "{key}", uid from kept').fetchall())


def read_iceberg(load, key="session"):
    """Return what three readers find in an Iceberg table."""
    table = load().load_table(ICEBERG[1])
    rows = table.scan().to_arrow()
    yield grouped(zip(rows[key].to_pylist(), rows["uid"].to_pylist(), strict=True))
    yield grouped(pl.scan_iceberg(table).select(key, "uid").collect().rows())
    with duckdb.connect() as connection:
        connection.register("kept", rows)
        yield grouped(connection.sql(f'select "{key}", uid from kept').fetchall())


class TestDelta:
    @pytest.fixture
    def lake(self, tmp_path):
        return tmp_path / "lake"

    def test_keys_are_partition_columns(self, tmp_path, lake):
        out = in_folders(tmp_path, {"a": 1, "b": 2})
        done = publish(out, delta=lake)
        table = deltalake.DeltaTable(str(lake))
        assert table.metadata().partition_columns == ["run", "input_name", "session"]
        assert done.files == 2
        expected = kept_uids(out)
        assert all(found == expected for found in read_delta(lake))
        only = pl.scan_delta(str(lake)).filter(pl.col("session") == "a").select("uid").collect()
        assert sorted(map(int, only["uid"])) == expected["a"]
        assert not publish(out, delta=lake).changed

    @pytest.mark.parametrize("names", [["a b", "é%", NULL], ["7", "19"]])
    def test_any_value_is_read(self, tmp_path, lake, names):
        from urllib.parse import quote

        out = in_folders(tmp_path, {quote(name): seed for seed, name in enumerate(names)})
        publish(out, delta=lake)
        expected = {name: kept_uids(out)[quote(name)] for name in names}
        assert all(found == expected for found in read_delta(lake))
        assert not publish(out, delta=lake, mode="replace").changed
        assert publish(out, delta=lake).missing == []

    def test_whole_numbers_have_their_type(self, tmp_path, lake):
        out = in_folders(tmp_path, {"7": 1, "19": 2}, key="grid")
        publish(out, delta=lake)
        schema = pa.schema(deltalake.DeltaTable(str(lake)).schema().to_arrow())
        assert schema.field("grid").type == pa.int64()
        assert all(found == kept_uids(out, "grid") for found in read_delta(lake, "grid"))

    def test_links_have_the_keys(self, tmp_path, lake):
        out = in_folders(tmp_path, {"a": 1, "b": 2})
        publish(out, delta=lake, link=True)
        expected = kept_uids(out)
        table = deltalake.DeltaTable(str(lake)).to_pyarrow_table()
        found = zip(table["session"].to_pylist(), table["uid"].to_pylist(), strict=True)
        assert grouped(found) == expected

    @pytest.mark.parametrize("link", [False, True])
    def test_two_files_of_one_path_publish_nothing(self, tmp_path, lake, monkeypatch, link):
        out = in_folders(tmp_path, {"a": 1, "b": 2})
        before = {path: path.read_bytes() for path in Output(out).parts("particles_kept")}
        for module in (files, writer):
            monkeypatch.setattr(module, "partition_path", lambda *_: "one.parquet")
        with pytest.raises(
            RunError, match=r"two files would be one\.parquet; nothing was published"
        ):
            publish(out, delta=lake, link=link)
        assert not lake.exists()
        assert all(path.read_bytes() == content for path, content in before.items())

    def test_rows_of_a_partition_are_in_one_file(self, tmp_path, lake, monkeypatch):
        """A run by a column has a file of each value in every fragment."""
        monkeypatch.setattr("dask_dedup.formats.parquet.table.FRAGMENT_BYTES", 1)
        for number in range(3):
            table = cryosparc(60, seed=number, columns={"kind": ["x", "y"] * 30})
            write_file(table, tmp_path / "in" / f"{number}.parquet")
        params = DedupParams(min_separation=20)
        out = run(tmp_path / "in", tmp_path / "out", params, partition_by="kind").output
        assert publish(out, delta=lake).files == 2
        assert all(found == kept_uids(out, "kind") for found in read_delta(lake, "kind"))
        monkeypatch.setattr(writer, "FILE_BYTES", 1)
        assert publish(out, delta=tmp_path / "more").files == 6
        assert all(f == kept_uids(out, "kind") for f in read_delta(tmp_path / "more", "kind"))

    def test_a_session_is_added_and_one_is_replaced(self, tmp_path, lake):
        first = in_folders(tmp_path / "1", {"a": 1, "b": 2, "c": 3})
        publish(first, delta=lake)
        expected = kept_uids(first)
        second = in_folders(tmp_path / "2", {"d": 4})
        publish(second, delta=lake)
        expected |= kept_uids(second)
        assert all(found == expected for found in read_delta(lake))
        again = in_folders(tmp_path / "3", {"b": 2}, separation=100.0)
        done = publish(again, delta=lake, mode="replace-tagged")
        assert done.replaced == [Output(first).manifest["run_id"][:12]]
        assert len(kept_uids(again)["b"]) < len(expected["b"])
        expected |= kept_uids(again)
        assert all(found == expected for found in read_delta(lake))
        assert not publish(again, delta=lake, mode="replace-tagged").changed

    def test_several_partitions_are_replaced_at_once(self, tmp_path, lake):
        first = in_folders(tmp_path / "1", {"a": 1, "b": 2, "c": 3})
        publish(first, delta=lake)
        again = in_folders(tmp_path / "2", {"a": 1, "c": 3}, separation=100.0)
        publish(again, delta=lake, mode="replace-tagged")
        expected = kept_uids(first) | kept_uids(again)
        assert all(found == expected for found in read_delta(lake))

    def test_only_partitions_with_the_same_tags_are_replaced(self, tmp_path, lake):
        one, other = (in_folders(tmp_path / str(n), {"a": n, "b": n + 9}) for n in (1, 2))
        publish(one, delta=lake, tags={"grid": "g1"})
        publish(other, delta=lake, tags={"grid": "g2"})
        again = in_folders(tmp_path / "3", {"a": 1}, separation=100.0)
        publish(again, delta=lake, tags={"grid": "g1"}, mode="replace-tagged")
        rows = pl.scan_delta(str(lake)).select("grid", "session", "uid").collect().rows()
        found = {grid: grouped(row[1:] for row in rows if row[0] == grid) for grid in ("g1", "g2")}
        assert found == {"g1": kept_uids(one) | kept_uids(again), "g2": kept_uids(other)}

    def test_the_partition_of_nulls_is_replaced(self, tmp_path, lake):
        first = in_folders(tmp_path / "1", {"a": 1, NULL: 2})
        publish(first, delta=lake)
        both = in_folders(tmp_path / "2", {"a": 1, NULL: 2}, separation=100.0)
        with pytest.raises(
            InputError, match="cannot replace the partition without a value of session"
        ):
            publish(both, delta=lake, mode="replace-tagged")
        assert all(found == kept_uids(first) for found in read_delta(lake))
        again = in_folders(tmp_path / "3", {NULL: 2}, separation=100.0)
        publish(again, delta=lake, mode="replace-tagged")
        assert all(found == kept_uids(first) | kept_uids(again) for found in read_delta(lake))

    def test_partitions_that_delta_cannot_name_are_refused(self, tmp_path, lake):
        def nested(folder, pairs, separation=20.0):
            for seed, pair in enumerate(pairs):
                path = folder / "in" / f"session={pair[0]}" / f"pass={pair[1]}" / "0.parquet"
                write_file(cryosparc(40, seed=seed), path)
            params = DedupParams(min_separation=separation, group_by=["session", "pass"])
            return run(folder / "in", folder / "out", params).output

        publish(nested(tmp_path / "1", ["a1", "a2", "b1", "b2"]), delta=lake)
        before = list(read_delta(lake))
        some = nested(tmp_path / "2", ["a1", "b2"], separation=100.0)
        with pytest.raises(InputError, match="without also replacing session=a, pass=2"):
            publish(some, delta=lake, mode="replace-tagged")
        assert list(read_delta(lake)) == before
        publish(
            nested(tmp_path / "3", ["a1", "a2"], separation=100.0),
            delta=lake,
            mode="replace-tagged",
        )
        after = list(read_delta(lake))
        assert after[0]["b"] == before[0]["b"]
        assert len(after[0]["a"]) < len(before[0]["a"])

    def test_a_table_with_other_keys_is_refused(self, tmp_path, lake, cli):
        publish(in_folders(tmp_path / "1", {"a": 1}), delta=lake)
        plain = run(
            write_file(cryosparc(50), tmp_path / "a.parquet"), tmp_path / "plain", min_separation=20
        ).output
        line = cli("publish", plain, "--delta", lake).stderr
        assert (
            "is partitioned by run, input_name, session, but this run needs run, input_name."
            in line
        )
        publish(plain, delta=lake, tags={"session": "z"})
        assert {*next(read_delta(lake))} == {"a", "z"}

    @pytest.mark.parametrize("link", [False, True])
    def test_whole_numbers_fit_a_table_with_text(self, tmp_path, lake, link):
        first = in_folders(tmp_path / "1", {"24mar07": 1})
        publish(first, delta=lake, link=link)
        second = in_folders(tmp_path / "2", {"20240308": 2})
        publish(second, delta=lake, link=link)
        third = in_folders(tmp_path / "3", {"20240308": 2}, separation=100.0)
        publish(third, delta=lake, link=link, mode="replace-tagged")
        assert not publish(third, delta=lake, mode="replace-tagged").changed
        table = deltalake.DeltaTable(str(lake)).to_pyarrow_table()
        found = zip(table["session"].to_pylist(), table["uid"].to_pylist(), strict=True)
        assert grouped(found) == kept_uids(first) | kept_uids(third)

    def test_text_does_not_fit_a_table_with_whole_numbers(self, tmp_path, lake, cli):
        first = in_folders(tmp_path / "1", {"7": 1})
        publish(first, delta=lake)
        line = cli("publish", in_folders(tmp_path / "2", {"a": 2}), "--delta", lake).stderr
        assert "session is int64 in the table, but string in this run; use another table" in line
        none = in_folders(tmp_path / "3", {NULL: 3})
        publish(none, delta=lake)
        assert all(found == kept_uids(first) | kept_uids(none) for found in read_delta(lake))

    def test_a_key_and_a_column_that_differ_by_case_are_refused(self, tmp_path, lake):
        path = tmp_path / "in" / "S=1" / "0.parquet"
        write_file(cryosparc(40, columns={"s": [9] * 40}), path)
        out = run(tmp_path / "in", tmp_path / "out", min_separation=20).output
        with pytest.raises(InputError, match="the columns s and S differ only by case"):
            publish(out, delta=lake)

    def test_a_tag_with_the_name_of_a_key_is_refused(self, tmp_path, lake):
        out = in_folders(tmp_path, {"a": 1})
        with pytest.raises(InputError, match="The tag session has the name of another column"):
            publish(out, delta=lake, tags={"session": "x"})

    def test_lists_of_duplicates_have_no_keys(self, tmp_path, lake):
        out = in_folders(tmp_path, {"a": 1, "b": 2})
        publish(out, delta=lake, table="duplicates")
        assert deltalake.DeltaTable(str(lake)).metadata().partition_columns == ["run", "input_name"]
        publish(out, delta=tmp_path / "rejected", table="rejected")
        rejected = deltalake.DeltaTable(str(tmp_path / "rejected")).to_pyarrow_table()
        assert sorted(rejected["session"].to_pylist()) == sorted(
            Output(out).duplicates["session"].to_pylist()
        )

    def test_empty_text_is_refused(self, tmp_path, lake):
        values = pa.array(["", "a"] * 30)
        path = write_file(cryosparc(60, columns={"kind": values}), tmp_path / "a.parquet")
        out = run(path, tmp_path / "out", min_separation=20, partition_by="kind").output
        with pytest.raises(InputError, match="kind is empty text in some rows"):
            publish(out, delta=lake)
        assert not lake.exists()

    def test_a_published_table_is_an_input_with_its_partitions(self, tmp_path, lake):
        out = in_folders(tmp_path / "1", {"a b": 1, "c": 2})
        publish(out, delta=lake)
        again = run(lake, tmp_path / "again", PARAMS)
        assert again.rejected == 0
        assert list(again.manifest["partitions"]) == ["run", "input_name", "session"]
        assert {path.parent.name for path in Output(again.output).parts("particles_kept")} == {
            "session=a%20b",
            "session=c",
        }


class TestIceberg:
    @pytest.fixture(autouse=True)
    def planner(self, monkeypatch):
        monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")

    def test_keys_are_partition_columns(self, tmp_path, catalog):  # noqa: F811
        out = in_folders(tmp_path / "1", {"a%20b": 1, "c": 2, NULL: 3})
        publish(out, iceberg=ICEBERG)
        table = catalog().load_table(ICEBERG[1])
        assert [field.name for field in table.spec().fields] == ["run", "input_name", "session"]
        expected = kept_uids(out)
        expected["a b"] = expected.pop("a%20b")
        assert all(found == expected for found in read_iceberg(catalog))
        filtered = table.scan(row_filter="session = 'c'").to_arrow()
        assert sorted(map(int, filtered["uid"].to_pylist())) == expected["c"]
        assert not publish(out, iceberg=ICEBERG).changed

    def test_whole_numbers_have_their_type(self, tmp_path, catalog):  # noqa: F811
        out = in_folders(tmp_path / "1", {"7": 1, "19": 2})
        publish(out, iceberg=ICEBERG)
        assert (
            catalog().load_table(ICEBERG[1]).schema().as_arrow().field("session").type == pa.int64()
        )
        assert all(found == kept_uids(out) for found in read_iceberg(catalog))

    def test_a_session_is_added_and_one_is_replaced(self, tmp_path, catalog):  # noqa: F811
        first = in_folders(tmp_path / "1", {"a": 1, "b": 2, NULL: 3})
        publish(first, iceberg=ICEBERG)
        second = in_folders(tmp_path / "2", {"d": 4})
        publish(second, iceberg=ICEBERG)
        again = in_folders(tmp_path / "3", {"b": 2, NULL: 3}, separation=100.0)
        publish(again, iceberg=ICEBERG, mode="replace-tagged")
        expected = kept_uids(first) | kept_uids(second) | kept_uids(again)
        assert all(found == expected for found in read_iceberg(catalog))

    @pytest.mark.parametrize("link", [False, True])
    def test_dates_are_partitions(self, tmp_path, catalog, link):  # noqa: F811
        def of_day(folder, separation=20.0):
            days = pa.array([date(2024, 1, 1), date(1969, 7, 20), None] * 20)
            path = write_file(cryosparc(60, columns={"day": days}), folder / "a.parquet")
            params = DedupParams(min_separation=separation)
            return run(path, folder / "out", params, partition_by="day").output

        out = of_day(tmp_path / "1")
        publish(out, iceberg=ICEBERG, link=link)
        table = catalog().load_table(ICEBERG[1])
        assert table.schema().as_arrow().field("day").type == pa.date32()
        assert not publish(out, iceberg=ICEBERG, link=link).changed
        again = of_day(tmp_path / "2", separation=100.0)
        publish(again, iceberg=ICEBERG, link=link, mode="replace-tagged")
        days = catalog().load_table(ICEBERG[1]).scan().to_arrow()["day"].to_pylist()
        found = Counter(NULL if day is None else day.isoformat() for day in days)
        assert found == {day: len(numbers) for day, numbers in kept_uids(again, "day").items()}

    def test_whole_numbers_fit_a_table_with_text(self, tmp_path, catalog):  # noqa: F811
        first = in_folders(tmp_path / "1", {"24mar07": 1})
        publish(first, iceberg=ICEBERG)
        second = in_folders(tmp_path / "2", {"20240308": 2})
        publish(second, iceberg=ICEBERG)
        assert not publish(second, iceberg=ICEBERG).changed
        assert all(f == kept_uids(first) | kept_uids(second) for f in read_iceberg(catalog))

    def test_links_have_the_keys(self, tmp_path, catalog):  # noqa: F811
        out = in_folders(tmp_path / "1", {"a": 1, "b": 2})
        publish(out, iceberg=ICEBERG, link=True)
        table = catalog().load_table(ICEBERG[1]).scan().to_arrow()
        kept = kept_uids(out)
        counts = {name: table["session"].to_pylist().count(name) for name in kept}
        assert counts == {name: len(numbers) for name, numbers in kept.items()}


def test_the_outcome_is_json(tmp_path, cli):
    out = in_folders(tmp_path, {"a": 1})
    outcome = cli("publish", out, "--delta", tmp_path / "lake", "--json")
    assert json.loads(outcome.stdout)["rows"] == len(kept_uids(out)["a"])

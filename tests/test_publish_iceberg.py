"""Publish runs as Iceberg tables: what readers find, concurrent publishers, and errors."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake import QUERY, X, arrow_sums, finished_run, polars_sums, same, summed, truth, whole
from tables import Output, cryosparc, uids, write_file

import dask_dedup
from dask_dedup.errors import InputError
from dask_dedup.results.publish import publish
from dask_dedup.results.publish.iceberg import IcebergLakeTable

pytestmark = pytest.mark.slow

catalogs = pytest.importorskip("pyiceberg.catalog")
pytest.importorskip("sqlalchemy")

KEPT = ("lab", "em.kept")


@contextmanager
def catalog_in(folder):
    """Configure a catalog named lab in a folder, and return a function that loads it."""
    (folder / "warehouse").mkdir()
    lines = [
        "catalog:",
        "  lab:",
        "    type: sql",
        f"    uri: sqlite:///{folder / 'catalog.db'}",
        f"    warehouse: file://{folder / 'warehouse'}",
    ]
    (folder / ".pyiceberg.yaml").write_text("\n".join(lines))
    opened = []

    def load():
        opened.append(
            catalogs.load_catalog(
                "lab",
                uri=f"sqlite:///{folder / 'catalog.db'}",
                warehouse=f"file://{folder / 'warehouse'}",
                type="sql",
            )
        )
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYICEBERG_HOME", str(folder))
        yield load
    for one in opened:
        one.close()


@pytest.fixture
def catalog(tmp_path):
    with catalog_in(tmp_path) as load:
        yield load


@pytest.fixture
def out(tmp_path):
    return finished_run(tmp_path / "s1")


@pytest.fixture(scope="class")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    outputs = [finished_run(folder / f"s{seed}", seed=seed) for seed in (1, 2)]
    with catalog_in(folder) as catalog:
        for output in outputs:
            publish(output, iceberg=KEPT)
        yield catalog().load_table("em.kept"), truth(outputs[0]) | truth(outputs[1])


class TestReaders:
    def test_pyiceberg_reads_it(self, published):
        table, expected = published
        assert same(arrow_sums(table.scan().to_arrow()), expected)

    def test_pyiceberg_filters_by_run(self, published, out):
        table, expected = published
        run = Output(out).manifest["run_id"][:12]
        rows = sum(count for (name, _), (count, _) in expected.items() if name == run)
        assert table.scan(row_filter=f"run = '{run}'").count() == rows
        selected = table.scan(row_filter=f"run = '{run}'", selected_fields=(X,))
        assert selected.to_arrow().num_rows == rows

    def test_duckdb_reads_it(self, published):
        duckdb = pytest.importorskip("duckdb")
        table, expected = published
        with duckdb.connect() as connection:
            connection.register("kept", table.scan().to_arrow())
            assert same(summed(connection.sql(QUERY.format("kept")).fetchall()), expected)

    @pytest.mark.parametrize("reader", ["native", "pyiceberg"])
    def test_polars_reads_it(self, published, reader, monkeypatch):
        polars = pytest.importorskip("polars")
        monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
        table, expected = published
        assert same(polars_sums(polars.scan_iceberg(table, reader_override=reader)), expected)

    def test_every_column_has_the_runs_values(self, published, out):
        table, _ = published
        run = Output(out).manifest["run_id"][:12]
        rows = table.scan(row_filter=f"run = '{run}'").to_arrow().sort_by("uid")
        kept = Output(out).kept.sort_by("uid")
        assert set(rows.column_names) == {*kept.column_names, "run", "input_name"}
        for name in kept.column_names:
            assert whole(rows[name].to_pylist()) == whole(kept[name].to_pylist()), name

    def test_a_micrograph_is_found(self, published, out):
        from pyiceberg.expressions import EqualTo

        table, _ = published
        path = Output(out).kept["location/micrograph_path"][0].as_py()
        rows = table.scan(row_filter=EqualTo("location/micrograph_path", path)).to_arrow()
        assert set(rows["location/micrograph_path"].to_pylist()) == {path}
        assert rows.num_rows > 1


class TestCommit:
    def test_the_snapshot_names_the_origin_of_the_rows(self, cli, out, catalog):
        outcome = cli("publish", out, "--iceberg", *KEPT)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        summary = catalog().load_table("em.kept").current_snapshot().summary
        manifest = Output(out).manifest
        assert summary["dask-dedup.run_id"] == manifest["run_id"]
        assert json.loads(summary["dask-dedup.parameters"]) == manifest["parameters"]
        assert int(summary["added-records"]) == Output(out).kept.num_rows

    @pytest.mark.parametrize("table", ["rejected", "duplicates"])
    def test_the_other_datasets_can_be_published(self, out, catalog, table):
        publish(out, iceberg=("lab", "em.other"), table=table)
        expected = Output(out).rejected.num_rows
        assert catalog().load_table("em.other").scan().to_arrow().num_rows == expected > 0

    def test_votes_can_be_published(self, tmp_path, catalog):
        out = finished_run(tmp_path / "voted", votes=True)
        done = publish(out, iceberg=("lab", "em.votes"), table="votes")
        assert done.left_out == {}
        rows = catalog().load_table("em.votes").scan().to_arrow()
        expected = pq.read_table(out / "votes")
        assert sorted(rows["picker"].to_pylist()) == sorted(expected["picker"].to_pylist())

    def test_written_files_have_the_field_ids_of_the_table(self, out, catalog, tmp_path):
        publish(out, iceberg=KEPT)
        fields = catalog().load_table("em.kept").schema().fields
        schema = pq.read_schema(next((tmp_path / "warehouse").rglob("*.parquet")))
        assert [field.name for field in fields] == schema.names
        for field in fields:
            stored = schema.field(field.name)
            assert int(stored.metadata[b"PARQUET:field_id"]) == field.field_id
            if pa.types.is_list(stored.type):
                element = stored.type.value_field.metadata[b"PARQUET:field_id"]
                assert int(element) == field.field_type.element_id


class TestLinks:
    def test_files_are_links_to_those_of_the_run(self, cli, out, catalog, tmp_path):
        outcome = cli("publish", out, "--iceberg", *KEPT, "--tag", "session=24mar07", "--link")
        assert "uid (uint64)" in outcome.stderr
        mine = {path.stat().st_ino for path in Output(out).parts("particles_kept")}
        theirs = {path.stat().st_ino for path in (tmp_path / "warehouse").rglob("*.parquet")}
        assert mine == theirs
        rows = catalog().load_table("em.kept").scan().to_arrow()
        assert set(rows["session"].to_pylist()) == {"24mar07"}
        assert same(arrow_sums(rows), truth(out))

    def test_large_unsigned_numbers_are_left_out(self, tmp_path, catalog):
        # pyiceberg and Spark compare them as signed integers and find no row.
        numbers = np.linspace(0, 2**32 - 1, 120).astype(np.uint32)
        small = np.arange(120, dtype=np.uint32)
        table = cryosparc(columns={"big": numbers, "small": small})
        dask_dedup.run([write_file(table, tmp_path / "in.parquet")], tmp_path / "out")
        done = publish(tmp_path / "out", iceberg=KEPT, link=True)
        assert "big" in done.left_out
        scan = catalog().load_table("em.kept").scan(row_filter="small > 60")
        assert min(scan.to_arrow()["small"].to_pylist()) > 60

    def test_links_and_written_files_are_not_mixed(self, out, catalog, tmp_path):
        other = finished_run(tmp_path / "s2", seed=2)
        for first in (True, False):
            table = ("lab", f"em.{'linked' if first else 'written'}")
            publish(out, iceberg=table, link=first)
            with pytest.raises(InputError, match=r"uid.*use another table"):
                publish(other, iceberg=table, link=not first)
            assert same(arrow_sums(catalog().load_table(table[1]).scan().to_arrow()), truth(out))


class TestAgain:
    def test_a_run_is_not_published_twice(self, cli, out, catalog):
        publish(out, iceberg=KEPT)
        before = catalog().load_table("em.kept").metadata_location
        for options in ((), ("--mode", "replace")):
            outcome = cli("publish", out, "--iceberg", *KEPT, *options)
            assert "nothing was changed" in outcome.stdout
        assert catalog().load_table("em.kept").metadata_location == before

    def test_only_replace_changes_a_tag(self, out, catalog):
        publish(out, iceberg=KEPT, tags={"session": "24mar07"})
        other = {"session": "24mar08"}
        with pytest.raises(InputError, match="holds this run already, with session=24mar07"):
            publish(out, iceberg=KEPT, tags=other)
        assert publish(out, iceberg=KEPT, tags=other, mode="replace").changed
        rows = catalog().load_table("em.kept").scan().to_arrow()
        assert set(rows["session"].to_pylist()) == {"24mar08"}

    def test_replace_keeps_only_this_run(self, out, catalog, tmp_path):
        other = finished_run(tmp_path / "s2", seed=2)
        publish(out, iceberg=KEPT)
        publish(other, iceberg=KEPT)
        assert publish(out, iceberg=KEPT, mode="replace").changed
        table = catalog().load_table("em.kept")
        assert same(arrow_sums(table.scan().to_arrow()), truth(out))
        assert len(table.snapshots()) == 3

    def test_a_session_is_replaced_by_its_new_run(self, out, catalog, tmp_path):
        other = finished_run(tmp_path / "s2", seed=2)
        publish(out, iceberg=KEPT, tags={"session": "a"})
        publish(other, iceberg=KEPT, tags={"session": "b"})
        rest = truth(other)
        finished_run(tmp_path / "s1", separation=60.0, overwrite=True)
        for changed in (True, False):
            done = publish(out, iceberg=KEPT, tags={"session": "a"}, mode="replace-tagged")
            assert done.changed is changed
        rows = catalog().load_table("em.kept").scan().to_arrow()
        assert same(arrow_sums(rows), truth(out) | rest)

    def test_overwriting_the_run_does_not_change_the_table(self, out, catalog, tmp_path):
        before = truth(out)
        publish(out, iceberg=KEPT)
        finished_run(tmp_path / "s1", separation=60.0, overwrite=True)
        assert same(arrow_sums(catalog().load_table("em.kept").scan().to_arrow()), before)
        publish(out, iceberg=KEPT, mode="replace")
        table = catalog().load_table("em.kept")
        assert same(arrow_sums(table.scan().to_arrow()), truth(out))
        old = table.scan(snapshot_id=table.snapshots()[0].snapshot_id)
        assert same(arrow_sums(old.to_arrow()), before)

    def test_missing_files_are_reported(self, cli, out, catalog, tmp_path):
        publish(out, iceberg=KEPT)
        next((tmp_path / "warehouse").rglob("*.parquet")).unlink()
        outcome = cli("publish", out, "--iceberg", *KEPT)
        assert "lab em.kept: 1 file of the table is missing" in outcome.stderr


class TestTwoPublishers:
    """The second publishes completely while the first is about to commit."""

    def meanwhile(self, monkeypatch, action):
        real = IcebergLakeTable.commit

        def first_something_else(*args):
            monkeypatch.setattr(IcebergLakeTable, "commit", real)
            action()
            return real(*args)

        monkeypatch.setattr(IcebergLakeTable, "commit", first_something_else)

    @pytest.mark.parametrize(
        ("new", "same_run"),
        [(True, False), (False, True)],
        ids=["two runs in a new table", "one run in an old table"],
    )
    def test_each_run_is_published_once(self, out, catalog, tmp_path, monkeypatch, new, same_run):
        other = out if same_run else finished_run(tmp_path / "s2", seed=2)
        expected = truth(out) | truth(other)
        if not new:
            third = finished_run(tmp_path / "s3", seed=3)
            publish(third, iceberg=KEPT)
            expected |= truth(third)
        self.meanwhile(monkeypatch, lambda: publish(other, iceberg=KEPT))
        assert publish(out, iceberg=KEPT).changed is not same_run
        table = catalog().load_table("em.kept")
        assert same(arrow_sums(table.scan().to_arrow()), expected)
        listed = {task.file.file_path for task in table.scan().plan_files()}
        files = {f"file://{path}" for path in (tmp_path / "warehouse").rglob("*.parquet")}
        assert files == listed
        assert "commit.retry.num-retries" not in table.properties

    def test_a_table_created_meanwhile_with_other_field_ids(
        self, out, catalog, tmp_path, monkeypatch
    ):
        table = cryosparc(200, seed=5)
        path = write_file(table.select(table.column_names[::-1]), tmp_path / "in.parquet")
        other = dask_dedup.run(path, tmp_path / "out").output
        self.meanwhile(monkeypatch, lambda: publish(other, iceberg=KEPT))
        assert publish(out, iceberg=KEPT).changed
        rows = catalog().load_table("em.kept").scan().to_arrow()
        expected = uids(Output(out).kept) + uids(Output(other).kept)
        assert sorted(whole(rows["uid"].to_pylist())) == sorted(expected)
        files = list((tmp_path / "warehouse").rglob("*.parquet"))
        assert len(files) == 3


class TestRefusals:
    def refused(self, cli, *arguments, code=2):
        outcome = cli("publish", *arguments)
        assert outcome.exit_code == code, outcome.stderr
        (line,) = outcome.stderr.splitlines()
        return line

    def test_an_unknown_catalog(self, cli, out, catalog):
        line = self.refused(cli, out, "--iceberg", "elsewhere", "em.kept")
        assert "no such catalog in pyiceberg's configuration" in line
        assert "PYICEBERG_CATALOG__ELSEWHERE__URI" in line

    def test_a_name_without_a_namespace(self, cli, out, catalog):
        line = self.refused(cli, out, "--iceberg", KEPT[0], "kept")
        assert (
            "kept: the name of an Iceberg table needs a namespace. Write, for example, em.kept"
            in line
        )

    def test_a_table_of_another_program(self, cli, out, catalog):
        catalog().create_namespace("em")
        catalog().create_table("em.kept", pa.schema([("a", pa.int64())]))
        assert "is partitioned by nothing" in self.refused(cli, out, "--iceberg", *KEPT)

    def test_a_table_of_the_rejected(self, cli, out, catalog):
        publish(out, iceberg=KEPT, table="rejected")
        assert "not of particles_kept" in self.refused(cli, out, "--iceberg", *KEPT)

    def test_columns_that_differ(self, out, catalog, tmp_path):
        publish(out, iceberg=KEPT)
        for name, extra in (
            ("more", {"extra": [1.5] * 120}),
            ("changed", {"pick_stats/power": [1] * 120}),
        ):
            path = write_file(cryosparc(columns=extra), tmp_path / f"{name}.parquet")
            dask_dedup.run([path], tmp_path / name)
            with pytest.raises(InputError, match="use another table"):
                publish(tmp_path / name, iceberg=KEPT)

    def test_without_the_library(self, cli, out, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "pyiceberg.exceptions", None)
        assert "pip install 'dask-dedup[iceberg]'" in self.refused(cli, out, "--iceberg", *KEPT)

"""Delta tables as inputs: only the rows of the chosen version count. Other lake tables are refused."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from lake import finished_run
from tables import Output, cryosparc, uids, write_file

import dask_dedup
from dask_dedup import InputError, run, verify
from dask_dedup.cli import main
from dask_dedup.formats import open_table
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.results.command import run_command
from dask_dedup.results.publish import publish

pytestmark = pytest.mark.slow

deltalake = pytest.importorskip("deltalake")

SEPARATION = 20.0


def signed(rows, seed=0):
    """Picks in columns that Delta has: no unsigned integers, no vectors."""
    table = cryosparc(rows, seed=seed, drop=("alignments", "location/micrograph_shape"))
    table = table.drop_columns(["location/micrograph_uid"])
    shape = pa.array([[240, 300]] * rows, pa.list_(pa.int64()))
    small = pa.array(np.arange(rows) + 1000 * seed)
    table = table.set_column(table.schema.get_field_index("uid"), "uid", small)
    return table.append_column("location/micrograph_shape", shape)


def write(folder, table, **options):
    deltalake.write_deltalake(str(folder), table, **options)
    return folder


def rows_of(path):
    table = open_table(path)
    return pa.concat_tables([parquet.read(table, part) for part in table.fragments])


def rejected(inputs, out):
    run(inputs, out, min_separation=SEPARATION)
    assert verify(out).verified, verify(out).lines()
    return set(Output(out).rejected["uid"].to_pylist())


@pytest.fixture
def lake(tmp_path):
    """Two versions: 142 rows, all of them replaced by 114 others. The files hold 256 rows."""
    folder = write(tmp_path / "lake", signed(142, seed=1))
    return write(folder, signed(114, seed=2), mode="overwrite")


class TestVersions:
    def test_the_newest_version_is_read(self, lake):
        assert rows_of(lake)["uid"].to_pylist() == signed(114, seed=2)["uid"].to_pylist()

    def test_an_older_version_is_named_after_the_path(self, lake):
        assert open_table(f"{lake}?version=0").rows == 142
        assert open_table(f"{lake}?version=1").rows == 114

    @pytest.mark.parametrize(("suffix", "seed", "rows"), [("", 2, 114), ("?version=0", 1, 142)])
    def test_a_run_equals_one_on_a_file_with_the_same_rows(
        self, lake, tmp_path, suffix, seed, rows
    ):
        file = write_file(signed(rows, seed=seed), tmp_path / "rows.parquet")
        expected = rejected(file, tmp_path / "expected")
        assert rejected(f"{lake}{suffix}", tmp_path / "out") == expected
        assert expected

    def test_the_manifest_has_the_version(self, lake, tmp_path):
        write_file(signed(20), tmp_path / "b.parquet")
        run([f"{lake}?version=0", tmp_path / "b.parquet"], tmp_path / "out")
        versions = [entry["version"] for entry in Output(tmp_path / "out").manifest["inputs"]]
        assert versions == [0, None]

    def test_a_run_on_the_newest_version_is_verified_after_the_table_has_changed(
        self, lake, tmp_path
    ):
        run(lake, tmp_path / "out")
        write(lake, signed(50, seed=3), mode="append")
        assert verify(tmp_path / "out").verified

    def test_a_version_by_number_is_the_same_run(self, lake, tmp_path):
        first = run(lake, tmp_path / "out")
        write(lake, signed(50, seed=3), mode="append")
        again = run(f"{lake}?version=1", tmp_path / "out")
        assert again.already_done
        assert again.manifest == first.manifest

    def test_rows_deleted_and_files_compacted_do_not_count(self, lake):
        deltalake.DeltaTable(str(lake)).delete('"uid" >= 2050')
        assert sorted(rows_of(lake)["uid"].to_pylist()) == list(range(2000, 2050))
        write(lake, signed(30, seed=3), mode="append")
        deltalake.DeltaTable(str(lake)).optimize.compact()
        expected = [*range(2000, 2050), *range(3000, 3030)]
        assert sorted(rows_of(lake)["uid"].to_pylist()) == expected

    def test_a_checkpoint_of_the_log_is_read(self, lake):
        deltalake.DeltaTable(str(lake)).create_checkpoint()
        assert open_table(lake).rows == 114

    def test_a_table_without_rows_has_its_columns(self, lake):
        deltalake.DeltaTable(str(lake)).delete()
        table = open_table(lake)
        assert table.rows == 0
        assert table.schema.names == signed(1).schema.names

    def test_a_version_that_does_not_exist(self, lake):
        with pytest.raises(InputError, match=r"has no version 7; the newest one is 1"):
            open_table(f"{lake}?version=7")

    def test_files_removed_by_a_vacuum(self, lake):
        table = deltalake.DeltaTable(str(lake))
        table.vacuum(0, dry_run=False, enforce_retention_duration=False)
        assert open_table(lake).rows == 114
        with pytest.raises(InputError, match="No such file"):
            open_table(f"{lake}?version=0")

    @pytest.mark.parametrize("name", ["picks.parquet", "picks.star", "folder"])
    def test_other_tables_have_no_versions(self, tmp_path, name):
        (tmp_path / "folder").mkdir()
        write_file(signed(9), tmp_path / "picks.parquet")
        (tmp_path / "picks.star").write_text("data_\n")
        with pytest.raises(InputError, match="version"):
            open_table(f"{tmp_path / name}?version=1")

    def test_a_file_with_such_a_name_is_read(self, tmp_path):
        assert open_table(write_file(signed(9), tmp_path / "picks?version=1")).rows == 9


class TestColumns:
    def test_partition_columns_come_from_the_log(self, tmp_path):
        table = signed(8)
        values = ["a b", "é/%", None, "24=x", "0255", "7", "+", "%20"]
        table = table.append_column("session", pa.array(values))
        table = table.append_column("day", pa.array([1, None, 3, 4, 5, 6, 7, 8]))
        lake = write(tmp_path / "lake", table, partition_by=["session", "day"])
        found = rows_of(lake).sort_by("uid")
        assert found["session"].cast(pa.string()).to_pylist() == values
        assert found["day"].to_pylist() == [1, None, 3, 4, 5, 6, 7, 8]

    def test_text_of_digits_stays_text(self, tmp_path):
        table = signed(4).append_column("grid", pa.array(["1", "1", "2", "2"]))
        lake = write(tmp_path / "lake", table, partition_by=["grid"])
        assert open_table(lake).schema.field("grid").type == pa.string()

    def test_a_micrograph_that_is_a_partition(self, tmp_path):
        table = signed(100, seed=5)
        file = write_file(table, tmp_path / "rows.parquet")
        lake = write(tmp_path / "lake", table, partition_by=["location/micrograph_path"])
        assert rejected(lake, tmp_path / "out") == rejected(file, tmp_path / "expected")

    def test_a_column_added_later_is_null_before(self, tmp_path):
        lake = write(tmp_path / "lake", signed(10))
        more = signed(5, seed=1).append_column("note", pa.array(["x"] * 5))
        write(lake, more, mode="append", schema_mode="merge")
        found = rows_of(lake).sort_by("uid")
        assert found["note"].cast(pa.string()).to_pylist() == [None] * 10 + ["x"] * 5

    def test_a_published_table_is_an_input(self, tmp_path):
        out = finished_run(tmp_path / "s1")
        publish(out, delta=tmp_path / "kept", tags={"session": "s1"})
        kept = Output(out).kept
        table = open_table(tmp_path / "kept")
        assert set(uids(rows_of(tmp_path / "kept"))) == set(uids(kept))
        assert {"run", "input_name", "session"} <= set(table.schema.names)
        run(tmp_path / "kept", tmp_path / "again", min_separation=SEPARATION)
        assert verify(tmp_path / "again").verified
        assert Output(tmp_path / "again").rejected.num_rows == 0

    def test_rows_read_by_deltalake_and_saved_are_an_input(self, tmp_path):
        """Unsigned integers come back as decimals, vectors as lists."""
        out = finished_run(tmp_path / "s1")
        publish(out, delta=tmp_path / "all")
        publish(out, delta=tmp_path / "rejected", table="rejected")
        tables = [
            deltalake.DeltaTable(str(tmp_path / n)).to_pyarrow_table() for n in ("all", "rejected")
        ]
        for number, table in enumerate(tables):
            assert pa.types.is_decimal(table.schema.field("uid").type)
            write_file(table, tmp_path / f"{number}.parquet")
        inputs = [tmp_path / f"{number}.parquet" for number in range(2)]
        run(inputs, tmp_path / "again", min_separation=SEPARATION)
        assert verify(tmp_path / "again").verified
        again = Output(tmp_path / "again")
        assert {int(uid) for uid in again.kept["uid"].to_pylist()} == set(uids(Output(out).kept))
        assert again.duplicates["winner_uid"].to_pylist()


class TestRefused:
    """Tables that need more than the files named by the log."""

    def change(self, lake, features, *, configuration=None, **add):
        log = sorted((lake / "_delta_log").glob("*.json"))[0]
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        for action in actions:
            if "protocol" in action:
                action["protocol"] = {
                    "minReaderVersion": 3,
                    "minWriterVersion": 7,
                    "readerFeatures": features,
                    "writerFeatures": features,
                }
            if "metaData" in action:
                action["metaData"]["configuration"] |= configuration or {}
            if "add" in action:
                action["add"] |= add
        log.write_text("\n".join(map(json.dumps, actions)))

    def test_deletion_vectors(self, tmp_path):
        lake = write(tmp_path / "lake", signed(40))
        vector = {
            "storageType": "i",
            "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
            "sizeInBytes": 40,
            "cardinality": 6,
        }
        self.change(lake, ["deletionVectors"], deletionVector=vector)
        with pytest.raises(
            InputError, match=r"1 file of the Delta table has deletion vectors.*COPY"
        ):
            open_table(lake)

    def test_deletion_vectors_that_no_file_has(self, tmp_path):
        lake = write(tmp_path / "lake", signed(40))
        self.change(lake, ["deletionVectors"])
        assert open_table(lake).rows == 40

    def test_columns_of_other_names(self, tmp_path):
        lake = write(tmp_path / "lake", signed(40))
        configuration = {"delta.columnMapping.mode": "name"}
        self.change(lake, ["columnMapping"], configuration=configuration)
        with pytest.raises(InputError, match="Delta table"):
            open_table(lake)

    def test_features_that_the_library_does_not_know(self, tmp_path):
        lake = write(tmp_path / "lake", signed(40))
        self.change(lake, ["foldedRows"])
        with pytest.raises(InputError, match="cannot be read") as error:
            open_table(lake)
        assert "\n" not in str(error.value)

    def test_files_of_another_table(self, tmp_path):
        lake = write(tmp_path / "lake", signed(40))
        self.change(lake, [], path="file:///data/other/part-0.parquet")
        with pytest.raises(InputError, match="files of another table"):
            open_table(lake)

    def test_a_damaged_log(self, tmp_path):
        lake = write(tmp_path / "lake", signed(40))
        (log,) = (lake / "_delta_log").glob("*.json")
        log.write_text("{garbage")
        with pytest.raises(InputError, match="the log of the Delta table cannot be read"):
            open_table(lake)

    def test_a_log_without_versions(self, tmp_path):
        write_file(signed(9), tmp_path / "lake" / "a.parquet")
        (tmp_path / "lake" / "_delta_log").mkdir()
        with pytest.raises(InputError, match="the log of the Delta table cannot be read"):
            open_table(tmp_path / "lake")

    def test_parts_of_a_table(self, tmp_path):
        table = signed(8).append_column("grid", pa.array(["a", "b"] * 4))
        lake = write(tmp_path / "lake", table, partition_by=["grid"])
        file = next(lake.glob("grid=a/*.parquet"))
        for part in (lake / "grid=a", file):
            with pytest.raises(InputError, match=f"belongs to the Delta table {lake}"):
                open_table(part)

    def test_a_folder_of_tables(self, tmp_path):
        write(tmp_path / "lakes" / "a", signed(8))
        with pytest.raises(InputError, match=r"contains the Delta table .*/a\. Pass each table"):
            open_table(tmp_path / "lakes")

    def test_a_table_in_a_hidden_folder_is_ignored(self, tmp_path):
        write(tmp_path / "picks" / ".old" / "a", signed(8))
        write_file(signed(9), tmp_path / "picks" / "a.parquet")
        assert open_table(tmp_path / "picks").rows == 9

    def test_the_output_inside_the_table(self, lake):
        with pytest.raises(InputError, match="is inside the input"):
            run(f"{lake}?version=0", lake / "out")

    def test_without_the_library(self, lake, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "deltalake", None)
        with pytest.raises(InputError, match=r"pip install 'dask-dedup\[delta\]'"):
            open_table(lake)


class TestOtherLakes:
    @pytest.fixture
    def iceberg(self, tmp_path):
        catalogs = pytest.importorskip("pyiceberg.catalog")
        catalog = catalogs.load_catalog(
            "lab", type="sql", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}"
        )
        catalog.create_namespace("em")
        rows = signed(20)
        table = catalog.create_table("em.picks", rows.schema)
        table.append(rows)
        table.overwrite(rows.slice(0, 5))
        yield tmp_path / "em" / "picks", table
        catalog.close()

    def test_an_iceberg_table_is_refused_with_a_way_that_works(self, iceberg, tmp_path):
        folder, table = iceberg
        for path in (folder, folder / "data", next(folder.glob("data/*.parquet"))):
            with pytest.raises(InputError, match=r"an Iceberg table.*scan\(\)\.to_arrow\(\)"):
                open_table(path)
        with pytest.raises(InputError, match="contains the Iceberg table"):
            open_table(folder.parent)
        pa.parquet.write_table(table.scan().to_arrow(), tmp_path / "rows.parquet")
        assert open_table(tmp_path / "rows.parquet").rows == 5

    def test_a_hudi_table_is_refused(self, tmp_path):
        write_file(signed(9), tmp_path / "picks" / "2024" / "a.parquet")
        (tmp_path / "picks" / ".hoodie").mkdir()
        (tmp_path / "picks" / ".hoodie" / "hoodie.properties").write_text("")
        with pytest.raises(InputError, match="a Hudi table"):
            open_table(tmp_path / "picks")

    def test_a_folder_named_metadata_is_no_table(self, tmp_path):
        write_file(signed(9), tmp_path / "picks" / "a.parquet")
        (tmp_path / "picks" / "metadata").mkdir()
        (tmp_path / "picks" / "metadata" / "run.metadata.json").write_text("{}")
        assert open_table(tmp_path / "picks").rows == 9


@pytest.mark.slow
def test_inspect_and_a_cluster_read_a_version(lake, tmp_path):
    from distributed import Client, LocalCluster

    path = f"{lake}?version=0"
    assert dask_dedup.inspect(path).inputs[0].rows == 142
    expected = rejected(path, tmp_path / "threads")
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        run(path, tmp_path / "out", min_separation=SEPARATION, client=client)
    assert set(uids(Output(tmp_path / "out").rejected)) == expected


def test_the_command_in_the_report_names_the_version(lake, tmp_path):
    manifest = run(lake, tmp_path / "out", score_field={str(lake): "none"}).manifest
    words = shlex.split(run_command(manifest, "out"))
    assert words[:3] == ["dask-dedup", "run", f"{lake}?version=1"]
    assert f"{lake}?version=1=none" in words


@pytest.mark.parametrize("suffix", ["", "?version=1"])
def test_the_command_in_the_report_is_the_same_run(lake, tmp_path, suffix):
    path = f"{lake}{suffix}"
    first = run(path, tmp_path / "out", score_field={path: "none"})
    words = shlex.split(run_command(first.manifest, str(tmp_path / "out")))
    done = CliRunner().invoke(main, words[1:])
    assert done.exit_code == 0, done.output
    assert Output(tmp_path / "out").manifest == first.manifest

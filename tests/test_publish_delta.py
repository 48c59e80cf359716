"""Publish runs as Delta tables: what readers find, concurrent publishers, and errors."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from lake import QUERY, arrow_sums, finished_run, polars_sums, same, summed, truth, whole
from tables import Output, contents, cryosparc, relion, stamps, uids, write_file

import dask_dedup
from dask_dedup.errors import InputError, RunError
from dask_dedup.results import publish as module
from dask_dedup.results.publish import publish, writer
from dask_dedup.results.publish.dataset import open_dataset
from dask_dedup.results.publish.delta import DeltaLakeTable
from dask_dedup.results.publish.types import lake_columns

pytestmark = pytest.mark.slow

deltalake = pytest.importorskip("deltalake")


@pytest.fixture
def out(tmp_path):
    return finished_run(tmp_path / "s1")


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake" / "kept"


def open_table(root):
    return deltalake.DeltaTable(str(root))


def read(root):
    return open_table(root).to_pyarrow_table()


def test_views_are_published_as_text_and_bytes(tmp_path, lake):
    views = {
        "note": pa.array(["x", None] * 25, pa.string_view()),
        "raw": pa.array([b"x", None] * 25, pa.binary_view()),
        "names": pa.array([["a"], None] * 25, pa.list_(pa.string_view())),
    }
    path = write_file(cryosparc(50, columns=views), tmp_path / "a.parquet")
    out = dask_dedup.run(path, tmp_path / "out").output
    assert not publish(out, delta=lake).left_out
    found, kept = read(lake), Output(out).kept
    assert found.num_rows == kept.num_rows
    for name in views:
        assert sorted(map(str, found[name].to_pylist())) == sorted(map(str, kept[name].to_pylist()))


def test_columns_that_differ_by_case_are_refused(tmp_path, lake):
    """Delta does not distinguish them."""
    table = cryosparc(50, columns={"Score": [1.0] * 50, "score": [2.0] * 50})
    path = write_file(table, tmp_path / "a.parquet")
    out = dask_dedup.run(path, tmp_path / "out").output
    with pytest.raises(InputError, match=r"kept: the columns Score and score differ only by case"):
        publish(out, delta=lake)
    assert not lake.exists()


@pytest.fixture(scope="class")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    outputs = [finished_run(folder / f"s{seed}", seed=seed) for seed in (1, 2)]
    for output in outputs:
        publish(output, delta=folder / "kept")
    return folder / "kept", truth(outputs[0]) | truth(outputs[1])


class TestReaders:
    """Two runs in one table: counts and sums of each run and picker, and all values."""

    def test_deltalake_reads_it(self, published):
        lake, expected = published
        assert same(arrow_sums(read(lake)), expected)

    def test_the_engine_of_deltalake_reads_it(self, published):
        lake, expected = published
        query = QUERY.format("t").replace("group by all", "group by run, input_name")
        engine = deltalake.QueryBuilder().register("t", open_table(lake))
        found = pa.table(engine.execute(query))
        assert same(summed(zip(*(column.to_pylist() for column in found), strict=True)), expected)

    def test_duckdb_reads_it(self, published):
        duckdb = pytest.importorskip("duckdb")
        lake, expected = published
        kept = open_table(lake).to_pyarrow_dataset()
        with duckdb.connect() as connection:
            connection.register("kept", kept)
            assert same(summed(connection.sql(QUERY.format("kept")).fetchall()), expected)

    def test_duckdb_finds_each_uid(self, published, out):
        duckdb = pytest.importorskip("duckdb")
        lake, _ = published
        kept = open_table(lake).to_pyarrow_dataset()
        with duckdb.connect() as connection:
            connection.register("kept", kept)
            for uid in uids(Output(out).kept)[:20]:
                rows = connection.sql(f"select run from kept where uid = {uid}").fetchall()
                assert rows == [(Output(out).manifest["run_id"][:12],)]

    @pytest.mark.parametrize("use_pyarrow", [False, True])
    def test_polars_reads_it(self, published, use_pyarrow):
        polars = pytest.importorskip("polars")
        lake, expected = published
        frame = polars.scan_delta(str(lake), use_pyarrow=use_pyarrow)
        assert same(polars_sums(frame), expected)

    def test_every_column_has_the_runs_values(self, published, out):
        lake, _ = published
        run = Output(out).manifest["run_id"][:12]
        dataset = open_table(lake).to_pyarrow_dataset()
        rows = dataset.to_table(filter=ds.field("run") == run).sort_by("uid")
        kept = Output(out).kept.sort_by("uid")
        assert rows.schema.field("uid").type == pa.decimal128(20, 0)
        assert set(rows.column_names) == {*kept.column_names, "run", "input_name"}
        for name in kept.column_names:
            assert whole(rows[name].to_pylist()) == whole(kept[name].to_pylist()), name


class TestCommit:
    def test_half_floats_are_published_unless_linked(self, tmp_path, lake):
        halves = {"half": pa.array([1.5, None] * 60, pa.float16())}
        path = write_file(cryosparc(columns=halves), tmp_path / "in.parquet")
        out = dask_dedup.run(path, tmp_path / "out").output
        publish(out, delta=lake)
        assert read(lake)["half"].to_pylist() == Output(out).kept["half"].to_pylist()
        linked = publish(out, delta=tmp_path / "linked", link=True)
        assert linked.left_out == {"half": "halffloat"}

    def test_no_file_stays_after_a_full_disk(self, out, lake, monkeypatch):
        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(writer.pq.ParquetWriter, "write_table", full)
        with pytest.raises(RunError, match="the disk is full"):
            publish(out, delta=lake)
        assert not list(lake.rglob("*.parquet"))


def test_small_files_become_few_files_of_equal_size(out, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "ROW_GROUP_ROWS", 100)
    dataset = open_dataset(out, "kept", {})
    score, shift = "pick_stats/ncc_score", "alignments2D/shift.list.element"
    settings = {
        "compression": {
            **dict.fromkeys(cryosparc(1).column_names, "none"),
            score: "lz4",
            shift: "zstd",
        },
        "use_dictionary": ["location/micrograph_path"],
        "column_encoding": {score: "BYTE_STREAM_SPLIT"},
    }
    tables = [cryosparc(90, seed=number) for number in range(40)]
    files = []
    for number, table in enumerate(tables):
        path = tmp_path / "small" / f"{number}.parquet"
        write_file(table, path, row_group_size=40, **settings)
        size, first = path.stat().st_size, dataset.files[0]
        file = replace(first, path=path, bytes=size, rows=90, groups=(40, 40, 10))
        files.append(file)
    total = sum(file.bytes for file in files)
    monkeypatch.setattr(writer, "FILE_BYTES", total / 3.2)
    dataset = replace(dataset, files=tuple(files), schema=pq.read_schema(files[0].path))
    columns = lake_columns(dataset.schema)
    written = writer.write_files(dataset, columns.schema, str(tmp_path / "large"))
    assert len(written) == 3
    sizes = [(tmp_path / "large" / file.relative).stat().st_size for file in written]
    assert sizes == [file.bytes for file in written]
    assert max(sizes) < 1.1 * min(sizes)
    parts = [pq.ParquetFile(tmp_path / "large" / file.relative) for file in written]
    rows = pa.concat_tables(part.read() for part in parts)
    assert rows.schema.types == columns.schema.types
    assert whole(rows["uid"].to_pylist()) == [uid for table in tables for uid in uids(table)]
    for part in parts:
        groups = [part.metadata.row_group(n).num_rows for n in range(part.metadata.num_row_groups)]
        assert set(groups[:-1]) == {100}
    before, after = pq.read_metadata(files[0].path).row_group(0), parts[0].metadata.row_group(0)
    for number in range(before.num_columns):
        one, other = before.column(number), after.column(number)
        assert (one.path_in_schema, one.compression) == (other.path_in_schema, other.compression)
        assert set(one.encodings) == set(other.encodings)


class TestLinks:
    def test_files_are_links_to_those_of_the_run(self, cli, out, lake):
        outcome = cli("publish", out, "--delta", lake, "--link")
        assert "linked" in outcome.stdout
        assert "in the linked files uint64, which some readers refuse" in outcome.stdout
        mine = {path.stat().st_ino for path in Output(out).parts("particles_kept")}
        theirs = {path.stat().st_ino for path in lake.rglob("*.parquet")}
        assert mine == theirs
        assert same(arrow_sums(read(lake)), truth(out))

    def test_files_are_copied_without_hard_links(self, out, lake, monkeypatch):
        from dask_dedup.storage import files

        def link(*args):
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(files.os, "link", link)
        assert publish(out, delta=lake, link=True).placed == "copied"
        originals = {path.read_bytes() for path in Output(out).parts("particles_kept")}
        assert {path.read_bytes() for path in lake.rglob("*.parquet")} == originals

    @pytest.mark.parametrize("links", [True, False])
    def test_a_copy_never_replaces_a_file(self, tmp_path, monkeypatch, links):
        """The target may be a link to a file of a run."""
        from dask_dedup.storage import files

        mine, other, target = (tmp_path / name for name in ("mine", "other", "target"))
        mine.write_text("mine")
        other.write_text("other")
        target.hardlink_to(mine)
        if not links:

            def link(*args):
                raise OSError(18, "Invalid cross-device link")

            monkeypatch.setattr(files.os, "link", link)
        with pytest.raises(FileExistsError):
            files.copy_file(other, target)
        assert mine.read_text() == "mine"

    def test_linked_and_written_runs_can_be_in_one_table(self, out, lake, tmp_path):
        other = finished_run(tmp_path / "s2", seed=2)
        publish(out, delta=lake, link=True)
        publish(other, delta=lake)
        assert same(arrow_sums(read(lake)), truth(out) | truth(other))
        expected = uids(Output(out).kept) + uids(Output(other).kept)
        assert sorted(whole(read(lake)["uid"].to_pylist())) == sorted(expected)

    def test_polars_refuses_unsigned_numbers_and_vectors(self, out, lake):
        # See docs/guides/lake.md.
        polars = pytest.importorskip("polars")
        publish(out, delta=lake, link=True)
        for name in ("uid", "alignments3D/shift"):
            with pytest.raises(polars.exceptions.SchemaError):
                polars.scan_delta(str(lake)).select(name).collect()


class TestOrigin:
    def test_the_commit_names_the_origin_of_the_rows(self, out, lake):
        publish(out, delta=lake)
        publish(finished_run(out.parent / "more", seed=3), delta=lake)
        manifest = Output(out).manifest
        first = open_table(lake).history()[-1]
        assert first["dask-dedup.run_id"] == manifest["run_id"]
        assert json.loads(first["dask-dedup.parameters"]) == manifest["parameters"]
        assert json.loads(first["dask-dedup.versions"]) == manifest["versions"]
        found = json.loads(first["dask-dedup.inputs"])
        assert [one["input_name"] for one in found] == ["topaz", "blob"]
        assert [one["path"] for one in found] == [one["path"] for one in manifest["inputs"]]

    @pytest.mark.parametrize("table", ["rejected", "duplicates"])
    def test_the_other_datasets_can_be_published(self, out, lake, table):
        publish(out, delta=lake, table=table)
        expected = Output(out).rejected if table == "rejected" else Output(out).duplicates
        rows = read(lake)
        assert rows.num_rows == expected.num_rows > 0
        assert sorted(whole(rows["uid"].to_pylist())) == sorted(uids(expected))

    def test_votes_can_be_published(self, tmp_path, lake):
        out = finished_run(tmp_path / "voted", separation=200.0, votes=True)
        publish(out, delta=lake, table="votes")
        expected = pq.read_table(out / "votes").select(["voter_uid", "votes", "picker"])
        rows = read(lake).select(expected.column_names).to_pydict()
        rows["voter_uid"] = whole(rows["voter_uid"])
        assert sorted(zip(*rows.values(), strict=True)) == sorted(
            zip(*expected.to_pydict().values(), strict=True)
        )
        assert max(rows["votes"]) == 2

    def test_a_run_without_votes_has_none_to_publish(self, cli, out, lake):
        outcome = cli("publish", out, "--delta", lake, "--table", "votes")
        assert outcome.exit_code == 2
        assert "the run counted no votes. Run with --votes" in outcome.stderr

    def test_tags_are_columns(self, out, lake):
        publish(out, delta=lake, tags={"session": "24mar07", "grid": "3"})
        rows = read(lake)
        assert set(rows["session"].to_pylist()) == {"24mar07"}
        assert set(rows["grid"].to_pylist()) == {"3"}
        polars = pytest.importorskip("polars")
        found = polars.scan_delta(str(lake)).select("session", "grid").unique().collect()
        assert found.rows() == [("24mar07", "3")]

    def test_inputs_of_the_same_name_get_different_names(self, tmp_path, lake):
        paths = [
            write_file(cryosparc(100, seed=n), tmp_path / f"s{n}" / "picks.parquet") for n in (1, 2)
        ]
        dask_dedup.run(paths, tmp_path / "out")
        publish(tmp_path / "out", delta=lake)
        assert set(read(lake)["input_name"].to_pylist()) == {"s1_picks", "s2_picks"}

    def test_a_run_without_rejected_particles_gives_an_empty_table(self, tmp_path, lake):
        table = cryosparc(3, micrographs=3)
        dask_dedup.run([write_file(table, tmp_path / "in.parquet")], tmp_path / "out")
        done = publish(tmp_path / "out", delta=lake, table="rejected")
        assert (done.rows, read(lake).num_rows) == (0, 0)
        assert not publish(tmp_path / "out", delta=lake, table="rejected").changed


class TestAgain:
    def test_a_run_is_not_published_twice(self, cli, out, lake):
        assert cli("publish", out, "--delta", lake).exit_code == 0
        before = stamps(lake)
        outcome = cli("publish", out, "--delta", lake)
        assert outcome.exit_code == 0
        assert "nothing was changed" in outcome.stdout
        assert stamps(lake) == before
        assert cli("publish", out, "--delta", lake, "--mode", "replace").exit_code == 0
        assert stamps(lake) == before

    def test_only_replace_changes_a_tag(self, cli, out, lake):
        publish(out, delta=lake, tags={"session": "24mar07"})
        outcome = cli("publish", out, "--delta", lake, "--tag", "session=24mar08")
        assert outcome.exit_code == 2
        assert "holds this run already, with session=24mar07" in outcome.stderr
        assert publish(out, delta=lake, tags={"session": "24mar08"}, mode="replace").changed
        assert set(read(lake)["session"].to_pylist()) == {"24mar08"}
        assert same(arrow_sums(read(lake)), truth(out))

    def test_another_run_is_added(self, out, lake, tmp_path):
        other = finished_run(tmp_path / "s2", seed=2)
        publish(out, delta=lake)
        publish(other, delta=lake)
        assert same(arrow_sums(read(lake)), truth(out) | truth(other))

    def test_replace_keeps_only_this_run(self, out, lake, tmp_path):
        other = finished_run(tmp_path / "s2", seed=2)
        publish(out, delta=lake)
        publish(other, delta=lake)
        done = publish(out, delta=lake, mode="replace")
        assert done.changed
        assert same(arrow_sums(read(lake)), truth(out))
        assert not publish(out, delta=lake, mode="replace").changed

    @pytest.mark.parametrize("table", ["kept", "duplicates"])
    def test_runs_without_tags_are_not_replaced_together(self, cli, out, lake, tmp_path, table):
        other = finished_run(tmp_path / "s2", seed=2)
        for each in (out, other):
            assert not [*publish(each, delta=lake, table=table).warnings()]
        before = read(lake).num_rows
        new = finished_run(tmp_path / "s3", seed=3)
        options = ("--table", table, "--mode", "replace-tagged")
        outcome = cli("publish", new, "--delta", lake, *options)
        assert outcome.exit_code == 2
        assert (
            f"{lake}: without tags and partition folders, --mode replace-tagged would replace all rows, of 2 runs. "
            "Publish with tags, or pass --mode replace." in outcome.stderr
        )
        assert read(lake).num_rows == before

    def test_rows_of_another_run_with_the_same_tags_are_warned_of(self, cli, out, lake, tmp_path):
        publish(out, delta=lake, tags={"session": "a"})
        other = finished_run(tmp_path / "s2", seed=2)
        assert not [*publish(other, delta=lake, tags={"session": "b"}).warnings()]
        finished_run(tmp_path / "s1", separation=60.0, overwrite=True)
        outcome = cli("publish", out, "--delta", lake, "--tag", "session=a")
        assert outcome.exit_code == 0
        assert "1 other run has rows with the same tags and partition folders" in outcome.stderr
        assert "--mode replace-tagged replaces such rows." in outcome.stderr

    def test_a_session_is_replaced_by_its_new_run(self, cli, out, lake, tmp_path):
        other = finished_run(tmp_path / "s2", seed=2)
        publish(out, delta=lake, tags={"session": "a", "grid": "1"})
        publish(other, delta=lake, tags={"session": "a", "grid": "2"})
        rest = truth(other)
        finished_run(tmp_path / "s1", separation=60.0, overwrite=True)
        replace = ("publish", out, "--delta", lake, "--tag", "session=a", "--tag", "grid=1")
        outcome = cli(*replace, "--mode", "replace-tagged")
        assert "version 2, in place of rows of 1 run" in outcome.stdout
        assert same(arrow_sums(read(lake)), truth(out) | rest)
        assert "nothing was changed" in cli(*replace, "--mode", "replace-tagged").stdout
        line = cli("publish", out, "--delta", lake, "--mode", "replace-tagged").stderr
        assert "is partitioned by run, input_name, grid, session" in line
        new = finished_run(tmp_path / "s3", seed=3)
        tags = {"session": "b", "grid": "1"}
        assert publish(new, delta=lake, tags=tags, mode="replace-tagged").replaced == []
        assert same(arrow_sums(read(lake)), truth(out) | rest | truth(new))

    def test_overwriting_the_run_does_not_change_the_table(self, out, lake, tmp_path):
        before = truth(out)
        publish(out, delta=lake)
        finished_run(tmp_path / "s1", separation=60.0, overwrite=True)
        assert truth(out) != before
        assert same(arrow_sums(read(lake)), before)
        publish(out, delta=lake, mode="replace")
        assert same(arrow_sums(read(lake)), truth(out))
        old = deltalake.DeltaTable(str(lake), version=0)
        assert same(arrow_sums(old.to_pyarrow_table()), before)

    def test_missing_files_are_reported(self, cli, out, lake):
        publish(out, delta=lake)
        gone = sorted(lake.rglob("*.parquet"))[0]
        gone.unlink()
        outcome = cli("publish", out, "--delta", lake)
        assert outcome.exit_code == 0
        (warning,) = outcome.stderr.splitlines()
        assert (
            f"{lake}: 1 file of the table is missing (first: {gone.relative_to(lake)})" in warning
        )

    def test_a_vacuum_of_the_table_does_not_change_the_run(self, out, lake, tmp_path):
        publish(out, delta=lake)
        other = finished_run(tmp_path / "s2", seed=2)
        publish(other, delta=lake, mode="replace")
        before = contents(out)
        table = open_table(lake)
        table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
        assert contents(out) == before
        assert same(arrow_sums(read(lake)), truth(other))


class TestTwoPublishers:
    """The second publishes completely while the first is about to commit."""

    def meanwhile(self, monkeypatch, action):
        real = DeltaLakeTable.commit

        def first_something_else(*args):
            monkeypatch.setattr(DeltaLakeTable, "commit", real)
            action()
            return real(*args)

        monkeypatch.setattr(DeltaLakeTable, "commit", first_something_else)

    @pytest.mark.parametrize("new", [True, False], ids=["new table", "old table"])
    def test_one_run_is_published_once(self, out, lake, tmp_path, monkeypatch, new):
        expected = truth(out)
        if not new:
            other = finished_run(tmp_path / "s2", seed=2)
            publish(other, delta=lake)
            expected |= truth(other)
        self.meanwhile(monkeypatch, lambda: publish(out, delta=lake))
        done = publish(out, delta=lake)
        assert not done.changed
        assert same(arrow_sums(read(lake)), expected)
        listed = set(open_table(lake).file_uris())
        assert {str(path) for path in lake.rglob("*.parquet")} == listed

    @pytest.mark.parametrize("new", [True, False], ids=["new table", "old table"])
    def test_two_runs_are_both_published(self, out, lake, tmp_path, monkeypatch, new):
        other = finished_run(tmp_path / "s2", seed=2)
        expected = truth(out) | truth(other)
        if not new:
            third = finished_run(tmp_path / "s3", seed=3)
            publish(third, delta=lake)
            expected |= truth(third)
        self.meanwhile(monkeypatch, lambda: publish(other, delta=lake))
        assert publish(out, delta=lake).changed
        assert same(arrow_sums(read(lake)), expected)

    def test_a_run_added_meanwhile_is_replaced_if_it_has_the_same_tags(
        self, out, lake, tmp_path, monkeypatch
    ):
        runs = [finished_run(tmp_path / f"s{seed}", seed=seed) for seed in (2, 3)]
        publish(runs[0], delta=lake, tags={"session": "b"})
        self.meanwhile(monkeypatch, lambda: publish(runs[1], delta=lake, tags={"session": "a"}))
        assert publish(out, delta=lake, tags={"session": "a"}, mode="replace-tagged").changed
        assert same(arrow_sums(read(lake)), truth(out) | truth(runs[0]))

    def test_publishing_fails_after_many_conflicts(self, cli, out, lake, monkeypatch):
        monkeypatch.setattr(DeltaLakeTable, "commit", lambda *_: False)
        outcome = cli("publish", out, "--delta", lake)
        assert outcome.exit_code == 1
        assert "other publishers changed the table 20 times" in outcome.stderr
        assert list(lake.rglob("*.parquet")) == []

    def test_a_run_that_is_overwritten_meanwhile_is_not_published(
        self, out, lake, tmp_path, monkeypatch
    ):
        real = module.write_files

        def write_files(*args):
            finished_run(tmp_path / "s1", separation=60.0, overwrite=True)
            return real(*args)

        monkeypatch.setattr(module, "write_files", write_files)
        with pytest.raises(InputError, match="meanwhile"):
            publish(out, delta=lake)
        assert list(lake.rglob("*.parquet")) == []

    @pytest.mark.slow
    def test_a_killed_publisher_leaves_no_incomplete_parquet_file(self, out, lake):
        script = (
            "import os; from dask_dedup import publish; from pyarrow import parquet; "
            "parquet.ParquetWriter.close = lambda _: os._exit(9); "
            f"publish({str(out)!r}, delta={str(lake)!r})"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
        left = [path.suffix for path in lake.rglob("*") if path.is_file()]
        assert left
        assert set(left) == {".unfinished"}
        assert publish(out, delta=lake).changed
        assert same(arrow_sums(read(lake)), truth(out))
        open_table(lake).vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
        assert not list(lake.rglob("*.unfinished"))

    @pytest.mark.slow
    def test_concurrent_processes_publish_a_run_once(self, out, lake):
        command = [sys.executable, "-c", "from dask_dedup.cli import main; main()"]
        command += ["publish", str(out), "--delta", str(lake)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        found = [process.communicate(timeout=200)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert sum("added to the Delta table" in text for text in found) == 1
        assert sum("nothing was changed" in text for text in found) == 2
        assert same(arrow_sums(read(lake)), truth(out))


class TestRefusals:
    def refused(self, cli, *arguments, code=2):
        outcome = cli("publish", *arguments)
        assert outcome.exit_code == code, outcome.stderr
        (line,) = outcome.stderr.splitlines()
        return line

    def test_no_finished_run(self, cli, tmp_path, lake):
        (tmp_path / "empty").mkdir()
        assert "no finished run (manifest.json is missing)" in self.refused(
            cli, tmp_path / "empty", "--delta", lake
        )

    def test_a_manifest_of_another_program(self, cli, tmp_path, lake):
        (tmp_path / "manifest.json").write_text('{"name": "web app"}')
        assert "not a manifest of dask-dedup" in self.refused(cli, tmp_path, "--delta", lake)

    def test_a_damaged_run(self, cli, out, lake):
        (out / "particles_kept" / "part-00000.parquet").unlink()
        assert "is missing or changed" in self.refused(cli, out, "--delta", lake)
        assert not lake.exists()

    def test_a_running_run(self, cli, out, lake):
        from dask_dedup.output.lock import locked

        with locked(out):
            assert "another run is writing there" in self.refused(cli, out, "--delta", lake)

    def test_star_files(self, cli, tmp_path, lake):
        starfile = pytest.importorskip("starfile")
        starfile.write(relion().to_pandas(), tmp_path / "picks.star")
        dask_dedup.run([tmp_path / "picks.star"], tmp_path / "out")
        line = self.refused(cli, tmp_path / "out", "--delta", lake)
        assert "--output-format parquet" in line
        assert (
            cli("publish", tmp_path / "out", "--delta", lake, "--table", "duplicates").exit_code
            == 0
        )

    def test_a_folder_that_is_not_a_table(self, cli, out, tmp_path):
        line = self.refused(cli, out, "--delta", tmp_path)
        assert "is not empty and not a Delta table" in line

    def test_a_file_instead_of_a_folder(self, cli, out, tmp_path):
        (tmp_path / "taken").write_text("")
        assert "is a file" in self.refused(cli, out, "--delta", tmp_path / "taken")

    @pytest.mark.parametrize("below", ["", "lake", "particles_kept/lake"])
    def test_a_folder_inside_the_run(self, cli, out, below):
        before = contents(out)
        assert "is inside the run" in self.refused(cli, out, "--delta", out / below)
        assert contents(out) == before

    def test_a_log_that_cannot_be_read(self, cli, out, lake):
        publish(out, delta=lake)
        (lake / "_delta_log" / f"{0:020}.json").write_text("no commit")
        line = self.refused(cli, out, "--delta", lake, code=1)
        assert "publishing failed" in line

    def test_a_table_of_another_program(self, cli, out, tmp_path):
        deltalake.write_deltalake(str(tmp_path / "other"), pa.table({"a": [1]}))
        line = self.refused(cli, out, "--delta", tmp_path / "other")
        assert "is partitioned by nothing" in line

    def test_a_table_of_the_rejected(self, cli, out, lake):
        publish(out, delta=lake, table="rejected")
        line = self.refused(cli, out, "--delta", lake)
        assert "is a table of particles_rejected, not of particles_kept" in line

    def test_other_tags(self, cli, out, lake, tmp_path):
        publish(out, delta=lake, tags={"session": "a"})
        other = finished_run(tmp_path / "s2", seed=2)
        line = self.refused(cli, other, "--delta", lake)
        assert "run, input_name, session" in line

    @pytest.mark.parametrize(
        "tag", ["session", "session=", "a b=1", "session=a/b", "run=1", "uid=3", "session=../x"]
    )
    def test_invalid_tags(self, cli, out, lake, tag):
        assert self.refused(cli, out, "--delta", lake, "--tag", tag).startswith("dask-dedup: ")
        assert not lake.exists()

    def test_a_column_named_run(self, cli, lake, tmp_path):
        path = write_file(cryosparc(columns={"run": [1] * 120}), tmp_path / "in.parquet")
        dask_dedup.run([path], tmp_path / "out")
        line = self.refused(cli, tmp_path / "out", "--delta", lake)
        assert "has a column run, which" in line

    def test_columns_that_differ(self, cli, out, lake, tmp_path):
        publish(out, delta=lake)
        more = {"extra": [1.5] * 120}
        path = write_file(cryosparc(columns=more), tmp_path / "more.parquet")
        dask_dedup.run([path], tmp_path / "more")
        line = self.refused(cli, tmp_path / "more", "--delta", lake)
        assert f"{lake} has no column extra" in line
        changed = {"pick_stats/power": [1] * 120}
        path = write_file(cryosparc(columns=changed), tmp_path / "changed.parquet")
        dask_dedup.run([path], tmp_path / "changed")
        line = self.refused(cli, tmp_path / "changed", "--delta", lake)
        assert "pick_stats/power is float in the table, but int64 in this run" in line
        assert publish(tmp_path / "changed", delta=lake, mode="replace").changed
        assert read(lake).schema.field("pick_stats/power").type == pa.int64()

    def test_missing_columns_of_a_run_are_null(self, out, lake, tmp_path):
        publish(out, delta=lake)
        path = write_file(cryosparc(drop=["pick_stats/power"]), tmp_path / "less.parquet")
        result = dask_dedup.run([path], tmp_path / "less")
        publish(tmp_path / "less", delta=lake)
        assert read(lake)["pick_stats/power"].null_count == result.kept

    def test_no_target(self, cli, out, lake):
        assert cli("publish", out).exit_code == 2
        assert cli("publish", out, "--delta", lake, "--iceberg", "a", "b.c").exit_code == 2

    def test_without_the_library(self, cli, out, lake, monkeypatch):
        monkeypatch.setitem(sys.modules, "deltalake.exceptions", None)
        line = self.refused(cli, out, "--delta", lake)
        assert "pip install 'dask-dedup[delta]'" in line

    def test_columns_without_a_type_in_delta_are_named(self, cli, tmp_path, lake):
        import datetime

        times = {"seen": pa.array([datetime.datetime(2024, 3, 7)] * 120, pa.timestamp("ns"))}
        path = write_file(cryosparc(columns=times), tmp_path / "in.parquet")
        dask_dedup.run([path], tmp_path / "out")
        outcome = cli("publish", tmp_path / "out", "--delta", lake)
        assert "lacks these columns" in outcome.stderr
        assert "seen (timestamp[ns])" in outcome.stderr
        assert "seen" not in read(lake).column_names

    def test_json_has_all_values(self, cli, out, lake):
        found = json.loads(cli("publish", out, "--delta", lake, "--json").stdout)
        assert found["changed"]
        assert found["rows"] == Output(out).kept.num_rows
        assert found["run_id"] == Output(out).manifest["run_id"]
        assert found["decimals"] == ["uid", "location/micrograph_uid"]

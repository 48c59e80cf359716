"""Partition folders of a result: those of the inputs, and those of columns of the rows."""

from __future__ import annotations

import datetime
import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables import Output, contents, cryosparc, relion, stamps, uids, write_file
from test_output import Crash, crashing
from test_report_notes import assert_same
from test_resume import write_star

import dask_dedup
from dask_dedup import DedupParams, InputError, RunError, run, verify
from dask_dedup.formats import open_table, read
from dask_dedup.formats.parquet import fragments
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.output.manifest import CHECKSUM, with_checksum
from dask_dedup.pipeline import divide, fragment_files, manifest_content, partitions
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.report.datasets import read_contents
from dask_dedup.results.status import status

UID = "uid"
KEPT, REJECTED = "particles_kept", "particles_rejected"
PARAMS = DedupParams(min_separation=20)
BY_SESSION = DedupParams(min_separation=20, group_by="session")
NULL = "__HIVE_DEFAULT_PARTITION__"


def sessions(folder, names=("a", "b", "c"), rows=120, seed=0, files=1, **options):
    """Write a session to each hive folder."""
    for name in names:
        own = seed + sum(map(ord, name))
        table = cryosparc(rows * files, micrographs=6, seed=own, **options)
        for number in range(files):
            part = table.slice(number * rows, rows)
            write_file(part, folder / f"session={name}" / f"{number}.parquet")
    return folder


def folders(output, name=KEPT):
    return sorted(
        {str(path.parent.relative_to(output / name)) for path in Output(output).parts(name)}
    )


def files_of(output, folder):
    """Return the bytes of the kept and rejected files of a partition folder."""
    return {name: contents(output / name / folder) for name in (KEPT, REJECTED)}


def rows_of(path, columns=None):
    """Return the rows of a table as this package reads them, sorted by uid."""
    table = open_table(path)
    columns = columns or sorted(table.schema.names)
    parts = [read(table, fragment, columns) for fragment in table.fragments]
    rows = pa.concat_tables(parts, promote_options="none").unify_dictionaries()
    return rows.sort_by("uid") if "uid" in columns else rows


def texts(table, name):
    return [None if value is None else str(value) for value in table[name].to_pylist()]


class TestFoldersOfTheInput:
    def test_are_those_of_the_result(self, tmp_path):
        source = sessions(tmp_path / "in")
        out = run(source, tmp_path / "out", PARAMS).output
        for name in (KEPT, REJECTED):
            assert folders(out, name) == ["session=a", "session=b", "session=c"]
            assert {path.name for path in Output(out).parts(name)} == {"part-00000.parquet"}
        for path in Output(out).parts(KEPT):
            original = source / path.parent.name / "0.parquet"
            assert pq.read_schema(path).equals(pq.read_schema(original), check_metadata=True)
        assert verify(out).verified

    def test_every_row_is_in_its_folder(self, tmp_path):
        source = sessions(tmp_path / "in", files=3)
        out = run(source, tmp_path / "out", PARAMS).output
        for session in "abc":
            before = ds.dataset(source / f"session={session}").to_table()
            after = [
                ds.dataset(out / name / f"session={session}").to_table()
                for name in (KEPT, REJECTED)
            ]
            assert Counter(uids(before)) == Counter(uids(pa.concat_tables(after)))
            order = {uid: n for n, uid in enumerate(uids(before))}
            for part in after:
                numbers = [order[uid] for uid in uids(part)]
                assert numbers == sorted(numbers)

    def test_decisions_are_those_of_the_plain_table(self, tmp_path):
        source = sessions(tmp_path / "in")
        plain = ds.dataset(source, partitioning="hive").to_table()
        expected = run(write_file(plain, tmp_path / "plain.parquet"), tmp_path / "plain", PARAMS)
        found = run(source, tmp_path / "out", PARAMS)
        assert found.rejected == expected.rejected > 0
        assert Output(tmp_path / "out").by_uid == Output(tmp_path / "plain").by_uid

    def test_keys_within_keys_keep_their_order(self, tmp_path):
        table = cryosparc(60)
        for seed, path in enumerate(("session=b/pass=2", "session=a/pass=10", "session=a/pass=9")):
            write_file(cryosparc(60, seed=seed), tmp_path / "in" / path / "x.parquet")
        out = run(tmp_path / "in", tmp_path / "out", PARAMS).output
        assert folders(out) == ["session=a/pass=10", "session=a/pass=9", "session=b/pass=2"]
        assert Output(out).manifest["partitions"] == {"session": "string", "pass": "int64"}
        assert not {"session", "pass"} & {*Output(out).kept.column_names}
        assert table.column_names == Output(out).kept.column_names
        assert verify(out).verified

    @pytest.mark.parametrize("value", ["a b", "x/y", "é%", "p=q&r", "m;n,o#", None, "", "007"])
    def test_any_value_is_read_back(self, tmp_path, value):
        rows = pa.table(
            {**dict(zip(cryosparc(40).column_names, cryosparc(40).columns, strict=True))}
        )
        rows = rows.append_column("session", pa.array([value] * 20 + ["other"] * 20, pa.string()))
        out = run(
            write_file(rows, tmp_path / "a.parquet"),
            tmp_path / "out",
            PARAMS,
            partition_by="session",
        ).output
        again = run(out / KEPT, tmp_path / "again", PARAMS).output
        assert folders(again) == folders(out)
        for output in (out, again):
            assert {*texts(rows_of(output / KEPT), "session")} <= {value, "other"}
            assert verify(output).verified

    def test_a_result_is_an_input_with_the_same_columns(self, tmp_path):
        source = sessions(tmp_path / "in")
        out = run(source, tmp_path / "out", PARAMS).output
        given, found = open_table(source).schema, open_table(out / KEPT).schema
        assert {field.name: field.type for field in found} == {f.name: f.type for f in given}
        both = pa.concat_tables([rows_of(out / KEPT), rows_of(out / REJECTED)]).sort_by(UID)
        assert both.equals(rows_of(source)) or both.to_pylist() == rows_of(source).to_pylist()
        again = run(out / KEPT, tmp_path / "again", PARAMS)
        assert again.rejected == 0
        assert folders(again.output) == folders(out)

    def test_a_folder_without_kept_or_rejected_rows_has_empty_files(self, tmp_path):
        write_file(cryosparc(2, micrographs=2), tmp_path / "in" / "session=apart" / "0.parquet")
        sessions(tmp_path / "in", ["b"])
        out = run(tmp_path / "in", tmp_path / "out", PARAMS).output
        (empty,) = (out / REJECTED / "session=apart").iterdir()
        assert pq.read_table(empty).num_rows == 0
        assert pq.read_schema(empty).names == cryosparc(2).column_names
        assert verify(out).verified

    def test_a_table_without_rows_has_a_readable_file(self, tmp_path):
        write_file(cryosparc(20).slice(0, 0), tmp_path / "in" / "session=a" / "0.parquet")
        out = run(tmp_path / "in", tmp_path / "out", PARAMS).output
        for name in (KEPT, REJECTED):
            assert folders(out, name) == [f"session={NULL}"]
            assert rows_of(out / name).num_rows == 0
            assert {*open_table(out / name).schema.names} == {*cryosparc(2).column_names, "session"}
        assert verify(out).verified

    def test_inputs_with_the_same_keys_share_the_folders(self, tmp_path):
        one = sessions(tmp_path / "topaz", "ab")
        other = sessions(tmp_path / "blob", "bc", seed=7)
        out = run([one, other], tmp_path / "out", PARAMS).output
        names = {
            folder: sorted(path.name for path in (out / KEPT / folder).iterdir())
            for folder in folders(out)
        }
        first, second = "part-00000.parquet", "part-00001.parquet"
        assert names == {"session=a": [first], "session=b": [first, second], "session=c": [first]}
        assert verify(out).verified

    def test_inputs_with_different_keys_give_no_folders(self, tmp_path, cli):
        one = sessions(tmp_path / "topaz", "ab")
        other = write_file(cryosparc(50, seed=5), tmp_path / "blob.parquet")
        outcome = cli("run", one, other, "-o", tmp_path / "out", "--min-separation", 20)
        assert outcome.exit_code == 0
        assert (
            "The result has no partition folders, because the inputs have different partition columns"
            in (outcome.stderr)
        )
        assert folders(tmp_path / "out") == ["."]
        kept = ds.dataset(tmp_path / "out" / KEPT).to_table()
        assert {*kept["session"].to_pylist()} == {"a", "b", None}
        assert verify(tmp_path / "out").verified

    @pytest.mark.parametrize(
        "names", [(["7", "8"], ["007"]), (["7"], ["a"]), (["a"], ["7"]), (["7"], [NULL])]
    )
    def test_whole_numbers_of_one_input_are_text_beside_text_of_another(self, tmp_path, names):
        tables = [sessions(tmp_path / str(n), each, seed=n) for n, each in enumerate(names)]
        result = run(tables, tmp_path / "out", BY_SESSION)
        assert result.manifest["partitions"] == {"session": "string"}
        assert folders(result.output) == sorted(
            f"session={name}" for each in names for name in each
        )
        assert verify(result.output).verified
        alone = run(tables[0], tmp_path / "alone", BY_SESSION).output
        for folder in folders(alone):
            assert files_of(alone, folder) == files_of(result.output, folder)
        assert_same(result.report_contents, read_contents(open_finished_run(result.output)))
        kept = dask_dedup.read_kept(result.output).compute()
        found = {None if text is pd.NA else text for text in kept["session"].tolist()}
        assert found == {None if name == NULL else name for each in names for name in each}

    def test_small_whole_numbers_of_one_input_are_unsigned_beside_large_ones_of_another(
        self, tmp_path
    ):
        names = [["7", NULL], [str(2**64 - 1)]]
        tables = [sessions(tmp_path / str(n), each, seed=n) for n, each in enumerate(names)]
        result = run(tables, tmp_path / "out", BY_SESSION)
        assert result.manifest["partitions"] == {"session": "uint64"}
        assert {*folders(result.output)} == {f"session={name}" for each in names for name in each}
        assert verify(result.output).verified
        kept = dask_dedup.read_kept(result.output).compute()
        assert {*kept["session"].dropna().tolist()} == {7, 2**64 - 1}

    def test_negative_numbers_beside_large_ones_are_refused(self, tmp_path):
        tables = [sessions(tmp_path / name, [name]) for name in ("-7", str(2**63))]
        with pytest.raises(InputError, match="session"):
            run(tables, tmp_path / "out", BY_SESSION)

    def test_a_key_is_text_beside_a_column_of_text(self, tmp_path):
        """Then there are no folders, and the key is a column of the files."""
        one = sessions(tmp_path / "topaz", ["7"])
        other = write_file(
            cryosparc(50, seed=5, columns={"session": ["a"] * 50}), tmp_path / "b.parquet"
        )
        out = run([one, other], tmp_path / "out", BY_SESSION).output
        kept = ds.dataset(out / KEPT).to_table()
        assert {*kept["session"].to_pylist()} == {"7", "a"}
        assert verify(out).verified

    def test_the_report_reads_what_the_run_noted(self, tmp_path):
        source = sessions(tmp_path / "in", files=2)
        result = run(source, tmp_path / "out", BY_SESSION)
        assert_same(result.report_contents, read_contents(open_finished_run(result.output)))

    def test_a_micrograph_name_may_be_a_key(self, tmp_path):
        """As DuckDB and Polars partition."""
        table = relion(60, micrographs=3)
        name = "rlnMicrographName"
        pq.write_to_dataset(table, tmp_path / "in", partition_cols=[name])
        plain = run(write_file(table, tmp_path / "a.parquet"), tmp_path / "plain", PARAMS)
        result = run(tmp_path / "in", tmp_path / "out", PARAMS)
        assert result.rejected == plain.rejected > 0
        assert len(folders(result.output)) == 3
        assert verify(result.output).verified
        assert read_contents(open_finished_run(result.output)).kept.sum() == result.kept


class TestBytes:
    """A session's folder has the same bytes alone and with others."""

    def compare(self, tmp_path, source):
        together = run(source, tmp_path / "together", BY_SESSION).output
        for folder in sorted(path.name for path in source.iterdir()):
            alone = tmp_path / "alone" / folder
            shutil.copytree(source / folder, alone / folder)
            out = run(alone, tmp_path / "out" / folder, BY_SESSION).output
            assert files_of(out, folder) == files_of(together, folder)
            assert verify(out).verified
        assert verify(together).verified

    def test_are_the_same_alone(self, tmp_path):
        source = sessions(tmp_path / "in", files=2)
        # Values that repeat in one session only, and text of each.
        constant = cryosparc(200, seed=3, columns={"note": ["same"] * 200, "number": [1.5] * 200})
        varied = cryosparc(
            200,
            seed=4,
            columns={"note": [f"n{k}" for k in range(200)], "number": np.arange(200) / 7},
        )
        (tmp_path / "more").mkdir()
        write_file(constant, tmp_path / "more" / "session=x" / "0.parquet")
        write_file(varied, tmp_path / "more" / "session=y" / "0.parquet")
        self.compare(tmp_path / "one", source)
        self.compare(tmp_path / "two", tmp_path / "more")

    def test_are_the_same_in_pieces(self, tmp_path, monkeypatch):
        monkeypatch.setattr(fragments, "PIECE_BYTES", 20_000)
        source = sessions(tmp_path / "in", rows=80, files=8)
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 100_000)
        self.compare(tmp_path, source)
        names = sorted(path.name for path in (tmp_path / "together" / KEPT / "session=a").iterdir())
        assert names == [f"part-{number:05d}.parquet" for number in range(4)]

    def test_do_not_depend_on_the_names_of_other_folders(self, tmp_path, monkeypatch):
        """Values that repeat take little in a file, so the sizes of their types decide on the pieces."""
        monkeypatch.setattr(fragments, "PIECE_BYTES", 4_000)
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        table = cryosparc(400, micrographs=4).select(
            [name for name in cryosparc(4).column_names if name.startswith("location/")]
        )
        columns = {
            name: table[name].slice(0, 1).take(pa.array([0] * 400)) for name in table.column_names
        }
        for name in ("7", "a"):
            path = tmp_path / "in" / f"session={name}" / "0.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(pa.table(columns), path, row_group_size=16)
        params = replace(BY_SESSION, score_field="none")
        together = run(tmp_path / "in", tmp_path / "together", params).output
        shutil.copytree(tmp_path / "in" / "session=7", tmp_path / "one" / "session=7")
        alone = run(tmp_path / "one", tmp_path / "alone", params).output
        assert files_of(alone, "session=7") == files_of(together, "session=7")

    def test_do_not_depend_on_earlier_runs_of_the_process(self, tmp_path, monkeypatch):
        """An input is written again with the same name and rows, but other values."""
        monkeypatch.setattr(fragments, "PIECE_BYTES", 4_000)
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)

        def write(numbers):
            table = cryosparc(400, micrographs=8, columns={"number": numbers})
            path = tmp_path / "in" / "session=a" / "0.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path, row_group_size=100)

        write([1.5] * 400)
        run(tmp_path / "in", tmp_path / "before", BY_SESSION)
        write(np.arange(400) / 7)
        after = run(tmp_path / "in", tmp_path / "after", BY_SESSION).output
        divide._read_sample.cache_clear()
        fresh = run(tmp_path / "in", tmp_path / "fresh", BY_SESSION).output
        assert len(Output(fresh).parts(KEPT)) > 1
        assert files_of(after, "session=a") == files_of(fresh, "session=a")

    def test_are_the_same_for_tables_of_pandas(self, tmp_path):
        """Their metadata has the number of rows of each file."""
        for number, name in enumerate("abc"):
            frame = relion(50 + 10 * number, seed=number).to_pandas()
            frame["kind"] = frame["rlnMicrographName"].astype("category")
            path = tmp_path / "in" / f"session={name}" / "0.parquet"
            path.parent.mkdir(parents=True)
            frame.to_parquet(path)
        self.compare(tmp_path, tmp_path / "in")

    @pytest.mark.slow
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.integers(1, 90), min_size=1, max_size=5),
        st.integers(1, 60_000),
        st.integers(1_000, 60_000),
    )
    def test_are_the_same_for_any_sizes(self, tmp_path_factory, rows, least, piece):
        folder = tmp_path_factory.mktemp("any")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fragments, "PIECE_BYTES", piece)
            patch.setattr(parquet, "FRAGMENT_BYTES", least)
            for number, count in enumerate(rows):
                sessions(folder / "in", [f"s{number}"], rows=count, files=3)
            self.compare(folder, folder / "in")


class TestColumns:
    """`partition_by` divides the rows by their values."""

    def rows(self, count=160, **columns):
        return cryosparc(count, micrographs=8, columns=columns)

    def test_the_rows_of_each_value_are_in_its_folder(self, tmp_path):
        kinds = [["x", "y", "z"][k % 3] for k in range(160)]
        table = self.rows(kind=kinds)
        path = write_file(table, tmp_path / "a.parquet")
        out = run(path, tmp_path / "out", PARAMS, partition_by="kind").output
        plain = run(path, tmp_path / "plain", PARAMS).output
        for name in (KEPT, REJECTED):
            assert folders(out, name) == ["kind=x", "kind=y", "kind=z"]
            expected = Output(plain).read(name)
            for kind in "xyz":
                (file,) = (out / name / f"kind={kind}").iterdir()
                mine = expected.filter(pc.equal(expected["kind"], kind)).drop_columns("kind")
                assert pq.read_table(file, partitioning=None).equals(mine)
        assert contents(out / "duplicates") == contents(plain / "duplicates")
        assert verify(out).verified

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([1, 2, None], {"1", "2", NULL}),
            ([True, False, None], {"true", "false", NULL}),
            ([datetime.date(2024, 3, 1), None], {"2024-03-01", NULL}),
            (pa.array([2**64 - 1, 0], pa.uint64()), {"0", str(2**64 - 1)}),
            (pa.array(["a", None, "b/c"]).dictionary_encode(), {"a", "b%2Fc", NULL}),
        ],
    )
    def test_numbers_dates_and_truth_values_name_folders(self, tmp_path, values, expected):
        values = pa.array(values) if isinstance(values, list) else values
        column = values.take(pa.array([k % len(values) for k in range(90)]))
        path = write_file(self.rows(90, kind=column), tmp_path / "a.parquet")
        out = run(path, tmp_path / "out", PARAMS, partition_by=["kind"]).output
        assert {*folders(out)} == {f"kind={value}" for value in expected}
        assert verify(out).verified

    def test_several_columns_are_folders_in_their_order(self, tmp_path):
        table = self.rows(kind=["x", "y"] * 80, half=[0, 0, 1, 1] * 40)
        path = write_file(table, tmp_path / "a.parquet")
        out = run(path, tmp_path / "out", PARAMS, partition_by=["half", "kind"]).output
        assert folders(out) == [f"half={h}/kind={k}" for h in (0, 1) for k in "xy"]
        assert Output(out).manifest["partition_by"] == ["half", "kind"]
        assert verify(out).verified

    def test_they_replace_the_folders_of_the_input(self, tmp_path):
        source = sessions(tmp_path / "in", columns={"kind": ["x", "y"] * 60})
        out = run(source, tmp_path / "out", PARAMS, partition_by="kind").output
        assert folders(out) == ["kind=x", "kind=y"]
        kept = ds.dataset(out / KEPT).to_table()
        assert {*kept["session"].to_pylist()} == {"a", "b", "c"}
        assert verify(out).verified

    def test_every_fragment_has_its_files(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        for number in range(3):
            table = cryosparc(60, seed=number, columns={"kind": ["x", "y"] * 30})
            write_file(table, tmp_path / "in" / f"{number}.parquet")
        out = run(tmp_path / "in", tmp_path / "out", PARAMS, partition_by="kind").output
        names = [path.name for path in sorted((out / KEPT / "kind=x").iterdir())]
        assert names == [f"part-{number:05d}.parquet" for number in range(3)]
        assert verify(out).verified

    def test_many_small_files_are_warned_of(self, tmp_path, monkeypatch):
        monkeypatch.setattr(manifest_content, "_MANY_FILES", 5)
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        mixed, apart = tmp_path / "mixed", tmp_path / "apart"
        for number in range(6):
            kinds = [f"k{number}"] * 60
            write_file(
                cryosparc(60, seed=number, columns={"kind": kinds}), apart / f"{number}.parquet"
            )
            write_file(
                cryosparc(60, seed=number, columns={"kind": ["x", "y"] * 30}),
                mixed / f"{number}.parquet",
            )
        (line,) = run(mixed, tmp_path / "out", PARAMS, partition_by="kind").warnings
        assert line.startswith("particles_kept has 12 files in 2 folders, with ")
        assert line.endswith("Sort the inputs by kind to have fewer files.")
        assert not run(apart, tmp_path / "sorted", PARAMS, partition_by="kind").warnings

    def test_text_of_other_folders_is_not_in_a_file(self, tmp_path):
        table = self.rows(kind=["x"] * 80 + ["y"] * 80, note=["only-x"] * 80 + ["only-y"] * 80)
        path = write_file(table, tmp_path / "a.parquet")
        out = run(path, tmp_path / "out", PARAMS, partition_by="kind", compression="none").output
        (file,) = (out / KEPT / "kind=x").iterdir()
        assert b"only-x" in file.read_bytes()
        assert b"only-y" not in file.read_bytes()

    def test_star_files_as_parquet_have_folders_too(self, tmp_path):
        path = write_star(relion(60, micrographs=3), tmp_path / "a.star")
        out = run(
            path,
            tmp_path / "out",
            PARAMS,
            output_format="parquet",
            partition_by="rlnMicrographName",
        ).output
        assert len(folders(out)) == 3
        assert verify(out).verified

    def test_the_report_reads_what_the_run_noted(self, tmp_path):
        path = write_file(self.rows(kind=["x", "y"] * 80), tmp_path / "a.parquet")
        result = run(path, tmp_path / "out", PARAMS, partition_by="kind")
        assert_same(result.report_contents, read_contents(open_finished_run(result.output)))

    def test_are_part_of_the_run_id(self, tmp_path, cli):
        path = write_file(self.rows(kind=["x", "y"] * 80), tmp_path / "a.parquet")
        command = ["run", path, "-o", tmp_path / "out", "--min-separation", 20]
        assert cli(*command, "--partition-by", "kind").exit_code == 0
        before = stamps(tmp_path / "out")
        assert "already holds this run" in cli(*command, "--partition-by", "kind").stderr
        assert stamps(tmp_path / "out") == before
        assert cli(*command).exit_code == 2
        assert verify(tmp_path / "out").verified

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (["nothing"], "a.parquet: has no column nothing, which --partition-by nothing needs"),
            (["kind", "kind"], "--partition-by kind is given twice. Leave out one."),
            (
                ["float"],
                "--partition-by float: float is double, which cannot be used for folder names.",
            ),
            (["list"], "--partition-by list: list is list"),
            (["uid"], "--partition-by uid: more than 1,000 folders would be needed for 1,200 rows"),
        ],
    )
    def test_what_cannot_name_folders_is_refused(self, tmp_path, cli, columns, message):
        table = self.rows(1200, kind=["x", "y"] * 600, float=[1.5] * 1200, list=[[1]] * 1200)
        path = write_file(table, tmp_path / "a.parquet")
        options = [word for name in columns for word in ("--partition-by", name)]
        outcome = cli("run", path, "-o", tmp_path / "out", "--min-separation", 20, *options)
        assert outcome.exit_code == 2
        assert message in outcome.stderr
        assert not (tmp_path / "out" / "manifest.json").exists()
        assert not [*tmp_path.glob("out/*")]

    def test_star_output_is_refused(self, tmp_path, cli):
        path = write_star(relion(60), tmp_path / "a.star")
        outcome = cli(
            *("run", path, "-o", tmp_path / "out", "--min-separation", 20),
            *("--partition-by", "rlnMicrographName"),
        )
        assert outcome.exit_code == 2
        assert (
            "a.star: is not written as Parquet, so --partition-by cannot apply. Use --output-format "
            "parquet." in outcome.stderr
        )

    def test_too_long_values_are_refused(self, tmp_path):
        path = write_file(self.rows(kind=["x" * 300, "y"] * 80), tmp_path / "a.parquet")
        with pytest.raises(InputError, match="is too long for the name of a partition folder"):
            run(path, tmp_path / "out", PARAMS, partition_by="kind")

    @pytest.mark.parametrize(
        ("name", "values", "message"),
        [
            (
                "kind",
                pa.array([NULL, None, "x"]),
                f"the value {NULL} cannot be in the name of a partition folder",
            ),
            (
                "kind",
                pa.array([10**8, 0], pa.int32()).cast(pa.date32()),
                "partition_by='kind': kind has dates outside the years 1 to 9999",
            ),
            ("_kind", pa.array(["x", "y"]), "readers ignore folders whose names begin with _"),
            (".kind", pa.array(["x", "y"]), "readers ignore folders whose names begin with \\."),
        ],
    )
    def test_folders_that_would_lose_rows_are_refused(self, tmp_path, name, values, message):
        column = values.take(pa.array([k % len(values) for k in range(90)]))
        path = write_file(self.rows(90, **{name: column}), tmp_path / "a.parquet")
        with pytest.raises(InputError, match=message):
            run(path, tmp_path / "out", PARAMS, partition_by=name)
        assert not [*tmp_path.glob("out/*")]

    def test_two_folders_of_one_name_commit_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(partitions, "_format", lambda _: "same")
        path = write_file(self.rows(kind=["x", "y"] * 80), tmp_path / "a.parquet")
        with pytest.raises(RunError, match=r"kind=same/part-00000\.parquet: was written twice"):
            run(path, tmp_path / "out", PARAMS, partition_by="kind")
        assert not (tmp_path / "out" / "manifest.json").exists()

    def test_no_column_would_be_left(self, tmp_path):
        with pytest.raises(InputError, match="has every column"):
            partitions.partition_by_columns(["a"], [], pa.schema([("a", pa.int64())]))


class TestEngines:
    """The files are the same on a cluster, and after an interruption."""

    @pytest.fixture
    def source(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        monkeypatch.setattr(fragments, "PIECE_BYTES", 4_000)
        return sessions(tmp_path / "in", rows=30, files=3, columns={"kind": ["x", "y", "z"] * 30})

    @pytest.mark.parametrize("columns", [(), ("kind",)])
    def test_a_run_is_resumed(self, source, tmp_path, monkeypatch, columns):
        expected = run(source, tmp_path / "whole", PARAMS, partition_by=columns).output
        assert len(Output(expected).parts(KEPT)) >= 9
        with monkeypatch.context() as patch:
            crashing(patch, fragment_files.parquet, "write", call=20)
            with pytest.raises(Crash):
                run(source, tmp_path / "out", PARAMS, threads=1, partition_by=columns)
        assert "--partition-by kind" in status(tmp_path / "out").attempts[0].command or not columns
        written = len([*tmp_path.glob("out/.dask-dedup-*/checkpoints/*")])
        assert 0 < written < 9
        run(source, tmp_path / "out", PARAMS, partition_by=columns)
        for name in (KEPT, REJECTED, "duplicates"):
            assert contents(tmp_path / "out" / name) == contents(expected / name)
        assert verify(tmp_path / "out").verified

    @pytest.mark.slow
    @pytest.mark.parametrize("columns", [(), ("kind",)])
    def test_a_cluster_writes_the_same(self, source, tmp_path, two_workers, columns):
        expected = run(source, tmp_path / "threads", PARAMS, partition_by=columns).output
        out = run(source, tmp_path / "out", PARAMS, two_workers, partition_by=columns).output
        for name in (KEPT, REJECTED, "duplicates"):
            assert contents(out / name) == contents(expected / name)

    @pytest.mark.slow
    @pytest.mark.parametrize("columns", [(), ("kind",)])
    def test_an_object_store_has_the_same(self, source, tmp_path, there, columns):
        expected = run(source, tmp_path / "out", PARAMS, partition_by=columns).output
        run(source, there / "out", PARAMS, partition_by=columns)
        for name in (KEPT, REJECTED):
            found = there.contents(f"out/{name}")
            without_token = {path.partition("/")[2]: content for path, content in found.items()}
            assert without_token == contents(expected / name)
        assert verify(there / "out").verified
        token = there.names(f"out/{KEPT}")[0].partition("/")[0]
        again = run(there / f"out/{KEPT}/{token}", tmp_path / "again", PARAMS)
        assert again.rejected == 0
        assert read_contents(open_finished_run(there / "out")).kept.sum() == again.rows


@pytest.mark.parametrize("columns", [(), ("kind",)])
def test_particles_that_are_written_later_are_the_same(tmp_path, columns):
    source = sessions(tmp_path / "in", columns={"kind": ["x", "y", "z"] * 40})
    options = {"params": PARAMS, "partition_by": columns}
    expected = run(source, tmp_path / "whole", **options).output
    out = run(source, tmp_path / "out", duplicates_only=True, **options).output
    assert verify(out).verified
    dask_dedup.materialize(out)
    for name in (KEPT, REJECTED):
        assert contents(out / name) == contents(expected / name)
    assert verify(out).verified


class TestFaults:
    """`verify` finds rows in the wrong folder."""

    @pytest.fixture
    def out(self, tmp_path):
        return run(sessions(tmp_path / "in"), tmp_path / "out", PARAMS).output

    def test_a_file_in_the_folder_of_another_session(self, out):
        one, other = (out / KEPT / f"session={name}" / "part-00000.parquet" for name in "ab")
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
        found = verify(out)
        assert not found.verified

    def rewrite(self, out, change):
        """Change the manifest of a result. Its checksum is that of the new content."""
        manifest = json.loads((out / "manifest.json").read_text())
        change(manifest)
        del manifest[CHECKSUM]
        (out / "manifest.json").write_text(json.dumps(with_checksum(manifest)))

    @pytest.mark.parametrize("columns", [(), ("kind",)])
    def test_a_file_that_is_listed_twice(self, tmp_path, columns):
        source = sessions(tmp_path / "in", columns={"kind": ["x", "y"] * 60})
        out = run(source, tmp_path / "out", PARAMS, partition_by=columns).output

        def change(manifest):
            kept = [each for each in manifest["outputs"] if each["path"].startswith(KEPT)]
            manifest["outputs"].append(kept[0])

        self.rewrite(out, change)
        failed = {check.name: check.detail for check in verify(out).checks if check.passed is False}
        assert "is listed twice" in failed["files"]
        assert "totals" in failed

    @pytest.mark.parametrize("duplicates_only", [False, True])
    def test_other_types_of_the_columns_in_folders(self, tmp_path, duplicates_only):
        out = run(
            sessions(tmp_path / "in", ["1", "2"]),
            tmp_path / "out",
            PARAMS,
            duplicates_only=duplicates_only,
        ).output
        self.rewrite(out, lambda manifest: manifest.update(partitions={"session": "string"}))
        (failed,) = (check for check in verify(out).checks if check.passed is False)
        assert (
            "session is string in the names of folders (see the manifest), but int64"
            in failed.detail
        )

    def test_a_missing_folder(self, out):
        (out / KEPT / "session=a" / "part-00000.parquet").unlink()
        assert not verify(out).verified


def test_python_takes_one_column_as_text(tmp_path):
    path = write_file(cryosparc(20, columns={"kind": ["x", "y"] * 10}), tmp_path / "a.parquet")
    result = dask_dedup.run(path, tmp_path / "out", min_separation=20, partition_by="kind")
    assert result.manifest["partitions"] == {"kind": "string"}

"""`group_by`: micrographs of one name in different groups are different micrographs."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from oracle import greedy, rank_tuple
from tables import Output, cryosparc, relion, write_file, write_folder, write_hive

import dask_dedup
from dask_dedup import InputError, inspect, remove_duplicates, run, verify
from dask_dedup.results.command import run_command

PARAMS = {"min_separation": 20, "micrograph_pixel_size": 1.0}
#: Two particles 1 A apart, of two sessions; then one more, 100 A away.
ROWS = {
    "rlnMicrographName": ["m1.mrc"] * 3,
    "rlnCoordinateX": [100.0, 101.0, 200.0],
    "rlnCoordinateY": [50.0, 50.0, 50.0],
    "rlnAutopickFigureOfMerit": [0.5, 0.9, 0.7],
    "session": ["A", "B", "A"],
}


def rows(**columns):
    return pa.table({**ROWS, **columns})


@pytest.fixture
def sessions(tmp_path):
    """Folders ``session=A/rlnMicrographName=m1.mrc`` and the same of session B."""
    folder = tmp_path / "in"
    pq.write_to_dataset(rows(), folder, partition_cols=["session", "rlnMicrographName"])
    return folder


class TestANameUnderTwoValuesOfAHiveKey:
    def test_is_refused_with_both_ways_out(self, sessions, tmp_path):
        with pytest.raises(InputError) as caught:
            run(sessions, tmp_path / "out", **PARAMS)
        message = str(caught.value)
        assert message == (
            f"{sessions}: the micrograph m1.mrc is under session=A and session=B. If these are "
            "different micrographs, pass group_by='session'. If they are the same, as when the "
            "key is the picker, pass group_by='none'."
        )
        assert not (tmp_path / "out").exists()

    def test_is_refused_on_the_command_line_with_flags(self, cli, sessions, tmp_path):
        outcome = cli("run", sessions, "-o", tmp_path / "out", "--micrograph-pixel-size", 1)
        assert outcome.exit_code == 2
        assert "--group-by session" in outcome.stderr
        assert "--group-by none" in outcome.stderr
        assert len(outcome.stderr.strip().splitlines()) == 1

    def test_is_a_problem_in_an_inspection(self, sessions):
        (problem,) = inspect(sessions, **PARAMS).problems
        assert "session=A and session=B" in problem
        assert inspect(sessions, **PARAMS, group_by="session").problems == ()
        assert inspect(sessions, **PARAMS, group_by="none").problems == ()

    @pytest.mark.parametrize("where", ["threads", "cluster"])
    def test_is_two_micrographs_if_grouped(self, sessions, tmp_path, where, request):
        client = request.getfixturevalue("two_workers") if where == "cluster" else None
        result = run(sessions, tmp_path / "out", client=client, group_by="session", **PARAMS)
        assert (result.kept, result.rejected) == (3, 0)
        assert result.manifest["plan"]["micrographs"] == 2
        assert verify(tmp_path / "out").verified

    @pytest.mark.parametrize("where", ["threads", "cluster"])
    def test_is_one_micrograph_with_none(self, sessions, tmp_path, where, request):
        client = request.getfixturevalue("two_workers") if where == "cluster" else None
        result = run(sessions, tmp_path / "out", client=client, group_by="none", **PARAMS)
        assert (result.kept, result.rejected) == (2, 1)
        files = Output(tmp_path / "out").parts("particles_rejected")
        rows = {file.parts[-3]: pq.read_table(file).num_rows for file in files}
        assert rows == {"session=A": 1, "session=B": 0}
        assert verify(tmp_path / "out").verified

    def test_is_refused_in_tomograms_too(self, tmp_path):
        table = relion(40, axes=3, micrographs=1, columns={"session": ["A", "B"] * 20})
        folder = write_hive(table, tmp_path / "in", "session")
        with pytest.raises(InputError, match="TS_00 is under session=A and session=B"):
            run(folder, tmp_path / "out", min_separation=20)
        result = run(folder, tmp_path / "out", min_separation=20, group_by="session")
        separately = [
            run(folder / f"session={name}", tmp_path / name, min_separation=20)
            for name in ("A", "B")
        ]
        assert result.rejected == sum(each.rejected for each in separately)
        assert verify(tmp_path / "out").verified

    @pytest.mark.parametrize("key", ["rlnRandomSubset", "rlnClassNumber", "alignments3D/split"])
    def test_is_no_question_if_the_key_is_a_column_of_particles(self, tmp_path, key):
        table = rows().drop_columns(["session"]).append_column(key, pa.array([1, 2, 1]))
        folder = write_hive(table, tmp_path / "in", key)
        assert run(folder, tmp_path / "out", **PARAMS).rejected == 1
        parts = [next(folder.rglob(f"*={half}")) for half in (1, 2)]
        result = run(parts, tmp_path / "parts", **PARAMS)
        assert result.rejected == 1
        assert not any("group_by" in line for line in result.warnings)

    def test_is_refused_if_the_two_values_are_in_two_inputs(self, tmp_path):
        table = rows()
        for name in ("A", "B"):
            part = table.filter(pa.compute.equal(table["session"], name))
            write_hive(part, tmp_path / f"day{name}", "session")
        inputs = [tmp_path / "dayA", tmp_path / "dayB"]
        with pytest.raises(InputError, match=f"session=A and session=B of {inputs[1]}"):
            run(inputs, tmp_path / "out", **PARAMS)
        assert run(inputs, tmp_path / "out", group_by="session", **PARAMS).rejected == 0

    def test_is_refused_if_one_value_is_null_or_absent(self, tmp_path):
        folder = write_hive(rows().slice(0, 1), tmp_path / "in", "session")
        write_file(rows().slice(1, 1).drop_columns(["session"]), folder / "rest.parquet")
        with pytest.raises(InputError, match=r"session=(null and session=A|A and session=null)"):
            run(folder, tmp_path / "out", **PARAMS)
        assert run(folder, tmp_path / "out", group_by="session", **PARAMS).rejected == 0

    def test_every_such_key_is_named(self, tmp_path):
        table = rows(grid=pa.array([1, 2, 1]))
        pq.write_to_dataset(table, tmp_path / "in", partition_cols=["session", "grid"])
        with pytest.raises(InputError, match=r"session=A and .*grid=1 and grid=2") as caught:
            run(tmp_path / "in", tmp_path / "out", **PARAMS)
        assert "group_by='session' or group_by='grid' (repeat it" in str(caught.value)

    def test_names_that_differ_by_folder_stay_distinct(self, tmp_path):
        table = rows(rlnMicrographName=["a/m1.mrc", "b/m1.mrc", "a/m1.mrc"])
        folder = write_hive(table, tmp_path / "in", "session")
        assert run(folder, tmp_path / "by_path", **PARAMS).rejected == 0
        assert run(folder, tmp_path / "by_name", match_micrographs="name", **PARAMS).rejected == 0

    def test_uids_need_no_group(self, tmp_path):
        table = cryosparc(40, columns={"session": ["A", "B"] * 20})
        folder = write_hive(table, tmp_path / "in", "session")
        whole = run(write_file(table, tmp_path / "a.parquet"), tmp_path / "whole")
        assert run(folder, tmp_path / "out").rejected == whole.rejected
        grouped = run(folder, tmp_path / "grouped", group_by="session")
        assert grouped.rejected < whole.rejected
        assert grouped.manifest["plan"]["micrographs"] == 8
        assert verify(tmp_path / "grouped").verified


def star(path, lines, labels=("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "session")):
    head = "".join(f"_{label} #{n}\n" for n, label in enumerate(labels, start=1))
    path.write_text(f"\ndata_particles\n\nloop_\n{head}" + "".join(f"{line}\n" for line in lines))
    return path


class TestOrdinaryColumns:
    def test_a_column_of_a_star_file(self, tmp_path):
        lines = ["m1 10 10 1", "m1 11 10 2", "m1 12 10 2", "m1 13 10 <NA>", "m1 14 10 None"]
        path = star(tmp_path / "a.star", lines)
        result = run(path, tmp_path / "out", group_by="session", score_field="none", **PARAMS)
        # Groups 1, 2 and null, in which `<NA>` and `None` are.
        assert (result.kept, result.rejected) == (3, 2)
        listed = Output(tmp_path / "out").duplicates
        assert sorted(listed["session"].to_pylist(), key=str) == ["2", None]
        assert verify(tmp_path / "out").verified

    @pytest.mark.parametrize(
        "sessions",
        [
            # float64 cannot tell these apart
            ("123456789012345678", "123456789012345679", "123456789012345680"),
            ("01", "1", "1.0"),
            ("20240307001", "20240307002", "x1"),
        ],
    )
    def test_text_of_a_star_file_is_compared_as_written(self, tmp_path, sessions):
        lines = [f"m1 {10 + n} 10 {session}" for n, session in enumerate(sessions)]
        whole = star(tmp_path / "whole.star", lines)
        parts = [star(tmp_path / f"{n}.star", [line]) for n, line in enumerate(lines)]
        options = {**PARAMS, "group_by": "session", "score_field": "none"}
        assert run(whole, tmp_path / "whole", **options).kept == 3
        out = tmp_path / "twice"
        result = run([whole, *parts], out, **options)
        assert (result.kept, result.rejected) == (3, 3)
        assert verify(out).verified
        assert sorted(Output(out).duplicates["session"].to_pylist()) == sorted(sessions)

    def test_a_group_of_a_star_micrograph_table_is_compared_as_written(self, tmp_path):
        labels = ("rlnMicrographName", "rlnMicrographPixelSize", "session")
        known = star(tmp_path / "m.star", ["m1 1 20240307001", "m1 2 20240307002"], labels)
        path = star(tmp_path / "a.star", ["m1 10 10 20240307001", "m1 25 10 20240307002"])
        options = {"min_separation": 20, "score_field": "none", "group_by": "session"}
        assert run(path, tmp_path / "out", micrographs=known, **options).kept == 2
        assert verify(tmp_path / "out").verified

    def test_types_do_not_matter_between_inputs(self, tmp_path):
        lines = ["m1 10 10 1", "m1 100 10 2"]
        one = star(tmp_path / "a.star", lines)
        other = pa.table(
            {
                "rlnMicrographName": ["m1", "m1"],
                "rlnCoordinateX": [11.0, 101.0],
                "rlnCoordinateY": [10.0, 10.0],
                "session": pa.array([1, 7]),
            }
        )
        for number, kind in enumerate((pa.int8(), pa.float32(), pa.string())):
            column = other["session"].cast(kind)
            table = other.set_column(3, "session", column)
            path = write_file(table, tmp_path / f"{number}.parquet")
            out = tmp_path / f"out{number}"
            result = run([one, path], out, group_by="session", score_field="none", **PARAMS)
            assert (result.kept, result.rejected) == (3, 1)
            assert verify(out).verified

    def test_the_unit_of_timestamps_does_not_matter(self, tmp_path):
        zone = "UTC"
        times = pa.array([1_709_769_600_000, 1_709_769_600_120, None], pa.timestamp("ms", zone))
        paths = [
            write_file(
                rows(session=times.cast(pa.timestamp(unit, zone))), tmp_path / f"{unit}.parquet"
            )
            for unit in ("ns", "us", "ms")
        ]
        out = tmp_path / "out"
        result = run(paths, out, group_by="session", **PARAMS)
        assert (result.kept, result.rejected) == (3, 6)
        assert verify(out).verified
        seconds = times.cast(pa.timestamp("s", zone), safe=False)
        whole = [write_file(rows(session=seconds), tmp_path / "s.parquet"), paths[0]]
        assert run(whole, tmp_path / "whole", group_by="session", **PARAMS).rejected == 3

    def test_an_input_without_the_column_is_refused(self, cli, tmp_path):
        one = write_file(rows(), tmp_path / "a.parquet")
        other = write_file(rows().drop_columns(["session"]), tmp_path / "b.parquet")
        outcome = cli(
            *("run", one, other, "-o", tmp_path / "out", "--group-by", "session"),
            *("--micrograph-pixel-size", 1),
        )
        assert outcome.exit_code == 2
        assert f"{other}: has no column session, which --group-by session needs" in outcome.stderr
        (problem,) = inspect([one, other], group_by="session", **PARAMS).problems
        assert "no column session" in problem

    def test_none_is_alone(self):
        with pytest.raises(InputError, match="both none and columns"):
            dask_dedup.DedupParams(group_by=("none", "session"))

    def test_a_column_of_lists_is_refused(self, tmp_path):
        table = cryosparc(20)
        path = write_file(table, tmp_path / "a.parquet")
        with pytest.raises(
            InputError, match=r"location/micrograph_shape holds .*cannot be grouped"
        ):
            run(path, tmp_path / "out", group_by="location/micrograph_shape")

    def test_a_name_that_duplicates_has_already(self, tmp_path):
        table = rows().rename_columns([*list(ROWS)[:-1], "input"])
        path = write_file(table, tmp_path / "a.parquet")
        run(path, tmp_path / "out", group_by="input", **PARAMS)
        names = Output(tmp_path / "out").duplicates.column_names
        assert names[-1] == "group_input"
        assert verify(tmp_path / "out").verified


class TestInputsInFoldersOfKeys:
    """Folders ``session=A`` and ``session=B`` as two inputs, or with files of any format in them."""

    def inputs(self, tmp_path, *, table=None):
        table = rows() if table is None else table
        return [
            write_file(table, tmp_path / f"session={name}" / "picks.parquet") for name in ("A", "B")
        ]

    def test_shared_names_are_warned_about(self, tmp_path):
        inputs = self.inputs(tmp_path)
        result = run(inputs, tmp_path / "out", **PARAMS)
        (line,) = (w for w in result.warnings if "session=" in w)
        assert line == (
            "1 micrograph name is in inputs of session=A and of session=B, and treated as the same "
            "micrographs. If they are different, run the inputs separately, or pass the folder "
            "above them with group_by='session'. If not, pass group_by='none'."
        )
        silent = run(inputs, tmp_path / "silent", group_by="none", **PARAMS)
        assert not any("session=" in w for w in silent.warnings)
        assert silent.rejected == result.rejected
        assert any("session=A" in w for w in inspect(inputs, **PARAMS).warnings)

    def test_values_are_decoded_as_in_folders_of_one_input(self, tmp_path):
        inputs = [
            write_file(rows(), tmp_path / f"session={name}" / "picks.parquet")
            for name in ("A%20B", "A B")
        ]
        silent = run(inputs, tmp_path / "out", **PARAMS)
        assert not any("in inputs of session=" in w for w in silent.warnings)

    def test_uids_are_not(self, tmp_path):
        result = run(self.inputs(tmp_path, table=cryosparc(40)), tmp_path / "out")
        assert not any("session=" in w for w in result.warnings)


class TestDeltaTables:
    def test_partition_columns_are_keys(self, tmp_path):
        deltalake = pytest.importorskip("deltalake")
        deltalake.write_deltalake(str(tmp_path / "in"), rows(), partition_by=["session"])
        with pytest.raises(InputError, match=r"m1\.mrc is under session=A and session=B"):
            run(tmp_path / "in", tmp_path / "out", **PARAMS)
        assert run(tmp_path / "in", tmp_path / "a", group_by="session", **PARAMS).rejected == 0
        assert run(tmp_path / "in", tmp_path / "b", group_by="none", **PARAMS).rejected == 1
        assert verify(tmp_path / "a").verified


class TestMicrographTables:
    LABELS = ("rlnMicrographName", "rlnMicrographPixelSize", "session")

    @pytest.fixture
    def source(self, tmp_path):
        # 30 pixels apart, within each session.
        table = rows(rlnCoordinateX=[100.0, 100.0, 130.0]).take([0, 1, 2, 1])
        table = table.set_column(1, "rlnCoordinateX", pa.array([100.0, 100.0, 130.0, 130.0]))
        return write_file(table, tmp_path / "a.parquet")

    def test_without_the_column_it_serves_all_groups(self, source, tmp_path):
        known = star(tmp_path / "m.star", ["m1.mrc 1"], self.LABELS[:2])
        out = tmp_path / "out"
        result = run(source, out, micrographs=known, group_by="session", min_separation=40)
        assert (result.kept, result.rejected) == (2, 2)
        assert verify(out).verified

    def test_with_the_column_each_group_has_its_own_pixel_size(self, source, tmp_path):
        known = star(tmp_path / "m.star", ["m1.mrc 1 A", "m1.mrc 2 B"], self.LABELS)
        out = tmp_path / "out"
        result = run(source, out, micrographs=known, group_by="session", min_separation=40)
        # 30 A in session A, 60 A in session B.
        assert (result.kept, result.rejected) == (3, 1)
        assert Output(out).duplicates["session"].to_pylist() == ["A"]
        assert verify(out).verified
        with pytest.raises(InputError, match="occurs more than once, with the pixel sizes"):
            run(source, tmp_path / "other", micrographs=known, min_separation=40)

    def test_a_group_missing_from_the_table_is_named(self, source, tmp_path):
        known = star(tmp_path / "m.star", ["m1.mrc 1 A"], self.LABELS)
        with pytest.raises(InputError, match=f"2 rows are on a micrograph missing from {known}"):
            run(source, tmp_path / "out", micrographs=known, group_by="session")


def test_the_report_names_the_group(tmp_path):
    table = rows().take([0, 1, 2, 0])
    path = write_file(table, tmp_path / "a.parquet")
    out = tmp_path / "out"
    run(path, out, group_by="session", **PARAMS)
    page = dask_dedup.report(out, plot_micrographs=["m1.mrc (session=B)"]).read_text()
    assert "m1.mrc (session=A)" in page
    assert "m1.mrc (session=B)" in page
    with pytest.raises(InputError, match=r"Similar names: m1.mrc \(session"):
        dask_dedup.report(out, plot_micrographs=["m1.mrc"])


def test_the_manifest_records_the_groups_and_the_run_id_depends_on_them(tmp_path):
    path = write_file(rows(), tmp_path / "a.parquet")
    results = [run(path, tmp_path / name, group_by=name, **PARAMS) for name in ("none", "session")]
    manifests = [
        json.loads((tmp_path / n / "manifest.json").read_text()) for n in ("none", "session")
    ]
    assert [each["parameters"]["group_by"] for each in manifests] == [["none"], ["session"]]
    assert manifests[1]["inputs"][0]["columns"]["groups"] == ["session"]
    assert results[0].manifest["run_id"] != results[1].manifest["run_id"]
    again = run(path, tmp_path / "session", group_by=["session"], **PARAMS)
    assert again.already_done


@pytest.mark.parametrize("kind", ["pyarrow", "pandas", "polars", "dask"])
def test_frames_are_grouped_too(kind):
    table = rows(session=["A", "B", None])
    if kind == "pyarrow":
        frame = table
    elif kind == "polars":
        frame = pytest.importorskip("polars").from_arrow(table)
    else:
        frame = table.to_pandas()
        frame["session"] = frame["session"].astype("category")
        if kind == "dask":
            import dask.dataframe as dd

            frame = dd.from_pandas(frame, npartitions=2)
    for group_by, rejected in (("none", 1), ("session", 0)):
        kept, out = remove_duplicates(frame, group_by=group_by, **PARAMS)
        assert (len(kept), len(out)) == (3 - rejected, rejected)


@examples(40)
@given(
    picks=st.lists(
        st.tuples(
            st.sampled_from(["m1", "m2"]),
            st.sampled_from(["A", "B", None, "null"]),
            st.sampled_from([1, 2, None]),
            st.integers(0, 6),
            st.sampled_from([0.1, 0.5, 0.9]),
        ),
        min_size=1,
        max_size=30,
    ),
    group_by=st.sampled_from(
        [(), ("session",), ("grid",), ("session", "grid"), ("grid", "session")]
    ),
)
def test_decisions_equal_those_of_a_brute_force(picks, group_by):
    names, sessions, grids, x, scores = zip(*picks, strict=True)
    table = pa.table(
        {
            "rlnMicrographName": pa.array(names),
            "rlnCoordinateX": np.array(x) * 10.0,
            "rlnCoordinateY": np.full(len(x), 50.0),
            "rlnAutopickFigureOfMerit": np.array(scores),
            "session": pa.array(sessions, pa.string()),
            "grid": pa.array(grids, pa.int64()),
            "uid": pa.array(range(1, len(x) + 1), pa.uint64()),
        }
    )
    known = {"session": [None if s == "null" else s for s in sessions], "grid": grids}
    groups = list(zip(names, *(known[name] for name in group_by), strict=True))
    numbers = [groups.index(group) for group in groups]
    centres = np.column_stack([np.array(x) * 10.0, np.zeros(len(x))])
    # RELION tables have no uids, so no two scores may be equal.
    distinct = np.array(scores) + np.arange(len(x)) * 1e-6
    _, rejected = remove_duplicates(
        table.set_column(3, "rlnAutopickFigureOfMerit", pa.array(distinct)),
        group_by=group_by,
        min_separation=10,
        micrograph_pixel_size=1.0,
    )
    ranks = [rank_tuple(uid=n, score=score, row=n) for n, score in enumerate(distinct.tolist())]
    winner, _ = greedy(centres, numbers, ranks, 10)
    wanted = [n + 1 for n in np.flatnonzero(winner >= 0).tolist()]
    assert rejected["uid"].to_pylist() == wanted


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_a_grouped_run_decides_as_runs_of_each_group(tmp_path, where, request):
    client = request.getfixturevalue("two_workers") if where == "cluster" else None
    tables = [
        relion(
            300, seed=seed, columns={"session": np.random.default_rng(seed).choice(["A", "B"], 300)}
        )
        for seed in (1, 2)
    ]
    inputs = [write_folder(table, tmp_path / f"in{n}", files=4) for n, table in enumerate(tables)]
    out = tmp_path / "out"
    grouped = run(inputs, out, group_by="session", client=client, min_separation=20)
    rejected = 0
    for session in ("A", "B"):
        parts = [
            write_file(
                table.filter(pa.compute.equal(table["session"], session)),
                tmp_path / session / f"{n}.parquet",
            )
            for n, table in enumerate(tables)
        ]
        rejected += run(parts, tmp_path / session / "out", min_separation=20).rejected
    assert grouped.rejected == rejected > 0
    assert verify(out).verified
    listed = Output(out).duplicates
    assert listed["session"].to_pylist() == Output(out).rejected["session"].to_pylist()


def test_the_command_of_a_grouped_run_repeats_it(cli, tmp_path):
    path = write_file(rows(), tmp_path / "a.parquet")
    options = {"min_separation": 20.0, "micrograph_pixel_size": 1.0}
    result = run(path, tmp_path / "out", group_by=["session", "rlnCoordinateY"], **options)
    command = run_command(result.manifest, str(tmp_path / "out"))
    assert "--group-by session --group-by rlnCoordinateY" in command
    outcome = cli(*shlex.split(command)[1:])
    assert outcome.exit_code == 0, outcome.stderr
    assert "already holds this run" in outcome.stderr

"""The decisions depend on the rows and the parameters only, not on files, order, threads or cluster."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import Output, contents, cryosparc, relion, uids, write_file, write_folder

import dask_dedup.pipeline.executors.select
from dask_dedup import DedupParams, InputError, run
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.pipeline import plan, stages
from dask_dedup.pipeline.executors import threads as engine
from dask_dedup.pipeline.executors.threads import ThreadExecutor

TABLES = ("particles_kept", "particles_rejected", "duplicates")


def tied(rows=200, seed=0, micrographs=4):
    """Few distinct scores and dense picks, so that there are ties, coincident particles and chains."""
    rng = np.random.default_rng(seed)
    columns = {
        "location/center_x_frac": rng.integers(12, size=rows) / 16,
        "location/center_y_frac": rng.integers(12, size=rows) / 16,
        "pick_stats/ncc_score": rng.integers(3, size=rows).astype(np.float32),
        "filament/filament_uid": rng.integers(5, size=rows, dtype=np.uint64),
        "sym_expand/src_uid": rng.integers(60, size=rows, dtype=np.uint64),
    }
    return cryosparc(rows, micrographs=micrographs, seed=seed, columns=columns)


def decisions(inputs, out, client=None, **params):
    run(inputs, out, DedupParams(**params), client)
    result = Output(out)
    assert len(uids(result.kept)) + len(uids(result.rejected)) == result.manifest["totals"]["rows"]
    return result.by_uid


def data(folder):
    return {name: bytes for name, bytes in contents(folder).items() if name.startswith(TABLES)}


def with_threads(monkeypatch, number):
    monkeypatch.setattr(
        dask_dedup.pipeline.executors.select,
        "ThreadExecutor",
        lambda on_event: ThreadExecutor(on_event, number),
    )


@pytest.fixture(scope="module")
def table():
    return tied()


@pytest.fixture(scope="module")
def expected(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    answer = decisions(write_file(table, folder / "in.parquet"), folder / "out")
    assert 50 < len(answer) < 150
    return answer


@pytest.fixture
def small_fragments(monkeypatch):
    """One fragment per file or row group."""
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)


@pytest.mark.parametrize("files", [2, 20])
def test_any_number_of_files(table, expected, tmp_path, files):
    folder = write_folder(table, tmp_path / "in", files=files)
    assert decisions(folder, tmp_path / "out") == expected


@pytest.mark.parametrize("rows", [23, 100])
def test_any_size_of_row_groups_and_fragments(table, expected, tmp_path, rows, small_fragments):
    path = write_file(table, tmp_path / "in.parquet", row_group_size=rows)
    assert decisions(path, tmp_path / "out") == expected
    assert Output(tmp_path / "out").manifest["plan"]["fragments"] == -(-200 // rows)


def test_any_order_of_rows(table, expected, tmp_path, small_fragments):
    order = np.random.default_rng(1).permutation(table.num_rows)
    folder = write_folder(table.take(order), tmp_path / "in", files=4)
    assert decisions(folder, tmp_path / "out") == expected
    found = Output(tmp_path / "out").manifest["plan"]
    assert found["straddling_micrographs"] == found["micrographs"] == 4
    assert found["moving_rows"] == 200


@pytest.mark.parametrize("rows", [1, 60])
def test_any_number_of_partitions(table, expected, tmp_path, monkeypatch, rows, small_fragments):
    monkeypatch.setattr(plan, "PARTITION_ROWS", rows)
    folder = write_folder(table.take(np.arange(199, -1, -1)), tmp_path / "in", files=5)
    assert decisions(folder, tmp_path / "out") == expected


@pytest.mark.parametrize("threads", [1, 9])
def test_any_number_of_threads(table, expected, tmp_path, monkeypatch, threads, small_fragments):
    with_threads(monkeypatch, threads)
    folder = write_folder(table, tmp_path / "in", files=10)
    assert decisions(folder, tmp_path / "out") == expected


@pytest.mark.parametrize(("clustered", "times"), [(True, 1), (False, 2)])
def test_a_clustered_table_too_large_to_hold_is_scanned_once(
    tmp_path, monkeypatch, small_fragments, clustered, times
):
    table = tied(400, micrographs=9)
    expected = decisions(write_file(table, tmp_path / "expected.parquet"), tmp_path / "expected")
    table = table.sort_by("location/micrograph_uid" if clustered else "uid")
    folder = write_folder(table, tmp_path / "in", files=5)
    scanned = []
    scan = stages.scan_fragment

    def noted(job, number):
        scanned.append(number)
        return scan(job, number)

    monkeypatch.setattr(stages, "scan_fragment", noted)
    monkeypatch.setattr(engine, "HELD_BYTES", 0)
    assert decisions(folder, tmp_path / "out") == expected
    assert sorted(scanned) == sorted([*range(5)] * times)


def test_any_names_of_micrographs(table, expected, tmp_path):
    path = write_file(table.drop_columns(["location/micrograph_uid"]), tmp_path / "in.parquet")
    assert decisions(path, tmp_path / "out") == expected


def test_other_columns_do_not_matter(table, expected, tmp_path):
    more = table.append_column("note", pa.array([None] * 200, pa.string()))
    path = write_file(more.select(more.column_names[::-1]), tmp_path / "in.parquet")
    assert decisions(path, tmp_path / "out") == expected


def test_the_order_of_inputs_does_not_matter_unless_preferred(tmp_path):
    paths = [write_file(tied(seed=s), tmp_path / f"{s}.parquet") for s in (1, 2)]
    one, two = (
        decisions(order, tmp_path / f"out-{n}") for n, order in enumerate((paths, paths[::-1]))
    )
    assert one == two
    first, second = (
        decisions(order, tmp_path / f"preferred-{n}", prefer_input_order=True)
        for n, order in enumerate((paths, paths[::-1]))
    )
    assert first != second


def test_without_uids_the_layout_does_not_matter(tmp_path, small_fragments):
    table = relion(columns={"rlnAutopickFigureOfMerit": np.zeros(120)})
    kept = []
    for files in (1, 2, 9):
        run(write_folder(table, tmp_path / f"in-{files}", files=files), tmp_path / f"out-{files}")
        kept.append(Output(tmp_path / f"out-{files}").kept)
    assert kept[0] == kept[1] == kept[2]
    assert kept[0].num_rows < 120


def test_a_repeated_run_is_byte_identical(table, tmp_path, monkeypatch, small_fragments):
    folder = write_folder(table, tmp_path / "in", files=6)
    for number in range(3):
        with_threads(monkeypatch, number + 1)
        decisions(folder, tmp_path / f"out-{number}")
    first, *others = (data(tmp_path / f"out-{number}") for number in range(3))
    assert all(other == first for other in others)


MODES = [
    {},
    {"remove_entirely": True},
    {"min_separation": 0},
    {"score_field": "none", "seed": 5},
    {"between_inputs_only": True},
    {"prefer_input_order": True, "min_separation": 70},
    {"ignore_within_filament": True},
    {"undo_symmetry_expansion": True},
]


@pytest.mark.slow
@settings(max_examples=14)
@given(
    rows=st.integers(0, 80),
    seed=st.integers(0, 100),
    files=st.integers(1, 4),
    group=st.integers(10, 50),
    fragment_bytes=st.sampled_from([1, 5_000, 2**20]),
    partition_rows=st.integers(10, 80),
    threads=st.integers(1, 4),
    held=st.sampled_from([0, 2**29]),
    clustered=st.booleans(),
    order=st.randoms(use_true_random=False),
    params=st.sampled_from(MODES),
)
def test_any_layout(
    rows,
    seed,
    files,
    group,
    fragment_bytes,
    partition_rows,
    threads,
    held,
    clustered,
    order,
    params,
):
    tables = [tied(rows, seed), tied(20, seed + 1)]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        row_id = Path(name)
        whole = [write_file(t, row_id / f"{n}.parquet") for n, t in enumerate(tables)]
        expected = decisions(whole, row_id / "expected", **params)
        patch.setattr(parquet, "FRAGMENT_BYTES", fragment_bytes)
        patch.setattr(plan, "PARTITION_ROWS", partition_rows)
        patch.setattr(engine, "HELD_BYTES", held)
        with_threads(patch, threads)
        shuffled = list(range(rows))
        order.shuffle(shuffled)
        if clustered:
            micrograph = tables[0]["location/micrograph_uid"].to_pylist()
            shuffled.sort(key=micrograph.__getitem__)
        mixed = tables[0].take(pa.array(shuffled, pa.int64()))
        first = write_folder(mixed, row_id / "in", files=files, row_group_size=group)
        second = write_file(tables[1], row_id / "other.parquet", row_group_size=group)
        assert decisions([first, second], row_id / "out", **params) == expected


@pytest.mark.slow
class TestCluster:
    """Two worker processes write the same bytes as this process."""

    @pytest.fixture(autouse=True)
    def several_buckets(self, monkeypatch, small_fragments):
        monkeypatch.setattr(plan, "PARTITION_ROWS", 120)

    def straddling(self, tmp_path):
        rows = tied(400)
        order = np.random.default_rng(0).permutation(rows.num_rows)
        return write_folder(rows.take(order), tmp_path / "in", files=6)

    def mixed(self, tmp_path):
        rows = tied(900, micrographs=20)
        return write_folder(rows, tmp_path / "in", files=6)

    def apart(self, tmp_path):
        rows = tied(400)
        micrographs = rows["location/micrograph_uid"].unique()
        for number, uid in enumerate(micrographs):
            part = rows.filter(pa.compute.equal(rows["location/micrograph_uid"], uid))
            write_file(part, tmp_path / "in" / f"{number}.parquet")
        return tmp_path / "in"

    @pytest.mark.parametrize("params", MODES, ids=str)
    @pytest.mark.parametrize("layout", ["straddling", "mixed", "apart"])
    def test_the_result_is_byte_identical(self, cluster, tmp_path, layout, params):
        folder = getattr(self, layout)(tmp_path)
        here = decisions(folder, tmp_path / "here", **params)
        there = decisions(folder, tmp_path / "there", cluster, **params)
        assert there == here
        assert data(tmp_path / "there") == data(tmp_path / "here")
        found = Output(tmp_path / "there").manifest
        moving = {"straddling": range(400, 401), "mixed": range(1, 900), "apart": range(1)}
        assert found["plan"]["moving_rows"] in moving[layout]
        assert found["totals"] == Output(tmp_path / "here").manifest["totals"]

    def test_two_inputs_give_a_byte_identical_result(self, cluster, tmp_path):
        paths = [write_folder(tied(150, s), tmp_path / f"in-{s}", files=3) for s in (1, 2)]
        params = {"between_inputs_only": True, "prefer_input_order": True}
        decisions(paths, tmp_path / "here", **params)
        decisions(paths, tmp_path / "there", cluster, **params)
        assert data(tmp_path / "there") == data(tmp_path / "here")

    @pytest.mark.parametrize("separation", [1e-6, 20])
    def test_straddling_micrographs_without_a_duplicate(self, cluster, tmp_path, separation):
        folder = write_folder(cryosparc(60), tmp_path / "in", files=3)
        here = decisions(folder, tmp_path / "here", min_separation=separation)
        assert decisions(folder, tmp_path / "there", cluster, min_separation=separation) == here

    def test_the_client_need_not_be_the_current_one(self, two_workers, tmp_path):
        folder = self.straddling(tmp_path)
        expected = decisions(folder, tmp_path / "here")
        assert decisions(folder, tmp_path / "there", two_workers) == expected

    def test_no_rows_at_all(self, cluster, tmp_path):
        path = write_file(cryosparc(0), tmp_path / "in.parquet")
        assert decisions(path, tmp_path / "there", cluster) == {}

    def test_invalid_rows_raise_the_same_message(self, cluster, tmp_path):
        x = np.random.default_rng(0).random(90)
        x[[40, 80]] = np.nan
        rows = cryosparc(90, columns={"location/center_x_frac": x})
        folder = write_folder(rows, tmp_path / "in", files=3)
        found = []
        for client in (None, cluster):
            with pytest.raises(InputError, match="2 rows have no finite position") as caught:
                run(folder, tmp_path / "out", client=client)
            found.append(str(caught.value))
        assert found[0] == found[1]
        assert not (tmp_path / "out").exists()

    def test_the_command_line_finds_the_scheduler(self, cluster, cli, tmp_path):
        folder = self.straddling(tmp_path)
        decisions(folder, tmp_path / "here")
        address = cluster.scheduler.address
        outcome = cli("run", folder, "-o", tmp_path / "there", "--scheduler", address)
        assert outcome.exit_code == 0, outcome.stderr
        assert f"Dask cluster at {address}: 2 workers" in outcome.stderr
        assert data(tmp_path / "there") == data(tmp_path / "here")

    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_command_line_starts_workers(self, cli, tmp_path, workers):
        folder = self.straddling(tmp_path)
        decisions(folder, tmp_path / "here")
        options = ("--workers", workers, "--threads-per-worker", 1)
        outcome = cli("run", folder, "-o", tmp_path / "there", *options)
        assert outcome.exit_code == 0, outcome.stderr
        assert data(tmp_path / "there") == data(tmp_path / "here")

    def test_larger_work_starts_a_cluster(self, monkeypatch, tmp_path):
        folder = self.straddling(tmp_path)
        decisions(folder, tmp_path / "here")
        monkeypatch.setattr(dask_dedup.pipeline.executors.select, "THREADS_ROWS", 399)
        monkeypatch.setattr(dask_dedup.pipeline.executors.select, "MOVING_BYTES", 2**40)
        decisions(folder, tmp_path / "there")
        assert data(tmp_path / "there") == data(tmp_path / "here")

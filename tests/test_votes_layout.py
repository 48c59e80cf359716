"""Votes depend on the rows and the parameters only, not on files, order, threads or cluster."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import Output, contents, cryosparc, write_file, write_folder

import dask_dedup.pipeline.executors.select
from dask_dedup import DedupParams, run, verify
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.pipeline import plan
from dask_dedup.pipeline.executors import threads as engine
from dask_dedup.pipeline.executors.threads import ThreadExecutor

TABLES = ("particles_kept", "particles_rejected", "duplicates", "votes")
MODES = [
    {"min_votes": 2},
    {"min_votes": 3, "relax_unseen": True, "score_scale": "standing"},
    {"votes": True, "min_separation": 0},
    {"found_by": "one", "not_found_by": "two", "vote_distance": 11.0},
    {"min_votes": 2, "between_inputs_only": True, "prefer_input_order": True},
    {"min_votes": 2, "ignore_within_filament": True, "min_separation": 60},
    {"min_votes": 2, "undo_symmetry_expansion": True},
]


def picks(rows=150, seed=0, micrographs=4):
    """Few distinct scores and dense picks, so that there are ties, coincident particles and chains."""
    rng = np.random.default_rng(seed)
    columns = {
        "uid": rng.permutation(rows).astype(np.uint64) * np.uint64(977) + np.uint64(seed << 32),
        "location/center_x_frac": rng.integers(12, size=rows) / 16,
        "location/center_y_frac": rng.integers(12, size=rows) / 16,
        "pick_stats/ncc_score": rng.choice(
            np.array([0.1, 0.2, 0.3, np.nan, -999.0], np.float32), rows
        ),
        "filament/filament_uid": rng.integers(5, size=rows, dtype=np.uint64),
        "sym_expand/src_uid": rng.integers(60, size=rows, dtype=np.uint64),
    }
    return cryosparc(rows, micrographs=micrographs, seed=seed, columns=columns)


def tables(rows=150):
    """Return the picks of three pickers. The third has seen two micrographs of four."""
    return [picks(rows, 1), picks(rows // 2, 2), picks(rows // 3, 3, micrographs=2)]


def decided(inputs, out, client=None, **params):
    """Run, and return all that votes/ and duplicates/ say, by uid."""
    named = zip(inputs, ("one", "two", "three"), strict=True)
    names = {str(path): name for path, name in named}
    run(inputs, out, DedupParams(**params), client, names=names)
    listed = {}
    for dataset in ("votes", "duplicates"):
        table = Output(out).read(dataset)
        places = [
            name for name in table.column_names if name.split("_")[-1] in ("input", "file", "row")
        ]
        rows = table.drop_columns(places).to_pylist()
        listed[dataset] = sorted(map(repr, rows))
    return listed


def data(folder):
    return {name: content for name, content in contents(folder).items() if name.startswith(TABLES)}


def mixed(table, seed, clustered=False):
    """Return the rows in another order."""
    order = np.random.default_rng(seed).permutation(table.num_rows)
    if clustered:
        micrograph = np.array(table["location/micrograph_uid"].to_pylist())
        order = order[np.argsort(micrograph[order], kind="stable")]
    return table.take(pa.array(order))


@pytest.mark.slow
@settings(max_examples=4)
@given(
    seed=st.integers(0, 2**32 - 1),
    files=st.integers(1, 4),
    group=st.integers(10, 50),
    fragment_bytes=st.sampled_from([1, 5_000, 2**20]),
    partition_rows=st.integers(10, 80),
    threads=st.integers(1, 4),
    held=st.sampled_from([0, 2**29]),
    clustered=st.booleans(),
    params=st.sampled_from(MODES),
)
def test_any_layout(
    seed, files, group, fragment_bytes, partition_rows, threads, held, clustered, params
):
    given = tables(60)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        whole = [write_file(table, folder / f"{n}.parquet") for n, table in enumerate(given)]
        expected = decided(whole, folder / "expected", **params)
        patch.setattr(parquet, "FRAGMENT_BYTES", fragment_bytes)
        patch.setattr(plan, "PARTITION_ROWS", partition_rows)
        patch.setattr(engine, "HELD_BYTES", held)
        with_threads(patch, threads)
        shuffled = [
            write_folder(
                mixed(table, seed + n, clustered),
                folder / f"in-{n}",
                files=files,
                row_group_size=group,
            )
            for n, table in enumerate(given)
        ]
        assert decided(shuffled, folder / "out", **params) == expected
        checks = verify(folder / "out")
        assert checks.verified, checks.lines()


def with_threads(patch, number):
    patch.setattr(
        dask_dedup.pipeline.executors.select,
        "ThreadExecutor",
        lambda on_event: ThreadExecutor(on_event, number),
    )


def test_a_repeated_run_is_byte_identical(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    inputs = [
        write_folder(mixed(table, n), tmp_path / str(n), files=3)
        for n, table in enumerate(tables(90))
    ]
    for number in range(2):
        with_threads(monkeypatch, number + 1)
        decided(inputs, tmp_path / f"out-{number}", **MODES[1])
    first, second = (data(tmp_path / f"out-{number}") for number in range(2))
    assert first == second
    assert any(name.startswith("votes/") for name in first)


@pytest.mark.parametrize("params", [MODES[0], MODES[1], MODES[3]], ids=str)
def test_inputs_may_come_in_any_order(tmp_path, params):
    given = [write_file(table, tmp_path / f"{n}.parquet") for n, table in enumerate(tables(90))]
    names = dict(zip(map(str, given), ("one", "two", "three"), strict=True))
    outcomes = []
    for out, order in (("one", [0, 1, 2]), ("other", [2, 0, 1])):
        inputs = [given[number] for number in order]
        run(inputs, tmp_path / out, DedupParams(**params), names=names)
        votes = Output(tmp_path / out).read("votes").drop_columns(["file"]).to_pylist()
        outcomes.append(sorted(map(repr, votes)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.slow
class TestCluster:
    """Two worker processes write the same bytes as this process."""

    @pytest.mark.parametrize("params", MODES, ids=str)
    @pytest.mark.parametrize("clustered", [False, True])
    def test_the_result_is_byte_identical(self, cluster, tmp_path, monkeypatch, clustered, params):
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        monkeypatch.setattr(plan, "PARTITION_ROWS", 120)
        inputs = [
            write_folder(mixed(table, n, clustered), tmp_path / str(n), files=3)
            for n, table in enumerate(tables(300))
        ]
        here = decided(inputs, tmp_path / "here", **params)
        there = decided(inputs, tmp_path / "there", cluster, **params)
        assert there == here
        assert data(tmp_path / "there") == data(tmp_path / "here")
        totals = [Output(tmp_path / name).manifest["totals"] for name in ("here", "there")]
        assert totals[0] == totals[1]
        assert verify(tmp_path / "there").verified

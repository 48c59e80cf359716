"""Tasks on a cluster exchange picks, uids and decisions, few or many, and the result has the bytes of threads."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from dask.sizeof import sizeof
from hypothesis import given
from hypothesis import strategies as st
from tables import cryosparc, uids, write_file
from test_output import data

from dask_dedup import InputError, run
from dask_dedup.dedup.decide import Decisions, Rejections
from dask_dedup.dedup.picks import Picks, row_ids
from dask_dedup.dedup.votes import Votes
from dask_dedup.pipeline.executors import distributed, tasks
from dask_dedup.pipeline.executors.splitting import split_decisions

WAYS = ("all picks are held", "no picks are held", "many picks")


@pytest.fixture(autouse=True)
def many_fragments(monkeypatch):
    monkeypatch.setattr("dask_dedup.formats.parquet.table.FRAGMENT_BYTES", 1)


def scrambled(rows):
    return rows.take(np.random.default_rng(0).permutation(rows.num_rows))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ["clustered", "scrambled"])
def test_every_way_to_shuffle_gives_the_bytes_of_threads(
    tmp_path, cluster, monkeypatch, way, order
):
    rows = cryosparc(400) if order == "clustered" else scrambled(cryosparc(400))
    path = write_file(rows, tmp_path / "in.parquet", row_group_size=40)
    here = run(path, tmp_path / "here", min_separation=60)
    assert here.manifest["plan"]["moving_rows"] > 0
    monkeypatch.setattr("dask_dedup.pipeline.plan.PARTITION_ROWS", 90)
    if way == "no picks are held":
        monkeypatch.setattr(distributed, "choose_held", lambda *_: [False] * 10)
    if way == "many picks":
        monkeypatch.setattr(distributed, "MOST_PIECES", 0)
    there = run(path, tmp_path / "there", client=cluster, min_separation=60)
    assert there.manifest["plan"]["partitions"] > 1
    assert data(tmp_path / "there") == data(tmp_path / "here")


def picks(micrograph, fragment):
    columns = {name: np.zeros(len(micrograph), dtype) for name, dtype in Picks.dtypes.items()}
    columns["micrograph"] = np.array(micrograph, np.uint64)
    columns["row_id"] = row_ids(fragment, len(micrograph))
    return Picks.from_columns(columns)


def test_dask_counts_the_memory_of_what_workers_hold():
    held = tasks.HeldPicks(picks([1] * 1_000, 0))
    scanned = tasks.ScannedGroup([], {0: held}, {0: np.zeros(1_000, np.uint64)})
    each = sum(dtype.itemsize for dtype in Picks.dtypes.values())
    assert sizeof(held) >= 1_000 * each
    assert sizeof({0: held}) >= 1_000 * each
    assert sizeof(scanned) >= 1_000 * (each + 8)


def decisions(fragments):
    columns = {name: np.zeros(len(fragments), dtype) for name, dtype in Rejections.dtypes.items()}
    rows = np.arange(len(fragments), dtype=np.uint64)
    columns["row_id"] = (np.array(fragments, np.uint64) << np.uint64(32)) + rows
    return Decisions(Rejections.from_columns(columns), Votes.concatenate([]))


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(-1, 2), min_size=6, max_size=6))
def test_decisions_are_split_by_the_group_of_their_fragment(fragments, groups):
    made = split_decisions(decisions(fragments), np.array(groups))
    found = {(group, row) for group, each in made.items() for row in each.rejections.row.tolist()}
    assert found == {(groups[each], row) for row, each in enumerate(fragments) if groups[each] >= 0}


@pytest.mark.slow
class TestRepeatedUids:
    """Workers find uids that occur twice, and the messages are those of a single process."""

    @pytest.fixture(autouse=True)
    def small_ranges(self, monkeypatch):
        monkeypatch.setattr(distributed, "RANGE_ROWS", 7)
        monkeypatch.setattr(tasks, "UID_SPACING", 1)

    def test_are_an_error_that_names_the_same_places(self, tmp_path, cluster):
        table = cryosparc(60)
        for name, rows in {
            "a": range(19),
            "b": range(19, 50),
            "c": [51, 5, 52, 18, 18, 30],
        }.items():
            write_file(table.take(list(rows)), tmp_path / "in" / f"{name}.parquet")
        messages = []
        for client in (None, cluster):
            with pytest.raises(InputError, match="3 uids occur more than once") as caught:
                run(tmp_path / "in", tmp_path / "out", client=client)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
        assert not (tmp_path / "out").exists()

    def test_of_different_inputs_are_the_same_warning(self, tmp_path, cluster):
        one = cryosparc(40)
        two = cryosparc(40, columns={"uid": pa.array([*uids(one)[:12], *range(28)], pa.uint64())})
        paths = [
            write_file(rows, tmp_path / f"{name}.parquet", row_group_size=9)
            for name, rows in {"one": one, "two": two}.items()
        ]
        warnings = [
            run(paths, tmp_path / str(number), client=client).manifest["warnings"]
            for number, client in enumerate((None, cluster))
        ]
        assert any("12 uids occur in more than one input" in line for line in warnings[0])
        assert warnings[0] == warnings[1]


@pytest.mark.slow
def test_the_driver_imports_neither_dask_dataframe_nor_bokeh(tmp_path, cluster):
    path = write_file(cryosparc(120), tmp_path / "in.parquet", row_group_size=40)
    program = f"""
import sys
from distributed import Client
from dask_dedup import run
with Client({cluster.scheduler.address!r}) as client:
    run({str(path)!r}, {str(tmp_path / "out")!r}, client=client)
print([name for name in ("dask.dataframe", "pandas", "bokeh") if name in sys.modules])
"""
    found = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
def test_the_dashboard_of_dask_shows_the_stages_by_name(tmp_path, cluster, monkeypatch, many):
    if many:
        monkeypatch.setattr(distributed, "MOST_PIECES", 0)
    path = write_file(scrambled(cryosparc(120)), tmp_path / "in.parquet", row_group_size=40)

    def stages(dask_scheduler):
        spans = dask_scheduler.extensions["spans"].spans.values()
        return {(span.name[0], group.prefix.name) for span in spans for group in span.groups}

    run(path, tmp_path / "out", client=cluster)
    found = cluster.run_on_scheduler(stages)
    # Many picks are shuffled, decided and written by one graph.
    many_expected = {("scan", "scan"), ("shuffle", "shuffle-transfer")}
    few_expected = {
        ("scan", "scan"),
        ("shuffle", "collect_by_partition"),
        ("decide", "decide_partition"),
        ("write", "write_group"),
    }
    assert found >= (many_expected if many else few_expected)

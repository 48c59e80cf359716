"""Progress of a run, added up from its events."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cryosparc, relion, write_file

from dask_dedup import DedupParams, InputError, RunError, run
from dask_dedup.dedup.decide import DENSEST, FRACTION_BINS, DecisionCounts
from dask_dedup.monitoring.progress import LISTED, POINTS, STAGES, Progress
from dask_dedup.pipeline import stages
from dask_dedup.pipeline.events import NAME_LENGTH

STARTED = {
    "kind": "started",
    "run": "a",
    "output": "out",
    "executor": "here",
    "inputs": ["a.parquet"],
    "rows": 100,
    "bytes": 4_000,
    "fragments": 4,
}
PLANNED = {
    "kind": "planned",
    "micrographs": 8,
    "partitions": 2,
    "partition_rows": [30, 20],
    "moving_rows": 50,
    "names": [],
}


def counts(first=0, micrographs=2, picks=20, rejected=5):
    bins = [0] * FRACTION_BINS
    bins[5] = micrographs
    return {
        "micrographs": micrographs,
        "picks": picks,
        "rejected": rejected,
        "by_fraction": bins,
        "densest": [(first + number, picks, rejected) for number in range(micrographs)],
    }


def whole_run():
    """Return the events of a run of four fragments and two shuffle partitions."""
    events = [{"kind": "scanned", "number": n, "rows": 25, "seconds": 0.1} for n in range(4)]
    events += [
        {"kind": "collected", "number": n, "rows": 25, "bytes": 1500, "seconds": 0.1}
        for n in (0, 1)
    ]
    events += [
        {
            "kind": "decided",
            "number": n,
            "rows": 25,
            "seconds": 0.2,
            "counts": counts(n * 2, picks=25),
        }
        for n in range(2)
    ]
    return events + [
        {
            "kind": "written",
            "number": n,
            "rows": 25,
            "kept": 20,
            "rejected": 5,
            "seconds": 0.5,
            "counts": counts(n * 2) if n > 1 else DecisionCounts().to_dict(),
        }
        for n in range(4)
    ]


def progress_of(events):
    progress = Progress()
    for second, event in enumerate([STARTED, PLANNED, *events]):
        progress.note(event, float(second))
    return progress


def shown(progress):
    stages = {name: (stage.rows, stage.done) for name, stage in progress.stages.items()}
    counted = (progress.kept, progress.rejected, progress.moved_bytes, progress.by_fraction)
    return (stages, counted, progress.decided_micrographs, progress.densest, progress.fraction)


@given(st.data())
def test_work_done_twice_counts_once_in_any_order(data):
    events = whole_run()
    again = data.draw(st.lists(st.sampled_from(events), max_size=12))
    mixed = data.draw(st.permutations([*events, *again]))
    assert shown(progress_of(mixed)) == shown(progress_of(events))
    assert progress_of(mixed).repeats == len(again)


def test_a_whole_run_adds_up():
    progress = progress_of(whole_run())
    assert (progress.kept, progress.rejected) == (80, 20)
    assert progress.fraction == 1.0
    assert progress.decided_micrographs == 8 == sum(progress.by_fraction)
    assert progress.status == "running"
    progress.note({"kind": "finished", "kept": 80, "rejected": 20}, 99.0)
    assert progress.status == "finished"
    assert progress.elapsed(1_000.0) == 99.0
    assert progress.seconds_left(99.0) is None


def test_stages_follow_one_another_and_the_fraction_never_falls():
    progress, fractions, seen = Progress(), [], []
    for second, event in enumerate([STARTED, *whole_run()[:4], PLANNED, *whole_run()[4:]]):
        progress.note(event, float(second))
        fractions.append(progress.fraction)
        seen.append(progress.stage)
    assert fractions == sorted(fractions)
    assert list(dict.fromkeys(seen)) == list(STAGES)


def test_time_left_follows_from_time_spent():
    progress = progress_of(whole_run()[:8])  # all but writing
    done = progress.fraction
    assert 0 < done < 1
    assert progress.seconds_left(20.0) == pytest.approx(20.0 * (1 - done) / done)


def test_speed_is_that_of_the_last_seconds():
    progress = progress_of([])
    for second in range(30):
        event = {"kind": "scanned", "number": second, "rows": 2, "seconds": 0.1}
        progress.note(event, 100.0 + second)
    assert progress.speed(129.0) == pytest.approx(2.0, rel=0.15)
    assert progress.speed(200.0) == 0.0


def test_memory_does_not_grow_with_micrographs_or_time():
    progress = progress_of([])
    rng = np.random.default_rng(0)
    for number in range(3_000):
        densest = [(number * 10 + key, int(rng.integers(1_000)), 0) for key in range(DENSEST)]
        event = {
            "kind": "written",
            "number": number,
            "rows": 1,
            "kept": 1,
            "rejected": 0,
            "seconds": 0.1,
            "counts": counts() | {"densest": densest},
        }
        progress.note(event, float(number))
    assert len(progress.densest) <= LISTED
    assert len(progress.slowest) <= LISTED
    assert len(progress.curve) <= POINTS + 1
    assert len(progress._recent) < 20


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=40),
)
def test_micrographs_are_counted_by_the_fraction_rejected(micrographs):
    picks = np.array([n for n, _ in micrographs])
    rejected = np.array([int(n * share) for n, share in micrographs])
    found = DecisionCounts.of(np.arange(picks.size, dtype=np.uint64), picks, rejected)
    fractions = [r / n for n, r in zip(picks.tolist(), rejected.tolist(), strict=True)]
    for number, count in enumerate(found.by_fraction):
        low, high = number / FRACTION_BINS, (number + 1) / FRACTION_BINS
        last = number == FRACTION_BINS - 1
        assert count == sum(low - 1e-12 <= f and (f < high - 1e-12 or last) for f in fractions)
    assert [p for _, p, _ in found.densest] == sorted(picks.tolist(), reverse=True)[:DENSEST]
    assert found.rejected == rejected.sum()


@pytest.mark.parametrize("straddling", [False, True])
def test_events_agree_with_the_manifest(tmp_path, straddling):
    table = cryosparc(2_000, micrographs=7)
    rows = 300 if straddling else 2_000
    path = write_file(table, tmp_path / "a.parquet", row_group_size=rows)
    progress, kinds = Progress(), set()

    def on_event(event):
        kinds.add(event["kind"])
        progress.note(event)

    result = run(path, tmp_path / "out", DedupParams(min_separation=40.0), on_event=on_event)
    assert (progress.kept, progress.rejected) == (result.kept, result.rejected)
    assert progress.status == "finished"
    assert progress.micrographs == sum(progress.by_fraction) == 7
    assert progress.result["run_id"] == result.manifest["run_id"]
    assert kinds >= {"started", "scanned", "planned", "written", "finished"}
    _, counts = np.unique(table.column("location/micrograph_uid"), return_counts=True)
    assert sorted(picks for picks, _ in progress.densest.values()) == sorted(counts.tolist())


def test_the_densest_micrographs_have_names_cut_to_a_length(tmp_path):
    long = "m" * 10_000 + "/end.mrc"
    names = np.array([long] * 60 + ["<b>.mrc"] * 40)
    path = write_file(relion(100, columns={"rlnMicrographName": names}), tmp_path / "a.parquet")
    progress = Progress()
    run(path, tmp_path / "out", on_event=progress.note)
    shown = {progress.name_of(key): picks for key, (picks, _) in progress.densest.items()}
    assert shown == {long[-NAME_LENGTH:]: 60, "<b>.mrc": 40}


@pytest.mark.slow
@pytest.mark.parametrize("tables", [1, 2])
def test_on_a_cluster_micrographs_that_go_by_uid_are_shown_by_their_paths(
    tmp_path, cluster, tables
):
    table = cryosparc(2_000, micrographs=7)
    uids = table.column("location/micrograph_uid").to_pylist()
    path = "location/micrograph_path"
    paths = pa.array([f"J1/{uid}.mrc" for uid in uids])
    table = table.set_column(table.column_names.index(path), path, paths)
    inputs = [
        write_file(table, tmp_path / f"{number}.parquet", row_group_size=300)
        for number in range(tables)
    ]
    progress = Progress()
    run(inputs, tmp_path / "out", client=cluster, on_event=progress.note)
    shown = {progress.name_of(key) for key in progress.densest}
    assert shown == {f"J1/{uid}.mrc" for uid in set(uids)}


def test_a_failed_run_has_a_reason(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the disk is on fire")

    path = write_file(cryosparc(50), tmp_path / "a.parquet")
    monkeypatch.setattr(stages, "write_fragment", fail)
    progress = Progress()
    with pytest.raises(RunError):
        run(path, tmp_path / "out", on_event=progress.note)
    assert progress.status == "failed"
    assert "the disk is on fire" in progress.reason


def test_a_refused_table_is_a_failure(tmp_path):
    bad = cryosparc(50, columns={"location/center_x_frac": np.full(50, np.nan)})
    progress = Progress()
    with pytest.raises(InputError):
        run(write_file(bad, tmp_path / "a.parquet"), tmp_path / "out", on_event=progress.note)
    assert progress.status == "failed"
    assert "no finite position" in progress.reason


@pytest.mark.slow
def test_workers_send_the_same_events_as_threads(tmp_path, cluster):
    path = write_file(cryosparc(2_000), tmp_path / "a.parquet", row_group_size=300)
    here, there = Progress(), Progress()
    params = DedupParams(min_separation=40.0)
    run(path, tmp_path / "here", params, on_event=here.note)
    run(path, tmp_path / "there", params, cluster, on_event=there.note)
    assert shown(here)[:-1] == shown(there)[:-1]

"""The contents of a report equal what the datasets hold, in every format."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import cryosparc, relion, write_file, write_folder
from test_cross_format import pickers as made_pickers

from dask_dedup import DedupParams, run
from dask_dedup.dedup.decide import decide
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.particles import sample as sampling
from dask_dedup.particles.sample import NO_ROW, SAMPLE_PICKS, choose_sample
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.report import datasets
from dask_dedup.results.report.datasets import read_contents


def finished(tmp_path, tables, *, names=None, output_format="native", **params):
    """Run on tables and return the finished run."""
    names = names or [f"{number}.parquet" for number in range(len(tables))]
    paths = [write_file(t, tmp_path / n) for t, n in zip(tables, names, strict=True)]
    run(paths, tmp_path / "out", DedupParams(**params), output_format=output_format)
    return open_finished_run(tmp_path / "out")


def check(result):
    """Check the contents of the report of a run against its manifest and `duplicates`."""
    contents = read_contents(result)
    totals, sample = result.manifest["totals"], contents.sample
    listed = pq.read_table(result.output / "duplicates")
    inputs = [entry["path"] for entry in result.manifest["inputs"]]
    assert contents.kept.sum() == totals["kept"]
    assert contents.rejected.sum() == totals["rejected"] == np.count_nonzero(~sample.kept)
    assert len(sample) == totals["rows"]
    for one, path in enumerate(inputs):
        assert sorted(sample.row[sample.source == one].tolist()) == list(
            range(result.manifest["inputs"][one]["rows"])
        )
        for other, winner_path in enumerate(inputs):
            pairs = zip(
                listed["input"].to_pylist(), listed["winner_input"].to_pylist(), strict=True
            )
            assert contents.rejected_by_winner[one, other] == list(pairs).count((path, winner_path))
    winner = sample.winners()
    lost = np.flatnonzero(~sample.kept)
    assert (winner[sample.kept] == -1).all()
    if result.params.remove_entirely:
        assert (winner == -1).all()
        return contents
    won = winner[lost]
    assert (won >= 0).all()
    assert sample.kept[won].all()
    assert (sample.micrograph[won] == sample.micrograph[lost]).all()
    steps = [getattr(sample, axis)[lost] - getattr(sample, axis)[won] for axis in "xyz"]
    np.testing.assert_allclose(np.sqrt(np.sum(np.square(steps), axis=0)), sample.distance[lost])
    order = np.argsort(listed["distance_A"].to_numpy())
    np.testing.assert_allclose(
        np.sort(sample.distance[lost]), listed["distance_A"].to_numpy()[order], rtol=0, atol=0
    )
    assert contents.distances.sum() == (lost.size if result.params.measures else 0)
    return contents


pickers = made_pickers


@pytest.mark.parametrize(
    ("form", "output_format"),
    [
        ("parquet", "native"),
        ("star", "star"),
        ("star", "native"),
        ("cs", "parquet"),
        ("csg", "native"),
    ],
)
def test_contents_of_results_in_every_format(pickers, tmp_path, form, output_format):
    run(pickers[form], tmp_path, DedupParams(min_separation=30.0), output_format=output_format)
    contents = check(open_finished_run(tmp_path))
    assert {str(contents.name_of(key)) for key in contents.micrographs.tolist()} == {
        contents.name_of(key) for key in contents.choice.keys.tolist()
    }
    assert not any(contents.name_of(key).startswith("uid") for key in contents.choice.keys.tolist())


@pytest.mark.real_data
def test_contents_of_folders_of_pick_files(real_data, tmp_path):
    folder = real_data / "pick_folders_10017"
    run(
        [folder / "cryolo" / "STAR", folder / "topaz" / "per_micrograph"],
        tmp_path,
        DedupParams(min_separation=80.0, micrograph_pixel_size=1.77, match_micrographs="name"),
    )
    check(open_finished_run(tmp_path))


@pytest.mark.parametrize(
    ("table", "params"),
    [
        (cryosparc(0), {}),
        (cryosparc(1), {}),
        (cryosparc(300), {"min_separation": 0.0}),
        (cryosparc(300), {"remove_entirely": True, "min_separation": 60.0}),
        (cryosparc(300), {"score_field": "none", "min_separation": 60.0}),
        (relion(300, axes=3), {"min_separation": 60.0}),
        (relion(300), {"between_inputs_only": True, "min_separation": 60.0}),
    ],
)
def test_contents_of_unusual_runs(tmp_path, table, params):
    check(finished(tmp_path, [table, table], **params))


def test_contents_of_a_folder_of_files(tmp_path):
    path = write_folder(cryosparc(400), tmp_path / "in", files=5)
    run(path, tmp_path / "out", min_separation=60.0)
    contents = check(open_finished_run(tmp_path / "out"))
    assert (contents.sampled.psize == np.float64(np.float32(1.2))).all()
    np.testing.assert_allclose(contents.sampled.width, 300 * 1.2, rtol=1e-6)
    np.testing.assert_allclose(contents.sampled.height, 240 * 1.2, rtol=1e-6)


def test_rows_that_cannot_be_compared_are_not_in_the_contents(tmp_path):
    table = cryosparc(300)
    fractions = np.asarray(table["location/center_x_frac"]).copy()
    fractions[5:15] = np.nan
    table = table.set_column(
        table.column_names.index("location/center_x_frac"), "location/center_x_frac", [fractions]
    )
    contents = read_contents(finished(tmp_path, [table], invalid="reject", min_separation=60.0))
    assert len(contents.sample) == 290 == contents.kept.sum() + contents.rejected.sum()
    assert not set(range(5, 15)) & set(contents.sample.row.tolist())


def test_the_sample_ranks_as_the_run(tmp_path):
    tables = [cryosparc(400, seed=1), cryosparc(300, seed=2)]
    result = finished(tmp_path, tables, min_separation=60.0)
    sample = read_contents(result).sample
    picks = sample.picks()
    rejections = decide(picks, result.params, (True, True))[0].rejections
    rejected = np.isin(picks.row_id, rejections.row_id)
    np.testing.assert_array_equal(rejected, ~sample.kept)


def test_decisions_by_row_order_are_counted(tmp_path):
    table = relion(200, drop=["rlnOrigin"])
    twice = pa.concat_tables([table, table.slice(0, 30)])
    result = finished(tmp_path / "b", [twice], min_separation=0.001)
    assert read_contents(result).decided_by_row_order == 30
    other = finished(tmp_path / "c", [table, table.slice(0, 30)], min_separation=0.001)
    assert read_contents(other).decided_by_row_order == 30
    first = finished(
        tmp_path / "d", [table, table.slice(0, 30)], min_separation=0.001, prefer_input_order=True
    )
    assert read_contents(first).decided_by_row_order == 0


def test_the_sample_depends_on_keys_and_rows_only():
    keys = np.arange(2_000, dtype=np.uint64) * np.uint64(7)
    rows = np.full(2_000, 100)
    choice = choose_sample(keys, rows)
    assert rows[0] * choice.keys.size == SAMPLE_PICKS
    assert choice.whole.all()
    chosen = np.isin(keys, choice.keys)
    assert splitmix64(keys[chosen]).max() < splitmix64(keys[~chosen]).min()
    order = np.random.default_rng(0).permutation(2_000)
    np.testing.assert_array_equal(choose_sample(keys[order], rows[order]).keys, choice.keys)
    named = choose_sample(keys, rows, named=[int(keys[~chosen][0])])
    assert set(named.keys.tolist()) == {*choice.keys.tolist(), int(keys[~chosen][0])}
    few = choose_sample(keys[:5], rows[:5])
    np.testing.assert_array_equal(few.keys, keys[:5])


def test_a_very_large_micrograph_is_sampled_by_a_window(tmp_path, monkeypatch):
    for module in (sampling, datasets):
        monkeypatch.setattr(module, "MOST_ON_ONE", 300)
        monkeypatch.setattr(module, "SAMPLE_PICKS", 100)
    result = finished(tmp_path, [cryosparc(900, micrographs=1)], min_separation=20.0)
    contents = read_contents(result)
    assert contents.choice.whole.tolist() == [False]
    assert 50 < len(contents.sample) < 200
    left, top, right, bottom = contents.choice.windows[0]
    assert left <= contents.sample.x.min() <= contents.sample.x.max() <= right
    assert top <= contents.sample.y.min() <= contents.sample.y.max() <= bottom
    winner = contents.sample.winners()
    assert (contents.sample.kept | (contents.sample.winner_row != NO_ROW)).all()
    assert (winner >= -1).all()


def test_a_second_reading_gives_the_picks_that_the_first_one_left_out(tmp_path, monkeypatch):
    result = finished(tmp_path, [cryosparc(3_000, micrographs=6)], min_separation=20.0)
    whole = read_contents(result)
    for module in (sampling, datasets):
        monkeypatch.setattr(module, "SAMPLE_PICKS", 1_200)
    monkeypatch.setattr(datasets, "_MARGIN", 0.1)
    contents = read_contents(result)
    assert contents.choice.keys.size == 3
    inside = np.isin(whole.sample.micrograph, contents.choice.keys)
    for name, column in whole.sample.take(inside).columns().items():
        np.testing.assert_array_equal(column, getattr(contents.sample, name))
    np.testing.assert_array_equal(contents.kept, whole.kept)
    assert set(contents.names) == set(contents.choice.keys.tolist())

"""The simulation is reproducible, and its picks resemble real ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial import cKDTree

from dask_dedup import simulation as simulate
from dask_dedup.errors import InputError, OutputExistsError
from dask_dedup.formats import open_table
from dask_dedup.simulation import simulate_pickers

TYPES = {
    "uid": pa.uint64(),
    "location/micrograph_uid": pa.uint64(),
    "location/exp_group_id": pa.uint32(),
    "location/micrograph_path": pa.string(),
    "location/micrograph_shape": pa.list_(pa.uint32(), 2),
    "location/center_x_frac": pa.float32(),
    "location/center_y_frac": pa.float32(),
    "location/micrograph_psize_A": pa.float32(),
    "pick_stats/ncc_score": pa.float32(),
    "pick_stats/power": pa.float32(),
    "pick_stats/template_idx": pa.uint32(),
    "pick_stats/angle_rad": pa.float32(),
    "alignments2D/shift": pa.list_(pa.float32(), 2),
    "alignments2D/psize_A": pa.float32(),
    "alignments2D/pose": pa.float32(),
    "alignments2D/error": pa.float32(),
    "alignments2D/error_min": pa.float32(),
    "alignments2D/class": pa.uint32(),
    "alignments2D/split": pa.uint32(),
}


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*.parquet"))
    }


def column(table, name):
    values = table[name].combine_chunks()
    if pa.types.is_fixed_size_list(values.type):
        return values.flatten().to_numpy().reshape(-1, 2)
    return values.to_numpy(zero_copy_only=False)


def centres(table, *, shifted):
    """Return (n, 3): x and y in angstrom, and a third axis that keeps micrographs apart."""
    shape, psize = (
        column(table, "location/micrograph_shape"),
        column(table, "location/micrograph_psize_A"),
    )
    fraction = np.column_stack([column(table, f"location/center_{axis}_frac") for axis in "xy"])
    centre = fraction.astype(float) * shape[:, ::-1] * psize[:, np.newaxis]
    if shifted:
        centre -= (
            column(table, "alignments2D/shift") * column(table, "alignments2D/psize_A")[:, None]
        )
    _, micrograph = np.unique(column(table, "location/micrograph_uid"), return_inverse=True)
    return np.column_stack([centre, micrograph * 1e4])


def by_uid(table):
    return table.sort_by("uid")


@pytest.fixture(scope="module")
def picks(tmp_path_factory):
    """The picks of the default pickers on 6,000 particles, as tables."""
    folders = simulate_pickers(tmp_path_factory.mktemp("picks"), particles=6_000, micrographs=15)
    return {folder.name: pq.read_table(folder) for folder in folders}


def test_it_returns_one_folder_per_picker_beside_the_micrograph_table(tmp_path):
    folders = simulate_pickers(tmp_path / "new", particles=50, micrographs=2, pickers=("b", "a"))
    assert folders == [tmp_path / "new" / "b", tmp_path / "new" / "a"]
    assert sorted(contents(tmp_path / "new")) == [
        "a/part-00000.parquet",
        "b/part-00000.parquet",
        "micrographs.parquet",
    ]


@pytest.mark.parametrize("clustered", [True, False])
def test_equal_seeds_give_equal_bytes_and_other_seeds_other_bytes(tmp_path, clustered):
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        simulate_pickers(
            tmp_path / name, particles=300, micrographs=3, seed=seed, clustered=clustered
        )
    assert contents(tmp_path / "one") == contents(tmp_path / "again")
    other = contents(tmp_path / "two")
    assert all(content != other[name] for name, content in contents(tmp_path / "one").items())


def test_another_picker_does_not_change_the_others(tmp_path):
    simulate_pickers(tmp_path / "two", particles=100, micrographs=2)
    simulate_pickers(
        tmp_path / "three", particles=100, micrographs=2, pickers=("blob", "template", "third")
    )
    assert contents(tmp_path / "two").items() <= contents(tmp_path / "three").items()


def test_the_part_size_changes_no_clustered_row(tmp_path, monkeypatch):
    size = {"particles": 1_000, "micrographs": 10, "seed": 5}
    whole = [pq.read_table(f) for f in simulate_pickers(tmp_path / "whole", **size)]
    monkeypatch.setattr(simulate, "PART_ROWS", 250)
    folders = simulate_pickers(tmp_path / "parts", **size)
    assert [len(list(folder.iterdir())) for folder in folders] == [5, 5]
    assert [pq.read_table(folder) for folder in folders] == whole


def test_random_order_spreads_the_same_rows_over_the_parts(tmp_path, monkeypatch):
    size = {"particles": 1_000, "micrographs": 10, "seed": 5, "pickers": ["blob"]}
    (clustered,) = simulate_pickers(tmp_path / "clustered", **size)
    monkeypatch.setattr(simulate, "PART_ROWS", 250)
    (spread,) = simulate_pickers(tmp_path / "spread", **size, clustered=False)
    parts = [pq.read_table(path) for path in sorted(spread.iterdir())]
    assert len(parts) == 5
    assert by_uid(pa.concat_tables(parts)) == by_uid(pq.read_table(clustered))
    first, last = (set(column(parts[i], "location/micrograph_uid").tolist()) for i in (0, 3))
    assert first == last
    assert len(first) == 8  # four parts of two micrographs


def test_columns_have_cryosparc_types(picks):
    for table in picks.values():
        assert dict(zip(table.schema.names, table.schema.types, strict=True)) == TYPES
        assert all(chunked.null_count == 0 for chunked in table.columns)
        assert set(column(table, "alignments2D/split").tolist()) == {0, 1}
        psize = column(table, "location/micrograph_psize_A")
        np.testing.assert_allclose(column(table, "alignments2D/psize_A"), 2 * psize)


def test_exposures_describe_every_micrograph(tmp_path):
    (folder,) = simulate_pickers(tmp_path, particles=400, micrographs=4, pickers=["template"])
    exposures, table = pq.read_table(tmp_path / "micrographs.parquet"), pq.read_table(folder)
    assert exposures.schema.types == [
        TYPES["uid"],
        pa.string(),
        pa.list_(pa.uint32(), 2),
        pa.float32(),
    ]
    assert exposures["micrograph_blob/shape"].to_pylist() == [[4092, 5760]] * 4
    pairs = table.group_by(["location/micrograph_uid", "location/micrograph_path"]).aggregate([])
    assert set(zip(*pairs.to_pydict().values(), strict=True)) == set(
        zip(
            exposures["uid"].to_pylist(), exposures["micrograph_blob/path"].to_pylist(), strict=True
        )
    )


def test_uids_are_unique_across_pickers_and_use_all_64_bits(picks):
    uids = np.concatenate([column(table, "uid") for table in picks.values()])
    assert len(np.unique(uids)) == len(uids)
    assert 0.45 < np.mean(uids >= 2**63) < 0.55


def test_centres_are_inside_the_micrograph(picks):
    for table in picks.values():
        for axis in "xy":
            fraction = column(table, f"location/center_{axis}_frac")
            assert fraction.min() > 0
            assert fraction.max() < 1


@pytest.mark.parametrize("count", [0, 1, 2, 40, 500, 1_092])
def test_true_particles_are_at_least_a_diameter_apart(count):
    centre = simulate._positions(count, np.random.default_rng(count))
    assert centre.shape == (count, 2)
    assert not cKDTree(centre.reshape(-1, 2)).query_pairs(simulate.DIAMETER - 1e-6)
    assert ((centre >= 60) & (centre <= np.array([5760, 4092]) * 0.83 - 60)).all()


def test_the_shift_brings_two_pickers_together(picks):
    median = {}
    for shifted in (False, True):
        blob, template = (centres(picks[name], shifted=shifted) for name in ("blob", "template"))
        distance, _ = cKDTree(template).query(blob)
        matched = distance[distance < 30]
        assert len(matched) > 3_500
        median[shifted] = np.median(matched)
    assert median[True] < 2.5 < 6 < median[False]


def test_each_picker_finds_its_share_and_adds_its_false_picks(picks):
    assert len(picks["blob"]) == pytest.approx(6_000 * 0.75 * 1.2, rel=0.04)
    assert len(picks["template"]) == pytest.approx(6_000 * 0.85 * 1.1, rel=0.04)
    for table in picks.values():
        counts = np.unique(column(table, "location/micrograph_uid"), return_counts=True)[1]
        assert len(counts) == 15


def test_scores_differ_in_scale_and_favour_true_picks(picks):
    blob, template = (centres(picks[name], shifted=True) for name in ("blob", "template"))
    distance, _ = cKDTree(template).query(blob)
    score = column(picks["blob"], "pick_stats/ncc_score")
    error = column(picks["blob"], "alignments2D/error")
    # A pick that both pickers found is certainly true; a lone pick is often false.
    assert score[distance < 10].mean() > score[distance > 60].mean() + 0.5
    assert error[distance < 10].mean() < error[distance > 60].mean() - 100
    assert (column(picks["blob"], "alignments2D/error_min") <= error).all()
    assert score.max() > 3
    assert column(picks["template"], "pick_stats/ncc_score").min() >= 0.1
    assert column(picks["template"], "pick_stats/ncc_score").max() <= 0.9


@pytest.mark.parametrize(("particles", "micrographs"), [(10, 3), (1, 1), (2, 7)])
@pytest.mark.parametrize("clustered", [True, False])
def test_small_sizes_work(tmp_path, particles, micrographs, clustered):
    folders = simulate_pickers(
        tmp_path, particles=particles, micrographs=micrographs, clustered=clustered
    )
    for folder in folders:
        table = pq.read_table(folder)
        assert table.schema.types == list(TYPES.values())
        assert len(table) <= 2 * particles + 3
    assert len(pq.read_table(tmp_path / "micrographs.parquet")) == micrographs


def test_a_picker_without_picks_still_writes_its_columns(tmp_path, monkeypatch):
    monkeypatch.setitem(simulate._KNOWN, "blob", simulate._Picker(detection=0))
    (folder,) = simulate_pickers(tmp_path, particles=10, micrographs=3, pickers=["blob"])
    table = pq.read_table(folder)
    assert len(table) == 0
    assert table.schema.types == list(TYPES.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"particles": 1_093, "micrographs": 1}, "1093 particles need 2 micrographs"),
        ({"particles": 0}, "particles=0"),
        ({"micrographs": 0}, "micrographs=0"),
        ({"seed": -1}, "seed=-1"),
        ({"pickers": ()}, "pickers"),
        ({"pickers": "blob"}, "pickers"),
        ({"pickers": ("blob", "blob")}, "pickers"),
        ({"pickers": ("../blob",)}, "pickers"),
        ({"pickers": ("micrographs.parquet",)}, "pickers"),
    ],
)
def test_impossible_arguments_are_an_error_and_write_nothing(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        simulate_pickers(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_refused(tmp_path):
    simulate_pickers(tmp_path, particles=20, micrographs=2, pickers=["blob"])
    before = contents(tmp_path)
    with pytest.raises(OutputExistsError, match="exists"):
        simulate_pickers(tmp_path, particles=10, micrographs=1)
    assert contents(tmp_path) == before


def test_a_project_has_the_picks_of_three_programs(tmp_path):
    simulate.simulate_project(tmp_path / "project", particles=300, micrographs=3)
    described = {}
    for name in ("CBOX", "topaz", "AutoPick/job010"):
        table = open_table(tmp_path / "project" / name)
        described[name] = table.detail.layouts[0].map
        assert 200 < table.rows < 400
    assert described == {"CBOX": "crYOLO CBOX", "topaz": "topaz", "AutoPick/job010": "RELION STAR"}
    again = tmp_path / "again"
    simulate.simulate_project(again, particles=300, micrographs=3)
    first, second = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (again, tmp_path / "project")
    )
    assert first == second
    assert len(first) == 9
    with pytest.raises(OutputExistsError, match="exists; remove it"):
        simulate.simulate_project(again)

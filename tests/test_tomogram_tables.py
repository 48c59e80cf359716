"""Pick files whose positions need the size or binning of their tomogram."""

from __future__ import annotations

import json

import pytest
from test_coordinates_folders import tree
from test_coordinates_lines import put
from test_coordinates_tomography import CENTRES, PIXEL_SIZE, run, star

import dask_dedup
from dask_dedup.errors import InputError
from dask_dedup.formats import open_table, read

SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
BINNING = "rlnTomoTomogramBinning"


def annotations(folder, **picks):
    """Write RELION annotations: picks on the x axis, in binned pixels."""
    for name, xs in picks.items():
        rows = [(name, x, 20, 30) for x in xs]
        put(folder, f"annotations/{name}_particles.star", star(("rlnTomoName", *CENTRES), *rows))
    return folder / "annotations"


def binnings(folder, file="tomograms.star", **binning):
    rows = [(name, 1.0, value) for name, value in binning.items()]
    return put(folder, file, star(("rlnTomoName", PIXEL_SIZE, BINNING), *rows, block="global"))


def matches(folder, name, *rows):
    """Write matches of Warp: (tomogram, fraction of the width)."""
    labels = ("rlnTomoName", *CENTRES, "rlnAutopickFigureOfMerit")
    lines = [(tomogram, f"{x:.4f}", "0.5000", "0.5000", 1) for tomogram, x in rows]
    return put(folder, f"matching/{name}.star", star(labels, *lines))


def sizes(folder, **width):
    """Write a table of tomograms of 2 A pixels with these widths in pixels."""
    rows = [(name, 2.0, value, 100, 100) for name, value in width.items()]
    return put(folder, "tomograms.star", star(("rlnTomoName", PIXEL_SIZE, *SIZES), *rows))


def test_a_new_binning_is_another_run(tmp_path):
    folder = annotations(tmp_path, TS_1=[10, 11])
    binnings(tmp_path, TS_1=8)
    assert run([folder], tmp_path / "out", 10) == [1]
    binnings(tmp_path, TS_1=16)
    assert run([folder], tmp_path / "again", 10) == [2]
    with pytest.raises(InputError, match="another run"):
        run([folder], tmp_path / "out", 10)
    assert not dask_dedup.verify(tmp_path / "out").verified


def test_each_table_that_has_a_tomogram_is_an_input_file(tmp_path):
    folder = annotations(tmp_path, TS_1=[10, 11], TS_2=[10, 11])
    one = binnings(tmp_path, "a_tomograms.star", TS_1=8, TS_3=1)
    two = binnings(tmp_path, "b_tomograms.star", TS_1=1, TS_2=16)
    binnings(tmp_path, "c_tomograms.star", TS_2=1)
    assert run([folder], tmp_path / "out", 10) == [3]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    used = [file["path"] for file in manifest["inputs"][0]["files"][2:]]
    assert used == [str(one), str(two)]
    kept = tree(tmp_path / "out/particles_kept")
    assert kept["annotations_001_tomograms.star"] == one.read_bytes()
    assert kept["annotations_002_tomograms.star"] == two.read_bytes()
    assert dask_dedup.verify(tmp_path / "out").verified
    two.write_bytes(star(("rlnTomoName", PIXEL_SIZE, BINNING), ("TS_2", 1.0, 8)))
    assert run([folder], tmp_path / "again", 10) == [2]


def test_tables_are_copied_in_the_order_in_which_they_are_searched(tmp_path):
    folder = annotations(tmp_path, TS_1=[10, 11], TS_2=[10, 11])
    binnings(tmp_path, "a_tomograms.star", TS_2=16)
    binnings(tmp_path, "b_tomograms.star", TS_1=8, TS_2=1)
    assert run([folder], tmp_path / "out", 10) == [3]
    assert dask_dedup.verify(tmp_path / "out").verified
    again = open_table(tmp_path / "out/particles_kept/annotations")
    rows = [read(again, each, ["rlnTomoName", PIXEL_SIZE]).to_pylist() for each in again.fragments]
    found = {row["rlnTomoName"]: row[PIXEL_SIZE] for part in rows for row in part}
    assert found == {"TS_1": 8, "TS_2": 16}


def test_a_pattern_of_job_folders_is_read_back_with_its_tables(tmp_path):
    annotations(tmp_path / "Picks/job010", TS_1=[10, 11])
    annotations(tmp_path / "Picks/job011", TS_2=[10, 11])
    binnings(tmp_path / "Picks/job010", TS_1=8)
    binnings(tmp_path / "Picks/job011", TS_2=16)
    assert run([tmp_path / "Picks/*/annotations/*.star"], tmp_path / "out", 10) == [3]
    kept = tmp_path / "out/particles_kept/Picks/*/annotations/*.star"
    assert PIXEL_SIZE in open_table(kept).schema.names


def test_a_tomogram_with_two_binnings_is_refused(tmp_path):
    annotations(tmp_path / "Picks/job010", TS_1=[10, 11])
    folder = annotations(tmp_path / "Picks/job011", TS_1=[10, 11])
    folder.joinpath("TS_1_particles.star").rename(folder / "TS_1b_particles.star")
    binnings(tmp_path / "Picks/job010", TS_1=8)
    binnings(tmp_path / "Picks/job011", TS_1=16)
    with pytest.raises(InputError, match=r"TS_1 has different sizes .*job010.*job011.*two inputs"):
        open_table(tmp_path / "Picks/*/annotations/*.star")


def test_matches_are_scaled_by_their_own_tomogram(tmp_path):
    # 0.1 of TS_1 (400 pixels of 2 A) are 80 A; 0.1 of TS_2 (200 pixels) are 40 A.
    sizes(tmp_path, TS_1=400, TS_2=200)
    matches(tmp_path, "a", ("TS_1", 0.1), ("TS_1", 0.2))
    matches(tmp_path, "b", ("TS_2", 0.1), ("TS_2", 0.2))
    assert run([tmp_path / "matching"], tmp_path / "out", 70) == [3]
    assert dask_dedup.verify(tmp_path / "out").verified


def test_a_file_of_matches_in_tomograms_of_different_sizes_is_refused(tmp_path):
    sizes(tmp_path, TS_1=200, TS_2=400, TS_3=200)
    folder = matches(tmp_path, "a", ("TS_1", 0.1), ("TS_2", 0.1), ("TS_2", 0.2)).parent
    with pytest.raises(InputError, match=r"a\.star: TS_1 and TS_2 differ in size .*one for each"):
        open_table(folder)
    matches(tmp_path, "a", ("TS_1", 0.1), ("TS_3", 0.1), ("TS_3", 0.2))
    assert run([folder], tmp_path / "out", 70) == [2]
    matches(tmp_path, "a", ("TS_1", 0.1), ("TS_4", 0.1))
    with pytest.raises(InputError, match=r"tomograms\.star .* has the size of TS_4"):
        open_table(folder)


def test_annotations_of_two_tomograms_need_one_binning(tmp_path):
    binnings(tmp_path, TS_1=8, TS_2=16, TS_3=8)
    rows = [(name, x, 20, 30) for name in ("TS_1", "TS_3") for x in (10, 11)]
    path = put(tmp_path, "annotations/a.star", star(("rlnTomoName", *CENTRES), *rows))
    assert run([path], tmp_path / "out", 10) == [2]
    for other in ("TS_2", "TS_5"):
        changed = star(("rlnTomoName", *CENTRES), *rows, (other, 1, 2, 3))
        path = put(tmp_path, f"annotations/{other}.star", changed)
        with pytest.raises(InputError, match=f"TS_1 and {other} differ in size or pixel size"):
            open_table(path)

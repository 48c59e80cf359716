"""Results of pick files are verified like those of tables."""

from __future__ import annotations

import pytest
from test_coordinates_folders import LAYOUTS, ROWS, tree
from test_coordinates_hostile import BOX
from test_coordinates_lines import put
from test_coordinates_tomography import WRITABLE, project

import dask_dedup

PIXELS = {"micrograph_pixel_size": 1.77}


def verified(inputs, output, separation=80, **options):
    result = dask_dedup.run(inputs, output, min_separation=separation, **options)
    outcome = dask_dedup.verify(output)
    assert outcome.verified, [check for check in outcome.checks if not check.passed]
    return result


@pytest.mark.real_data
def test_picks_of_several_pickers(real_data, tmp_path):
    folder = real_data / "pick_folders_10017"
    names = ["cbox", "autopick", "relion 3.1", "csv", "eman2", "topaz", "cryosparc"]
    inputs = [folder / LAYOUTS[name] for name in names]
    options = {"prefer_input_order": True, "match_micrographs": "name"}
    sizes = {str(path): 1.77 for path in inputs[:-1]}
    verified(inputs, tmp_path / "out", micrograph_pixel_size=sizes, **options)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["eman", "topaz files", "manualpick", "autopick list"])
def test_picks_of_one_picker(real_data, tmp_path, name):
    path = real_data / "pick_folders_10017" / LAYOUTS[name]
    result = verified([path], tmp_path / "out", 300, **PIXELS)
    assert 0 < result.rejected < ROWS[name]


@pytest.mark.real_data
@pytest.mark.parametrize("form", WRITABLE)
def test_picks_in_tomograms(real_data, tmp_path, form):
    path = real_data / "tomo_forms_chemoreceptor" / WRITABLE[form]
    own = form in ("m", "matching", "copick", "tardis")
    verified([path], tmp_path / "out", 60, **({} if own else PIXELS))


def test_annotations_bring_their_table_of_tomograms(tmp_path):
    folder = project(tmp_path / "project")
    verified([folder], tmp_path / "out", 13.1)
    assert "annotations_tomograms.star" in tree(tmp_path / "out/particles_kept")


def test_a_run_that_rejects_nothing_has_empty_files(tmp_path):
    put(tmp_path, "picks/a.box", BOX)
    put(tmp_path, "picks/b.box", BOX)
    verified([tmp_path / "picks"], tmp_path / "out", 1, **PIXELS)
    assert tree(tmp_path / "out/particles_rejected") == {"picks/a.box": b"", "picks/b.box": b""}


@pytest.mark.slow
@pytest.mark.real_data
def test_picks_in_an_object_store(real_data, there):
    folder = real_data / "pick_folders_10017"
    inputs = [there.put(folder / LAYOUTS["cbox"]), folder / LAYOUTS["autopick"]]
    options = {"prefer_input_order": True, "match_micrographs": "name", **PIXELS}
    result = verified(inputs, there / "out", **options)
    assert result.kept == 2719 + 620


@pytest.mark.slow
@pytest.mark.real_data
def test_picks_on_a_cluster(real_data, tmp_path, cluster):
    folder = real_data / "pick_folders_10017"
    inputs = [folder / LAYOUTS[name] for name in ("cbox", "autopick", "eman2")]
    options = {"prefer_input_order": True, "match_micrographs": "name", **PIXELS}
    result = verified(inputs, tmp_path / "out", client=cluster, **options)
    assert result.kept == 2719 + 620 + 516


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["autopick list", "relion 3.1"])
def test_a_result_with_a_list_can_be_moved(real_data, tmp_path, name):
    path = real_data / "pick_folders_10017" / LAYOUTS[name]
    result = verified([path], tmp_path / "old place", 300, **PIXELS)
    (tmp_path / "old place").rename(tmp_path / "new")
    outcome = dask_dedup.verify(tmp_path / "new")
    assert outcome.verified, [check for check in outcome.checks if not check.passed]
    (written,) = (tmp_path / "new/particles_kept").iterdir()
    assert dask_dedup.formats.open_table(written).rows == result.kept
    # Another file in a row of the list is found.
    (listed,) = [each for each in written.iterdir() if each.suffix == ".star"]
    text = listed.read_text()
    rows = [line for line in text.splitlines() if "job" in line]
    for wrong in (
        text.replace(rows[-1], ""),
        text.replace(rows[-1], rows[-1].replace("35_0", "36_0")),
    ):
        if name != "relion 3.1" and wrong != text:
            listed.write_text(wrong)
            (check,) = [c for c in dask_dedup.verify(tmp_path / "new").checks if c.name == "rows"]
            assert not check.passed, wrong

"""Folders and lists of picks, as crYOLO, topaz, RELION and EMAN write them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import dask_dedup
from dask_dedup.errors import InputError
from dask_dedup.formats import group_files, open_table, read

LAYOUTS = {
    "cbox": "cryolo/CBOX",
    "eman": "cryolo/EMAN",
    "star": "cryolo/STAR",
    "topaz": "topaz/topaz_picks.txt",
    "topaz files": "topaz/per_micrograph",
    "autopick": "relion/AutoPick/job010",
    "autopick list": "relion/AutoPick/job010/autopick.star",
    "autopick files": "relion/AutoPick/job010/Micrographs",
    "manualpick": "relion/ManualPick/job011",
    "relion 3.1": "relion/AutoPick/job013",
    "relion 3.1 list": "relion/AutoPick/job013/coords_suffix_autopick.star",
    "deeppicker": "deeppicker_box",
    "csv": "csv",
    "eman2": "eman2",
    "eman2 info": "eman2/info",
    "cryosparc": "cryosparc_named/topaz_picks.star",
}
ROWS = {
    **{"cbox": 2719, "eman": 2470, "star": 2470},
    **dict.fromkeys(("topaz", "topaz files", "autopick", "autopick list", "autopick files"), 3052),
    **dict.fromkeys(("manualpick", "relion 3.1", "relion 3.1 list", "deeppicker", "csv"), 1363),
    **dict.fromkeys(("eman2", "eman2 info"), 1363),
}
WRITABLE = [name for name in ROWS if not name.startswith("eman2")]


@pytest.fixture
def picks(real_data):
    return real_data / "pick_folders_10017"


def kept(folder, names, output, **options):
    """Return the number of kept picks of each input."""
    options = {"min_separation": 80, "prefer_input_order": True, **options}
    dask_dedup.run(
        [folder / LAYOUTS[name] for name in names],
        output,
        micrograph_pixel_size=1.77,
        match_micrographs="name",
        **options,
    )
    manifest = json.loads((output / "manifest.json").read_text())
    return [entry["kept"] for entry in manifest["totals"]["by_input"]]


def tree(folder):
    """Map the relative path of each file in a folder to its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.real_data
@pytest.mark.parametrize("name", ROWS)
def test_every_layout_has_the_expected_number_of_picks(picks, name):
    table = open_table(picks / LAYOUTS[name])
    assert table.rows == ROWS[name]
    assert table.schema.names[:4] == [
        *("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit")
    ]


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["eman2", "eman2 info"])
def test_positions_of_eman2_are_centres(picks, name):
    """They are those of the boxes of DeepPicker, whose corners are stored, and in the JSON files as they are."""
    columns = ["rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY"]
    table = open_table(picks / LAYOUTS[name])
    rows = [row for part in table.fragments for row in read(table, part, columns).to_pylist()]
    stored, boxes = [], []
    for path in sorted((picks / "eman2/info").iterdir()):
        stem = path.name.removesuffix("_info.json")
        stored += [(stem, x, y) for x, y, _ in json.loads(path.read_text())["boxes"]]
        for line in (picks / f"deeppicker_box/{stem}.box").read_text().splitlines():
            x, y, w, h = map(float, line.split()[:4])
            boxes.append((stem, x + w / 2, y + h / 2))
    found = [(Path(row[columns[0]]).name, row[columns[1]], row[columns[2]]) for row in rows]
    assert found == stored
    assert found == [
        (stem, pytest.approx(x, abs=1), pytest.approx(y, abs=1)) for stem, x, y in boxes
    ]


TOPAZ = ("topaz", "topaz files", "autopick", "autopick list", "autopick files")


PICK = ["rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit"]


@pytest.mark.real_data
@pytest.mark.parametrize("names", [TOPAZ, ("star", "eman"), ("relion 3.1", "relion 3.1 list")])
def test_the_layouts_of_a_picker_have_the_same_picks(picks, names):
    found = []
    for name in names:
        table = open_table(picks / LAYOUTS[name])
        rows = [row for part in table.fragments for row in read(table, part, PICK).to_pylist()]
        stems = [Path(row[PICK[0]]).stem.removesuffix("_autopick") for row in rows]
        numbers = np.array([[row[label] for label in PICK[1:]] for row in rows], dtype=float)
        order = np.lexsort((numbers[:, 1], numbers[:, 0], stems))
        found.append(([stems[row] for row in order], numbers[order]))
    for name, (stems, numbers) in zip(names, found, strict=True):
        assert stems == found[0][0], name
        np.testing.assert_allclose(numbers, found[0][1], rtol=0, atol=1e-6, err_msg=name)


DEEPPICKER = ("manualpick", "relion 3.1 list", "csv", "eman2")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        *((("star", other), [2470, 779]) for other in TOPAZ),
        (("topaz", "eman"), [3052, 184]),
        (("cbox", "topaz"), [2719, 620]),
        (("cbox", "topaz", "deeppicker"), [2719, 620, 516]),
        *((("star", "autopick", other), [2470, 779, 532]) for other in DEEPPICKER),
        (("cryosparc", "star"), [3052, 184]),
        (("cryosparc", "autopick"), [3052, 0]),
    ],
)
def test_picks_of_two_pickers_in_input_order(picks, tmp_path, names, expected):
    assert kept(picks, names, tmp_path / "out") == expected


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("names", "separation", "expected"),
    [
        (("eman", "topaz files"), 100, [165, 3052]),
        (("cbox", "topaz"), 80, [319, 2991]),
        (("cbox", "topaz", "deeppicker"), 100, [264, 2960, 550]),
        (("star", "autopick", "manualpick"), 80, [154, 3052, 561]),
        (("star", "autopick", "relion 3.1"), 100, [137, 3008, 578]),
    ],
)
def test_picks_of_two_pickers_by_score(picks, tmp_path, names, separation, expected):
    options = {"prefer_input_order": False, "min_separation": separation}
    assert kept(picks, names, tmp_path / "out", **options) == expected


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("names", "near"),
    [(("cbox", "topaz"), 4893), (("star", "topaz", "deeppicker"), 5556)],
)
def test_picks_with_any_other_pick_nearby(picks, tmp_path, names, near):
    found = kept(picks, names, tmp_path / "out", prefer_input_order=False, remove_entirely=True)
    assert sum(ROWS[name] for name in names) - sum(found) == near


@pytest.mark.real_data
@pytest.mark.parametrize("name", WRITABLE)
def test_files_without_duplicates_come_back_byte_for_byte(picks, tmp_path, name):
    kept(picks, [name], tmp_path / "out", min_separation=0.0001)
    source = picks / LAYOUTS[name]
    found = tree(tmp_path / "out" / "particles_kept")
    if name == "topaz":
        expected = {f"{source.parent.name}/{source.name}": source.read_bytes()}
    else:
        root = source.parent if source.is_file() else source
        expected = {f"{root.name}/{path}": text for path, text in tree(root).items()}
    lists = [
        path for path in expected if path.endswith(("job010/autopick.star", "manualpick.star"))
    ]
    lists = [path for path in lists if path.count("/") == 1]
    lists += [path for path in expected if "coords_suffix" in path]
    assert found.keys() == expected.keys()
    assert {path for path in found if found[path] != expected[path]} <= set(lists)
    rejected = tree(tmp_path / "out" / "particles_rejected")
    assert rejected.keys() == expected.keys()
    assert sum(map(len, rejected.values())) < sum(map(len, expected.values())) / 2


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["cbox", "eman", "topaz", "autopick list", "manualpick"])
def test_kept_and_rejected_files_have_the_lines_of_the_input(picks, tmp_path, name):
    """With a large separation, every file loses lines; the others stay unchanged and in order."""
    kept(
        picks,
        [name],
        tmp_path / "out",
        min_separation=400,
        prefer_input_order=False,
        score_field="none",
    )
    source = picks / LAYOUTS[name]
    for dataset in ("particles_kept", "particles_rejected"):
        for path, text in tree(tmp_path / "out" / dataset).items():
            if path.count("/") == 1 and path.endswith((f"/{source.name}", "pick.star")):
                continue
            root = source.parent if source.is_file() else source
            original = root.parent / path
            lines = iter(original.read_bytes().splitlines(keepends=True))
            assert all(line in lines for line in text.splitlines(keepends=True)), path
    both = [open_table(tmp_path / "out" / each / _output(source)) for each in _DATASETS]
    assert sum(table.rows for table in both) == ROWS[name]


_DATASETS = ("particles_kept", "particles_rejected")


def _output(source):
    if source.suffix == ".txt":
        return f"{source.parent.name}/{source.name}"
    return source.parent.name if source.is_file() else source.name


@pytest.mark.real_data
def test_a_list_names_the_new_files_from_the_project_folder(picks, tmp_path):
    project = tmp_path / "relion"
    shutil.copytree(picks / "relion", project)
    dask_dedup.run(
        project / "AutoPick/job010",
        project / "merged",
        min_separation=100,
        micrograph_pixel_size=1.77,
    )
    text = (project / "merged/particles_kept/job010/autopick.star").read_text()
    new = "merged/particles_kept/job010/Micrographs/Falcon_2012_06_12-14_33_35_0_autopick.star"
    assert f"MotionCorr/job002/Micrographs/Falcon_2012_06_12-14_33_35_0.mrc {new} \n" in text
    old = (project / "AutoPick/job010/autopick.star").read_text()
    assert text == old.replace(" AutoPick/job010/", " merged/particles_kept/job010/")
    assert (project / new).is_file()
    again = open_table(project / "merged/particles_kept/job010/autopick.star")
    assert 0 < again.rows <= 3052
    assert open_table(project / "merged/particles_kept/job010").rows == again.rows


@pytest.mark.real_data
def test_a_list_outside_the_project_folder_has_absolute_paths(picks, tmp_path):
    kept(picks, ["autopick"], tmp_path / "out")
    listed = tmp_path / "out/particles_kept/job010/autopick.star"
    assert f" {listed.parent}/Micrographs/" in listed.read_text()
    assert open_table(listed).rows == 3052


@pytest.mark.real_data
def test_a_list_of_relion_3_still_names_its_micrographs(picks, tmp_path):
    kept(picks, ["relion 3.1"], tmp_path / "out")
    listed = tmp_path / "out/particles_kept/job013/coords_suffix_autopick.star"
    assert listed.read_text() == f"{picks}/relion/CtfFind/job003/micrographs_ctf.star\n"
    assert open_table(listed).rows == 1363


@pytest.mark.real_data
def test_the_parent_folder_of_cryolo_is_refused(picks):
    with pytest.raises(
        InputError, match=r"several formats \(CBOX, EMAN, STAR\).*CBOX with the scores"
    ):
        open_table(picks / "cryolo")


@pytest.mark.real_data
def test_files_that_a_list_does_not_name_are_left_out(picks, tmp_path):
    project = tmp_path / "relion"
    shutil.copytree(picks / "relion", project)
    folder = project / "AutoPick/job010"
    old = next((folder / "Micrographs").iterdir())
    shutil.copy(old, old.with_name("old_autopick.star"))
    table = open_table(folder)
    assert table.rows == 3052
    assert table.detail.notes == (
        "1 file not in the list ignored (Micrographs/old_autopick.star, ...)",
    )


@pytest.mark.real_data
def test_listed_files_that_are_missing_are_named(picks, tmp_path):
    project = tmp_path / "relion"
    shutil.copytree(picks / "relion", project)
    for path in sorted((project / "AutoPick/job010/Micrographs").iterdir())[1:]:
        path.unlink()
    with pytest.raises(
        InputError, match=r"3 listed files are missing: AutoPick/job010/.*15_17.*15_30"
    ):
        open_table(project / "AutoPick/job010")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cbox", "crYOLO CBOX, 4 micrographs, corners, box 180 px, scores 0.30 to 0.90"),
        ("eman", "EMAN boxes, 4 micrographs, corners, box 180 px, no scores"),
        ("star", "RELION STAR, 4 micrographs, centres, no scores"),
        ("topaz", "topaz, 4 micrographs, centres, scores 0.00 to 7.18"),
        ("eman2", "EMAN2 info, 4 micrographs, centres, no scores, read only"),
    ],
)
def test_an_input_is_described_in_one_line(picks, name, text):
    (entry,) = dask_dedup.inspect([picks / LAYOUTS[name]]).inputs
    assert entry.description == text


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["cbox", "eman", "star", "csv", "autopick files", "eman2 info"])
def test_files_named_one_by_one_are_one_input(picks, name):
    files = sorted((picks / LAYOUTS[name]).iterdir())
    (pattern,) = grouped(files)
    assert open_table(pattern).rows == ROWS[name]
    (some,) = grouped(files[:2])
    assert some == pattern + " (2 files)"
    assert 0 < open_table(some).rows < ROWS[name]
    assert grouped(["a.star", *files, "b.cs"]) == ["a.star", pattern, "b.cs"]


def grouped(paths, names=None):
    return [path for path, _ in group_files(paths, names)]


TABLE = """data_

loop_
_rlnMicrographName
_rlnCoordinateX
_rlnCoordinateY
_rlnAutopickFigureOfMerit
"""


def tables_beside_picks(folder):
    """Write two particle tables with rows and a STAR file that names no micrograph."""
    for name in "ab":
        (folder / f"{name}.star").write_text(TABLE + "mic1 10 20 0.5\nmic1 500 20 0.5\n")
    picks = TABLE.replace("_rlnMicrographName\n", "")
    (folder / "mic1.star").write_text(picks + "10 20 0.5\n")
    return [folder / name for name in ("a.star", "b.star", "mic1.star")]


def test_particle_tables_named_beside_pick_files_are_not_ignored(tmp_path):
    paths = tables_beside_picks(tmp_path)
    assert grouped(paths) == paths
    assert grouped([*paths[:2], paths[2]]) == paths


def test_a_pattern_of_particle_tables_stands_for_each_of_them(tmp_path):
    paths = tables_beside_picks(tmp_path)[:2]
    assert grouped([tmp_path / "[ab].star"]) == [tmp_path / "[ab].star"]
    paths[0].rename(tmp_path / "run1.star")
    paths[1].rename(tmp_path / "run2.star")
    pattern = tmp_path / "run?.star"
    assert grouped([pattern]) == [tmp_path / "run1.star", tmp_path / "run2.star"]
    result = dask_dedup.run([pattern], tmp_path / "out", micrograph_pixel_size=1)
    assert [entry["rejected"] for entry in result.by_input] in ([0, 2], [2, 0])


def test_empty_files_do_not_keep_pick_files_apart(tmp_path):
    paths = tables_beside_picks(tmp_path)[2:]
    for name in ("mic2.star", "mic3.star"):
        (tmp_path / name).write_text("")
    for name in "ab":
        (tmp_path / f"{name}.star").unlink()
    paths += [tmp_path / "mic2.star", tmp_path / "mic3.star"]
    assert grouped(paths) == [str(tmp_path / "*.star")]
    assert grouped([tmp_path / "mic*.star"]) == [tmp_path / "mic*.star"]


@pytest.mark.real_data
def test_files_that_name_their_micrographs_stay_inputs_of_their_own(picks, real_data):
    files = sorted((picks / LAYOUTS["topaz files"]).iterdir())
    assert grouped(files) == files
    tables = sorted((real_data / "cylindra_relion5").glob("*.star"))
    assert grouped(tables) == tables


@pytest.mark.real_data
def test_boxes_below_the_threshold_of_cryolo_are_counted(picks, tmp_path):
    kept(picks, ["cbox", "eman"], tmp_path / "out")
    warnings = json.loads((tmp_path / "out/manifest.json").read_text())["warnings"]
    (warning,) = [each for each in warnings if "confidence" in each]
    assert "249 of 2,719 boxes have a confidence below 0.5" in warning


@pytest.mark.real_data
def test_the_table_of_micrographs_has_the_pixel_size(picks, tmp_path):
    inputs = [picks / LAYOUTS[name] for name in ("star", "autopick")]
    result = dask_dedup.run(
        inputs,
        tmp_path / "out",
        min_separation=80,
        prefer_input_order=True,
        micrographs=picks / "relion/CtfFind/job003/micrographs_ctf.star",
        match_micrographs="name",
    )
    assert result.kept == 2470 + 779
    assert dask_dedup.verify(tmp_path / "out").verified


@pytest.mark.real_data
def test_a_run_of_picks_is_resumed_and_not_repeated(picks, tmp_path):
    first = kept(picks, ["cbox", "topaz"], tmp_path / "out")
    before = tree(tmp_path / "out")
    assert kept(picks, ["cbox", "topaz"], tmp_path / "out") == first
    assert tree(tmp_path / "out") == before


@pytest.mark.real_data
def test_picks_as_parquet_have_the_columns_of_relion(picks, tmp_path):
    kept(picks, ["cbox", "manualpick"], tmp_path / "out", output_format="parquet")
    names = open_table(tmp_path / "out/particles_kept").schema.names
    assert {"rlnCoordinateX", "rlnAutopickFigureOfMerit", "rlnParticleSelectionType"} <= set(names)

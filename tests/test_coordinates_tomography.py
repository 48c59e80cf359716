"""Picks in tomograms: Dynamo, STOPGAP, EM motive lists, copick, Warp, M, pytom, crYOLO, the data portal, IMOD."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from test_coordinates_folders import tree
from test_coordinates_lines import put

import dask_dedup
from dask_dedup.errors import InputError
from dask_dedup.formats import open_table, read

pytestmark = pytest.mark.real_data
CENTRES = ["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]
PIXEL_SIZE = "rlnTomoTiltSeriesPixelSize"


@pytest.fixture
def forms(real_data):
    return real_data / "tomo_forms_chemoreceptor"


def run(inputs, output, separation, **options):
    """Return the number of kept picks of each input."""
    dask_dedup.run(inputs, output, min_separation=separation, **options)
    manifest = json.loads((output / "manifest.json").read_text())
    return [entry["kept"] for entry in manifest["totals"]["by_input"]]


def points(path):
    return positions(open_table(path))


def positions(table):
    rows = [read(table, fragment, CENTRES) for fragment in table.fragments]
    return [tuple(row.values()) for part in rows for row in part.to_pylist()]


REJECTED = {15: (173, 342), 90: (347, 689)}


@pytest.mark.parametrize(
    ("form", "separation"), [("dynamo", 90), ("em", 90), ("stopgap", 90), ("dynamo", 15)]
)
def test_shifts_are_added_to_positions(forms, tmp_path, form, separation):
    path = {
        "dynamo": forms.parent / "dynamo2m_chemoreceptor/dynamo2warp_example.tbl",
        "em": forms / "chemo.em",
        "stopgap": forms / "chemo_stopgap.star",
    }[form]
    rejected, near = REJECTED[separation]
    options = {"micrograph_pixel_size": 15.0}
    (kept,) = run([path], tmp_path / "one", separation, **options)
    assert 4934 - kept == rejected
    (kept,) = run([path], tmp_path / "none", separation, remove_entirely=True, **options)
    assert 4934 - kept == near


def test_numbers_of_tomograms_become_names(forms):
    table = open_table(forms.parent / "dynamo2m_chemoreceptor/dynamo2warp_example.tbl")
    names = read(table, table.fragments[0], ["rlnTomoName"])["rlnTomoName"].unique().to_pylist()
    assert len(names) == 48
    assert names[0].endswith("/tomo_ts01.mrc_15.00Apx.mrc")


def test_one_result_of_template_matching_is_like_its_folder(forms, tmp_path):
    files = sorted((forms / "warp/matching").iterdir())
    options = {"score_field": "rlnAutopickFigureOfMerit:higher"}
    whole = run([forms / "warp/matching"], tmp_path / "folder", 50, **options)
    single = [run([path], tmp_path / path.name, 50, **options) for path in files]
    assert all(dask_dedup.verify(tmp_path / path.name).verified for path in files)
    assert sum(map(sum, single)) == sum(whole)
    assert sum(whole) < open_table(forms / "warp/matching").rows
    assert sum(run(files, tmp_path / "each", 50, **options)) == sum(whole)
    table = forms / "warp/matching_dev39_tomograms.star"
    for name, inputs in (("f", [forms / "warp/matching"]), ("e", files)):
        assert sum(run(inputs, tmp_path / name, 50, micrographs=table, **options)) == sum(whole)
    # Without a table of tomograms near it, the file needs one.
    copy = put(tmp_path, "a/b/c/d/e.star", files[0].read_bytes())
    with pytest.raises(InputError, match="from 0 to 1"):
        run([copy], tmp_path / "alone", 50, **options)
    assert run([copy], tmp_path / "given", 50, micrographs=table, **options) == single[0]


def test_matches_of_warp_without_the_size_of_the_volume_are_refused(forms, tmp_path):
    (path, *_) = sorted((forms / "warp/matching").iterdir())
    copy = put(tmp_path, f"matching/{path.name}", path.read_bytes()).parent
    with pytest.raises(
        InputError, match=r"fractions of the volume \(0 to 1\), and no tomograms\.star"
    ):
        open_table(copy)


COPICK = {7.5: 32, 120: 98}


def picks_of(forms, name):
    return forms / f"copick/ExperimentRuns/*/Picks/{name}_0_chemoreceptor.json"


@pytest.mark.parametrize("separation", COPICK)
def test_copick_adds_the_translation(forms, tmp_path, separation):
    (kept,) = run([picks_of(forms, "dynamo")], tmp_path / "out", separation)
    assert 761 - kept == COPICK[separation]


def test_two_users_of_copick_in_input_order(forms, tmp_path):
    inputs = [picks_of(forms, "dynamo"), picks_of(forms, "warp")]
    assert run(inputs, tmp_path / "out", 60, prefer_input_order=True) == [719, 11]
    kept = tree(tmp_path / "out/particles_kept")
    counts = [len(json.loads(text)["points"]) for path, text in kept.items() if "/dynamo_0" in path]
    assert sum(counts) == 719


def test_a_copick_project_with_two_users_is_refused(forms):
    with pytest.raises(InputError, match=r"2 sets of picks.*\*/\*/\*/dynamo_0_chemoreceptor.json"):
        open_table(forms / "copick")


@pytest.mark.parametrize(("separation", "near"), [(7.5, 64), (120, 204)])
def test_points_of_the_data_portal_are_in_voxels(forms, tmp_path, separation, near):
    (kept,) = run([forms / "portal"], tmp_path / "out", separation, remove_entirely=True)
    assert 761 - kept == near
    assert list(tree(tmp_path / "out/particles_kept")) == ["part-00000.parquet"]


def test_filaments_of_cryolo_in_three_dimensions(real_data, tmp_path):
    path = real_data / "cryolo_boxmanager/example3D_filament.cbox"
    (kept,) = run([path], tmp_path / "out", 0.5, micrograph_pixel_size=1.0)
    assert kept == 1440
    table = open_table(path)
    filaments = read(table, table.fragments[0], ["rlnHelicalTubeID"])["rlnHelicalTubeID"]
    assert len(filaments.unique()) == 95


def test_coords_are_centres(real_data):
    folder = real_data / "cryolo_boxmanager"
    assert len(points(folder / "example.coords")) == 958
    assert open_table(folder / "coords_with_fid.coords").rows == 1505
    assert open_table(folder / "empty.coords").rows == 0
    helix = open_table(folder / "segmented_filament.box")
    tubes = read(helix, helix.fragments[0], ["rlnHelicalTubeID"])["rlnHelicalTubeID"]
    assert tubes.unique().to_pylist() == [1, 3]  # the second helix has no segment


POINTS = [(1, 2, 3), (2, 2, 2), (0, 3, 0)]


def test_positions_of_the_data_portal_fixtures(real_data):
    folder = real_data / "cdp_annotations"
    expected = [(2.8, 5.6, 8.8), (7.2, 6.4, 5.2), (5, 2, -1), (3, 8, 1), (8, 7, 2), (5, 4, 3)]
    assert points(folder / "stopgap_star.star") == pytest.approx(np.array(expected))
    copick = [(40, 20, 30), (0, 50, 10), (30, 15, 92), (30, 10, 50)]
    assert points(folder / "copick.json") == copick
    for name in ("points.csv", "points_tab_delim.csv"):
        table = open_table(folder / name, columns={"x": "1", "y": "2", "z": "3"})
        assert (table.rows, table.detail.tomograms) == (3, True)
        assert positions(table) == POINTS
    for name in ("points_with_header.csv", "points_with_header_pipe_delim.csv", "points.mod"):
        assert points(folder / name) == POINTS
    table = open_table(folder / "tardis.csv")
    assert PIXEL_SIZE in table.schema.names
    tardis = [(4, 8, 12), (4, 4, 4), (6, 4, 2), (0, 6, 0), (8, 4, 2), (3, 2, 1)]
    assert positions(table) == tardis


def contours(path):
    """Return the points of all contours of an IMOD model: big-endian, after four integers, the first their number."""
    text, found = path.read_bytes(), []
    for start in [match.end() for match in re.finditer(b"CONT", text)]:
        (count,) = struct.unpack_from(">i", text, start)
        values = struct.unpack_from(f">{3 * count}f", text, start + 16)
        found += [values[3 * n : 3 * n + 3] for n in range(count)]
    return found


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("imodmodel/two_contour_example.mod", 25, (64.33333587646484, 64.66666412353516, 80)),
        ("imodmodel/multiple_objects_example.mod", 6, (367.0000610351562, 661.8334350585938, 134)),
        ("imodmodel/point_sizes_example.mod", 18, (438.5, 898.5, 46.000003814697266)),
        ("imodmodel/slicer_angle_example.mod", 4, (235.4215850830, 682.9124755859, 301.9546813964)),
        ("cdp_annotations/oriented_points.mod", 4, (235.42158508, 682.91247558, 301.95468139)),
    ],
)
def test_points_of_imod_models(real_data, name, count, first):
    found = points(real_data / name)
    assert len(found) == count
    assert found == contours(real_data / name)
    assert found[0] == pytest.approx(first)


def test_peaks_of_pytom_are_in_voxels_of_their_pixel_size(real_data, tmp_path):
    path = real_data / "napari_starfile/example_particles.star"
    copy = put(tmp_path, "peaks/MMM_08_ts_002_particles.star", path.read_bytes())
    table = open_table(copy.parent)
    assert table.rows == 4815
    assert read(table, table.fragments[0], [PIXEL_SIZE])[0][0].as_py() == 20.712
    (kept,) = run([copy.parent], tmp_path / "out", 80)
    assert kept == 4815
    refined = real_data / "napari_starfile/example_particles_with_optics.star"
    inputs = [refined, copy.parent]
    options = {
        "micrograph_pixel_size": {str(refined): 4.0},
        "prefer_input_order": True,
        "score_field": "none",
    }
    assert run(inputs, tmp_path / "two", 50, **options) == [126, 4690]


WRITABLE = {
    "dynamo": "../dynamo2m_chemoreceptor/dynamo2warp_example.tbl",
    "stopgap": "chemo_stopgap.star",
    "matching": "warp/matching",
    "copick": "copick/ExperimentRuns/*/Picks/dynamo_0_chemoreceptor.json",
    "cbox": "../cryolo_boxmanager/example3D_filament.cbox",
    "coords": "../cryolo_boxmanager/example.coords",
    "helix": "../cryolo_boxmanager/segmented_filament.box",
    "tardis": "../cdp_annotations/tardis.csv",
    "pipes": "../cdp_annotations/points_with_header_pipe_delim.csv",
}


def without_duplicates(text):
    """Return a CBOX file without the boxes whose position an earlier box has."""
    lines, seen = [], set()
    for line in text.splitlines(keepends=True):
        box = tuple(line.split()[:6]) if len(line.split()) > 10 else line
        if box not in seen or box == line:
            lines.append(line)
        seen.add(box)
    return b"".join(lines)


@pytest.mark.parametrize("form", WRITABLE)
def test_files_without_duplicates_come_back_byte_for_byte(forms, tmp_path, form):
    path = forms / WRITABLE[form]
    if form == "cbox":
        path = put(tmp_path, f"picks/{path.name}", without_duplicates(path.read_bytes()))
    known = form in ("matching", "copick", "tardis")
    options = {} if known else {"micrograph_pixel_size": 15.0}
    separation = 1e-9 if form == "helix" else 0.0001
    (kept,) = run([path], tmp_path / "out", separation, **options)
    assert kept == open_table(path).rows
    root = Path(str(path).split("/*")[0])
    found = tree(tmp_path / "out/particles_kept")
    file = f"{root.resolve().parent.name}/{root.name}"
    expected = {file: root.read_bytes()} if root.is_file() else {}
    if root.is_dir():
        expected = {f"{root.name}/{name}": text for name, text in tree(root).items()}
        expected = {name: text for name, text in expected.items() if "/warp_0" not in name}
    companions = {"dynamo": ".doc", "matching": "_tomograms.star"}
    if form in companions:
        output = file if root.is_file() else root.name
        found.pop(output.removesuffix(".tbl") + companions[form])
    assert found == expected


def star(labels, *rows, block=""):
    lines = [
        "",
        f"data_{block}",
        "",
        "loop_",
        *(f"_{label} #{n}" for n, label in enumerate(labels, 1)),
    ]
    return "\n".join([*lines, *(" ".join(map(str, row)) for row in rows), ""]).encode()


COORDINATES = ("rlnTomoName", *CENTRES)


def project(folder):
    """Make a RELION 5 project with annotations of two tomograms, in which two picks are 13 A apart."""
    for number in (1, 2):
        rows = [
            (f"TS_0{number}", 10, 20, 30),
            (f"TS_0{number}", 11, 20, 30),
            (f"TS_0{number}", 50, 20, 30),
        ]
        put(
            folder,
            f"Picks/job010/annotations/TS_0{number}_particles.star",
            star(COORDINATES, *rows),
        )
    tomograms = ("rlnTomoName", PIXEL_SIZE, "rlnTomoTomogramBinning")
    rows = [("TS_01", 1.3, 10), ("TS_02", 1.3, 10)]
    put(folder, "Tomograms/job009/tomograms.star", star(tomograms, *rows, block="global"))
    text = "data_\n\n_rlnTomoTomogramsFile Tomograms/job009/tomograms.star\n"
    put(folder, "Picks/job010/optimisation_set.star", text.encode())
    return folder / "Picks/job010/annotations"


def test_annotations_of_relion_are_in_binned_pixels(tmp_path):
    folder = project(tmp_path)
    assert run([folder], tmp_path / "near", 12.9) == [6]
    assert run([folder], tmp_path / "far", 13.1) == [4]
    assert run([folder / "TS_01_particles.star"], tmp_path / "one", 13.1) == [2]
    kept = tree(tmp_path / "near/particles_kept")
    tomograms = kept.pop("annotations_tomograms.star")
    assert tomograms == (tmp_path / "Tomograms/job009/tomograms.star").read_bytes()
    assert kept == {f"annotations/{name}": text for name, text in tree(folder).items()}


def test_annotations_without_the_table_of_tomograms_need_a_pixel_size(tmp_path):
    folder = project(tmp_path)
    (tmp_path / "Tomograms/job009/tomograms.star").unlink()
    with pytest.raises(InputError, match="annotations are in pixels of the binned tomogram"):
        run([folder], tmp_path / "out", 13.1)
    assert run([folder], tmp_path / "out", 13.1, coordinate_pixel_size=13.0) == [4]


def test_a_list_of_tomograms_names_its_files(tmp_path):
    rows = [(10, 20, 30), (11, 20, 30), (50, 20, 30)]
    put(tmp_path, "coords/a.star", star(CENTRES, *rows))
    put(tmp_path, "coords/b.txt", b"1 2 3\n1 2 3\n")
    names = ("rlnTomoName", "rlnTomoImportParticleFile")
    text = put(
        tmp_path, "text.star", star(names, ("TS_02", "coords/b.txt"), ("TS_03", "coords/c.txt"))
    )
    put(tmp_path, "coords/c.txt", b"1 2 3 90 0 0\n")
    assert points(text) == [(1, 2, 3)] * 3
    listed = put(tmp_path, "import.star", star(names, ("TS_01", "coords/a.star")))
    table = open_table(listed)
    assert (
        read(table, table.fragments[0], ["rlnTomoName"])["rlnTomoName"].to_pylist() == ["TS_01"] * 3
    )
    assert run([listed], tmp_path / "out", 1.5, micrograph_pixel_size=1.0) == [2]
    new = (tmp_path / "out/particles_kept" / tmp_path.name / "import.star").read_text()
    assert f"TS_01 out/particles_kept/{tmp_path.name}/coords/a.star\n" in new


@pytest.mark.parametrize(
    "text",
    [
        "data_\n\n_rlnTomoParticlesFile   Refine/particles.star\n_rlnTomoTomogramsFile Tomograms/t.star\n",
        "data_optimisation_set\n\nloop_\n_rlnTomoParticlesFile #1\n_rlnTomoTomogramsFile #2\n"
        "Refine/particles.star Tomograms/t.star\n",
        '# set\n\ndata_\n\n_rlnTomoParticlesFile Refine/particles.star\n_rlnTomoTrajectoriesFile ""\n',
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_an_optimisation_set_gets_new_sets(tmp_path, text, inside):
    folder = tmp_path / "relion"
    rows = [("TS_01", 10, 20, 30), ("TS_01", 11, 20, 30), ("TS_01", 50, 20, 30)]
    put(folder, "Refine/particles.star", star(COORDINATES, *rows, block="particles"))
    put(folder, "Tomograms/t.star", b"data_global\n")
    path = put(folder, "Refine/optimisation_set.star", text.encode())
    output = (folder if inside else tmp_path) / "out"
    options = {"micrograph_pixel_size": 1.0, "score_field": "none"}
    assert run([path], output, 1.5, **options) == [2]
    for dataset, count in (("particles_kept", 2), ("particles_rejected", 1)):
        new = (output / dataset / "optimisation_set.star").read_text()
        base = f"out/{dataset}" if inside else f"{output}/{dataset}"
        expected = text.replace("Refine/particles.star", f"{base}/particles.star")
        if not inside:
            expected = expected.replace("Tomograms/", f"{folder}/Tomograms/")
        assert new == expected
        assert open_table(output / dataset / "optimisation_set.star").rows == count
    assert dask_dedup.verify(output).verified
    output.rename(tmp_path / "moved")
    assert dask_dedup.verify(tmp_path / "moved").verified


def test_a_set_of_warp_has_absolute_paths(forms, tmp_path):
    path = forms / "warp/matching_dev39_optimisation_set.star"
    (kept,) = run([path], tmp_path / "out", 50, score_field="none", remove_entirely=True)
    assert 1399 - kept == 85
    new = (tmp_path / "out/particles_kept" / path.name).read_text()
    assert f"_rlnTomoParticlesFile   {tmp_path}/out/particles_kept/matching_dev39.star\n" in new
    assert f"_rlnTomoTomogramsFile   {path.parent}/matching_dev39_tomograms.star\n" in new


TOMOGRAMS = """
data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoTomogramBinning #3
"""


@pytest.mark.parametrize(
    "form", ["annotations", "annotations alone", "pytom", "pytom file", "csv", "copick"]
)
def test_pixel_size_of_positions_is_used_also_with_a_table_of_tomograms(tmp_path, form):
    tables = TOMOGRAMS + "a 2 5\n"  # pixels of 2 A, tomograms of 10 A
    table = put(tmp_path, "job/tomograms.star", tables.encode())
    rows = [(10, 10, 10), (13, 10, 10), (100, 10, 10), (106, 10, 10)]  # 30 A and 60 A apart
    star = "data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnTomoName\n"
    text = "".join(f"{x} {y} {z} a\n" for x, y, z in rows)
    if form.startswith("annotations"):
        folder = "job/Picks" if form == "annotations" else "alone/Picks"
        path = put(tmp_path, f"{folder}/annotations/a_particles.star", (star + text).encode())
        path = path.parent
    elif form.startswith("pytom"):
        text = "".join(f"{x} {y} {z} a 0.5 10\n" for x, y, z in rows)
        content = f"{star}_rlnLCCmax\n_rlnDetectorPixelSize\n{text}"
        path = put(tmp_path, "pytom/a_particles.star", content.encode())
        path = path if form == "pytom file" else path.parent
    elif form == "csv":
        text = "".join(f"a,{10 * x},{10 * y},{10 * z}\n" for x, y, z in rows)
        path = put(tmp_path, "a.csv", f"tomogram,X [A],Y [A],Z [A]\n{text}".encode())
    else:
        points = [{"location": {"x": 10 * x, "y": 10 * y, "z": 10 * z}} for x, y, z in rows]
        picks = {"pickable_object_name": "p", "run_name": "a", "points": points}
        path = put(tmp_path, "a.json", json.dumps(picks).encode())
    for separation, kept in ((29, 4), (31, 3)):
        output = tmp_path / f"out{separation}"
        options = {"score_field": "none", "micrographs": table}
        assert run([path], output, separation, **options) == [kept]
    assert dask_dedup.verify(output).verified

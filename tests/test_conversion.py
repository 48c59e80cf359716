"""One STAR file, or one coordinate file per micrograph, for the picks of all inputs."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from test_coordinates_folders import LAYOUTS, tree
from test_coordinates_lines import put

import dask_dedup
from dask_dedup.cli import main
from dask_dedup.errors import InputError
from dask_dedup.formats import open_table
from dask_dedup.simulation import simulate_pickers

OPTICS = (
    *("rlnOpticsGroupName", "rlnOpticsGroup", "rlnVoltage", "rlnSphericalAberration"),
    *("rlnAmplitudeContrast", "rlnMicrographPixelSize"),
)
GROUP = "opticsGroup1 1 300.000000 2.700000 0.100000 2.0"
MICROGRAPHS = [f"MotionCorr/job002/Micrographs/{name}.mrc" for name in "abc"]


def table(block, labels, rows):
    lines = ["", f"data_{block}", "", "loop_"]
    lines += [f"_{label} #{number}" for number, label in enumerate(labels, 1)]
    return "\n".join([*lines, *rows, "", ""])


def star(folder, name, labels, rows, groups=(GROUP,), optics=OPTICS, block="particles"):
    text = "\n# version 30001\n" + table("optics", optics, groups) + table(block, labels, rows)
    return put(folder, name, text.encode())


def micrographs(folder):
    rows = [f"{name} 1" for name in MICROGRAPHS]
    return star(
        folder,
        "micrographs.star",
        ("rlnMicrographName", "rlnOpticsGroup"),
        rows,
        block="micrographs",
    )


def rows_of(path, block="particles"):
    """Return the labels and the rows of a table, read without the package."""
    labels, rows, inside = [], [], False
    for line in path.read_text().splitlines():
        if line.startswith("data_"):
            inside = line == f"data_{block}"
        elif inside and line.startswith("_"):
            labels.append(line[1:].split()[0])
        elif inside and line.strip() and not line.startswith(("loop_", "#")):
            rows.append(line.split())
    return labels, rows


def columns_of(path, *names, block="particles"):
    labels, rows = rows_of(path, block)
    return [tuple(row[labels.index(name)] for name in names) for row in rows]


def run(inputs, output, form="star", separation=20, **options):
    result = dask_dedup.run(
        inputs, output, min_separation=separation, output_format=form, **options
    )
    outcome = dask_dedup.verify(output)
    assert outcome.verified, [check for check in outcome.checks if not check.passed]
    return result


LABELS = (
    *("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit"),
    "rlnOpticsGroup",
)


def test_two_particle_tables_become_one(tmp_path):
    one = star(
        tmp_path, "one/particles.star", (*LABELS, "rlnClassNumber"),
        ["m1.mrc 100.000 200.50 0.30 1 4", "m1.mrc 300.000 200.50 0.10 1 4"],
    )  # fmt: skip
    two = star(
        tmp_path, "two/particles.star", ("rlnAngleRot", *LABELS),
        ["12.5 m1.mrc 301.000 200.50 0.90 2", '7 "my mic.mrc" 1e2 5 0.20 1'],
        groups=[
            "opticsGroup1 1 300.0 2.70 0.1 2.000",
            "opticsGroup2 2 200.000000 2.7 0.1 2.0",
        ],
    )  # fmt: skip
    result = run([one, two], tmp_path / "out")
    kept = tmp_path / "out/particles_kept/particles.star"
    assert sorted(tree(tmp_path / "out/particles_kept")) == ["particles.star"]
    assert kept.read_text().count("\nm1.mrc") == 2
    labels, rows = rows_of(kept)
    assert labels == list(LABELS)
    assert rows == [
        ["m1.mrc", "100.000", "200.50", "0.30", "1"],
        ["m1.mrc", "301.000", "200.50", "0.90", "2"],
        ['"my', 'mic.mrc"', "1e2", "5", "0.20", "1"],
    ]
    rejected = tmp_path / "out/particles_rejected/particles.star"
    assert rows_of(rejected)[1] == [["m1.mrc", "300.000", "200.50", "0.10", "1"]]
    for path in (kept, rejected):
        groups = columns_of(
            path, "rlnOpticsGroup", "rlnOpticsGroupName", "rlnVoltage", block="optics"
        )
        assert groups == [("1", "opticsGroup1", "300.000000"), ("2", "opticsGroup2", "200.000000")]
    assert any("Left out: rlnClassNumber, rlnAngleRot." in each for each in result.warnings)


def test_optics_groups_of_one_name_and_other_values_are_kept_apart(tmp_path):
    other = GROUP.replace("300", "200")
    one = star(tmp_path, "one.star", LABELS, ["m1.mrc 11 1 0.5 1"])
    two = star(tmp_path, "two.star", LABELS, ["m1.mrc 900 1 0.5 1"], groups=[other])
    run([one, two], tmp_path / "out")
    kept = tmp_path / "out/particles_kept/particles.star"
    names = columns_of(kept, "rlnOpticsGroup", "rlnOpticsGroupName", "rlnVoltage", block="optics")
    assert names == [("1", "opticsGroup1", "300.000000"), ("2", "opticsGroup1_2", "200.000000")]
    assert columns_of(kept, "rlnCoordinateX", "rlnOpticsGroup") == [("11", "1"), ("900", "2")]


def test_a_pixel_size_from_an_option_is_written(tmp_path):
    optics = (*OPTICS[:5], "rlnImagePixelSize")
    one = star(tmp_path, "one.star", LABELS, ["m1.mrc 11 1 0.5 1"])
    two = star(tmp_path, "two.star", LABELS, ["m1.mrc 900 1 0.5 1"], optics=optics)
    sizes = {str(two): 2.0}
    run([one, two], tmp_path / "out", micrograph_pixel_size=sizes)
    kept = tmp_path / "out/particles_kept/particles.star"
    found = columns_of(kept, "rlnMicrographPixelSize", block="optics")
    assert {float(size) for (size,) in found} == {2.0}
    assert run([kept], tmp_path / "again", "native").kept == 2


def random_tables(folder, seed):
    """Write two tables in which many particles are near each other, with shifts and two optics groups."""
    random = np.random.default_rng(seed)
    labels = (*LABELS, "rlnOriginXAngst", "rlnOriginYAngst", "rlnHelicalTubeID", "rlnComment")
    paths = []
    for name, voltage in (("one", "200"), ("two", "100")):
        rows = [
            f"m{random.integers(3)}.mrc {x:.3f} {y:.2f} {score:g} {random.integers(1, 3)} "
            f"{dx:.4f} {dy:.1e} {random.integers(1, 4)} 'a b{random.integers(9)}'"
            for x, y, score, dx, dy in random.uniform(0, 300, (200, 5))
        ]
        other = GROUP.replace("opticsGroup1 1 300", f"opticsGroup2 2 {voltage}")
        groups = [GROUP, other]
        paths.append(star(folder, f"{name}/particles.star", labels, rows, groups))
    return paths


def test_merged_rows_are_those_of_the_separate_files(tmp_path):
    inputs = random_tables(tmp_path, 0)
    run(inputs, tmp_path / "apart", "native", 30)
    run(inputs, tmp_path / "out", "star", 30)
    for dataset in ("particles_kept", "particles_rejected"):
        parts = [
            tmp_path / "apart" / dataset / name
            for name in ("particles.star", "input-2/particles.star")
        ]
        voltages = []
        expected = []
        for path in parts:
            labels, rows = rows_of(path)
            group, tube = labels.index("rlnOpticsGroup"), labels.index("rlnHelicalTubeID")
            by_number = dict(columns_of(path, "rlnOpticsGroup", "rlnVoltage", block="optics"))
            voltages += [by_number[row[group]] for row in rows]
            shift = 0 if path == parts[0] else 3
            expected += [
                [
                    str(int(value) + shift) if number == tube else value.replace("'", '"')
                    for number, value in enumerate(row)
                    if number != group
                ]
                for row in rows
            ]
        merged = tmp_path / "out" / dataset / "particles.star"
        _, rows = rows_of(merged)
        assert [row[:-1] for row in rows] == expected
        by_number = dict(columns_of(merged, "rlnOpticsGroup", "rlnVoltage", block="optics"))
        assert [by_number[row[-1]] for row in rows] == voltages


def test_a_changed_particle_table_is_found(tmp_path):
    run(random_tables(tmp_path, 5), tmp_path / "out", "star", 30)
    path = tmp_path / "out/particles_kept/particles.star"
    text = path.read_text()
    for old, new in (
        ("opticsGroup2 200.000000", "opticsGroup2 210.000000"),
        ("_rlnVoltage", "_rlnVoltages"),
        (" 4 ", " 2 "),
        ("m1.mrc", "m2.mrc"),
        ('"a b', '"a c'),
        ("_rlnComment", "_rlnRemark"),
    ):
        assert old in text
        path.write_text(text.replace(old, new, 1))
        rows = {check.name: check.passed for check in dask_dedup.verify(tmp_path / "out").checks}
        assert rows["rows"] is False, (old, new)


@pytest.mark.parametrize("form", ["star", "relion-coordinates"])
def test_picks_without_a_known_centre_are_not_kept(tmp_path, form):
    """The micrograph x.mrc is not in the table, which has the pixel sizes."""
    put(tmp_path, "EMAN/x.box", BOX)
    put(tmp_path, "EMAN/a.box", BOX)
    options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
    with pytest.raises(
        InputError, match=r"EMAN: 2 rows that cannot be compared .*invalid='reject'"
    ):
        run([tmp_path / "EMAN"], tmp_path / "out", form, invalid="keep", **options)


@pytest.mark.parametrize("in_table", [True, False], ids=["with a table", "without"])
def test_coordinate_files_of_micrographs_matched_by_uid_are_verified(tmp_path, in_table):
    """The names are in the micrograph table, or else in the column with the paths of micrographs."""
    pickers = simulate_pickers(tmp_path / "picks", particles=600, micrographs=4)
    options = {"micrographs": tmp_path / "picks/micrographs.parquet"} if in_table else {}
    output = tmp_path / "out"
    run(pickers, output, "relion-coordinates", **options)
    first, second = sorted((output / "particles_kept").rglob("*_autopick.star"))[:2]
    texts = first.read_text(), second.read_text()
    first.write_text(texts[1])
    second.write_text(texts[0])
    rows = {check.name: check.passed for check in dask_dedup.verify(output).checks}
    assert rows["rows"] is False


def test_a_row_with_an_unknown_optics_group_is_named(tmp_path):
    path = star(tmp_path, "one.star", LABELS, ["m1.mrc 11 1 0.5 1", "m1.mrc 99 1 0.5 7"])
    with pytest.raises(dask_dedup.DedupError, match=r"one.star: row 1 .*optics group 7"):
        run([path], tmp_path / "out")


def test_tubes_of_two_inputs_have_different_ids(tmp_path):
    labels = (*LABELS, "rlnHelicalTubeID")
    one = star(tmp_path, "one.star", labels, ["m1.mrc 1 1 0.5 1 1", "m1.mrc 99 1 0.5 1 3"])
    two = star(tmp_path, "two.star", labels, ["m1.mrc 900 1 0.5 1 1", "m2.mrc 9 1 0.5 1 2"])
    run([one, two], tmp_path / "out")
    kept = tmp_path / "out/particles_kept/particles.star"
    assert columns_of(kept, "rlnHelicalTubeID") == [("1",), ("3",), ("4",), ("5",)]


def test_an_input_without_shifts_gets_zeros(tmp_path):
    labels = (*LABELS, "rlnOriginXAngst", "rlnOriginYAngst")
    one = star(tmp_path, "one.star", labels, ["m1.mrc 100 100 0.5 1 -8.0 2.5"])
    two = star(tmp_path, "two.star", LABELS, ["m1.mrc 100 100 0.4 1"])
    run([one, two], tmp_path / "out", separation=5)
    kept = tmp_path / "out/particles_kept/particles.star"
    shifts = columns_of(kept, "rlnOriginXAngst", "rlnOriginYAngst")
    assert shifts == [("-8.0", "2.5"), ("0.000000", "0.000000")]


@pytest.mark.parametrize(
    ("optics", "group", "missing"),
    [
        (OPTICS[:2] + OPTICS[3:], "g 1 2.7 0.1 2.0", "rlnVoltage"),
        (OPTICS[:3] + OPTICS[4:], "g 1 300 0.1 2.0", "rlnSphericalAberration"),
        (OPTICS[:2] + OPTICS[5:], "g 1 2.0", "rlnVoltage, rlnSphericalAberration"),
    ],
)
def test_optics_groups_that_relion_cannot_read_are_refused(tmp_path, optics, group, missing):
    one = star(tmp_path, "one.star", LABELS, ["m1.mrc 11 1 0.5 1"], groups=[group], optics=optics)
    with pytest.raises(
        InputError, match=rf"one.star: its optics groups lack {missing}.*data_optics"
    ):
        run([one], tmp_path / "out")
    assert not (tmp_path / "out").exists()


BOX = b"90\t90\t20\t20\n490\t490\t20\t20\n"
TOPAZ = b"image_name\tx_coord\ty_coord\tscore\na\t103\t100\t3.25\nb\t900\t20\t-1.5\n"


def pickers(folder):
    put(folder, "EMAN/a.box", BOX)
    put(folder, "EMAN/c.box", b"")
    return [folder / "EMAN", put(folder, "topaz/picks.txt", TOPAZ)]


def test_pick_files_need_a_table_with_optics(tmp_path):
    with pytest.raises(InputError, match=r"EMAN: has no optics .*micrographs"):
        run(pickers(tmp_path), tmp_path / "out", micrograph_pixel_size=2.0)


def test_pick_files_with_optics_of_the_micrographs(tmp_path):
    options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
    run(pickers(tmp_path), tmp_path / "out", prefer_input_order=True, **options)
    kept = tmp_path / "out/particles_kept/particles.star"
    assert columns_of(kept, *LABELS) == [
        (MICROGRAPHS[0], "100.000000", "100.000000", "-999.000000", "1"),
        (MICROGRAPHS[0], "500.000000", "500.000000", "-999.000000", "1"),
        (MICROGRAPHS[1], "900", "20", "-1.5", "1"),
    ]
    # The result is an input: RELION's Extract and this package read it.
    again = run([kept], tmp_path / "again", "native")
    assert again.kept == 3


@pytest.mark.parametrize("invalid", ["reject", "keep"])
def test_a_micrograph_without_optics_is_refused_before_anything_is_written(tmp_path, invalid):
    inputs = pickers(tmp_path)
    put(tmp_path, "EMAN/z.box", BOX)
    options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
    wrong = r"EMAN: 1 micrograph is not in .*micrographs.star \(first: z\).* Add them|cannot be compared would be kept"
    with pytest.raises(InputError, match=wrong):
        run(inputs, tmp_path / "out", invalid=invalid, **options)
    assert not (tmp_path / "out").exists()
    run(inputs, tmp_path / "native", "native", invalid=invalid, **options)


def duplicated_names(folder, *names):
    """Write two tables of tomograms whose particles have these names."""
    labels = ("rlnTomoName", *(f"rlnCoordinate{axis}" for axis in "XYZ"), "rlnTomoParticleName")
    labels += ("rlnAutopickFigureOfMerit", "rlnOpticsGroup")
    rows = [
        f"TS_1 {100 * n} {100 * m} 10 {name} 0.5 1"
        for m, part in enumerate(names, 1)
        for n, name in enumerate(part, 1)
    ]
    half = len(names[0])
    return [
        star(folder, "a.star", labels, rows[:half]),
        star(folder, "b.star", labels, rows[half:]),
    ]


@pytest.mark.parametrize(
    ("names", "repeated"),
    [
        ((["TS_1/1", "TS_1/2"], ["TS_1/3"]), 0),
        ((["TS_1/1", "TS_1/2", "TS_1/3"], ["TS_1/2", "TS_1/1", "TS_1/4"]), 2),
        ((["TS_1/1", "TS_1/1"], ["TS_1/1"]), 1),
    ],
)
def test_names_of_particles_in_two_inputs_are_warned_about(tmp_path, names, repeated):
    inputs = duplicated_names(tmp_path, *names)
    result = run(inputs, tmp_path / "out", micrograph_pixel_size=2.0)
    found = [line for line in result.warnings if "rlnTomoParticleName" in line]
    assert len(found) == bool(repeated)
    if repeated:
        assert f"{repeated} value" in found[0]


@pytest.mark.parametrize("listed", [True, False])
def test_coordinate_files_of_two_pickers(tmp_path, listed):
    (tmp_path / "default_pipeline.star").touch()
    options = {"micrographs": micrographs(tmp_path)} if listed else {"micrograph_pixel_size": 2.0}
    output = tmp_path / "External/job005/merged"
    run(
        pickers(tmp_path), output, "relion-coordinates",
        prefer_input_order=True, match_micrographs="name", **options,
    )  # fmt: skip
    found = tree(output / "particles_kept")
    inside = "Micrographs/" if listed else ""
    name = MICROGRAPHS[0] if listed else "a"
    lists = {"autopick.star", "coords_suffix_autopick.star"} if listed else {"autopick.star"}
    assert set(found) == lists | {f"{inside}a_autopick.star", f"{inside}b_autopick.star"}
    text = found[f"{inside}a_autopick.star"].decode()
    assert text.split() == [
        *("data_", "loop_", "_rlnCoordinateX", "#1", "_rlnCoordinateY", "#2"),
        *("_rlnAutopickFigureOfMerit", "#3", "_rlnClassNumber", "#4", "_rlnAnglePsi", "#5"),
        *("100.000000", "100.000000", "-999.000000", "-999", "-999.000000"),
        *("500.000000", "500.000000", "-999.000000", "-999", "-999.000000"),
    ]
    listing = columns_of(
        output / "particles_kept/autopick.star",
        *("rlnMicrographName", "rlnMicrographCoordinates"),
        block="coordinate_files",
    )
    path = f"External/job005/merged/particles_kept/{inside}a_autopick.star"
    assert listing[0] == (name, path)
    if listed:
        assert found["coords_suffix_autopick.star"] == b"micrographs.star\n"
        again = open_table(output / "particles_kept/coords_suffix_autopick.star")
        assert again.rows == 3
    assert open_table(output / "particles_kept").rows == 3
    assert open_table(output / "particles_rejected").rows == 1


def test_paths_are_absolute_outside_of_a_project(tmp_path):
    options = {"micrograph_pixel_size": 2.0, "match_micrographs": "name"}
    run(pickers(tmp_path), tmp_path / "out", "relion-coordinates", **options)
    listing = columns_of(
        tmp_path / "out/particles_kept/autopick.star",
        "rlnMicrographCoordinates",
        block="coordinate_files",
    )
    assert listing == [(f"{tmp_path}/out/particles_kept/{name}_autopick.star",) for name in "ab"]


def test_shifts_are_applied_in_coordinate_files(tmp_path):
    labels = (*LABELS, "rlnOriginXAngst", "rlnOriginYAngst")
    one = star(
        tmp_path, "one.star", labels, ["m1.mrc 100 100 0.5 1 -8.0 2.5", "m1.mrc 7.50 9 1 1 0 0"]
    )
    run([one], tmp_path / "out", "relion-coordinates", separation=5)
    path = tmp_path / "out/particles_kept/m1_autopick.star"
    found = columns_of(path, "rlnCoordinateX", "rlnCoordinateY", block="")
    assert found == [("104.000000", "98.750000"), ("7.50", "9")]


def test_coordinates_of_binned_micrographs_are_converted(tmp_path):
    options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
    folder, topaz = pickers(tmp_path)
    run(
        [folder, topaz], tmp_path / "out", "relion-coordinates",
        coordinate_pixel_size={str(topaz): 8.0}, **options,
    )  # fmt: skip
    path = tmp_path / "out/particles_kept/Micrographs/b_autopick.star"
    found = columns_of(path, "rlnCoordinateX", "rlnCoordinateY", block="")
    assert found == [("3600.000000", "80.000000")]


def test_micrographs_of_two_pixel_sizes_need_a_table(tmp_path):
    folder, topaz = pickers(tmp_path)
    sizes = {str(folder): 2.0, str(topaz): 4.0}
    with pytest.raises(InputError, match=r"pixel sizes.*EMAN 2 A.*picks.txt 4 A.*micrographs"):
        run(
            [folder, topaz], tmp_path / "out", "relion-coordinates",
            micrograph_pixel_size=sizes, match_micrographs="name",
        )  # fmt: skip


@pytest.mark.parametrize("form", ["star", "relion-coordinates"])
def test_stored_coordinates_cannot_be_converted(tmp_path, form):
    with pytest.raises(InputError, match="separation 0"):
        run(pickers(tmp_path), tmp_path / "out", form, separation=0)


@pytest.mark.parametrize("form", ["star", "relion-coordinates"])
def test_a_changed_value_is_found(tmp_path, form):
    options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
    run(pickers(tmp_path), tmp_path / "out", form, **options)
    name = "particles.star" if form == "star" else "Micrographs/a_autopick.star"
    path = tmp_path / "out/particles_kept" / name
    original = path.read_text()
    changes = [("500.000000", "500.100000"), ("3.25", "3.26"), ("500.000000 500", "103.000000 100")]
    changes += [(" 1\n", " 9\n")] if form == "star" else []
    for old, new in changes:
        assert old in original
        path.write_text(original.replace(old, new, 1))
        rows = {check.name: check.passed for check in dask_dedup.verify(tmp_path / "out").checks}
        assert rows["rows"] is False, (old, new)


PICKS = (
    *("rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit", "rlnClassNumber"),
    *("rlnAnglePsi", "rlnParticleSelectionType"),
)


@pytest.mark.parametrize("form", ["star", "relion-coordinates"])
def test_a_changed_value_of_any_column_is_found(tmp_path, form):
    rows = ["100 100 0.5 3 45.5 2", "500 500 <NA> 4 -60.25 6"]
    put(tmp_path, "AutoPick/a_autopick.star", table("", PICKS, rows).encode())
    table_of_micrographs = micrographs(tmp_path)
    run([tmp_path / "AutoPick"], tmp_path / "out", form, micrographs=table_of_micrographs)
    name = "particles.star" if form == "star" else "Micrographs/a_autopick.star"
    path = tmp_path / "out/particles_kept" / name
    original = path.read_text()
    changes = [("0.5", "0.51"), (" 3 ", " 2 "), ("45.5", "45.6"), ("-60.25", "60.25")]
    changes += [("-999.000000", "0.000000"), ("-999.000000", "nan"), (" 4 ", " x ")]
    changes += [(" 6 ", " 2 ")] if form == "star" else []
    for old, new in changes:
        assert original.count(old) == 1, old
        path.write_text(original.replace(old, new))
        checks = {each.name: each.passed for each in dask_dedup.verify(tmp_path / "out").checks}
        assert checks["rows"] is False, (old, new)
    path.write_text(original)
    assert dask_dedup.verify(tmp_path / "out").verified


@pytest.mark.parametrize("form", ["star", "relion-coordinates"])
def test_the_figure_of_merit_of_cryosparc_is_the_score_of_the_pick(tmp_path, form):
    more = {"alignments2D/error": [3, 2], **OPTICS_OF_ROWS}
    path = cryosparc(tmp_path, "picks.cs", **more)
    run([path], tmp_path / "out", form, score_field="error", match_micrographs="path")
    name = "particles.star" if form == "star" else "J1/imported/a_autopick.star"
    _, rows = rows_of(tmp_path / "out/particles_kept" / name, "particles" if form == "star" else "")
    scores = [float(row[3 if form == "star" else 2]) for row in rows]
    assert scores == [0.5, 0.25]


@pytest.mark.parametrize("form", ["star", "relion-coordinates"])
def test_a_lost_row_is_found(tmp_path, form):
    options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
    run(pickers(tmp_path), tmp_path / "out", form, **options)
    name = "particles.star" if form == "star" else "Micrographs/a_autopick.star"
    path = tmp_path / "out/particles_kept" / name
    lines = path.read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if "500.000000" in line)
    for changed in (lines[:last] + lines[last + 1 :], lines[: last + 1] + lines[last:]):
        path.write_text("".join(changed))
        rows = {check.name: check.passed for check in dask_dedup.verify(tmp_path / "out").checks}
        assert rows["rows"] is False
        assert rows["totals"] is False


@pytest.mark.real_data
def test_picks_of_three_real_pickers(real_data, tmp_path):
    folder = real_data / "pick_folders_10017"
    inputs = [folder / LAYOUTS[name] for name in ("eman", "topaz", "deeppicker")]
    names = sorted(path.stem for path in inputs[0].iterdir())
    rows = [f"Micrographs/{name}.mrc 1" for name in names]
    listed = star(
        tmp_path, "micrographs.star", ("rlnMicrographName", "rlnOpticsGroup"), rows,
        groups=[GROUP.replace("2.0", "1.77")], block="micrographs",
    )  # fmt: skip
    options = {"micrographs": listed, "match_micrographs": "name", "prefer_input_order": True}
    result = run(inputs, tmp_path / "out", "relion-coordinates", 80, **options)
    assert [entry["kept"] for entry in result.by_input] == [2470, 779, 532]
    kept = tmp_path / "out/particles_kept"
    found = open_table(kept)
    assert found.rows == 2470 + 779 + 532
    # Nothing is left to remove.
    again = dask_dedup.run(kept, tmp_path / "again", min_separation=79.99, micrographs=listed)
    assert again.rejected == 0


def cryosparc(folder, name, **more):
    """Write particles on a micrograph of 4000 x 2000 pixels."""
    kinds = [
        ("uid", "<u8"), ("location/micrograph_uid", "<u8"),
        ("location/micrograph_path", "S40"), ("location/micrograph_shape", "<u4", (2,)),
        ("location/micrograph_psize_A", "<f4"),
        ("location/center_x_frac", "<f4"), ("location/center_y_frac", "<f4"),
        ("pick_stats/ncc_score", "<f4"), ("alignments2D/shift", "<f4", (2,)),
        ("alignments2D/psize_A", "<f4"),
        *((label, "<f4") for label in more),
    ]  # fmt: skip
    rows = np.zeros(2, kinds)
    rows["uid"], rows["location/micrograph_uid"] = [11, 12], 7
    rows["location/micrograph_path"] = b"J1/imported/a.mrc"
    rows["location/micrograph_shape"] = [2000, 4000]
    rows["location/micrograph_psize_A"], rows["alignments2D/psize_A"] = 2.0, 4.0
    rows["location/center_x_frac"], rows["location/center_y_frac"] = [0.125, 0.5], [0.25, 0.5]
    rows["pick_stats/ncc_score"] = [0.5, 0.25]
    rows["alignments2D/shift"] = [[0, 0], [2, -1]]
    for label, values in more.items():
        rows[label] = values
    path = folder / name
    with path.open("wb") as file:
        np.save(file, rows)
    return path


OPTICS_OF_ROWS = {"ctf/accel_kv": [300, 200], "ctf/cs_mm": 2.7, "ctf/amp_contrast": 0.1}


def test_cryosparc_particles_become_a_star_file(tmp_path):
    path = cryosparc(tmp_path, "picks.cs", **OPTICS_OF_ROWS)
    run([path], tmp_path / "out")
    kept = tmp_path / "out/particles_kept/particles.star"
    # The second particle is shifted by (2, -1) pixels of 4 A: (4, -2) pixels of the micrograph.
    assert columns_of(kept, *LABELS[:4], "rlnOpticsGroup") == [
        ("J1/imported/a.mrc", "500.000000", "500.000000", "0.500000", "2"),
        ("J1/imported/a.mrc", "1996.000000", "1002.000000", "0.250000", "1"),
    ]
    wanted = ("rlnVoltage", "rlnSphericalAberration", "rlnMicrographPixelSize")
    assert columns_of(kept, *wanted, block="optics") == [
        ("200.000000", "2.700000", "2.000000"),
        ("300.000000", "2.700000", "2.000000"),
    ]


def test_cryosparc_particles_with_a_particle_table(tmp_path):
    path = cryosparc(tmp_path, "picks.cs", **OPTICS_OF_ROWS)
    other = star(tmp_path, "one.star", LABELS, ["Micrographs/a.mrc 501.0 500 0.9 1"])
    result = run([other, path], tmp_path / "out")
    kept = tmp_path / "out/particles_kept/particles.star"
    assert columns_of(kept, *LABELS[:3]) == [
        ("Micrographs/a.mrc", "501.0", "500"),
        ("Micrographs/a.mrc", "1996.000000", "1002.000000"),
    ]
    assert result.rejected == 1
    run([other, path], tmp_path / "files", "relion-coordinates")
    path = tmp_path / "files/particles_kept/Micrographs/a_autopick.star"
    assert columns_of(path, "rlnCoordinateX", block="") == [("501.0",), ("1996.000000",)]


def test_cryosparc_particles_without_optics_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"picks.cs: has no optics .*micrographs"):
        run([cryosparc(tmp_path, "picks.cs")], tmp_path / "out")


def test_tables_of_relion_30_are_refused(tmp_path):
    labels = (*LABELS[:4], "rlnMicrographPixelSize")
    text = table("", labels, ["m1.mrc 11 1 0.5 2.0"])
    with pytest.raises(InputError, match=r"old.star: has no optics groups.*relion_convert_star"):
        run([put(tmp_path, "old.star", text.encode())], tmp_path / "out")


def test_micrographs_with_one_file_are_refused(tmp_path):
    rows = ["a/job001/m1.mrc 11 1 0.5 1", "b/job002/m1.mrc 11 1 0.5 1"]
    path = star(tmp_path, "one.star", LABELS, rows)
    with pytest.raises(InputError, match=r"same coordinate file \(m1_autopick.star\)"):
        run([path], tmp_path / "out", "relion-coordinates")


@pytest.mark.parametrize("form", ["star", "relion-coordinates"])
def test_remaining_options(tmp_path, form):
    """Rows that are set aside, all rows removed, and a second run that finds the result."""
    rows = ["m1.mrc 11 1 0.5 1", "m1.mrc 12 1 nan 1", "m1.mrc nan 1 0.5 1", "m2.mrc 300 1 0.5 1"]
    path = star(tmp_path, "one.star", LABELS, rows)
    options = {"remove_entirely": True, "invalid": "reject"}
    result = run([path], tmp_path / "out", form, **options)
    assert (result.kept, result.rejected) == (1, 3)
    again = dask_dedup.run(path, tmp_path / "out", min_separation=20, output_format=form, **options)
    assert again.already_done


@pytest.mark.parametrize("form", ["star", "relion-coordinates"])
def test_low_scores_and_names_of_pickers(tmp_path, form):
    options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
    folder, topaz = pickers(tmp_path)
    result = run([folder, topaz], tmp_path / "out", form, min_score={str(topaz): 0.0}, **options)
    # The pick with -1.5 is set aside; one of the two near picks on a.mrc is a duplicate.
    assert (result.kept, result.rejected, result.low_score) == (2, 2, 1)


@pytest.mark.parametrize(
    "form", ["star", pytest.param("relion-coordinates", marks=pytest.mark.slow)]
)
def test_a_cluster_writes_the_same_files(tmp_path, cluster, form):
    options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
    inputs = pickers(tmp_path)
    results = [
        run(inputs, tmp_path / name / "out", form, client=client, **options)
        for name, client in (("one", None), ("two", cluster))
    ]
    digests = [
        {entry["path"]: entry["sha256"] for entry in result.manifest["outputs"]}
        for result in results
    ]
    for found in digests:  # holds absolute paths
        found.pop("particles_kept/autopick.star", None)
        found.pop("particles_rejected/autopick.star", None)
        found.pop("particles_kept/coords_suffix_autopick.star", None)
        found.pop("particles_rejected/coords_suffix_autopick.star", None)
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["star", "relion-coordinates"])
def test_an_object_store(tmp_path, there, form):
    options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
    result = run(pickers(tmp_path), there / "out", form, **options)
    assert result.kept == 3


def test_rows_without_a_micrograph_have_no_coordinate_file(tmp_path):
    path = star(tmp_path, "one.star", LABELS, ["m1.mrc 11 1 0.5 1", "None 12 1 0.5 1"])
    with pytest.raises(InputError, match=r"one.star: 1 row has no micrograph"):
        run([path], tmp_path / "out", "relion-coordinates", invalid="reject")
    run([path], tmp_path / "out", "star", invalid="reject")


def test_an_interrupted_run_is_resumed(tmp_path, monkeypatch):
    options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
    inputs = pickers(tmp_path)
    whole = run(inputs, tmp_path / "whole", **options)
    from dask_dedup.conversion import star as module

    def fail(*_):
        raise OSError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(module.StarConversion, "assemble", fail)
        with pytest.raises(dask_dedup.RunError):
            run(inputs, tmp_path / "out", **options)
    again = run(inputs, tmp_path / "out", **options)
    assert again.manifest["outputs"][-2:] == whole.manifest["outputs"][-2:]


@pytest.mark.parametrize(
    ("form", "shown", "listed"),
    [("star", "particles.star", "particles.star"), ("relion-coordinates", "autopick.star", "")],
)
def test_the_command_and_the_report(tmp_path, form, shown, listed):
    paths = [*pickers(tmp_path), "-o", tmp_path / "out", "--micrographs", micrographs(tmp_path)]
    options = ["--match-micrographs", "name", "--min-separation", "20", "--verify"]
    command = ["run", *map(str, paths), *options, "--output-format", form]
    outcome = CliRunner().invoke(main, command)
    assert outcome.exit_code == 0, outcome.output
    assert f"kept: {tmp_path}/out/particles_kept/{shown}\n" in outcome.output
    assert "is verified" in outcome.output
    page = (tmp_path / "out/report.html").read_text()
    assert f"particles_kept/{listed}<" in page
    assert "Micrographs/a_autopick.star" not in page

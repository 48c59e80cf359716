"""The counts in the descriptions of two data sets of picks, in every layout and order, and what wrong readings give.

The counts were computed by brute force over all pairs, with other readers.
"""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
from scipy.spatial import cKDTree
from test_coordinates_folders import LAYOUTS, TOPAZ, kept
from test_coordinates_lines import put
from test_coordinates_tomography import picks_of, run

from dask_dedup.formats import open_table, read

pytestmark = pytest.mark.real_data

BY_SCORE = {"prefer_input_order": False}


@pytest.fixture
def picks(real_data):
    return real_data / "pick_folders_10017"


@pytest.fixture
def forms(real_data):
    return real_data / "tomo_forms_chemoreceptor"


# Picks in micrographs: two and three pickers


def test_three_pickers_by_score_in_every_order(picks, tmp_path):
    expected = {"cbox": 293, "topaz": 2964, "deeppicker": 572}
    for number, order in enumerate(permutations(expected)):
        found = kept(picks, order, tmp_path / str(number), **BY_SCORE)
        assert found == [expected[name] for name in order]


def test_two_inputs_without_scores(picks, tmp_path):
    """Which of the two wins is a seeded choice; the total is not."""
    for names in (("star", "topaz", "csv"), ("csv", "topaz", "star")):
        found = kept(picks, names, tmp_path / names[0], **BY_SCORE)
        assert sum(found) == 3767
        assert found[1] == 3052


def test_names_of_cryosparc_by_score(picks, tmp_path):
    assert kept(picks, ("cryosparc", "star"), tmp_path / "star", **BY_SCORE) == [3052, 184]
    assert sum(kept(picks, ("topaz", "cryosparc"), tmp_path / "same", **BY_SCORE)) == 3052


def centres_of_files(picks):
    """Read the centres of three pickers line by line: (micrograph, x, y) in angstrom."""
    found = {"cbox": [], "topaz": [], "deeppicker": []}
    stems = sorted(path.stem for path in (picks / "cryolo/EMAN").iterdir())
    for number, stem in enumerate(stems):
        lines = (picks / f"cryolo/CBOX/{stem}.cbox").read_text().splitlines()
        rows = [line.split() for line in lines]
        rows = [row for row in rows if len(row) > 4 and row[2] == "<NA>"]
        found["cbox"] += [(number, float(row[0]) + 90, float(row[1]) + 90) for row in rows]
        rows = [
            line.split() for line in (picks / f"deeppicker_box/{stem}.box").read_text().splitlines()
        ]
        found["deeppicker"] += [
            (number, float(x) + float(w) / 2, float(y) + float(h) / 2) for x, y, w, h, _ in rows
        ]
    for line in (picks / "topaz/topaz_picks.txt").read_text().splitlines()[1:]:
        name, x, y, _ = line.split("\t")
        found["topaz"].append((stems.index(name), float(x), float(y)))
    return {name: np.array(rows) * (1e6, 1.77, 1.77) for name, rows in found.items()}


def counts_in_order(centres, names, separation):
    """Return how many picks of each picker are not near to a kept one of an earlier picker."""
    chosen = []
    for name in names:
        points = centres[name]
        if chosen:
            distance, _ = cKDTree(np.concatenate(chosen)).query(points)
            points = points[distance > separation]
        chosen.append(points)
    return [len(points) for points in chosen]


def test_three_pickers_in_every_order(picks, tmp_path):
    centres = centres_of_files(picks)
    assert [len(points) for points in centres.values()] == [2719, 3052, 1363]
    assert counts_in_order(centres, list(centres), 80) == [2719, 620, 516]
    layouts = {"cbox": ("cbox",), "topaz": TOPAZ, "deeppicker": ("deeppicker", "csv", "manualpick")}
    for number, order in enumerate(permutations(centres)):
        expected = counts_in_order(centres, order, 80)
        names = [layouts[name][number % len(layouts[name])] for name in order]
        assert kept(picks, names, tmp_path / str(number)) == expected


# Picks in micrographs: wrong readings. Each gives the count in the description, which no right reading has.


def folder_of_boxes(picks, tmp_path, name, change):
    """Write the picks of a layout as EMAN boxes: `change` maps a centre and the box size to a corner and a size."""
    table = open_table(picks / LAYOUTS[name])
    columns = ["rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY"]
    files = {}
    for part in table.fragments:
        for micrograph, x, y in zip(*read(table, part, columns).to_pydict().values(), strict=True):
            files.setdefault(micrograph, []).append(change(x, y))
    for micrograph, rows in files.items():
        text = "".join("{:.6f} {:.6f} {} {}\n".format(*row) for row in rows)
        put(tmp_path, f"boxes/{micrograph}.box", text.encode())
    return tmp_path / "boxes"


def kept_of_paths(paths, output, **options):
    options = {"micrograph_pixel_size": 1.77, "prefer_input_order": True, **options}
    return run(paths, output, 80, **options)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("cbox", lambda x, y: (x - 90, y - 90, 180, 180), [2719, 620]),
        ("cbox", lambda x, y: (x - 90, y - 90, 0, 0), [2719, 2122]),
        ("star", lambda x, y: (x - 90, y - 90, 180, 180), [2470, 779]),
        ("star", lambda x, y: (x - 90, y - 90, 0, 0), [2470, 2202]),
        ("star", lambda x, y: (x, 4096 - y, 0, 0), [2470, 2330]),
    ],
    ids=["right", "corners as centres", "right star", "corners of STAR", "y flipped"],
)
def test_what_wrong_corners_and_flips_give(picks, tmp_path, name, change, expected):
    boxes = folder_of_boxes(picks, tmp_path, name, change)
    paths = [boxes, picks / LAYOUTS["topaz"]]
    assert kept_of_paths(paths, tmp_path / "out") == expected


def test_what_names_that_do_not_match_give(picks, tmp_path):
    paths = [picks / LAYOUTS[name] for name in ("cryosparc", "autopick")]
    options = {"match_micrographs": "path"}
    assert kept_of_paths(paths, tmp_path / "path", **options) == [3052, 3052]
    assert kept_of_paths(paths, tmp_path / "name") == [3052, 0]


# Picks in tomograms


@pytest.fixture
def dynamo(forms, tmp_path):
    """Return a function that writes the Dynamo table with its shifts times a factor."""
    lines = (
        (forms.parent / "dynamo2m_chemoreceptor/dynamo2warp_example.tbl").read_text().splitlines()
    )

    def write(factor):
        rows = [line.split() for line in lines]
        for row in rows:
            row[3:6] = [repr(factor * float(value)) for value in row[3:6]]
        text = "".join(" ".join(row) + "\n" for row in rows)
        return put(tmp_path, f"{factor}/picks.tbl", text.encode())

    return write


@pytest.mark.parametrize(("factor", "rejected", "near"), [(0, 1525, 3036), (-1, 1903, None)])
def test_what_shifts_of_dynamo_give_left_out_and_subtracted(
    dynamo, tmp_path, factor, rejected, near
):
    path, options = dynamo(factor), {"micrograph_pixel_size": 15.0}
    (count,) = run([path], tmp_path / "best", 90, **options)
    assert 4934 - count == rejected
    if near is not None:
        (count,) = run([path], tmp_path / "near", 90, remove_entirely=True, **options)
        assert 4934 - count == near


def centres_in_angstrom(path, psize):
    """Map each tomogram to the centres of its particles, in angstrom."""
    table = open_table(path)
    names = table.schema.names
    key = next(n for n in ("rlnTomoName", "rlnMicrographName", "wrpSourceName") if n in names)
    axes = [f"rlnCoordinate{axis}" for axis in "XYZ"]
    found = {}
    for part in table.fragments:
        rows = read(table, part, [key, *axes]).to_pydict()
        for name, *point in zip(*rows.values(), strict=True):
            found.setdefault(name.rpartition("/")[2].partition(".")[0], []).append(point)
    return {name: np.array(points) * psize for name, points in found.items()}


def test_particles_of_warp_are_beside_those_of_dynamo(forms, dynamo):
    """Only if shifts are added. The README has the median distances for the other ways."""
    warp = centres_in_angstrom(
        forms.parent / "dynamo2m_chemoreceptor/warp2dynamo_example.star", 5.0
    )
    names = (forms.parent / "dynamo2m_chemoreceptor/dynamo2warp_example.doc").read_text()
    for factor, expected in ((1, 17.8), (0, 75.5), (-1, 123.5)):
        path = dynamo(factor)
        path.with_suffix(".doc").write_text(names)
        particles = centres_in_angstrom(path, 15.0)
        distances = [cKDTree(particles[name]).query(points)[0] for name, points in warp.items()]
        assert np.median(np.concatenate(distances)) == pytest.approx(expected, abs=0.05)


def test_an_optimisation_set_stands_for_the_particles_of_warp(forms, tmp_path):
    path = forms / "warp/matching_dev39_optimisation_set.star"
    (count,) = run([path], tmp_path / "out", 100, remove_entirely=True, score_field="none")
    assert 1399 - count == 139


@pytest.fixture
def copick(forms, tmp_path):
    """Return a pattern of the copick files of Dynamo's picks without their translations."""
    for path in forms.glob("copick/ExperimentRuns/*/Picks/dynamo_0_chemoreceptor.json"):
        document = json.loads(path.read_text())
        for point in document["points"]:
            for axis in range(3):
                point["transformation_"][axis][3] = 0.0
        text = json.dumps(document).encode()
        put(tmp_path, f"{path.parents[1].name}/Picks/{path.name}", text)
    return tmp_path / "*/Picks/dynamo_0_chemoreceptor.json"


def test_particles_of_copick_with_any_other_nearby(forms, tmp_path):
    (count,) = run([picks_of(forms, "dynamo")], tmp_path / "out", 120, remove_entirely=True)
    assert 761 - count == 204


def test_what_copick_gives_without_the_translation(copick, tmp_path):
    (count,) = run([copick], tmp_path / "best", 120)
    assert 761 - count == 407


def test_what_points_of_the_data_portal_give_in_angstrom(forms, tmp_path):
    for path in forms.rglob("*_point.ndjson"):
        run_name = path.parents[4].name
        put(tmp_path, f"{run_name}/Reconstructions/points.ndjson", path.read_bytes())
    paths = [tmp_path / "*/Reconstructions/points.ndjson"]
    for psize, near in ((1.0, 761), (15.0, 68)):
        options = {"micrograph_pixel_size": psize, "remove_entirely": True}
        (count,) = run(paths, tmp_path / str(psize), 15, **options)
        assert 761 - count == near

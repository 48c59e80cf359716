"""The counts in the descriptions of two data sets of picks, in every layout and order, and what wrong readings give.

The counts were computed by brute force over all pairs, with other readers.
"""

from __future__ import annotations

import json
from itertools import permutations, product

import numpy as np
import pytest
from scipy.spatial import cKDTree
from test_coordinates_folders import LAYOUTS, ROWS, kept
from test_coordinates_lines import put
from test_coordinates_tomography import picks_of, run

from dask_dedup.formats import open_table, read

pytestmark = pytest.mark.real_data

CRYOLO = ("star", "eman")
TOPAZ = ("topaz", "topaz files", "autopick", "autopick list", "autopick files")
JOB013 = ("relion 3.1", "relion 3.1 list")
#: The picks of DeepPicker without scores.
SCORELESS = ("csv", "eman2", "eman2 info")
BY_SCORE = {"prefer_input_order": False}


@pytest.fixture
def picks(real_data):
    return real_data / "pick_folders_10017"


@pytest.fixture
def forms(real_data):
    return real_data / "tomo_forms_chemoreceptor"


# Picks in micrographs: two and three pickers


@pytest.mark.parametrize(("one", "other"), [*product(CRYOLO, TOPAZ), *product(TOPAZ, CRYOLO)])
def test_cryolo_and_topaz_by_score(picks, tmp_path, one, other):
    for separation, of_cryolo in ((80, 184), (100, 165)):
        expected = [of_cryolo if name in CRYOLO else 3052 for name in (one, other)]
        output = tmp_path / str(separation)
        found = kept(picks, [one, other], output, min_separation=separation, **BY_SCORE)
        assert found == expected


@pytest.mark.parametrize("other", TOPAZ)
def test_cbox_and_topaz_by_score(picks, tmp_path, other):
    for separation, expected in ((80, [319, 2991]), (100, [287, 2990])):
        for step in (1, -1):
            output = tmp_path / f"{separation} {step}"
            names = ["cbox", other][::step]
            found = kept(picks, names, output, min_separation=separation, **BY_SCORE)
            assert found == expected[::step]


@pytest.mark.parametrize("other", TOPAZ)
def test_cbox_topaz_and_boxes_with_scores(picks, tmp_path, other):
    names = ("cbox", other, "deeppicker")
    assert kept(picks, names, tmp_path / "order") == [2719, 620, 516]
    for separation, counts in ((80, (293, 2964, 572)), (100, (264, 2960, 550))):
        expected = dict(zip(names, counts, strict=True))
        for number, order in enumerate(permutations(names)):
            output = tmp_path / f"{separation} {number}"
            found = kept(picks, order, output, min_separation=separation, **BY_SCORE)
            assert found == [expected[name] for name in order]


@pytest.mark.parametrize(("one", "other"), list(product(CRYOLO, TOPAZ)))
def test_picks_by_hand_have_the_score_0(picks, tmp_path, one, other):
    """The score 0 of manual picks wins over a missing one."""
    names = (one, other, "manualpick")
    assert kept(picks, names, tmp_path / "order") == [2470, 779, 532]
    for separation, counts in ((80, (154, 3052, 561)), (100, (137, 3052, 533))):
        output = tmp_path / str(separation)
        found = kept(picks, names, output, min_separation=separation, **BY_SCORE)
        assert found == list(counts)


@pytest.mark.parametrize(("one", "third"), list(product(CRYOLO, SCORELESS)))
def test_two_inputs_without_scores(picks, tmp_path, one, third):
    """Which of the two wins is a seeded choice; the total is not."""
    for other in TOPAZ:
        assert kept(picks, (one, other, third), tmp_path / f"order {other}") == [2470, 779, 532]
    for separation, total in ((80, 3767), (100, 3722)):
        for names in ((one, "topaz", third), (third, "autopick", one)):
            output = tmp_path / f"{separation} {names[0]}"
            found = kept(picks, names, output, min_separation=separation, **BY_SCORE)
            assert sum(found) == total
            assert found[1] == 3052


@pytest.mark.parametrize(("one", "third"), list(product(CRYOLO, JOB013)))
def test_two_automatic_pickers_of_relion(picks, tmp_path, one, third):
    names = (one, "autopick", third)
    assert kept(picks, names, tmp_path / "order") == [2470, 779, 532]
    for separation, counts in ((80, [154, 3011, 602]), (100, [137, 3008, 578])):
        output = tmp_path / str(separation)
        found = kept(picks, names, output, min_separation=separation, **BY_SCORE)
        assert found == counts


@pytest.mark.parametrize("other", CRYOLO)
def test_names_of_cryosparc_and_picks_of_cryolo(picks, tmp_path, other):
    assert kept(picks, ("cryosparc", other), tmp_path / "order") == [3052, 184]
    for separation, rest in ((80, 184), (100, 165)):
        output = tmp_path / str(separation)
        found = kept(picks, ("cryosparc", other), output, min_separation=separation, **BY_SCORE)
        assert found == [3052, rest]


@pytest.mark.parametrize("other", TOPAZ)
def test_names_of_cryosparc_and_the_same_picks(picks, tmp_path, other):
    assert kept(picks, ("cryosparc", other), tmp_path / "order") == [3052, 0]
    assert kept(picks, (other, "cryosparc"), tmp_path / "reverse") == [3052, 0]
    for separation in (80, 100):
        output = tmp_path / str(separation)
        options = {"min_separation": separation, **BY_SCORE}
        assert sum(kept(picks, ("cryosparc", other), output, **options)) == 3052


@pytest.mark.parametrize("other", TOPAZ)
def test_picks_with_any_other_nearby_in_every_layout(picks, tmp_path, other):
    near = {("cbox",): 4893, ("star",): 4559, ("eman",): 4559, ("star", "deeppicker"): 5556}
    for (first, *rest), expected in near.items():
        names = (first, other, *rest)
        output = tmp_path / " ".join(names)
        found = kept(picks, names, output, remove_entirely=True, **BY_SCORE)
        assert sum(ROWS[name] for name in names) - sum(found) == expected


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


@pytest.mark.parametrize(
    ("factor", "separation", "rejected", "near"),
    [
        *((1, *row) for row in ((7.5, 160, 316), (15, 173, 342), (30, 191, 379), (60, 245, 480))),
        (1, 90, 347, 689),
        *((0, *row) for row in ((7.5, 0, 0), (15, 0, 0), (30, 2, 4), (60, 470, 966))),
        (0, 90, 1525, 3036),
        *((-1, *row) for row in ((7.5, 6, None), (15, 39, None), (30, 209, None))),
        *((-1, *row) for row in ((60, 983, None), (90, 1903, None))),
    ],
)
def test_shifts_of_dynamo_added_left_out_and_subtracted(
    dynamo, tmp_path, factor, separation, rejected, near
):
    path, options = dynamo(factor), {"micrograph_pixel_size": 15.0}
    (count,) = run([path], tmp_path / "best", separation, **options)
    assert 4934 - count == rejected
    if near is not None:
        (count,) = run([path], tmp_path / "near", separation, remove_entirely=True, **options)
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


WARP = ("matching_dev39.star", "matching_dev40.star", "m_species_particles.star")
OTHERS = ("matching_dev39_optimisation_set.star",)


@pytest.mark.parametrize("name", [*WARP, *OTHERS])
@pytest.mark.parametrize(("separation", "near"), [(5, 36), (25, 69), (50, 85), (100, 139)])
def test_every_form_of_the_particles_of_warp(forms, tmp_path, name, separation, near):
    options = {"remove_entirely": True, "score_field": "none"}
    (count,) = run([forms / "warp" / name], tmp_path / "out", separation, **options)
    assert 1399 - count == near


@pytest.mark.parametrize(("separation", "near"), [(25, 117), (50, 1173), (100, 1376)])
def test_what_the_pixel_size_of_the_tilt_series_gives(forms, tmp_path, separation, near):
    options = {"remove_entirely": True, "score_field": "none", "coordinate_pixel_size": 1.35}
    path = forms / "warp/matching_dev39.star"
    (count,) = run([path], tmp_path / "out", separation, **options)
    assert 1399 - count == near


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


@pytest.mark.parametrize(
    ("separation", "near"), [(7.5, 64), (15, 68), (30, 72), (60, 84), (90, 98), (120, 204)]
)
def test_particles_of_copick_with_any_other_nearby(forms, tmp_path, separation, near):
    (count,) = run([picks_of(forms, "dynamo")], tmp_path / "out", separation, remove_entirely=True)
    assert 761 - count == near


@pytest.mark.parametrize(
    ("separation", "rejected", "near"), [(30, 1, None), (60, 84, 178), (120, 407, 702)]
)
def test_what_copick_gives_without_the_translation(copick, tmp_path, separation, rejected, near):
    (count,) = run([copick], tmp_path / "best", separation)
    assert 761 - count == rejected
    if near is not None:
        (count,) = run([copick], tmp_path / "near", separation, remove_entirely=True)
        assert 761 - count == near


def test_what_points_of_the_data_portal_give_in_angstrom(forms, tmp_path):
    for path in forms.rglob("*_point.ndjson"):
        run_name = path.parents[4].name
        put(tmp_path, f"{run_name}/Reconstructions/points.ndjson", path.read_bytes())
    paths = [tmp_path / "*/Reconstructions/points.ndjson"]
    for psize, near in ((1.0, 761), (15.0, 68)):
        options = {"micrograph_pixel_size": psize, "remove_entirely": True}
        (count,) = run(paths, tmp_path / str(psize), 15, **options)
        assert 761 - count == near

"""The counts and positions that the READMEs of the real data state, from brute force with other readers."""

from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from oracle import content_hashes, rank_tuple
from tables import Output, write_file
from test_real_picks import greedy

from dask_dedup import DedupParams, InputError, run, verify
from dask_dedup.dedup.picks import Picks
from dask_dedup.dedup.recommended_separation import find_spacing
from dask_dedup.dedup.separation import analyse_separations
from dask_dedup.formats import open_table, open_tables, read
from dask_dedup.particles.column_roles import resolve_roles
from dask_dedup.particles.extract import extract
from dask_dedup.particles.inputs import make_inputs

sys.path.insert(0, str(REPOSITORY / "examples"))
from converters import read_boxes, read_dynamo

pytestmark = pytest.mark.real_data

PICKERS = ("crYOLO", "topaz", "deepPicker")
NO_SCORE = {"score_field": "none"}


def near(path, output, separation, **options):
    """Return how many particles have another one within the separation."""
    settings = {**NO_SCORE, **options, "min_separation": separation, "remove_entirely": True}
    return run(path, output, **settings).rejected


@pytest.mark.parametrize(
    ("name", "separations", "counts"),
    [
        ("cryo_emmae/prediction_82_test.star", [100], [0]),
        ("cryosegnet_empiar10017/sample.star", [54.5, 54.7], [0, 2]),
        ("micrograph_cleaner/Ucsf_stack_1142_DW_autopick.star", [20, 100], [4, 36]),
        ("napari_starfile/example_particles.star", [5], [3663]),
        ("mtcurvefit/CCDC147C_001_particles_fitted.star", [5], [42]),
        ("mtcurvefit/CCDC147C_001_particles_fitted_cleaned.star", [10], [1003]),
        ("mtcurvefit/CCDC147C_001_particles.star", [2.9], [0]),
        ("mtcurvefit/SPEF1MT2_001_8.48Apx_particles.star", [4.9], [0]),
        ("pyseg_synaptic/particles.star", [2, 20], [2, 22]),
    ],
)
def test_particles_with_a_neighbour(real_data, tmp_path, name, separations, counts):
    # The counts are for distances in pixels, whatever the table says.
    psize = {"coordinate_pixel_size": 1.0}
    if name.startswith("pyseg"):
        psize = {"micrograph_pixel_size": 1.0, "particle_pixel_size": 1.0}
    found = [
        near(real_data / name, tmp_path / str(separation), separation, **psize)
        for separation in separations
    ]
    assert found == counts
    assert verify(tmp_path / str(separations[0])).verified


def test_filaments_that_are_twice_in_one_file(real_data, tmp_path):
    # 1e4 * rlnDetectorPixelSize / rlnMagnification is 1,750 A, a placeholder.
    path = real_data / "cryolo_boxmanager" / "priors_particles.star"
    assert near(path, tmp_path / "out", 0) == 260


@pytest.mark.parametrize(
    ("file", "psize"),
    [
        ("relion_3_star.star", 1.7005),
        ("relion_4_star.star", 1.0),
        ("tomoman_relion_star.star", 1.96),
    ],
)
def test_centres_are_those_of_the_data_portal(real_data, file, psize):
    stated = [(5.2, 10.4, 15.2), (0.8, 1.6, 2.8), (7, 6, 5), (-3, 4, -1), (8, 1, 2), (1, 0, -1)]
    path = real_data / "cdp_annotations" / file
    table = open_table(path)
    params = DedupParams(micrograph_pixel_size=psize, **NO_SCORE)
    roles = resolve_roles(table.schema.names, params, str(path))
    rows = [read(table, part, roles.columns) for part in table.fragments]
    (fragment,) = table.fragments
    picks = extract(pa.concat_tables(rows), fragment, roles, params, None).picks
    points = np.column_stack([picks.x, picks.y, picks.z]) / psize
    assert points == pytest.approx(np.array(stated, dtype=float), abs=1e-6)
    assert len(set(picks.micrograph.tolist())) == 3


@pytest.fixture(scope="module")
def convert():
    return read_dynamo


class TestDynamo:
    @pytest.fixture
    def chemoreceptors(self, convert, real_data, tmp_path):
        path = real_data / "dynamo2m_chemoreceptor" / "dynamo2warp_example.tbl"
        return write_file(convert(path, 15.0), tmp_path / "table.parquet")

    @pytest.mark.parametrize(("separation", "best", "all_near"), [(7.5, 160, 316), (60, 245, 480)])
    def test_with_shifts(self, chemoreceptors, tmp_path, separation, best, all_near):
        options = {"score_field": "rlnLCCmax:higher", "min_separation": separation}
        result = run(chemoreceptors, tmp_path / "best", **options)
        assert result.rejected == best
        assert near(chemoreceptors, tmp_path / "near", separation) == all_near

    @pytest.mark.parametrize(("separation", "best", "all_near"), [(15, 0, 0), (60, 470, 966)])
    def test_without_shifts(self, chemoreceptors, tmp_path, separation, best, all_near):
        options = {"score_field": "rlnLCCmax:higher", "shift_key": "none"}
        result = run(chemoreceptors, tmp_path / "best", min_separation=separation, **options)
        assert result.rejected == best
        assert near(chemoreceptors, tmp_path / "near", separation, shift_key="none") == all_near

    def test_a_table_with_complex_numbers(self, convert, real_data, tmp_path):
        table = convert(real_data / "dynamotable" / "t_complex.tbl", 1.0)
        path = write_file(table, tmp_path / "table.parquet")
        assert near(path, tmp_path / "with", 5) == 12
        assert near(path, tmp_path / "without", 5, shift_key="none") == 36

    def test_a_small_table(self, convert, real_data, tmp_path):
        table = convert(real_data / "dynamotable" / "t_double.tbl", 1.0)
        path = write_file(table, tmp_path / "table.parquet")
        assert near(path, tmp_path / "with", 5.6) == 0
        assert near(path, tmp_path / "without", 3.9, shift_key="none") == 0


class TestTwoProgramsInOneTomogram:
    def inputs(self, real_data):
        names = ("example_particles.star", "example_particles_with_optics.star")
        return [str(real_data / "napari_starfile" / name) for name in names]

    def test_without_shifts_every_pick_has_its_copy(self, real_data, tmp_path):
        paths = self.inputs(real_data)
        result = run(
            paths,
            tmp_path / "out",
            min_separation=20,
            prefer_input_order=True,
            shift_key="none",
            micrograph_pixel_size={paths[0]: 20.712},
            **NO_SCORE,
        )
        assert [entry["kept"] for entry in result.by_input] == [4815, 0]

    def test_one_pixel_size_for_both_is_refused(self, real_data, tmp_path):
        with pytest.raises(InputError, match="contradicts"):
            run(self.inputs(real_data), tmp_path / "out", micrograph_pixel_size=20.712, **NO_SCORE)


@pytest.fixture(scope="module")
def paths(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repic")
    source = real_data / "repic_empiar10017"
    return [write_file(read_boxes(source / name), folder / f"{name}.parquet") for name in PICKERS]


@pytest.fixture(scope="module")
def reference(real_data):
    return json.loads((real_data / "consensus_cases" / "reference_repic.json").read_text())


def read_picks(paths, **options):
    """Return the inputs and all picks of some tables."""
    params = DedupParams(**options)
    inputs = make_inputs(open_tables(paths, params)[0], None, params)
    parts = []
    for each in inputs.fragments:
        roles = inputs.roles[each.source]
        rows = read(inputs.tables[each.source], each, roles.columns)
        parts.append(extract(rows, each, roles, inputs.params, None).picks)
    return inputs, Picks.concatenate(parts)


class TestThreePickers:
    """crYOLO, topaz and DeepPicker on 12 micrographs, 1.77 A a pixel."""

    @pytest.mark.parametrize(
        ("pixels", "rows"),
        [(0, 136), (1, 710), (50, 18873)],
    )
    def test_rows_with_a_neighbour(self, paths, tmp_path, pixels, rows):
        # Distances between whole pixels can be exactly the separation, so it is in pixels of 1 A.
        assert near(paths, tmp_path / "out", pixels, micrograph_pixel_size=1.0) == rows

    @pytest.mark.parametrize("separation", [25.0, 200.0])
    def test_kept_in_input_order(self, paths, reference, tmp_path, separation):
        expected = reference["kept_at"]
        (stored,) = (one["by_input"] for one in expected["runs"] if one["prefer_input_order"])
        options = {"min_separation": separation, "micrograph_pixel_size": 1.77}
        result = run(paths, tmp_path / "out", prefer_input_order=True, **options)
        kept = [entry["kept"] for entry in result.by_input]
        assert kept == stored[expected["separations"].index(separation)]

    def test_kept_in_input_order_at_all_separations_at_once(self, paths, reference):
        expected = reference["kept_at"]
        (stored,) = (one["by_input"] for one in expected["runs"] if one["prefer_input_order"])
        options = {"min_separation": 100, "micrograph_pixel_size": 1.77}
        inputs, picks = read_picks(paths, prefer_input_order=True, **options)
        directions = inputs.higher_is_better
        found = analyse_separations(picks, inputs.params, directions, expected["separations"])
        assert found.kept.tolist() == stored
        spacing, wanted = found.spacing, reference["recommended"]
        assert spacing.recommended == wanted["rounded"] == 90
        assert spacing.duplicates_end == pytest.approx(wanted["duplicates_end"])
        assert spacing.neighbours_begin == pytest.approx(wanted["neighbours_begin"])

    @pytest.mark.parametrize("options", [{}, {"between_inputs_only": True}])
    def test_kept_by_score_at_several_separations(self, paths, tmp_path, options):
        options = {"min_separation": 95, "micrograph_pixel_size": 1.77, **options}
        inputs, picks = read_picks(paths, **options)
        found = analyse_separations(picks, inputs.params, inputs.higher_is_better)
        for separation in (95.0, 180.0):
            options["min_separation"] = separation
            result = run(paths, tmp_path / str(separation), **options)
            at = found.separations.tolist().index(separation)
            assert found.kept[at].tolist() == [entry["kept"] for entry in result.by_input]

    @pytest.mark.slow
    @pytest.mark.parametrize("separation", [6.25, 25.0, 200.0])
    def test_kept_by_score(self, paths, tmp_path, separation):
        """By brute force: the counts by score in the reference contradict its own representatives."""
        ranks, names, centres, sources = [], [], [], []
        for source, path in enumerate(paths):
            rows = pq.read_table(path).to_pylist()
            for row, each in enumerate(rows):
                position = each["rlnCoordinateX"], each["rlnCoordinateY"]
                score = each["rlnAutopickFigureOfMerit"]
                (uid,) = content_hashes([each], "rlnAutopickFigureOfMerit")
                ranks.append(rank_tuple(uid=uid, score=score, source=source, row=row))
                centres.append(position)
            names += [each["rlnMicrographName"] for each in rows]
            sources += [source] * len(rows)
        kept = greedy(np.array(names), np.array(centres) * 1.77, ranks, separation)
        options = {"min_separation": separation, "micrograph_pixel_size": 1.77}
        result = run(paths, tmp_path / "out", **options)
        by_input = [entry["kept"] for entry in result.by_input]
        assert by_input == np.bincount(np.array(sources)[kept]).tolist()

    def test_representatives_of_the_votes(self, paths, reference, tmp_path):
        for number in (0, 3, 8):  # without standing, and with different rules for duplicates
            one = reference["runs"][number]
            options = dict(one["parameters"])
            del options["vote_distance"]
            result = run(paths, tmp_path / str(number), micrograph_pixel_size=1.77, **options)
            assert [entry["kept"] for entry in result.by_input] == one["representatives"]


def test_the_gap_and_the_recommended_separation_of_six_sets_of_points(real_data):
    sets = json.loads((real_data / "consensus_cases" / "recommended_separation.json").read_text())
    assert len(sets) == 6
    for one in sets:
        _, micrograph, x, y = np.array(one["points"], dtype=float).T
        found = find_spacing(np.column_stack([x, y]), micrograph.astype(np.intp))
        ends = found and [round(found.duplicates_end, 1), round(found.neighbours_begin, 1)]
        assert ends == one["expected"]["gap"], one["name"]
        number, sensible = found and found.recommended, one["expected"]["sensible"]
        assert number == one["expected"]["recommended"], one["name"]
        assert sensible is None or sensible[0] <= number <= sensible[1]


SIDE = 2.0**20


def case_input(particles, folder, name):
    """Write the particles of a case as a table. Fractions of a side of 2**20 A are exact in float64."""
    deep = any("z" in each for each in particles)
    score_of = [np.nan if p.get("score") is None else p["score"] for p in particles]
    table = {
        "rlnTomoName" if deep else "location/micrograph_path": [p["micrograph"] for p in particles]
    }

    def axis(key):
        return np.array([np.nan if p[key] is None else p[key] for p in particles], dtype=float)

    if deep:
        table |= {f"rlnCoordinate{key.upper()}": axis(key) for key in "xyz"}
        table |= {"rlnTomoTiltSeriesPixelSize": np.ones(len(particles))}
    else:
        count = len(particles)
        table |= {f"location/center_{key}_frac": axis(key) / SIDE for key in "xy"}
        table |= {
            "uid": np.array([p["uid"] for p in particles], np.uint64),
            "location/micrograph_shape": pa.array([[2**20] * 2] * count, pa.list_(pa.uint32(), 2)),
            "location/micrograph_psize_A": np.ones(count),
        }
        for key, column in (
            ("filament", "filament/filament_uid"),
            ("source", "sym_expand/src_uid"),
        ):
            if any(key in p for p in particles):
                table[column] = pa.array([p.get(key) for p in particles], pa.uint64())
    table["score"] = np.array(score_of)
    return write_file(pa.table(table), folder / f"{name}.parquet")


#: The cases that differ by more than the choice by votes, without standing, which is another way to rank.
NUMBERS = (2, 10, 26, *range(29, 38), 41, 50, 51, 52, 54)


@pytest.mark.parametrize("number", [f"{number:02}" for number in NUMBERS])
def test_representatives_of_the_consensus_cases(real_data, tmp_path, number):
    """A run without votes keeps the representatives, and rejects the others in favour of the stated winners."""
    for path in sorted((real_data / "consensus_cases").glob(f"{number}_*.json")):
        folder = tmp_path / path.stem
        folder.mkdir()
        case = json.loads(path.read_text())
        options = dict(case["parameters"])
        direction = options.pop("score", "higher")
        for name in ("min_votes", "vote_distance", "found_by", "not_found_by", "relax_unseen"):
            options.pop(name, None)
        names = [one["name"] for one in case["inputs"]]
        paths = [case_input(one["particles"], folder, one["name"]) for one in case["inputs"]]
        particles = [one["particles"] for one in case["inputs"]]
        options = {"score_field": f"score:{direction}", **options}
        if any("z" in each for one in particles for each in one):
            options["coordinate_pixel_size"] = 1.0
        output = Output(run(paths, folder / "out", **options).output)
        source_of = {str(each): number for number, each in enumerate(paths)}

        def name_of(location, source_of=source_of, names=names, particles=particles):
            file, row = location
            if file is None:
                return None
            source = source_of[file]
            return f"{names[source]}/{particles[source][row]['uid']}"

        decisions = {
            name_of(rejected): name_of(winner) for rejected, (winner, _) in output.decisions.items()
        }
        expected = case["expected"]
        comparable = {
            f"{one['name']}/{p['uid']}"
            for one in case["inputs"]
            for p in one["particles"]
            if None not in (p["micrograph"], p["x"], p["y"])
        }
        assert comparable - {*decisions} == {*expected["representatives"]}
        for name, rejection in expected["rejected"].items():
            if rejection["reason"] == "duplicate":
                assert decisions[name] == rejection["winner"]
        if kept_at := expected.get("kept_at"):
            inputs, picks = read_picks(paths, **options)
            directions = inputs.higher_is_better
            found = analyse_separations(picks, inputs.params, directions, kept_at["separations"])
            by_input = dict(zip(found.separations.tolist(), found.kept.tolist(), strict=True))
            assert [by_input[each] for each in kept_at["separations"]] == kept_at["by_input"]
            for position in (0, -1):
                again = {**options, "min_separation": kept_at["separations"][position]}
                result = run(paths, folder / f"at{position}", **again)
                kept = [entry["kept"] for entry in result.by_input]
                assert kept == kept_at["by_input"][position]


def test_the_same_picks_under_the_names_of_two_programs(real_data, tmp_path):
    folder = real_data / "pick_folders_10017"
    named = folder / "cryosparc_named" / "topaz_picks.star"
    picks = sorted((folder / "relion/AutoPick/job010").rglob("*_autopick.star"))
    assert len(picks) == 4
    options = {"min_separation": 80, "prefer_input_order": True, "micrograph_pixel_size": 1.77}
    result = run([named, *picks], tmp_path / "out", **options)
    assert result.rows == 6104
    assert [entry["kept"] for entry in result.by_input] == [
        3052,
        0,
    ]  # all of a folder are one input
    assert result.manifest["micrograph_names"]["match"] == "name"
    assert verify(tmp_path / "out").verified

"""`inspect`: counts, problems, distances, and whether inputs fit together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from scipy.spatial.distance import pdist, squareform
from tables import (
    PSIZE,
    SHAPE,
    cryosparc,
    exposures,
    micrograph_path,
    relion,
    values,
    vectors,
    write_file,
    write_folder,
)

from dask_dedup import DedupParams, InputError, inspect
from dask_dedup.inspection import survey
from dask_dedup.inspection.matching import compare_shifts, estimate_height, match
from dask_dedup.inspection.neighbours import (
    Centres,
    CentreTree,
    count_values,
    measure_neighbourhoods,
)
from dask_dedup.simulation import simulate_pickers

sys.path.insert(0, str(REPOSITORY / "examples"))
from converters import read_boxes, read_dynamo

NO_SCORE = DedupParams(score_field="none")
NAME = "Falcon_2012_06_12-14_33_35_0.mrc"


def centres(points, micrograph=None, shift=None, height=np.nan):
    points = np.asarray(points, dtype=np.float64)
    number = np.zeros(len(points)) if micrograph is None else micrograph
    return Centres(
        np.asarray(number, dtype=np.int64), points, shift, np.full(len(points), float(height))
    )


def field(count=4000, micrographs=8, size=4000.0, seed=0, axes=2):
    rng = np.random.default_rng(seed)
    return centres(rng.random((count, axes)) * size, np.arange(count) % micrographs)


def jittered(one, sigma, seed=1):
    rng = np.random.default_rng(seed)
    return centres(one.points + rng.normal(0, sigma, one.points.shape), one.micrograph)


def both(one, other):
    return centres(
        np.concatenate([one.points, other.points]),
        np.concatenate([one.micrograph, other.micrograph]),
    )


def grid(step, side, axes=2):
    line = np.arange(side) * float(step)
    return np.stack(np.meshgrid(*[line] * axes), axis=-1).reshape(-1, axes)


def plain(path, x, y, name=NAME, **columns):
    """Write a table of RELION positions in pixels."""
    table = {"rlnMicrographName": [name] * len(x), "rlnCoordinateX": x, "rlnCoordinateY": y}
    return write_file(pa.table({**table, **columns}), path)


@pytest.fixture(scope="module")
def pickers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    return simulate_pickers(folder, particles=6000, micrographs=20)


@pytest.fixture(scope="module")
def simulated(pickers):
    return inspect(pickers)


@pytest.fixture(scope="module")
def repic(real_data, tmp_path_factory):
    """Picks of three pickers, and curated picks of one micrograph, with RELION column names."""
    folder = tmp_path_factory.mktemp("repic")
    for name in ("crYOLO", "topaz", "deepPicker"):
        write_file(read_boxes(real_data / "repic_empiar10017" / name), folder / f"{name}.parquet")
    star = (real_data / "cryosegnet_empiar10017" / "sample.star").read_text()
    rows = [line.split() for line in star.splitlines() if line.startswith("Falcon")]
    assert {row[0] for row in rows} == {NAME}
    x, y = ([float(row[column]) for row in rows] for column in (1, 2))
    plain(folder / "curated.parquet", x, y)
    return folder


class TestDistances:
    @pytest.mark.parametrize("axes", [2, 3])
    def test_they_agree_with_brute_force(self, axes):
        some = field(300, 3, 200.0, axes=axes)
        nearest, pairs = np.full(300, np.inf), dict.fromkeys((5.0, 10.0, 20.0, 50.0, 100.0), 0)
        for number in range(3):
            mine = some.micrograph == number
            distances = pdist(some.points[mine])
            pairs = {radius: pairs[radius] + (distances <= radius).sum() for radius in pairs}
            square = squareform(distances) + np.diag(np.full(mine.sum(), np.inf))
            nearest[mine] = square.min(axis=1)
        (found,) = measure_neighbourhoods([some])
        assert found.pairs == pairs
        assert sum(found.histogram) == 300
        counted = np.histogram(nearest, found.edges)[0]
        assert found.histogram == (*counted, 300 - counted.sum())
        assert found.nearest[50.0] == pytest.approx(np.median(nearest))

    def test_coincident_particles_are_all_pairs(self):
        some = centres(np.zeros((20_000, 2)))
        (found,) = measure_neighbourhoods([both(some, centres([[30.0, 40.0]]))])
        assert found.pairs[20.0] == 20_000 * 19_999 // 2
        assert found.pairs[50.0] == found.pairs[20.0] + 20_000
        assert found.histogram[0] == 20_000

    def test_a_particle_alone_on_its_micrograph_has_no_neighbour(self):
        (found,) = measure_neighbourhoods([centres([[1.0, 1.0], [1.0, 1.0]], [0, 1])])
        assert found.pairs[100.0] == 0
        assert found.nearest == {}
        assert found.histogram[-1] == 2

    def test_a_partner_at_exactly_the_radius_counts(self):
        found = match(centres([[0.0, 0.0]]), centres([[3.0, 4.0], [300.0, 4.0]]), 5.0)
        assert (found.matched, found.median) == ((1, 1), 5.0)


class TestSpacing:
    """The distance at which real neighbours begin."""

    def test_of_simulated_pickers_is_the_particle_diameter(self, simulated):
        for entry in simulated.inputs:
            assert 105 < entry.neighbourhood.spacing.neighbours_begin < 125
            assert entry.neighbourhood.spacing.duplicates_end == 0
        assert 3 < simulated.together.spacing.duplicates_end < 20
        assert 105 < simulated.together.spacing.neighbours_begin < 125
        assert simulated.advice[-1].startswith("choose min_separation=")
        assert simulated.separation.spacing.includes(simulated.recommended_separation)

    @pytest.mark.real_data
    def test_of_real_alignments_is_found_only_with_shifts(self, real_data, tmp_path):
        table = real_data / "dynamo2m_chemoreceptor" / "dynamo2warp_example.tbl"
        path = write_file(read_dynamo(table, 10.8), tmp_path / "particles.parquet")
        found = inspect(path, params=NO_SCORE).inputs[0]
        assert found.neighbourhood.spacing.duplicates_end < 10
        assert 70 < found.neighbourhood.spacing.neighbours_begin < 95
        assert found.neighbourhood.pairs[5.0] == 163
        assert found.shift.verdict == "minus"
        assert (found.shift.minus, found.shift.none) == (163, 0)
        still = inspect(path, params=DedupParams(score_field="none", shift_key="none")).inputs[0]
        assert still.neighbourhood.pairs[5.0] == 0
        assert still.shift is None


class TestDirectionOfY:
    def test_picks_that_match_run_the_same_way(self, simulated):
        (pair,) = simulated.pairs
        assert pair.match.flip.verdict == "same"
        assert pair.match.flip.height == pytest.approx(4092 * 0.83)
        assert not pair.match.flip.estimated
        assert simulated.flips == ()

    def test_an_unknown_height_is_estimated_from_the_picks(self):
        one = field(600, 2, 3000.0)
        other = jittered(one, 6).flipped(3333.0)
        assert estimate_height(one, other, 20.0) == pytest.approx(3333, abs=2)
        found = match(one, other, 20.0).flip
        assert found.verdict == "opposite"
        assert found.estimated
        assert min(found.flipped) > 0.95 > 10 * max(found.as_is)

    def test_it_is_found_in_tomograms(self):
        one = field(600, 2, 2000.0, axes=3)
        found = match(one, jittered(one, 6).flipped(2100.0), 20.0).flip
        assert found.verdict == "opposite"
        assert found.height == pytest.approx(2100, abs=3)

    @pytest.mark.parametrize("crowd", [20, 300, 5000])
    def test_chance_matches_are_unclear(self, crowd):
        one, other = field(crowd, 2, 2000.0, seed=1), field(crowd, 2, 2000.0, seed=2)
        assert match(one, other, 20.0).flip.verdict == "unclear"

    def test_a_small_input_is_compared_with_a_large_one(self):
        one = field(4000, 4)
        few = jittered(one, 4).take(np.arange(4000) % 50 == 0)
        assert match(one, few, 20.0).flip.verdict == "same"
        assert match(few.flipped(4100.0), one, 20.0).flip.verdict == "opposite"

    @pytest.mark.real_data
    def test_curated_picks_run_opposite_to_those_of_a_real_picker(self, repic, cli):
        paths = [repic / "crYOLO.parquet", repic / "curated.parquet"]
        options = ("--micrograph-pixel-size", 1.77, "--match-micrographs", "name")
        options += ("--min-separation", 40 * 1.77)
        outcome = cli("inspect", *paths, *options, "--json")
        assert outcome.exit_code == 0, outcome.stderr
        found = json.loads(outcome.stdout)
        flip = found["pairs"][0]["match"]["flip"]
        assert flip["verdict"] == "opposite"
        assert flip["estimated"]
        assert flip["flipped"][0] == pytest.approx(0.86, abs=0.01)
        assert flip["as_is"][0] == pytest.approx(0.20, abs=0.01)
        assert flip["chance"][0] == pytest.approx(0.20, abs=0.03)
        assert flip["height"] / 1.77 == pytest.approx(4096, abs=3)

        text = cli("inspect", *paths, *options, "--verbose").stdout
        assert "OPPOSITE ways: 86% and" in text
        advised = text[text.index("--flip-y") :].split("\n\n")[0].split("\n  - ")[0].split()
        assert advised[1] == str(paths[1])
        assert advised[2] == "--micrograph-height"
        assert int(advised[3]) == pytest.approx(4096, abs=3)
        again = json.loads(cli("inspect", *paths, *options, *advised, "--json").stdout)
        assert again["pairs"][0]["match"]["flip"]["verdict"] == "same"
        assert again["flips"] == []

    @pytest.mark.slow
    @pytest.mark.real_data
    def test_of_four_inputs_the_odd_one_is_flipped(self, repic):
        names = ("curated", "crYOLO", "topaz", "deepPicker")
        found = inspect([repic / f"{name}.parquet" for name in names])
        assert found.flips == (0,)
        assert "flip_y=(0,)" in found.advice[0]
        verdicts = {(pair.one, pair.other): pair.match.flip.verdict for pair in found.pairs}
        assert {verdicts[0, other] for other in (1, 2, 3)} == {"opposite"}
        assert {verdicts[1, 2], verdicts[1, 3], verdicts[2, 3]} == {"same"}

    @pytest.mark.real_data
    def test_a_star_file_and_the_same_rows_as_parquet_give_the_same_result(self, repic, real_data):
        star = real_data / "cryosegnet_empiar10017" / "sample.star"
        one = inspect([repic / "crYOLO.parquet", repic / "curated.parquet"])
        other = inspect([repic / "crYOLO.parquet", star])
        assert other.pairs == one.pairs
        assert other.together == one.together

    def test_between_cryosparc_and_relion_the_input_with_a_known_height_is_flipped(self, tmp_path):
        rows = cryosparc(400, micrographs=3)
        one = write_file(rows, tmp_path / "one.parquet")
        fraction = [values(rows, f"location/center_{axis}_frac") for axis in "xy"]
        shift = values(rows, "alignments3D/shift") * values(rows, "alignments3D/psize_A")[:, None]
        x = fraction[0] * SHAPE[1] - shift[:, 0] / PSIZE
        y = SHAPE[0] - (fraction[1] * SHAPE[0] - shift[:, 1] / PSIZE)
        name = [path.split("/")[-1] for path in rows["location/micrograph_path"].to_pylist()]
        other = {"rlnMicrographName": name, "rlnCoordinateX": x, "rlnCoordinateY": y}
        other["rlnMicrographPixelSize"] = np.full(400, PSIZE)
        two = write_file(pa.table(other), tmp_path / "two.parquet")
        for paths in ([one, two], [two, one]):
            found = inspect(paths, params=DedupParams(min_separation=3, score_field="none"))
            assert found.pairs[0].match.flip.verdict == "opposite"
            assert found.pairs[0].match.flip.height == pytest.approx(SHAPE[0] * PSIZE)
            assert found.advice[0].endswith(f"use flip_y=({paths.index(one)},)")
            assert found.together.pairs[5.0] >= 400


class TestSignOfShifts:
    def test_subtracting_brings_two_pickers_together(self, simulated):
        test = simulated.pairs[0].match.shift
        assert test.verdict == "minus"
        assert test.minus < 2.5 < test.none < test.plus
        assert not any("shifts" in line for line in simulated.warnings)

    def test_a_wrong_sign_is_a_warning(self, pickers, tmp_path):
        paths = []
        for folder in pickers:
            rows = pa.concat_tables([pq.read_table(part) for part in sorted(folder.iterdir())])
            number = rows.column_names.index("alignments2D/shift")
            turned = vectors(-values(rows, "alignments2D/shift"))
            rows = rows.set_column(number, "alignments2D/shift", turned)
            paths.append(write_file(rows, tmp_path / f"{folder.name}.parquet"))
        found = inspect(paths)
        assert found.pairs[0].match.shift.verdict == "plus"
        (warning,) = (line for line in found.warnings if "shifts added" in line)
        assert warning.startswith(f"{paths[0]} and {paths[1]}: ")

    @pytest.mark.real_data
    def test_a_wrong_sign_is_found_in_one_real_input(self, real_data, tmp_path):
        rows = read_dynamo(real_data / "dynamo2m_chemoreceptor/dynamo2warp_example.tbl", 10.8)
        for axis in "XYZ":
            name = f"rlnOrigin{axis}Angst"
            number = rows.column_names.index(name)
            rows = rows.set_column(number, name, pa.array(-values(rows, name)))
        found = inspect(write_file(rows, tmp_path / "wrong.parquet"), params=NO_SCORE)
        assert found.inputs[0].shift.verdict == "plus"
        assert any("shifts added" in line for line in found.warnings)

    def test_shifts_applied_before_are_a_warning(self, tmp_path):
        rng = np.random.default_rng(0)
        truth = grid(150, 14)
        micrograph = {"rlnMicrographName": ["m.mrc"] * len(truth)}
        paths = []
        for number in range(2):
            found = truth + rng.normal(0, 1, truth.shape)
            table = {"rlnCoordinateX": found[:, 0], "rlnCoordinateY": found[:, 1]}
            table |= {f"rlnOrigin{axis}Angst": rng.normal(0, 6, len(truth)) for axis in "XY"}
            table["rlnMicrographPixelSize"] = np.ones(len(truth))
            paths.append(write_file(pa.table({**micrograph, **table}), tmp_path / f"{number}.pq"))
        found = inspect(paths, params=NO_SCORE)
        assert found.pairs[0].match.shift.verdict == "none"
        assert any("shift_key='none'" in line for line in found.warnings)

    def test_a_blurred_lattice_is_not_taken_for_duplicates(self):
        rng = np.random.default_rng(0)
        lattice = np.tile(grid(25, 30), (4, 1))
        shift = rng.normal(0, 5, lattice.shape)
        some = centres(lattice, np.repeat(np.arange(4), 900), shift)
        found = compare_shifts(some, 20.0)
        assert found.plus > found.minus
        assert found.verdict == "unclear"


class TestContents:
    def test_everything_is_counted(self, tmp_path):
        rows = cryosparc(500, micrographs=7)
        path = write_folder(rows, tmp_path / "picks", files=3)
        found = inspect(path)
        (entry,) = found.inputs
        numbers = np.array(rows["location/micrograph_uid"].to_pylist(), dtype=np.uint64)
        counts = np.unique(numbers, return_counts=True)[1]
        assert (entry.rows, entry.files, entry.micrographs) == (500, 3, 7)
        assert entry.per_micrograph == (counts.min(), np.median(counts), counts.max())
        split = values(rows, "alignments3D/split")
        assert entry.half_sets == {0: (split == 0).sum(), 1: (split == 1).sum()}
        assert found.measured == {"picks": 500, "micrographs": 7, "of_micrographs": 7}

    def test_columns_are_listed_by_role(self, tmp_path):
        columns = {"filament/filament_uid": np.arange(120, dtype=np.uint64)}
        path = write_file(cryosparc(columns=columns), tmp_path / "picks.parquet")
        fields = inspect(path).inputs[0].fields
        assert fields["micrograph"] == ("location/micrograph_uid",)
        assert fields["position"] == ("location/center_x_frac", "location/center_y_frac")
        assert fields["shift"] == ("alignments3D/shift", "alignments3D/psize_A")
        assert fields["filament"] == ("filament/filament_uid",)
        assert fields["symmetry source"] == ()

    def test_the_pixel_size_has_its_source(self, tmp_path):
        path = write_file(relion(drop=["rlnMicrographPixelSize"]), tmp_path / "picks.parquet")
        table = write_file(exposures(), tmp_path / "exposures.parquet")
        entry = inspect(path, params=DedupParams(micrograph_pixel_size=1.1)).inputs[0]
        assert (entry.pixel_size, entry.pixel_size_source) == (
            (1.1, 1.1),
            "micrograph_pixel_size",
        )
        entry = inspect(path, micrographs=table).inputs[0]
        assert entry.pixel_size == pytest.approx((0.8, 2.0))
        assert entry.pixel_size_source == str(table)
        assert entry.unit == "A"

    def test_score_columns_have_ranges_and_warnings(self, tmp_path):
        columns = {"alignments2D/error": np.zeros(120), "alignments3D/cross_cor": np.arange(120.0)}
        path = write_file(cryosparc(columns=columns), tmp_path / "picks.parquet")
        scores = {score.field: score for score in inspect(path).inputs[0].scores}
        assert scores["ncc_score"].used
        assert [name for name, score in scores.items() if score.used] == ["ncc_score"]
        assert scores["error"].column == "alignments3D/error"
        assert "zero-filled" in scores["alignments2D/error:lower"].warnings[0]
        best = scores["alignments3D/cross_cor:higher"]
        assert (best.least, best.greatest) == (0, 119)

    def test_constant_scores_and_different_scales_are_warned_about(self, tmp_path):
        name = "rlnAutopickFigureOfMerit"
        columns = {name: np.full(120, -999.0)}
        path = write_file(relion(columns=columns), tmp_path / "picks.parquet")
        assert any("are -999" in line for line in inspect(path).warnings)
        scaled = [
            write_file(relion(columns={name: np.arange(120) * scale}), tmp_path / f"{scale}.pq")
            for scale in (1.0, 9.0)
        ]
        assert any("different scales" in line for line in inspect(scaled).warnings)


class TestFaultyInputs:
    def test_a_missing_score_is_a_problem_not_an_error(self, tmp_path, cli):
        path = write_file(relion(drop=["rlnAuto"]), tmp_path / "picks.parquet")
        found = inspect(path)
        assert "no score ncc_score" in found.problems[0]
        assert found.inputs[0].neighbourhood.picks == 120
        outcome = cli("inspect", path)
        assert outcome.exit_code == 0
        assert "problems (run refuses these inputs)" in outcome.stdout

    def test_a_row_with_the_pixel_size_0_is_a_problem(self, tmp_path):
        sizes = np.ones(120, np.float32)
        sizes[5] = 0
        columns = {"location/micrograph_psize_A": sizes}
        found = inspect(write_file(cryosparc(columns=columns), tmp_path / "picks.parquet"))
        assert any("row 5" in problem for problem in found.problems)

    def test_without_a_pixel_size_distances_are_in_pixels_without_shifts(self, tmp_path):
        bare = write_file(relion(300, drop=["rlnMicrographPixelSize"]), tmp_path / "bare.parquet")
        sized = write_file(relion(300, seed=1), tmp_path / "sized.parquet")
        found = inspect([sized, bare])
        assert [entry.unit for entry in found.inputs] == ["px", "px"]
        assert [entry.shift for entry in found.inputs] == [None, None]
        assert sum("no micrograph pixel size" in line for line in found.problems) == 1
        radius = min(entry.neighbourhood.nearest[50.0] for entry in found.inputs) / 2
        assert found.pairs[0].match.radius == pytest.approx(radius)
        assert any("distances are in pixels" in line for line in found.lines())

    def test_bad_rows_are_counted_and_left_out(self, tmp_path):
        rows = cryosparc(200, drop=["location/micrograph_uid"])
        x = values(rows, "location/center_x_frac")
        x[[3, 70, 90]] = np.nan
        paths = rows["location/micrograph_path"].to_pylist()
        paths[10] = None
        uid = np.array(rows["uid"].to_pylist(), dtype=np.uint64)
        uid[5] = uid[6]
        columns = {"location/center_x_frac": x, "location/micrograph_path": paths, "uid": uid}
        rows = cryosparc(200, columns=columns, drop=["location/micrograph_uid"])
        found = inspect(write_file(rows, tmp_path / "bad.parquet"))
        text = "\n".join(found.problems)
        assert "1 row has no micrograph" in text
        assert "3 rows have no finite position" in text
        assert "row 3" in text
        assert "1 uid occurs more than once" in text
        assert found.measured["picks"] == 196

    def test_without_a_micrograph_column_the_rest_is_reported(self, tmp_path):
        path = write_file(relion(drop=["rlnMicrographName"]), tmp_path / "picks.parquet")
        found = inspect(path)
        assert "no micrograph column" in found.problems[0]
        assert found.inputs[0].neighbourhood is None
        assert found.inputs[0].fields["micrograph"] == ()
        assert found.inputs[0].rows == 120

    @pytest.mark.parametrize(
        ("column", "part"),
        [("alignments3D/shift", "shift"), ("pick_stats/ncc_score", "score"), ("uid", "uid")],
    )
    def test_columns_of_the_wrong_type_are_ignored(self, tmp_path, column, part):
        path = write_file(cryosparc(columns={column: ["no"] * 120}), tmp_path / "picks.parquet")
        found = inspect(path)
        assert any(f"the column {column} holds" in line for line in found.problems)
        assert found.inputs[0].fields[part] == ()
        assert found.inputs[0].neighbourhood.picks == 120

    def test_inputs_that_cannot_be_compared_are_measured_separately(self, tmp_path):
        flat = write_file(relion(), tmp_path / "flat.parquet")
        deep = write_file(relion(axes=3), tmp_path / "deep.parquet")
        found = inspect([flat, deep])
        assert any("no z coordinate" in line for line in found.problems)
        assert (found.pairs, found.together) == ((), None)
        assert all(entry.neighbourhood for entry in found.inputs)

    def test_micrographs_that_differ_only_by_folder_are_pointed_out(self, tmp_path):
        one = write_file(relion(), tmp_path / "one.parquet")
        renamed = [f"Elsewhere/{micrograph_path(n % 4)}" for n in range(120)]
        two = write_file(relion(columns={"rlnMicrographName": renamed}), tmp_path / "two.parquet")
        found = inspect([one, two])
        assert found.pairs[0].match is None
        (warning,) = (line for line in found.warnings if "no micrograph in common" in line)
        assert "but 4 by name (" in warning
        assert "Pass match_micrographs='name'." in warning
        named = inspect([one, two], params=DedupParams(match_micrographs="name"))
        assert named.pairs[0].match.micrographs == 4

    def test_micrographs_of_which_one_in_ten_has_the_same_path_are_pointed_out(self, tmp_path):
        paths = []
        for number, folder in enumerate(("mics", "other")):
            names = [f"{folder if n else 'mics'}/m{n:02}.mrc" for n in range(10)] * 40
            columns = {"rlnMicrographName": names}
            table = relion(400, seed=number, columns=columns)
            paths.append(write_file(table, tmp_path / f"{folder}.parquet"))
        found = inspect(paths)
        assert found.pairs[0].match.micrographs == 1
        (warning,) = (line for line in found.warnings if "by name" in line)
        assert "10 by name (" in warning
        assert "match_micrographs='name'" in warning

    def test_inputs_that_match_only_by_chance_are_warned_about(self, tmp_path):
        paths = [write_file(relion(400, seed=seed), tmp_path / f"{seed}.pq") for seed in (1, 2)]
        found = inspect(paths, params=DedupParams(min_separation=4))
        assert found.pairs[0].match.flip.verdict == "unclear"
        (warning,) = (line for line in found.warnings if "no better than chance" in line)
        assert warning.startswith(f"{paths[0]} and {paths[1]} ")

    @pytest.mark.parametrize("rows", [0, 1])
    def test_tables_with_hardly_a_row_are_inspected(self, tmp_path, rows):
        paths = [write_file(relion(rows), tmp_path / f"{name}.parquet") for name in "ab"]
        found = inspect(paths)
        assert [entry.rows for entry in found.inputs] == [rows, rows]
        assert found.lines()

    def test_an_unreadable_table_is_an_error(self, tmp_path, cli):
        with pytest.raises(InputError, match="no input"):
            inspect([])
        path = write_file(relion(drop=["rlnCoordinateY"]), tmp_path / "picks.parquet")
        with pytest.raises(InputError, match="no particle positions"):
            inspect(path)
        broken = tmp_path / "broken.parquet"
        broken.write_bytes(b"PAR1 no more than that")
        for wrong in (path, broken, tmp_path / "absent.parquet"):
            outcome = cli("inspect", wrong)
            assert outcome.exit_code == 2
            assert len(outcome.stderr.splitlines()) == 1

    def test_parameters_are_keywords_or_an_object(self, tmp_path):
        path = write_file(relion(drop=["rlnAuto"]), tmp_path / "picks.parquet")
        assert inspect(path, score_field="none") == inspect(path, params=NO_SCORE)
        with pytest.raises(TypeError):
            inspect(path, params=NO_SCORE, score_field="none")
        with pytest.raises(TypeError):
            inspect(path, no_such_parameter=1)

    def test_wrong_usage_is_an_error(self, tmp_path, cli):
        path = write_file(relion(), tmp_path / "picks.parquet")
        for wrong in (
            ("--flip-y", "another.parquet"),
            ("--flip-y", path),
            ("--match-micrographs", "uid"),
            ("--min-separation", "-1"),
        ):
            assert cli("inspect", path, *wrong).exit_code == 2


class TestLargeInputs:
    @pytest.fixture(autouse=True)
    def small_sample(self, monkeypatch):
        monkeypatch.setattr(survey, "SAMPLE_PICKS", 1)

    def test_distances_are_measured_on_whole_micrographs(self, tmp_path, monkeypatch):
        rows = cryosparc(4000, micrographs=100)
        monkeypatch.setattr(survey, "PICKS_MEASURED", 1500)
        found = inspect(write_file(rows, tmp_path / "picks.parquet"))
        assert 300 < found.measured["picks"] <= 1500
        assert 10 < found.measured["micrographs"] < 50
        assert found.measured["of_micrographs"] == 100
        assert found.inputs[0].rows == 4000
        assert found.inputs[0].micrographs == 100
        assert any("of 100 micrographs" in line for line in found.lines())

    def test_they_do_not_depend_on_the_order_of_rows(self, tmp_path, monkeypatch):
        from dask_dedup.formats.parquet import table as parquet

        rows = cryosparc(4000, micrographs=100)
        monkeypatch.setattr(survey, "PICKS_MEASURED", 1500)
        one = inspect(write_file(rows, tmp_path / "picks.parquet"))
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 20_000)
        order = np.random.default_rng(0).permutation(4000)
        parts = write_folder(rows.take(order), tmp_path / "parts", files=12)
        other = inspect(parts)
        assert other.measured == one.measured
        assert other.inputs[0].neighbourhood.pairs == one.inputs[0].neighbourhood.pairs
        assert other.inputs[0].neighbourhood.histogram == one.inputs[0].neighbourhood.histogram
        assert other.inputs[0].per_micrograph == one.inputs[0].per_micrograph
        assert other.inputs[0].scores == one.inputs[0].scores

    def test_inputs_are_measured_on_the_same_micrographs(self, pickers, monkeypatch):
        monkeypatch.setattr(survey, "PICKS_MEASURED", 6000)
        found = inspect(pickers)
        assert 2 < found.pairs[0].match.micrographs == found.measured["micrographs"] < 20
        assert sum(found.pairs[0].match.picks) == found.measured["picks"]

    def test_one_huge_micrograph_is_measured_whole(self, tmp_path, monkeypatch):
        monkeypatch.setattr(survey, "PICKS_MEASURED", 100)
        found = inspect(write_file(cryosparc(400, micrographs=1), tmp_path / "picks.parquet"))
        assert found.measured["picks"] == 400

    def test_of_very_many_uids_a_share_is_compared(self, tmp_path, monkeypatch):
        monkeypatch.setattr(survey, "UIDS_COMPARED", 100)
        rows = cryosparc(400)
        path = write_file(pa.concat_tables([rows, rows]), tmp_path / "picks.parquet")
        found = inspect(path)
        assert any("uids occur more than once" in line for line in found.problems)
        assert any("one uid in 8" in line for line in found.warnings)


class TestOutput:
    def test_it_fits_a_terminal_of_100_columns(self, simulated, pickers, tmp_path):
        long = [tmp_path / ("a_name_that_goes_on_and_on_" * 4 + f"{end}.parquet") for end in "ab"]
        for path in long:
            write_file(cryosparc(), path)
        for found in (simulated, inspect([*long, *pickers])):
            names = [Path(entry.path).name for entry in found.inputs]
            wide = [line for line in found.lines() if len(line) > 100]
            assert [line for line in wide if not any(name in line for name in names)] == []

    @pytest.mark.slow
    @pytest.mark.real_data
    def test_three_real_pickers_show_the_gap(self, repic, cli):
        paths = [repic / f"{name}.parquet" for name in ("crYOLO", "topaz", "deepPicker")]
        outcome = cli("inspect", *paths, "--micrograph-pixel-size", 1.77, "--verbose")
        assert outcome.exit_code == 0, outcome.stderr
        for phrase in (
            "choose --min-separation 90: duplicates end at 40.6 A, neighbours begin at 139 A",
            "          90 A     11,797 ###",
            "8,908, in 1 file",
            "12, with 627 to 908 particles, median 736",
            "1.77 A, from --micrograph-pixel-size",
            "measured on all 12 micrographs",
            "crYOLO.parquet and topaz.parquet, on the 12 micrographs they share",
            "the same way: 75% and 71% as they are",
        ):
            assert phrase in outcome.stdout
        found = inspect(paths, params=DedupParams(micrograph_pixel_size=1.77))
        assert [entry.neighbourhood.pairs[50.0] for entry in found.inputs] == [0, 0, 0]
        assert 25 < found.together.spacing.duplicates_end < 60
        assert 100 < found.together.spacing.neighbours_begin < 165
        assert 85 < found.inputs[1].neighbourhood.spacing.neighbours_begin / 1.77 < 93

    def test_json_holds_the_same_results(self, pickers, simulated, cli):
        outcome = cli("inspect", *pickers, "--json")
        shown = json.loads(outcome.stdout)
        assert "--min-separation" in shown["advice"][-1]
        expected = json.loads(json.dumps(simulated.to_dict(), allow_nan=False))
        assert expected["separation"].pop("reason").startswith("choose min_separation=")
        assert shown["separation"].pop("reason").startswith("choose --min-separation ")
        messages = {"problems", "warnings", "advice"}
        assert [
            name for name in expected if shown[name] != expected[name] if name not in messages
        ] == []
        around = shown["together"]
        assert len(around["histogram"]) == len(around["edges"])
        assert sum(around["histogram"]) == around["picks"] == shown["measured"]["picks"]
        assert around["pairs"]["20"] >= around["pairs"]["10"]
        assert shown["inputs"][0]["neighbourhood"]["edges"] == around["edges"]

    def test_a_notebook_shows_a_short_summary(self, simulated, tmp_path):
        assert repr(simulated).startswith("<Inspection: 2 inputs, ")
        assert "template</th>" in simulated._repr_html_()
        path = write_file(relion(drop=["rlnAuto"]), tmp_path / "<b>.parquet")
        assert "&lt;b&gt;.parquet" in inspect(path)._repr_html_()

    def test_unknown_numbers_are_null(self, tmp_path):
        found = inspect(write_file(relion(0), tmp_path / "empty.parquet"))
        assert found.to_dict()["inputs"][0]["scores"][0]["least"] is None
        json.dumps(found.to_dict(), allow_nan=False)


def test_a_cloud_keeps_micrographs_apart():
    one = centres([[0.0, 0.0], [0.0, 0.0], [10.0, 0.0]], [0, 1, 2])
    assert np.isinf(CentreTree(one, 1000.0).nearest_own()).all()


@pytest.mark.parametrize("most", [1, 50, 10**6, 10**12])
def test_values_are_counted_with_and_without_sorting(most):
    values = np.random.default_rng(0).integers(0, most, 500)
    found = count_values(values)
    for one, other in zip(found, np.unique(values, return_counts=True), strict=True):
        assert one.tolist() == other.tolist()
    assert [part.size for part in count_values(values[:0])] == [0, 0]

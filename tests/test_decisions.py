"""The options of `run`, on the command line: the decisions equal those of a brute force.

Centres are computed here from the formula, decisions by `oracle`.
"""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import content_hashes, crowded, greedy, rank_tuple, relion_matrix
from tables import (
    MICROGRAPH_UID,
    PSIZE,
    SHAPE,
    Output,
    assert_same_rows,
    cryosparc,
    exposures,
    relion,
    uids,
    values,
    vectors,
    write_file,
    write_folder,
)


def fraction_centres(table, *, shift=None, psize=None):
    ny, nx = values(table, "location/micrograph_shape").T
    if psize is None:
        psize = values(table, "location/micrograph_psize_A")
    x = values(table, "location/center_x_frac") * nx * psize
    y = values(table, "location/center_y_frac") * ny * psize
    centres = np.column_stack([x, y])
    if shift:
        psize_shift = values(table, f"{shift}/psize_A")
        centres -= values(table, f"{shift}/shift") * psize_shift[:, np.newaxis]
    return centres


class Case:
    """Some inputs, a run on them, and the decisions of a brute force."""

    def __init__(self, cli, folder):
        self.cli, self.folder = cli, folder
        self.tables, self.paths = [], []

    def add(self, table):
        path = write_file(table, self.folder / f"input-{len(self.paths)}.parquet")
        self.paths.append(path)
        # Read back: Parquet names list elements differently.
        self.tables.append(pq.read_table(path))

    def run(self, *options):
        out = self.folder / "out"
        outcome = self.cli("run", *self.paths, "--output", out, *options)
        assert outcome.exit_code == 0, outcome.stderr
        result = Output(out)
        assert result.manifest["totals"]["rows"] == sum(table.num_rows for table in self.tables)
        rejected = result.decisions
        keep = [row_id not in rejected for row_id in self.row_ids]
        payload = pa.concat_tables(self.tables)
        assert_same_rows(result.kept, payload.filter(pa.array(keep)))
        assert_same_rows(result.rejected, payload.filter(pa.array(np.logical_not(keep))))
        assert 0 < len(rejected) < payload.num_rows
        self.log = outcome.stderr
        return result

    @property
    def row_ids(self):
        return [
            (str(path), row)
            for path, table in zip(self.paths, self.tables, strict=True)
            for row in range(table.num_rows)
        ]

    def brute_force(
        self,
        centres,
        *,
        score="pick_stats/ncc_score",
        higher=True,
        seed=0,
        separation=20.0,
        micrograph="location/micrograph_uid",
        prefer=False,
        between=False,
        entirely=False,
        share=None,
    ):
        """Return decisions like `Output.decisions`; `centres` is an array, or a list of one per table."""
        centres = np.concatenate(centres) if isinstance(centres, list) else centres
        micrographs, ranks, sources = [], [], []
        for source, table in enumerate(self.tables):
            n = table.num_rows
            micrographs += table.column(micrograph).to_pylist()
            named = "uid" in table.column_names
            mine = uids(table) if named else content_hashes(table.to_pylist(), score)
            scores = values(table, score).tolist() if score else [None] * n
            sources += [source] * n
            ranks += [
                rank_tuple(
                    uid=uid,
                    score=value,
                    higher=higher,
                    seed=seed,
                    priority=source if prefer else 0,
                    source=source,
                    row=row,
                )
                for row, uid, value in zip(range(n), mine, scores, strict=True)
            ]
        if between:
            share = lambda i, j: sources[i] == sources[j]  # noqa: E731
        no_winner = (None, None)
        if entirely:
            gap = crowded(centres, micrographs, separation, share)
            gaps = zip(self.row_ids, gap.tolist(), strict=True)
            return {row_id: (no_winner, near) for row_id, near in gaps if near == near}
        winner, gap = greedy(centres, micrographs, ranks, separation, share)
        fates = zip(self.row_ids, winner.tolist(), gap.tolist(), strict=True)
        return {row_id: (self.row_ids[w], near) for row_id, w, near in fates if w >= 0}


@pytest.fixture
def case(cli, tmp_path):
    return Case(cli, tmp_path)


def same(decisions, expected):
    assert {row_id: winner for row_id, (winner, _) in decisions.items()} == {
        row_id: winner for row_id, (winner, _) in expected.items()
    }
    distance = np.array([decisions[row_id][1] for row_id in expected])
    np.testing.assert_allclose(distance, [gap for _, gap in expected.values()], rtol=1e-9)


def test_default_separation_is_20_angstrom(case):
    table = cryosparc(drop=["alignments"])
    case.add(table)
    result = case.run()
    same(result.decisions, case.brute_force(fraction_centres(table)))
    assert result.manifest["parameters"]["min_separation"] == 20


@pytest.mark.parametrize("separation", [8, 45.5])
def test_the_separation_is_used(case, separation):
    table = cryosparc(drop=["alignments"])
    case.add(table)
    result = case.run("--min-separation", separation)
    same(result.decisions, case.brute_force(fraction_centres(table), separation=separation))


def test_a_pair_at_exactly_the_separation_is_duplicates(case):
    # 20 A and 20.25 A apart, without rounding.
    table = cryosparc(
        4,
        columns={
            "location/micrograph_uid": pa.array([1, 1, 2, 2], pa.uint64()),
            "location/micrograph_shape": pa.array([[256, 256]] * 4, pa.list_(pa.uint32(), 2)),
            "location/center_x_frac": np.array([0, 20 / 256, 0, 20.25 / 256]),
            "location/center_y_frac": np.zeros(4),
            "location/micrograph_psize_A": np.ones(4),
        },
        drop=["alignments"],
    )
    case.add(table)
    result = case.run()
    assert [distance for _, distance in result.decisions.values()] == [20.0]


class TestPixelSize:
    def test_the_micrograph_table_has_one_for_each_micrograph(self, case, tmp_path):
        table, known = cryosparc(drop=["alignments"]), exposures()
        case.add(table)
        sizes = dict(zip(uids(known), values(known, "micrograph_blob/psize_A"), strict=True))
        psize = np.array([sizes[uid] for uid in table["location/micrograph_uid"].to_pylist()])
        assert len(set(psize)) == 4
        path = write_file(known, tmp_path / "exposures.parquet")
        result = case.run("--micrographs", path)
        same(result.decisions, case.brute_force(fraction_centres(table, psize=psize)))
        assert "exposures.parquet" in case.log
        assert any("1.2" in line for line in result.manifest["warnings"])

    def test_micrographs_are_matched_by_path_and_have_the_shape(self, case, tmp_path):
        table, known = cryosparc(drop=["alignments"]), exposures()
        sizes = dict(
            zip(
                known["micrograph_blob/path"].to_pylist(),
                values(known, "micrograph_blob/psize_A"),
                strict=True,
            )
        )
        psize = np.array([sizes[path] for path in table["location/micrograph_path"].to_pylist()])
        lacking = ["location/micrograph_uid", "location/micrograph_psize_A"]
        case.add(table.drop_columns([*lacking, "location/micrograph_shape"]))
        path = write_file(known, tmp_path / "exposures.parquet")
        result = case.run("--micrographs", path)
        expected = case.brute_force(
            fraction_centres(table, psize=psize), micrograph="location/micrograph_path"
        )
        same(result.decisions, expected)

    def test_the_column_of_the_particles_may_vary_between_rows(self, case):
        micrograph = values(cryosparc(), "location/micrograph_uid")
        sizes = np.where(micrograph == micrograph.max(), 0.7, 2.1)
        table = cryosparc(columns={"location/micrograph_psize_A": sizes}, drop=["alignments"])
        case.add(table)
        same(case.run().decisions, case.brute_force(fraction_centres(table)))

    def test_the_option_is_used_for_tables_without_a_column(self, case):
        table = cryosparc(drop=["alignments", "location/micrograph_psize_A"])
        case.add(table)
        result = case.run("--micrograph-pixel-size", 0.9)
        same(result.decisions, case.brute_force(fraction_centres(table, psize=0.9)))

    def test_the_column_of_the_particles_is_used_instead_of_the_option_with_a_warning(self, case):
        sizes = np.full(cryosparc().num_rows, 0.895)
        columns = {"location/micrograph_psize_A": sizes}
        table = cryosparc(columns=columns, drop=["alignments"])
        case.add(table)
        result = case.run("--micrograph-pixel-size", 0.9)
        same(result.decisions, case.brute_force(fraction_centres(table)))
        assert "--micrograph-pixel-size 0.9 was not used" in case.log

    def test_an_option_that_contradicts_the_column_is_refused(self, cli, tmp_path):
        path = write_file(cryosparc(drop=["alignments"]), tmp_path / "picks.parquet")
        outcome = cli("run", path, "--output", tmp_path / "out", "--micrograph-pixel-size", 0.9)
        assert outcome.exit_code == 2
        assert "contradicts the column location/micrograph_psize_A" in outcome.stderr

    def test_without_any_the_error_names_three_remedies(self, cli, tmp_path):
        table = cryosparc(drop=["location/micrograph_psize_A"])
        path = write_file(table, tmp_path / "picks.parquet")
        outcome = cli("run", path, "--output", tmp_path / "out")
        assert outcome.exit_code == 2
        ways = ("--micrographs", "location/micrograph_psize_A", "--micrograph-pixel-size")
        assert all(way in outcome.stderr for way in ways)
        assert not (tmp_path / "out").exists()


class TestShiftKey:
    @pytest.mark.parametrize(
        ("key", "shift"),
        [
            ("none", None),
            ("alignments2D", "alignments2D"),
            ("alignments3D", "alignments3D"),
            ("auto", "alignments3D"),
        ],
    )
    def test_shifts_are_in_pixels_of_their_alignment(self, case, key, shift):
        table = cryosparc()
        case.add(table)
        result = case.run("--shift-key", key)
        same(result.decisions, case.brute_force(fraction_centres(table, shift=shift)))
        assert f"shift: {shift}/shift" if shift else "shift: none" in case.log

    def test_auto_is_the_default_and_falls_back_to_2d(self, case):
        table = cryosparc(drop=["alignments3D"])
        case.add(table)
        expected = case.brute_force(fraction_centres(table, shift="alignments2D"))
        same(case.run().decisions, expected)

    def test_auto_is_none_for_picks_without_alignments(self, case):
        table = cryosparc(drop=["alignments"])
        case.add(table)
        result = case.run("--shift-key", "auto")
        same(result.decisions, case.brute_force(fraction_centres(table)))

    def test_the_keys_give_different_answers_on_this_data(self, case):
        table = cryosparc()
        case.add(table)
        keys = (None, "alignments2D", "alignments3D")
        answers = [case.brute_force(fraction_centres(table, shift=key)) for key in keys]
        assert all(a != b for a, b in itertools.combinations(answers, 2))

    def test_duplicates_only_after_the_shift_are_found(self, case):
        # The same particle, picked 30 A to either side of its centre.
        nx = SHAPE[1]
        table = cryosparc(
            3,
            columns={
                "location/micrograph_uid": pa.array([5, 5, 5], pa.uint64()),
                "location/center_x_frac": np.array([120, 180, 240]) / PSIZE / nx,
                "location/center_y_frac": np.full(3, 0.5),
                "alignments3D/shift": vectors([[-30 / 2.5, 0], [30 / 2.5, 0], [0, 0]]),
                "alignments3D/psize_A": np.full(3, 2.5),
            },
        )
        case.add(table)
        assert len(case.run("--min-separation", 1).decisions) == 1


class TestScore:
    @pytest.mark.parametrize(
        ("field", "column", "higher"),
        [
            ("ncc_score", "pick_stats/ncc_score", True),
            ("error", "alignments3D/error", False),
            ("error_min", "alignments3D/error_min", False),
            ("pick_stats/power:higher", "pick_stats/power", True),
            ("pick_stats/power:lower", "pick_stats/power", False),
        ],
    )
    def test_the_better_score_wins(self, case, field, column, higher):
        table = cryosparc()
        case.add(table)
        result = case.run("--score-field", field)
        centres = fraction_centres(table, shift="alignments3D")
        same(result.decisions, case.brute_force(centres, score=column, higher=higher))
        assert f"({'higher' if higher else 'lower'} is better)" in case.log

    def test_the_error_comes_from_the_alignment_whose_shift_is_used(self, case):
        table = cryosparc()
        case.add(table)
        result = case.run("--score-field", "error", "--shift-key", "alignments2D")
        centres = fraction_centres(table, shift="alignments2D")
        expected = case.brute_force(centres, score="alignments2D/error", higher=False)
        same(result.decisions, expected)

    def test_missing_scores_rank_last_and_are_counted(self, case):
        scores = values(cryosparc(), "pick_stats/ncc_score")
        scores[::3] = np.nan
        scores[1::3] = -999
        table = cryosparc(columns={"pick_stats/ncc_score": scores}, drop=["alignments"])
        case.add(table)
        result = case.run()
        same(result.decisions, case.brute_force(fraction_centres(table)))
        assert "40 scores in pick_stats/ncc_score are missing" in case.log
        assert "40 scores in pick_stats/ncc_score are -999" in case.log

    @pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
    def test_without_a_score_the_seed_decides(self, case, seed):
        table = cryosparc(drop=["alignments", "pick_stats"])
        case.add(table)
        result = case.run("--score-field", "none", "--seed", seed)
        centres = fraction_centres(table)
        same(result.decisions, case.brute_force(centres, score=None, seed=seed))

    def test_the_seed_determines_the_result(self, cli, tmp_path):
        path = write_file(cryosparc(), tmp_path / "picks.parquet")
        rejected = []
        for number, seed in enumerate((1, 1, 2)):
            out = tmp_path / f"out-{number}"
            outcome = cli("run", path, "-o", out, "--score-field", "none", "--seed", seed)
            assert outcome.exit_code == 0
            rejected.append(set(Output(out).decisions))
        assert rejected[0] == rejected[1] != rejected[2]


def test_remove_entirely_rejects_both_of_a_pair(case):
    table = cryosparc(drop=["alignments"])
    case.add(table)
    result = case.run("--remove-entirely")
    same(result.decisions, case.brute_force(fraction_centres(table), entirely=True))


class TestSymmetryExpansion:
    FOLD, PARTICLES = 6, 40

    def expanded(self, drop=()):
        rng = np.random.default_rng(3)
        copies = cryosparc(self.PARTICLES, drop=drop)
        copies = copies.take(rng.permutation(np.repeat(np.arange(self.PARTICLES), self.FOLD)))
        new = pa.array(rng.integers(2**64, size=copies.num_rows, dtype=np.uint64))
        return copies.append_column("sym_expand/src_uid", copies["uid"]).set_column(0, "uid", new)

    # Real copies have different shifts, and tables may lack pixel sizes; both must not matter.
    @pytest.mark.parametrize("drop", [(), ("location/micrograph_psize_A",), ("alignments",)])
    def test_distance_0_keeps_exactly_one_of_each_location(self, case, drop):
        table = self.expanded(drop)
        case.add(table)
        result = case.run("--min-separation", 0)
        sources = result.kept["sym_expand/src_uid"].to_pylist()
        assert len(sources) == len(set(sources)) == self.PARTICLES
        stored = ("location/center_x_frac", "location/center_y_frac")
        centres = np.column_stack([values(table, name) for name in stored])
        same(result.decisions, case.brute_force(centres, separation=0))

    def test_distance_0_keeps_locations_that_differ_slightly(self, case):
        x = np.array([0.25, 0.25, np.nextafter(np.float32(0.25), np.float32(1))], np.float32)
        table = cryosparc(
            3,
            micrographs=1,
            columns={"location/center_x_frac": x, "location/center_y_frac": np.full(3, 0.5)},
        )
        case.add(table)
        assert len(case.run("--min-separation", 0).decisions) == 1


class TestSeveralInputs:
    def add_two(self, case):
        one = cryosparc(80, seed=1, drop=["alignments"])
        two = cryosparc(70, seed=2, drop=["alignments"])
        case.add(one)
        case.add(two)
        return [fraction_centres(one), fraction_centres(two)]

    def test_two_pickers_are_combined(self, case):
        centres = self.add_two(case)
        result = case.run()
        same(result.decisions, case.brute_force(centres))
        duplicates = result.duplicates
        crossings = zip(
            duplicates["input"].to_pylist(), duplicates["winner_input"].to_pylist(), strict=True
        )
        assert len(set(crossings)) == 4  # each input wins over itself and over the other

    def test_the_earlier_input_wins_if_preferred(self, case):
        centres = self.add_two(case)
        result = case.run("--prefer-input-order")
        same(result.decisions, case.brute_force(centres, prefer=True))
        first = str(case.paths[0])
        losses = [winner[0] for (path, _), (winner, _) in result.decisions.items() if path == first]
        assert set(losses) == {first}

    def test_between_inputs_only_keeps_pairs_within_one_input(self, case):
        centres = self.add_two(case)
        result = case.run("--between-inputs-only")
        same(result.decisions, case.brute_force(centres, between=True))
        assert all(winner[0] != path for (path, _), (winner, _) in result.decisions.items())

    def test_between_inputs_only_with_remove_entirely(self, case):
        centres = self.add_two(case)
        result = case.run("--between-inputs-only", "--remove-entirely")
        same(result.decisions, case.brute_force(centres, between=True, entirely=True))

    def test_micrographs_by_path_match_those_with_path_and_uid(self, case):
        one = cryosparc(80, seed=1, drop=["alignments"])
        two = cryosparc(70, seed=2, drop=["alignments", "location/micrograph_uid"])
        case.add(one)
        case.add(two)
        out = case.folder / "out"
        assert case.cli("run", *case.paths, "-o", out).exit_code == 0
        expected = case.brute_force(
            [fraction_centres(one), fraction_centres(two)], micrograph="location/micrograph_path"
        )
        same(Output(out).decisions, expected)

    def test_two_copies_of_a_table_are_duplicates(self, case):
        table = cryosparc(60, drop=["alignments"])
        case.add(table)
        case.add(table)
        result = case.run("--min-separation", 0)
        totals = result.manifest["totals"]
        assert (totals["kept"], totals["rejected"], totals["same_uid"]) == (60, 60, 60)


class TestRelion:
    def shifted(self, table, axes="XY"):
        stored = [values(table, f"rlnCoordinate{axis}") * PSIZE for axis in axes]
        return np.column_stack(stored) - self.origins(table, axes)

    def origins(self, table, axes):
        return np.column_stack([values(table, f"rlnOrigin{axis}Angst") for axis in axes])

    def check(self, case, table, centres, *options, micrograph="rlnMicrographName"):
        case.add(table)
        result = case.run(*options)
        expected = case.brute_force(
            centres, micrograph=micrograph, score="rlnAutopickFigureOfMerit"
        )
        same(result.decisions, expected)

    def test_2d_shifts_are_subtracted_in_angstrom(self, case):
        table = relion()
        self.check(case, table, self.shifted(table))
        assert "uid" not in case.log

    def test_2d_without_the_shift(self, case):
        table = relion()
        plain = np.column_stack([values(table, f"rlnCoordinate{axis}") for axis in "XY"]) * PSIZE
        self.check(case, table, plain, "--shift-key", "none")

    def test_relion_3_0_shifts_are_in_particle_pixels(self, case):
        new = relion()
        old = {f"rlnOrigin{axis}": values(new, f"rlnOrigin{axis}Angst") / 2.4 for axis in "XY"}
        old["rlnImagePixelSize"] = np.full(new.num_rows, 2.4)
        names = ["rlnOriginXAngst", "rlnOriginYAngst"]
        self.check(case, relion(columns=old, drop=names), self.shifted(new))

    def test_tomograms_use_z(self, case):
        table = relion(160, axes=3)
        self.check(case, table, self.shifted(table, "XYZ"), micrograph="rlnTomoName")

    def centred(self, extra=None):
        """RELION 5: coordinates from the tomogram's centre, in angstrom."""
        pixels = relion(160, axes=3)
        here = {
            f"rlnCenteredCoordinate{axis}Angst": values(pixels, f"rlnCoordinate{axis}") * PSIZE - 72
            for axis in "XYZ"
        }
        gone = ["rlnCoordinate", "rlnTomoTiltSeriesPixelSize"]
        table = relion(160, axes=3, columns={**here, **(extra or {})}, drop=gone)
        return table, np.column_stack(list(here.values()))

    def test_centred_coordinates_need_no_pixel_size(self, case):
        table, stored = self.centred()
        centres = stored - self.origins(table, "XYZ")
        self.check(case, table, centres, micrograph="rlnTomoName")

    def test_shifts_of_rotated_subtomograms_are_rotated_back(self, case):
        rng = np.random.default_rng(5)
        angles = np.column_stack([rng.uniform(low, 180, 160) for low in (-180, 0, -180)])
        names = [f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]
        table, stored = self.centred(dict(zip(names, angles.T, strict=True)))
        offsets = self.origins(table, "XYZ")
        turned = [relion_matrix(*row) @ offset for row, offset in zip(angles, offsets, strict=True)]
        self.check(case, table, stored - np.array(turned), micrograph="rlnTomoName")


class TestFurtherOptions:
    def test_particles_of_one_filament_are_not_duplicates(self, case):
        tube = np.random.default_rng(8).integers(3, size=120).tolist()
        tube[::10] = [None] * 12
        column = {"filament/filament_uid": pa.array(tube, pa.uint64())}
        table = cryosparc(columns=column, drop=["alignments"])
        case.add(table)
        result = case.run("--ignore-within-filament")
        expected = case.brute_force(
            fraction_centres(table), share=lambda i, j: tube[i] is not None and tube[i] == tube[j]
        )
        same(result.decisions, expected)

    def test_symmetry_copies_are_found_by_their_source(self, case):
        source = np.random.default_rng(8).integers(30, size=120, dtype=np.uint64)
        micrograph = source % 4 + np.uint64(1)
        table = cryosparc(
            columns={"sym_expand/src_uid": source, "location/micrograph_uid": micrograph}
        )
        case.add(table)
        result = case.run("--undo-symmetry-expansion")
        copies = np.column_stack([source, source]).astype(float)
        expected = case.brute_force(copies, separation=0)
        assert {k: v[0] for k, v in result.decisions.items()} == {
            k: v[0] for k, v in expected.items()
        }
        assert len(set(result.kept["sym_expand/src_uid"].to_pylist())) == result.kept.num_rows

    def test_an_input_with_inverted_y_is_flipped(self, case):
        one, two = cryosparc(80, seed=1), cryosparc(70, seed=2)
        y = 1 - values(two, "location/center_y_frac")
        shifts = [vectors(values(two, f"alignments{d}D/shift") * [1, -1]) for d in (2, 3)]
        case.add(
            cryosparc(
                80,
                seed=1,
                columns={
                    "location/center_y_frac": one["location/center_y_frac"].cast(pa.float64())
                },
            )
        )
        case.add(
            cryosparc(
                70,
                seed=2,
                columns={
                    "location/center_y_frac": y,
                    "alignments2D/shift": shifts[0],
                    "alignments3D/shift": shifts[1],
                },
            )
        )
        result = case.run("--flip-y", case.paths[1])
        centres = [fraction_centres(table, shift="alignments3D") for table in (one, two)]
        same(result.decisions, case.brute_force(centres))

    def test_micrographs_of_relion_and_cryosparc_match_by_name(self, cli, tmp_path):
        theirs = cryosparc(60, drop=["alignments"])
        number = [
            int(uid - MICROGRAPH_UID) for uid in theirs["location/micrograph_uid"].to_pylist()
        ]
        tail = "patch_aligned_doseweighted.mrc"
        paths = [f"J2/motioncorrected/{n:021}_grid_{n}_{tail}" for n in number]
        theirs = cryosparc(60, columns={"location/micrograph_path": paths}, drop=["alignments"])
        x, y = fraction_centres(theirs).T / PSIZE
        ours = relion(
            60,
            columns={
                "rlnMicrographName": [f"MotionCorr/job002/movies/grid_{n}.mrc" for n in number],
                "rlnCoordinateX": x,
                "rlnCoordinateY": y,
                "rlnAutopickFigureOfMerit": np.full(60, 2.0),
            },
            drop=["rlnOrigin"],
        )
        one = write_file(theirs, tmp_path / "cryosparc.parquet")
        two = write_file(ours, tmp_path / "relion.parquet")
        outcome = cli("run", one, two, "-o", tmp_path / "out", "--min-separation", 0.001)
        assert outcome.exit_code == 0, outcome.stderr
        winners = {
            row_id: winner for row_id, (winner, _) in Output(tmp_path / "out").decisions.items()
        }
        assert winners == {(str(one), row): (str(two), row) for row in range(60)}


def test_a_table_in_many_files_is_one_input(case, cli, tmp_path):
    table = cryosparc(drop=["alignments"])
    case.add(table)
    expected = case.run().by_uid
    folder = write_folder(table, tmp_path / "batches", files=7)
    assert cli("run", folder, "-o", tmp_path / "many").exit_code == 0
    assert Output(tmp_path / "many").by_uid == expected
    assert len(Output(tmp_path / "many").manifest["inputs"]) == 1


def test_uids_above_2_to_the_63_are_unchanged(case):
    table = cryosparc()
    case.add(table)
    duplicates = case.run().duplicates
    assert set(duplicates["uid"].to_pylist()) <= set(uids(table))
    assert max(duplicates["uid"].to_pylist()) > 2**63
    assert MICROGRAPH_UID > 2**63

"""Unit of stored coordinates: Warp's exported images, two readings, contradicting pixel sizes."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial import cKDTree
from tables import cryosparc, write_file

from dask_dedup import InputError, inspect, remove_duplicates, run, verify
from dask_dedup.formats import open_table, read

UNBINNED, IMAGE = 0.7894, 4.0


def star(path, columns, optics=None, general=None):
    """Write a RELION 3.1 STAR file. `columns` maps labels to values."""
    lines = []
    if general:
        lines += ["data_general", "", *(f"_{name} {value}" for name, value in general.items()), ""]
    if optics:
        optics = {"rlnOpticsGroup": 1, **optics}
        lines += ["data_optics", "", "loop_", *(f"_{name}" for name in optics)]
        lines += [" ".join(map(str, optics.values())), ""]
        columns = {**columns, "rlnOpticsGroup": [1] * len(next(iter(columns.values())))}
    lines += ["data_particles", "", "loop_", *(f"_{name}" for name in columns)]
    lines += [" ".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([*lines, ""]))
    return path


def warp(path, *, images="../TS_1/TS_1_000000{}_4.00A.mrc", general=None, optics=None, **more):
    """Write two particles of a Warp export, 130 A apart."""
    columns = {
        "rlnTomoName": ["TS_1.tomostar"] * 2,
        "rlnCoordinateX": [100.0, 132.5],
        "rlnCoordinateY": [80.0, 80.0],
        "rlnCoordinateZ": [60.0, 60.0],
    }
    if images:
        columns["rlnImageName"] = [images.format(n) for n in (1, 2)]
    sizes = {
        "rlnTomoTiltSeriesPixelSize": UNBINNED,
        "rlnTomoSubtomogramBinning": 5.06714,
        "rlnImagePixelSize": IMAGE,
    }
    return star(path, {**columns, **more}, sizes if optics is None else optics, general)


def rejected(path, output, **options):
    result = run(path, output, **{"min_separation": 50, "score_field": "none", **options})
    assert verify(output).verified
    return result.rejected


class TestWarp:
    def test_image_names_show_that_coordinates_are_in_pixels_of_the_image(self, tmp_path):
        path = warp(tmp_path / "particles.star")
        assert rejected(path, tmp_path / "near", min_separation=129.9) == 0
        assert rejected(path, tmp_path / "far", min_separation=130.1) == 1

    @pytest.mark.parametrize("images", ["p/TS_1_4.00A_00000{}.mrcs", "TS_1_000000{}_4.00A.mrc"])
    def test_both_forms_of_warps_image_names_are_recognised(self, tmp_path, images):
        assert rejected(warp(tmp_path / "p.star", images=images), tmp_path / "out") == 0

    def test_stacks_of_a_tomostar_are_recognised_without_image_names(self, tmp_path):
        general = {"rlnTomoSubTomosAre2DStacks": 1}
        path = warp(tmp_path / "p.star", images=None, general=general)
        assert rejected(path, tmp_path / "out") == 0
        assert rejected(path, tmp_path / "parquet", output_format="parquet") == 0

    @pytest.mark.parametrize(
        "images", ["job/Subtomograms/TS_1.tomostar/{}_data.mrc", "job/TS_1/{}_stack2d.mrcs"]
    )
    def test_images_of_relion_keep_pixels_of_the_tilt_series(self, tmp_path, images):
        general = {"rlnTomoSubTomosAre2DStacks": 1}
        path = warp(tmp_path / "p.star", images=images, general=general)
        assert rejected(path, tmp_path / "out") == 1

    def test_a_tomogram_of_relion_keeps_pixels_of_the_tilt_series(self, tmp_path):
        path = warp(tmp_path / "p.star", images=None, rlnTomoName=["TS_1"] * 2)
        assert rejected(path, tmp_path / "out") == 1

    def test_equal_pixel_sizes_are_never_unclear(self, tmp_path):
        """WarpTools from 2.0.0dev40 on writes the size of the image in all places."""
        optics = {"rlnTomoTiltSeriesPixelSize": IMAGE, "rlnImagePixelSize": IMAGE}
        path = warp(tmp_path / "p.star", images=None, optics=optics)
        assert rejected(path, tmp_path / "out") == 0

    @pytest.mark.parametrize("images", [None, "TS_1_000000{}_8.00A.mrc", "subtomo_{}.mrc"])
    def test_without_evidence_both_readings_are_shown(self, tmp_path, cli, images):
        path = warp(tmp_path / "p.star", images=images)
        outcome = cli("run", path, "-o", tmp_path / "out", "--score-field", "none")
        assert outcome.exit_code == 2
        (line,) = outcome.stderr.strip().splitlines()
        for part in (
            "the coordinates of 2 rows (first: row 0)",
            "rlnTomoTiltSeriesPixelSize (0.7894 A, nearest neighbour 25.66 A), as in RELION",
            "rlnImagePixelSize (4 A, nearest neighbour 130 A), as exported by Warp",
            "--coordinate-pixel-size 0.7894 or --coordinate-pixel-size 4",
        ):
            assert part in line
        assert not (tmp_path / "out").exists()
        for psize, number in ((UNBINNED, 1), (IMAGE, 0)):
            output = tmp_path / f"out-{psize}"
            assert rejected(path, output, coordinate_pixel_size=psize) == number
        found = inspect(path, score_field="none")
        assert any("may be in pixels of" in problem for problem in found.problems)

    def test_with_several_inputs_the_option_names_the_input(self, tmp_path, cli):
        known = warp(tmp_path / "known.star")
        unclear = warp(tmp_path / "unclear.star", images=None)
        words = ("run", known, unclear, "-o", tmp_path / "out", "--score-field", "none")
        outcome = cli(*words)
        assert f"--coordinate-pixel-size {unclear}=4.0" in outcome.stderr
        outcome = cli(*words, "--coordinate-pixel-size", f"{unclear}=4.0")
        assert outcome.exit_code == 0

    def test_relion_3_tables_need_no_option(self, tmp_path):
        """`--3d` exports name no pixel size of a micrograph."""
        columns = {
            "rlnMicrographName": ["TS_1.tomostar"] * 2,
            "rlnCoordinateX": [100.0, 132.5],
            "rlnCoordinateY": [80.0, 80.0],
            "rlnCoordinateZ": [60.0, 60.0],
            "rlnMagnification": [10000.0] * 2,
            "rlnDetectorPixelSize": [4.0] * 2,
            "rlnImageName": ["TS_1_0000001_4.00A.mrc", "TS_1_0000002_4.00A.mrc"],
        }
        path = star(tmp_path / "p.star", columns)
        assert rejected(path, tmp_path / "near") == 0
        (entry,) = json.loads((tmp_path / "near" / "manifest.json").read_text())["inputs"]
        source = "rlnImagePixelSize, as exported by Warp"
        assert entry["pixel_size"]["source"] == source
        assert rejected(path, tmp_path / "far", min_separation=131) == 1
        unknown = columns | {"rlnImageName": ["1.mrc", "2.mrc"]}
        with pytest.raises(InputError, match="no micrograph pixel size"):
            run(star(tmp_path / "q.star", unknown), tmp_path / "out", score_field="none")

    def test_an_inspection_measures_a_relion_3_table_in_angstrom(self, tmp_path):
        columns = {
            "rlnMicrographName": ["TS_1.tomostar"] * 2,
            "rlnCoordinateX": [100.0, 132.5],
            "rlnCoordinateY": [80.0, 80.0],
            "rlnCoordinateZ": [60.0, 60.0],
            "rlnImagePixelSize": [4.0] * 2,
            "rlnImageName": ["TS_1_0000001_4.00A.mrc", "TS_1_0000002_4.00A.mrc"],
        }
        entry = inspect(star(tmp_path / "p.star", columns), score_field="none").inputs[0]
        assert (entry.unit, entry.pixel_size) == ("A", (4.0, 4.0))
        assert entry.pixel_size_source == "rlnImagePixelSize, as exported by Warp"
        unknown = columns | {"rlnImageName": ["1.mrc", "2.mrc"]}
        found = inspect(star(tmp_path / "q.star", unknown), score_field="none")
        assert found.inputs[0].unit == "px"
        assert any("no micrograph pixel size" in problem for problem in found.problems)

    def test_rows_outside_a_known_tomogram_are_reported(self, tmp_path):
        """A unit that puts particles outside the tomogram is wrong."""
        tomograms = {
            "rlnTomoName": ["TS_1.tomostar"],
            "rlnTomoTiltSeriesPixelSize": [UNBINNED],
            **{f"rlnTomoSize{axis}": [600] for axis in "XYZ"},
        }
        known = tmp_path / "tomograms.parquet"
        pq.write_table(pa.table(tomograms), known)
        path = warp(tmp_path / "p.star")
        options = {"micrographs": known, "score_field": "none"}
        (line,) = run(path, tmp_path / "out", **options).warnings  # 473 A; 400 and 530 A
        assert line.startswith(f"{path}: 1 row is outside the micrograph")
        options["coordinate_pixel_size"] = UNBINNED
        assert run(path, tmp_path / "fits", **options).warnings == []

    @pytest.mark.slow
    def test_a_cluster_reads_alike(self, cluster, tmp_path):
        path = warp(tmp_path / "p.star")
        result = run(path, tmp_path / "out", client=cluster, min_separation=50, score_field="none")
        assert result.rejected == 0
        unclear = warp(tmp_path / "q.star", images=None)
        with pytest.raises(InputError, match="may be in pixels of"):
            run(unclear, tmp_path / "no", client=cluster, score_field="none")

    def test_rows_of_relion_and_warp_in_one_table_keep_their_units(self, tmp_path):
        names = ["TS_1_0000001_4.00A.mrc", "job/Subtomograms/TS_1/2_data.mrc"]
        x = [100.0, 400.0 / UNBINNED]
        more = {"rlnImageName": names, "rlnCoordinateX": x}
        more |= {f"rlnCoordinate{axis}": [0.0, 0.0] for axis in "YZ"}
        path = warp(tmp_path / "p.star", **more)
        assert rejected(path, tmp_path / "out", min_separation=0.1) == 1

    def test_frames_are_read_alike(self, tmp_path):
        table = open_table(warp(tmp_path / "p.star"))
        rows = read(table, table.fragments[0], table.schema.names)
        options = {"min_separation": 50, "score_field": "none"}
        assert remove_duplicates(rows, **options)[1].num_rows == 0
        dd = pytest.importorskip("dask.dataframe")
        frame = dd.from_pandas(rows.to_pandas(), npartitions=2)
        assert len(remove_duplicates(frame, **options)[1].compute()) == 0
        unclear = rows.drop_columns(["rlnImageName"])
        with pytest.raises(InputError, match="may be in pixels of"):
            remove_duplicates(unclear, **options)
        with pytest.raises(InputError, match="may be in pixels of"):
            remove_duplicates(dd.from_pandas(unclear.to_pandas(), npartitions=1), **options)[
                1
            ].compute()

    def test_the_micrograph_table_does_not_change_the_unit_of_an_export(self, tmp_path):
        tomograms = {"rlnTomoName": ["TS_1.tomostar"], "rlnTomoTiltSeriesPixelSize": [UNBINNED]}
        known = tmp_path / "tomograms.parquet"
        pq.write_table(pa.table(tomograms), known)
        path = warp(tmp_path / "p.star")
        assert rejected(path, tmp_path / "out", micrographs=known) == 0
        unclear = warp(tmp_path / "q.star", images=None)
        with pytest.raises(InputError, match="may be in pixels of"):
            run(unclear, tmp_path / "no", micrographs=known, score_field="none")


class TestContradictions:
    def test_an_option_that_contradicts_the_column_is_refused(self, tmp_path, cli):
        columns = {
            "rlnMicrographName": ["m.mrc"] * 2,
            "rlnCoordinateX": [100.0, 110.0],
            "rlnCoordinateY": [80.0, 80.0],
            "rlnMicrographPixelSize": [1.0, 1.0],
        }
        path = star(tmp_path / "p.star", columns)
        words = ("run", path, "--score-field", "none", "--micrograph-pixel-size")
        outcome = cli(*words, 1.02, "-o", tmp_path / "out")
        assert outcome.exit_code == 2
        for part in (
            "--micrograph-pixel-size 1.02 contradicts the column rlnMicrographPixelSize",
            "which has 1 A",
            "--coordinate-pixel-size 1.02",
        ):
            assert part in outcome.stderr
        outcome = cli(*words, 1.005, "-o", tmp_path / "out")
        assert outcome.exit_code == 0
        assert "--micrograph-pixel-size 1.005 was not used" in outcome.stderr

    def test_an_option_that_contradicts_a_warp_export_is_refused(self, tmp_path):
        path = warp(tmp_path / "p.star")
        with pytest.raises(InputError, match=r"contradicts rlnImagePixelSize of a Warp export"):
            run(path, tmp_path / "out", micrograph_pixel_size=UNBINNED, score_field="none")
        assert rejected(path, tmp_path / "out", coordinate_pixel_size=UNBINNED) == 1

    def test_the_option_fills_rows_without_a_pixel_size(self, tmp_path):
        """A column of NaN does not stand in the way of the option."""
        columns = {
            "rlnMicrographName": ["m.mrc", "m.mrc", "n.mrc", "n.mrc"],
            "rlnCoordinateX": [100.0, 110.0] * 2,
            "rlnCoordinateY": [80.0] * 4,
            "rlnMicrographPixelSize": ["nan", "nan", 2.0, 2.0],
        }
        path = star(tmp_path / "p.star", columns)
        with pytest.raises(InputError, match="no pixel size above 0, which micrograph_pixel_size"):
            run(path, tmp_path / "no", score_field="none")
        options = {"micrograph_pixel_size": 2.0, "min_separation": 15}
        assert rejected(path, tmp_path / "out", **options) == 0
        assert rejected(path, tmp_path / "far", **options | {"min_separation": 25}) == 2


class TestShiftsInPixels:
    """RELION 3.0 writes rlnOriginX in pixels of the particle image."""

    def table(self, path, **more):
        columns = {
            "rlnMicrographName": ["m.mrc"] * 2,
            "rlnCoordinateX": [100.0, 120.0],
            "rlnCoordinateY": [80.0, 80.0],
            "rlnOriginX": [0.0, 10.0],
            "rlnOriginY": [0.0, 0.0],
            "rlnMicrographPixelSize": [1.0, 1.0],
        }
        return star(path, {**columns, **more})

    def test_without_the_size_of_particle_pixels_the_option_is_named(self, tmp_path, cli):
        path = self.table(tmp_path / "p.star")
        words = ("run", path, "-o", tmp_path / "out", "--score-field", "none")
        outcome = cli(*words)
        assert outcome.exit_code == 2
        for part in ("rlnOriginX in pixels", "--particle-pixel-size", "--shift-key none"):
            assert part in outcome.stderr
        outcome = cli(*words, "--min-separation", 0.1, "--particle-pixel-size", f"{path}=2")
        assert outcome.exit_code == 0, outcome.stderr
        manifest = json.loads((tmp_path / "out/manifest.json").read_text())
        assert manifest["totals"]["rejected"] == 1  # 120 - 10 * 2 = 100
        assert verify(tmp_path / "out").verified

    def test_the_option_fills_rows_and_may_not_contradict_the_column(self, tmp_path):
        path = self.table(tmp_path / "p.star", rlnImagePixelSize=["nan", "nan"])
        options = {"min_separation": 0.1, "particle_pixel_size": 2.0}
        with pytest.raises(InputError, match="which particle_pixel_size can give"):
            run(path, tmp_path / "no", score_field="none")
        assert rejected(path, tmp_path / "out", **options) == 1
        path = self.table(tmp_path / "q.star", rlnImagePixelSize=[2.0, 3.0])
        message = r"1 row has a pixel size that contradicts particle_pixel_size=2 \(rlnImagePixelSize is 3"
        with pytest.raises(InputError, match=message):
            run(path, tmp_path / "no", score_field="none", **options)
        assert rejected(path, tmp_path / "rejected", **options, invalid="reject") == 1

    @pytest.mark.real_data
    @pytest.mark.parametrize(("separation", "kept"), [(5, 59), (10, 57)])
    def test_real_shifts_in_pixels(self, real_data, tmp_path, separation, kept):
        result = run(
            real_data / "pyseg_synaptic/particles.star",
            tmp_path / "out",
            min_separation=separation,
            score_field="rlnMaxValueProbDistribution:higher",
            micrograph_pixel_size=1.0,
            particle_pixel_size=1.0,
        )
        assert result.kept == kept
        assert verify(tmp_path / "out").verified


class TestM:
    """Species of M are in angstrom from the corner of the tomogram."""

    def species(self, path, x=(400.0, 530.0)):
        columns = {
            **{
                f"wrpCoordinate{axis}1": values
                for axis, values in zip("XYZ", (x, (320.0, 320.0), (240.0, 240.0)), strict=True)
            },
            "wrpRandomSubset": [1, 2],
            "wrpSourceName": ["TS_1.tomostar"] * 2,
            "wrpSourceHash": ["69338812", "69338812"],
        }
        return star(path, columns)

    def test_species_need_no_pixel_size(self, tmp_path):
        path = self.species(tmp_path / "p.star")
        assert rejected(path, tmp_path / "near", min_separation=129.9) == 0
        assert rejected(path, tmp_path / "far", min_separation=130.1) == 1
        entry = run(path, tmp_path / "far", min_separation=130.1, score_field="none").manifest
        described = entry["inputs"][0]
        assert described["position_unit"] == "angstrom"
        assert described["pixel_size"]["source"] == "coordinates in angstrom"
        assert described["columns"]["half_set"] == "wrpRandomSubset"
        with pytest.raises(InputError, match="wrpCoordinateX1 is in angstrom"):
            run(path, tmp_path / "no", coordinate_pixel_size=2.0, score_field="none")

    def test_species_are_compared_with_an_export_of_warp(self, tmp_path):
        species = self.species(tmp_path / "species.star")
        export = warp(tmp_path / "export.star")
        result = run(
            [export, species],
            tmp_path / "out",
            min_separation=5,
            score_field="none",
            prefer_input_order=True,
        )
        assert [entry["rejected"] for entry in result.by_input] == [0, 2]
        assert verify(tmp_path / "out").verified

    def test_stored_coordinates_of_species_are_not_compared_with_pixels(self, tmp_path):
        paths = [self.species(tmp_path / "species.star"), warp(tmp_path / "export.star")]
        with pytest.raises(InputError, match="different units"):
            run(paths, tmp_path / "out", min_separation=0, score_field="none")
        copy = self.species(tmp_path / "copy.star")
        options = {"min_separation": 0, "score_field": "none"}
        assert run([paths[0], copy], tmp_path / "copies", **options).rejected == 2

    def test_a_pixel_size_that_stored_coordinates_do_not_need_is_reported(self, tmp_path):
        options = {"min_separation": 0, "score_field": "none", "coordinate_pixel_size": 2.0}
        result = run(warp(tmp_path / "p.star"), tmp_path / "out", **options)
        (line,) = (each for each in result.warnings if "coordinate_pixel_size" in each)
        assert "was not used, because the stored coordinates are compared" in line

    def test_species_are_not_compared_with_centred_coordinates(self, tmp_path):
        centred = {
            "rlnTomoName": ["TS_1.tomostar"],
            **{f"rlnCenteredCoordinate{axis}Angst": [1.0] for axis in "XYZ"},
        }
        paths = [self.species(tmp_path / "a.star"), star(tmp_path / "b.star", centred)]
        with pytest.raises(InputError, match=r"different units .* Convert one of them"):
            run(paths, tmp_path / "out", score_field="none")
        (tmp_path / "annotations").mkdir()
        with pytest.raises(InputError, match=r"Pass \S*annotations in place of \S*b.star"):
            run(paths, tmp_path / "out", score_field="none")


class TestNormalised:
    """Warp's template matching writes fractions of the tomogram."""

    def matching(self, path, **more):
        columns = {
            "rlnMicrographName": ["TS_1.tomostar"] * 3,
            "rlnCoordinateX": [0.5, 0.5, 0.5],
            "rlnCoordinateY": [0.25, 0.25, 0.25],
            "rlnCoordinateZ": [0.5, 0.51, 0.6],
            "rlnAutopickFigureOfMerit": [9.0, 8.0, 7.0],
        }
        return star(path, {**columns, **more})

    def tomograms(self, path, **more):
        columns = {
            "rlnTomoName": ["TS_1.tomostar"],
            "rlnTomoSizeX": [4000],
            "rlnTomoSizeY": [3000],
            "rlnTomoSizeZ": [2000],
            "rlnTomoTiltSeriesPixelSize": [1.5],
        }
        return star(path, {**columns, **more})

    def test_fractions_of_a_tomogram_of_unknown_size_are_refused(self, tmp_path, cli):
        path = self.matching(tmp_path / "p.star")
        outcome = cli("run", path, "-o", tmp_path / "out", "--micrograph-pixel-size", 10)
        assert outcome.exit_code == 2
        (line,) = outcome.stderr.strip().splitlines()
        for part in ("from 0 to 1", "template matching", "--micrographs", "rlnTomoSizeX"):
            assert part in line
        known = inspect(path, micrograph_pixel_size=10.0)
        assert any("from 0 to 1" in problem for problem in known.problems)

    @pytest.mark.parametrize("axes", [2, 3])
    def test_picks_at_the_corner_are_not_taken_for_fractions(self, tmp_path, axes):
        columns = {f"rlnCoordinate{axis}": [0, 1, 1] for axis in "XYZ"[:axes]}
        path = star(tmp_path / "p.star", {"rlnTomoName": ["TS_1.tomostar"] * 3, **columns})
        options = {"min_separation": 5, "score_field": "none"}
        known = self.tomograms(tmp_path / "tomograms.star")
        assert run(path, tmp_path / "out", micrograph_pixel_size=10.0, **options).rejected == 1
        assert rejected(path, tmp_path / "known", micrographs=known, min_separation=1) == 1
        assert inspect(path, micrographs=known).inputs[0].position_unit == "pixel"

    def test_fractions_of_micrographs_do_not_ask_for_tomograms(self, tmp_path):
        columns = {"rlnMicrographName": ["m.mrc"] * 2, "rlnCoordinateX": [0.5, 0.6]}
        path = star(tmp_path / "p.star", {**columns, "rlnCoordinateY": [0.5, 0.5]})
        with pytest.raises(InputError, match="as fractions of the micrograph are") as caught:
            run(path, tmp_path / "out", micrograph_pixel_size=1.0, score_field="none")
        assert "tomogram" not in str(caught.value)

    def test_a_position_can_be_in_pixels_after_all(self, tmp_path):
        path = self.matching(tmp_path / "p.star")
        assert rejected(path, tmp_path / "out", coordinate_pixel_size=10.0) == 2

    def test_stored_coordinates_are_compared_without_a_unit(self, tmp_path):
        assert rejected(self.matching(tmp_path / "p.star"), tmp_path / "out", min_separation=0) == 0

    def fractions(self, path, x, micrographs):
        columns = {"rlnMicrographName": micrographs, "rlnCoordinateX": x}
        columns |= {f"rlnCoordinate{axis}": [0.5] * len(x) for axis in "YZ"}
        return star(path, columns)

    @pytest.mark.parametrize("known", [False, True])
    def test_nearly_all_fractions_are_refused_with_the_number_outside(self, tmp_path, known):
        x = [*(n / 100 for n in range(1, 100)), 1.01]
        path = self.fractions(tmp_path / "p.star", x, ["TS_1.tomostar"] * 100)
        options = {"micrograph_pixel_size": 10.0}
        if known:
            options = {"micrographs": self.tomograms(tmp_path / "tomograms.star")}
        text = "in 99 rows .*TS_1.tomostar.* outside 0 to 1 in 1"
        with pytest.raises(InputError, match=text):
            run(path, tmp_path / "no", score_field="none", **options)
        run(path, tmp_path / "out", score_field="none", coordinate_pixel_size=10.0)

    def test_one_tomogram_in_fractions_among_pixels_is_refused(self, tmp_path):
        x = [0.25, 100.5, 0.75, 200.5, 300.5]
        names = [f"TS_{n}.tomostar" for n in (1, 2, 1, 2, 2)]
        path = self.fractions(tmp_path / "p.star", x, names)
        with pytest.raises(InputError, match=r"in 2 rows \(first micrograph: TS_1.tomostar"):
            run(path, tmp_path / "no", score_field="none", micrograph_pixel_size=10.0)

    def test_fractions_are_reported_before_a_missing_pixel_size(self, tmp_path):
        path = self.matching(tmp_path / "p.star")
        with pytest.raises(InputError, match="template matching"):
            run(path, tmp_path / "no", score_field="none")

    @pytest.mark.parametrize("min_separation", [0, 50])
    def test_zero_filled_coordinates_are_warned_about(self, tmp_path, min_separation):
        columns = {"rlnMicrographName": ["m.mrc"] * 3, "rlnMicrographPixelSize": [1.0] * 3}
        columns |= {f"rlnCoordinate{axis}": [0.0] * 3 for axis in "XY"}
        zeros = np.zeros(40, np.float32)
        table = {f"location/center_{axis}_frac": zeros for axis in "xy"}
        picks = write_file(cryosparc(40, columns=table), tmp_path / "p.parquet")
        for path in (star(tmp_path / "p.star", columns), picks):
            result = run(
                path,
                tmp_path / path.stem / path.suffix[1:],
                score_field="none",
                min_separation=min_separation,
            )
            assert any(
                "are 0 in all rows. If they are zero-filled" in line for line in result.warnings
            )

    def test_pixels_in_columns_of_fractions_are_warned_about(self, tmp_path):
        x = np.linspace(0.5, 4000, 40, dtype=np.float32)
        table = cryosparc(40, columns={"location/center_x_frac": x})
        result = run(write_file(table, tmp_path / "p.parquet"), tmp_path / "out")
        assert any("39 rows of 40" in line and "must hold" in line for line in result.warnings)

    def test_sizes_of_tomograms_make_positions_of_fractions(self, tmp_path):
        path = self.matching(tmp_path / "p.star")
        known = self.tomograms(tmp_path / "sizes.star")
        options = {"micrographs": known, "score_field": "ncc_score"}
        for separation, number in ((29.9, 0), (30.1, 1), (300.1, 2)):
            output = tmp_path / str(separation)
            assert rejected(path, output, min_separation=separation, **options) == number
        assert inspect(path, micrographs=known).inputs[0].position_unit == "volume"

    def test_a_row_without_a_position_does_not_make_pixels_of_fractions(self, tmp_path):
        path = self.matching(tmp_path / "p.star", rlnCoordinateX=["nan", 0.5, 0.5])
        known = self.tomograms(tmp_path / "tomograms.star")
        options = {"micrographs": known, "min_separation": 300, "invalid": "reject"}
        assert rejected(path, tmp_path / "out", **options) == 2

    def test_a_tomogram_without_a_size_is_an_invalid_row(self, tmp_path):
        path = self.matching(tmp_path / "p.star")
        known = self.tomograms(tmp_path / "tomograms.star", rlnTomoSizeZ=[0])
        with pytest.raises(InputError, match="3 rows have no micrograph shape above 0"):
            run(path, tmp_path / "no", micrographs=known)
        assert rejected(path, tmp_path / "out", micrographs=known, invalid="reject") == 3

    def test_fractions_and_pixels_in_one_table_are_refused(self, tmp_path, monkeypatch):
        path = tmp_path / "p"
        path.mkdir()
        for name, x in (("a", 0.5), ("b", 150.0)):
            columns = {
                "rlnTomoName": ["TS_1.tomostar"],
                "rlnCoordinateX": [x],
                "rlnCoordinateY": [0.5],
                "rlnCoordinateZ": [0.5],
            }
            pq.write_table(pa.table(columns), path / f"{name}.parquet")
        known = self.tomograms(tmp_path / "tomograms.star")
        whole = run(path, tmp_path / "out", micrographs=known, score_field="none")
        assert whole.manifest["inputs"][0]["position_unit"] == "pixel"
        monkeypatch.setattr("dask_dedup.formats.parquet.table.FRAGMENT_BYTES", 1)
        with pytest.raises(InputError, match=r"later rows reach 150 \(1 row in all\)"):
            run(path, tmp_path / "no", micrographs=known, score_field="none")


def test_shifts_of_several_classes_are_reported(tmp_path):
    table = cryosparc(20, drop=["alignments"])
    shifts = pa.array([[1.0, 2.0, 3.0, 4.0]] * 20)
    table = table.append_column("alignments3D_multi/shift", shifts)
    path = write_file(table, tmp_path / "a.parquet")
    (line,) = [w for w in run(path, tmp_path / "a").warnings if "several" in w or "each class" in w]
    assert "alignments3D_multi/shift" in line
    assert "shift_key='none'" in line
    quiet = run(path, tmp_path / "b", shift_key="none").warnings
    assert not any("each class" in line for line in quiet)


def coordinates(path, columns):
    table = open_table(path)
    rows = pa.concat_tables([read(table, part, columns) for part in table.fragments])
    return rows.to_pandas()


def crowded(path, psize, names, separations, micrograph):
    """Count by brute force the rows that have another within each separation."""
    frame = coordinates(path, [*names, micrograph])
    points = frame[names].to_numpy() * psize
    found = []
    for separation in separations:
        rows = 0
        for group in frame.groupby(frame[micrograph].astype(str)).indices.values():
            tree = cKDTree(points[group])
            rows += sum(len(near) > 1 for near in tree.query_ball_point(points[group], separation))
        found.append(rows)
    return found


XYZ = [f"rlnCoordinate{axis}" for axis in "XYZ"]


@pytest.mark.real_data
class TestRealTables:
    @pytest.mark.parametrize(
        "name",
        [
            "tomo_forms_chemoreceptor/warp/matching_dev39.star",
            "tomo_forms_chemoreceptor/warp/matching_dev40.star",
            "tomo_forms_chemoreceptor/warp/m_species_particles.star",
            "dynamo2m_chemoreceptor/warp2dynamo_example.star",
        ],
    )
    def test_forms_of_one_warp_export_agree(self, real_data, tmp_path, name):
        path = real_data / name
        known = open_table(path).schema.names
        names = ("rlnTomoName", "rlnMicrographName", "wrpSourceName")
        micrograph = next(name for name in names if name in known)
        separations = [5, 100]
        axes, psize = (XYZ, 5.0)
        if micrograph == "wrpSourceName":
            axes, psize = [f"wrpCoordinate{axis}1" for axis in "XYZ"], 1.0
        expected = crowded(path, psize, axes, separations, micrograph)
        assert expected == [36, 139]
        for separation, rows in zip(separations, expected, strict=True):
            output = tmp_path / str(separation)
            assert rejected(path, output, min_separation=separation, remove_entirely=True) == rows

    def test_an_export_without_images_is_refused_or_read_as_told(self, real_data, tmp_path):
        path = real_data / "tomo_forms_chemoreceptor/warp/matching_dev39.star"
        table = open_table(path)
        rows = pa.concat_tables(
            [read(table, part, table.schema.names) for part in table.fragments]
        ).drop_columns(["rlnImageName", "rlnTomoSubTomosAre2DStacks"])
        copy = tmp_path / "copy.parquet"
        pq.write_table(rows, copy)
        with pytest.raises(InputError, match=r"of 1,399 rows .* nearest neighbour"):
            run(copy, tmp_path / "no", score_field="none")
        options = {"min_separation": 50, "remove_entirely": True}
        assert rejected(copy, tmp_path / "a", coordinate_pixel_size=5.0, **options) == 85
        assert rejected(copy, tmp_path / "b", coordinate_pixel_size=1.35, **options) == 1173

    def test_template_matching_is_read_with_the_sizes_of_tomograms(self, real_data, tmp_path):
        folder = real_data / "tomo_forms_chemoreceptor/warp"
        paths = sorted((folder / "matching").glob("*.star"))
        known = folder / "matching_dev39_tomograms.star"
        for separation, best, crowd in ((5, 6, 12), (100, 18, 36)):
            for entirely, number in ((False, best), (True, crowd)):
                output = tmp_path / f"{separation}-{entirely}"
                result = run(
                    paths,
                    output,
                    min_separation=separation,
                    remove_entirely=entirely,
                    micrographs=known,
                )
                assert (result.rows, result.rejected) == (268, number)
        assert verify(output).verified
        copy = tmp_path / "copy.star"  # without a table of tomograms near it
        copy.write_bytes(paths[0].read_bytes())
        with pytest.raises(InputError, match="from 0 to 1"):
            run(copy, tmp_path / "no", micrograph_pixel_size=10.0)

    @pytest.mark.parametrize(
        ("reverse", "separation", "kept"),
        [(False, 80, (126, 4664)), (True, 50, (4815, 2))],
    )
    def test_two_programs_with_two_pixel_sizes(
        self, real_data, tmp_path, reverse, separation, kept
    ):
        refined, listed = (
            str(real_data / "napari_starfile" / name)
            for name in ("example_particles_with_optics.star", "example_particles.star")
        )
        result = run(
            [listed, refined] if reverse else [refined, listed],
            tmp_path / "out",
            min_separation=separation,
            prefer_input_order=True,
            score_field="none",
            micrograph_pixel_size={listed: 20.712},
        )
        assert tuple(entry["kept"] for entry in result.by_input) == kept
        assert verify(tmp_path / "out").verified


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "exported"),
    [
        ("tomo_forms_chemoreceptor/warp/matching_dev39.star", True),
        ("napari_starfile/example_particles_with_optics.star", True),
        ("dynamo2m_chemoreceptor/warp2dynamo_example.star", True),
        ("napari_starfile/example_particles.star", False),
        ("cdp_annotations/relion_4_star.star", False),
        ("cdp_annotations/tomoman_relion_star.star", False),
        ("cylindra_relion5/refine3d_run_it050_data.star", False),
        ("pyseg_synaptic/particles.star", False),
    ],
)
def test_only_exports_of_warp_are_recognised(real_data, name, exported):
    (entry,) = inspect(real_data / name, shift_key="none").inputs
    assert entry.pixel_size_source.endswith("as exported by Warp") == exported

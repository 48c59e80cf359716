"""Two pixel sizes or sizes of one micrograph, and the pixel size of each input in log, manifest and report."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from tables import cryosparc, write_file

from dask_dedup import InputError, inspect, remove_duplicates, run, verify
from dask_dedup.particles.checks.micrograph_scales import _find_conflict
from dask_dedup.particles.scan_summary import MicrographScales


def relion(path, psize, micrographs=("a.mrc", "a.mrc", "b.mrc"), **more):
    rows = len(micrographs)
    columns = {
        "rlnMicrographName": list(micrographs),
        "rlnCoordinateX": np.arange(rows) * 500.0 + 100,
        "rlnCoordinateY": np.full(rows, 100.0),
    }
    if psize is not None:
        columns["rlnMicrographPixelSize"] = np.broadcast_to(psize, rows)
    pq.write_table(pa.table({**columns, **more}), path)
    return path


def fractions(path, shape, psize):
    table = cryosparc(20, columns={"location/micrograph_psize_A": np.full(20, psize, np.float32)})
    column = table.column_names.index("location/micrograph_shape")
    shapes = pa.array([shape] * 20, table.schema.field(column).type)
    return write_file(table.set_column(column, "location/micrograph_shape", shapes), path)


class TestExtents:
    def test_two_sizes_of_one_micrograph_are_refused(self, tmp_path, cli):
        one = fractions(tmp_path / "a.parquet", [400, 500], 1.1)
        other = fractions(tmp_path / "b.parquet", [200, 250], 1.1)
        outcome = cli("run", one, other, "-o", tmp_path / "out")
        assert outcome.exit_code == 2
        (line,) = outcome.stderr.strip().splitlines()
        for part in (
            "have two sizes (location/micrograph_shape x location/micrograph_psize_A",
            f"275 x 220 A in {other}, 550 x 440 A in {one}",
            "--coordinate-pixel-size",
        ):
            assert part in line
        assert not (tmp_path / "out").exists()
        assert any("two sizes" in problem for problem in inspect([one, other]).problems)

    def test_the_extent_may_be_corrected_for_one_input(self, tmp_path):
        one = fractions(tmp_path / "a.parquet", [400, 500], 1.1)
        other = fractions(tmp_path / "b.parquet", [200, 250], 1.1)
        result = run([one, other], tmp_path / "out", coordinate_pixel_size={str(other): 2.2})
        assert not any("two sizes" in line for line in result.warnings)
        assert verify(tmp_path / "out").verified

    def test_binned_micrographs_of_one_extent_are_compared_without_a_warning(self, tmp_path):
        one = fractions(tmp_path / "a.parquet", [400, 500], 1.1)
        other = fractions(tmp_path / "b.parquet", [200, 250], 2.2)
        result = run([one, other], tmp_path / "out")
        assert not any("pixel sizes" in line for line in result.warnings)

    def test_turned_shapes_are_refused(self, tmp_path):
        one = fractions(tmp_path / "a.parquet", [400, 500], 1.1)
        other = fractions(tmp_path / "b.parquet", [500, 400], 1.1)
        with pytest.raises(InputError, match="two sizes"):
            run([one, other], tmp_path / "out")

    def test_two_sizes_in_one_table_are_refused(self, tmp_path):
        psize = np.where(np.arange(20) % 2, 1.1, 1.2).astype(np.float32)
        table = cryosparc(20, columns={"location/micrograph_psize_A": psize})
        with pytest.raises(InputError, match="two sizes"):
            run(write_file(table, tmp_path / "a.parquet"), tmp_path / "out")
        with pytest.raises(InputError, match="two sizes"):
            remove_duplicates(table)

    def test_the_parameter_passed_is_named_and_not_offered(self, tmp_path):
        one = fractions(tmp_path / "a.parquet", [400, 500], 1.1)
        other = fractions(tmp_path / "b.parquet", [400, 600], 1.1)
        with pytest.raises(InputError, match="two sizes") as caught:
            run([one, other], tmp_path / "out", coordinate_pixel_size={str(other): 1.1})
        assert "location/micrograph_shape x coordinate_pixel_size; first" in str(caught.value)
        assert "micrograph_pixel_size" not in str(caught.value)
        assert str(caught.value).endswith("Fix the pixel size or the shape.")


class TestPixelSizes:
    def test_the_warning_about_a_micrograph_table_names_the_cure(self, tmp_path):
        one = relion(tmp_path / "a.parquet", 1.0)
        table = {"rlnMicrographName": ["a.mrc", "b.mrc"], "rlnMicrographPixelSize": [2.0, 2.0]}
        pq.write_table(pa.table(table), tmp_path / "m.parquet")
        (line,) = warnings_of([one], tmp_path / "out", micrographs=tmp_path / "m.parquet")
        assert "pass coordinate_pixel_size=1" in line

    @pytest.mark.parametrize("inputs", [1, 2])
    def test_pixel_sizes_in_nanometres_are_suspected(self, tmp_path, inputs):
        paths = [relion(tmp_path / "a.parquet", 0.09), relion(tmp_path / "b.parquet", 0.9)][:inputs]
        value = {str(paths[0]): 0.9} if inputs > 1 else 0.9
        with pytest.raises(InputError) as caught:
            run(paths, tmp_path / "no", score_field="none")
        assert "If the pixel size is in nanometres, pass coordinate_pixel_size=" in str(
            caught.value
        )
        run(paths, tmp_path / "out", score_field="none", coordinate_pixel_size=value)

    def test_two_pixel_sizes_of_one_micrograph_are_reported(self, tmp_path):
        one = relion(tmp_path / "a.parquet", 1.35)
        other = relion(tmp_path / "b.parquet", 1.5)
        (line,) = warnings_of([one, other], tmp_path / "out")
        assert "2 micrographs have two pixel sizes (rlnMicrographPixelSize; first: " in line
        assert f"1.35 A in {one}, 1.5 A in {other}" in line
        assert "coordinate_pixel_size" in line
        assert "nm" not in line

    def test_nanometres_are_suspected_at_a_factor_of_10(self, tmp_path):
        one = relion(tmp_path / "a.parquet", 1.35)
        other = relion(tmp_path / "b.parquet", 0.135)
        (line,) = warnings_of([one, other], tmp_path / "out")
        assert "A factor of 10 suggests nanometres." in line
        assert line.endswith(f"pass coordinate_pixel_size 1.35 for {other}.")

    def test_two_optics_groups_of_one_micrograph_are_reported(self, tmp_path):
        (line,) = warnings_of([relion(tmp_path / "a.parquet", [1.0, 2.0, 3.0])], tmp_path / "out")
        assert line.startswith("1 micrograph has two pixel sizes")
        assert "first: a.mrc" in line

    def test_an_option_for_one_input_is_compared_with_the_column_of_another(self, tmp_path):
        one = relion(tmp_path / "a.parquet", 1.35)
        other = relion(tmp_path / "b.parquet", None)
        options = {"micrograph_pixel_size": {str(other): 0.135}}
        (line,) = warnings_of([one, other], tmp_path / "out", **options)
        assert "micrograph_pixel_size" in line.split(";")[0]
        assert "rlnMicrographPixelSize" in line.split(";")[0]

    def test_micrographs_of_different_pixel_sizes_are_normal(self, tmp_path):
        path = relion(tmp_path / "a.parquet", [1.0, 1.0, 3.0])
        assert warnings_of([path], tmp_path / "out") == []

    def test_a_pixel_size_that_the_user_states_is_not_doubted(self, tmp_path):
        one = relion(tmp_path / "a.parquet", 1.35)
        other = relion(tmp_path / "b.parquet", 1.5)
        options = {"coordinate_pixel_size": {str(other): 1.5}}
        assert warnings_of([one, other], tmp_path / "out", **options) == []


def warnings_of(paths, output, **options):
    result = run(paths, output, score_field="none", min_separation=5, **options)
    assert verify(output).verified
    return [line for line in result.warnings if "pixel size" in line]


@st.composite
def scales_of_fragments(draw):
    """Some fragments with micrographs 0 to 3: pixel size, height and width of each, or None."""
    value = st.sampled_from([None, 100.0, 100.5, 102.0, 200.0])
    row = st.tuples(st.sampled_from([None, 1.0, 1.005, 1.02, 10.0]), value, value)
    fragment = st.dictionaries(st.integers(0, 3), row, min_size=1)
    return draw(st.lists(fragment, min_size=1, max_size=4))


class _Summary:
    def __init__(self, number, rows):
        self.source, self.micrographs = number, np.array(sorted(rows), np.uint64)
        values = np.array([rows[key] for key in sorted(rows)], float)
        self.scales = MicrographScales(values, values)


@examples(300)
@given(scales_of_fragments())
def test_conflicts_equal_brute_force(fragments):
    summaries = [_Summary(number, rows) for number, rows in enumerate(fragments)]
    for which, fields in ((slice(1, 3), (1, 2)), (slice(0, 1), (0,))):
        wrong = set()
        for key in range(4):
            rows = [fragment[key] for fragment in fragments if key in fragment]
            sizes = [value for row in rows for value in row[1:]]
            if fields == (0,) and None not in sizes:
                continue
            for field in fields:
                values = [row[field] for row in rows if row[field] is not None]
                if values and max(values) > min(values) * 1.01:
                    wrong.add(key)
        found = _find_conflict(summaries, which)
        assert (found.micrographs if found else 0) == len(wrong)
        if found:
            assert found.key == min(wrong)


class TestWhatWasUsed:
    def test_log_manifest_and_report_name_the_pixel_size_of_each_input(self, tmp_path, cli):
        one = relion(tmp_path / "a.parquet", 1.35, micrographs=["a.mrc"])
        two = relion(tmp_path / "b.parquet", None, micrographs=["b.mrc"])
        three = relion(tmp_path / "c.parquet", None, micrographs=["c.mrc"])
        outcome = cli(
            *("run", one, two, three, "-o", tmp_path / "out", "--score-field", "none"),
            *("--micrograph-pixel-size", f"{two}=2"),
            *("--coordinate-pixel-size", f"{three}=4"),
        )
        assert outcome.exit_code == 0, outcome.stderr
        line = next(line for line in outcome.stderr.splitlines() if line.startswith("pixel size"))
        assert f"{one} 1.35 A (rlnMicrographPixelSize)" in line
        assert f"{two} 2 A (--micrograph-pixel-size)" in line
        assert f"{three} 4 A (--coordinate-pixel-size)" in line
        manifest = json.loads((tmp_path / "out/manifest.json").read_text())
        assert [entry["pixel_size"] for entry in manifest["inputs"]] == [
            {"least": 1.35, "greatest": 1.35, "source": "rlnMicrographPixelSize"},
            {"least": 2.0, "greatest": 2.0, "source": "micrograph_pixel_size"},
            {"least": 4.0, "greatest": 4.0, "source": "coordinate_pixel_size"},
        ]
        assert cli("report", tmp_path / "out").exit_code == 0
        page = (tmp_path / "out/report.html").read_text()
        for text in (
            "1.35 Å per pixel (rlnMicrographPixelSize)",
            "4 Å per pixel (--coordinate-pixel-size)",
        ):
            assert text in page

    def test_a_pixel_size_that_is_not_needed_is_stated_as_such(self, tmp_path):
        path = relion(tmp_path / "a.parquet", 1.35)
        entry = run(path, tmp_path / "out", score_field="none", min_separation=0)
        assert entry.manifest["inputs"][0]["pixel_size"] == {
            "least": None,
            "greatest": None,
            "source": "not needed",
        }

"""`inspect` finds a constant offset between the picks of two inputs: its size, its cause, and the cure."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest
from conftest import REPOSITORY, examples
from hypothesis import given
from hypothesis import strategies as st
from tables import values, write_file
from test_inspection import NO_SCORE, centres, field, grid, jittered, plain

from dask_dedup import inspect
from dask_dedup.inspection.matching import match
from dask_dedup.inspection.offset import find_offset

sys.path.insert(0, str(REPOSITORY / "examples"))
from converters import read_boxes

PSIZE = 1.77


def moved(one, *offset):
    return centres(one.points + np.array(offset), one.micrograph)


class TestOffsets:
    @examples(25)
    @given(
        offset=st.tuples(*[st.integers(-1500, 1500)] * 2).filter(lambda o: np.hypot(*o) > 30),
        sigma=st.floats(0, 6),
        seed=st.integers(0, 100),
    )
    def test_any_offset_beyond_the_radius_is_found(self, offset, sigma, seed):
        one = field(800, 4, seed=seed)
        found = find_offset(one, moved(jittered(one, sigma), *offset), 20.0)
        assert found.offset == pytest.approx(offset, abs=2.5)
        assert min(found.matched) > 0.9 > 0.3 > max(found.as_is)

    def test_half_a_box_in_tomograms(self):
        one = field(900, 3, 2000.0, axes=3)
        found = match(one, moved(jittered(one, 4), -150, -150, -150), 20.0).offset
        assert found.offset == pytest.approx((-150,) * 3, abs=2)

    def test_half_a_tomogram(self):
        one = field(900, 3, 2000.0, axes=3)
        found = match(one, moved(one, -5000, -4000, -1000), 20.0).offset
        assert found.offset == pytest.approx((-5000, -4000, -1000), abs=1)

    def test_pickers_that_share_half_of_their_picks(self):
        one, more = field(1000, 4, seed=1), field(1000, 4, seed=2)
        other = moved(jittered(one, 5).take(np.arange(1000) % 2 == 0), 120, 120)
        other = centres(
            np.concatenate([other.points, more.points]),
            np.concatenate([other.micrograph, more.micrograph]),
        )
        found = match(one, other, 20.0).offset
        assert found.offset == pytest.approx((120, 120), abs=2)

    def test_half_a_small_box_within_the_radius(self):
        one = field(1000, 4)
        found = match(one, moved(jittered(one, 0.5), 9, 9), 20.0).offset
        assert found.offset == pytest.approx((9, 9), abs=0.5)
        assert found.as_is[0] > 0.9

    def test_it_is_found_after_the_y_axis(self):
        one = field(1200, 4, 3000.0)
        other = moved(jittered(one, 2), 9, 0).flipped(3000.0)
        found = match(one, other, 20.0)
        assert found.flip.verdict == "opposite"
        assert found.offset.offset[0] == pytest.approx(9, abs=1)


class TestNoOffset:
    @pytest.mark.parametrize("sigma", [0, 1, 6])
    def test_of_pickers_that_agree(self, sigma):
        one = field(1000, 4)
        assert match(one, jittered(one, sigma), 20.0).offset is None

    def test_of_a_pixel(self):
        one = field(1000, 4)
        assert match(one, moved(jittered(one, 2), 1, 1), 20.0).offset is None

    @pytest.mark.parametrize("crowd", [1, 2, 10, 50, 300, 2000])
    @pytest.mark.parametrize("axes", [2, 3])
    def test_of_pickers_that_match_by_chance(self, crowd, axes):
        one, other = (field(crowd, 2, 2000.0, seed=seed, axes=axes) for seed in (1, 2))
        found = match(one, other, 20.0)
        assert found is None or found.offset is None

    def test_of_a_lattice(self):
        one = centres(grid(40, 30))
        assert match(one, jittered(one, 3), 10.0).offset is None

    def test_of_positions_far_apart(self):
        one = centres(np.array([[0.0, 0.0], [1e9, 1e9]]))
        assert find_offset(one, centres(one.points * 0.5), 1e-3) is None


class TestMessages:
    @pytest.fixture
    def tables(self, tmp_path):
        """Centres, and the corners of boxes of about 200 px, on micrographs of 1.77 A a pixel."""
        one = field(1200, 6, 4000.0)
        names = np.array([f"m{number}.mrc" for number in one.micrograph])
        psize = {"rlnMicrographPixelSize": np.full(1200, PSIZE)}
        x, y = one.points.T
        centre = plain(tmp_path / "centres.parquet", x, y, **psize)
        corner = plain(tmp_path / "corners.parquet", x - 100, y - 100, **psize)
        for path in (centre, corner):
            table = pa.parquet.read_table(path)
            write_file(table.set_column(0, "rlnMicrographName", pa.array(names)), path)
        return centre, corner

    @pytest.mark.parametrize("order", [1, -1])
    def test_corners_of_boxes_are_named(self, cli, tables, order):
        centre, corner = tables
        outcome = cli("inspect", *tables[::order], "--score-field", "none", "-v")
        text = " ".join(outcome.stdout.split())
        sign = "-" if order == 1 else ""
        assert (
            f"constant offset ({sign}100, {sign}100) px = ({sign}177, {sign}177) A; with it removed, "
            "100% and 100% have a partner"
        ) in text
        assert (
            f"{corner}: positions differ from the positions of {centre} by a constant offset. They may be "
            "corners of boxes of about 200 px = 354 A instead of centres. Add (100, 100) px = (177, 177) A "
            "to each position, and inspect again."
        ) in text
        assert "no better than chance" not in text

    def test_without_a_pixel_size_it_is_in_pixels(self, tables, tmp_path):
        for path in tables:
            write_file(pa.parquet.read_table(path).drop(["rlnMicrographPixelSize"]), path)
        found = inspect(tables, params=NO_SCORE)
        (warning,) = (line for line in found.warnings if "constant offset" in line)
        assert "corners of boxes of about 200 px instead" in warning
        assert "Add (100, 100) px to each" in warning

    def test_unequal_axes_are_no_corners(self, tables):
        _, corner = tables
        table = pa.parquet.read_table(corner)
        y = values(table, "rlnCoordinateY") + 60
        write_file(table.set_column(2, "rlnCoordinateY", pa.array(y)), corner)
        found = inspect(tables, params=NO_SCORE)
        (warning,) = (line for line in found.warnings if "constant offset" in line)
        assert "corners" not in warning.replace(str(corner), "")
        assert "Add (100, 40) px" in warning

    def test_json_holds_it(self, tables):
        found = inspect(tables, params=NO_SCORE).to_dict()
        assert found["pairs"][0]["match"]["offset"]["offset"] == pytest.approx([-177, -177])


@pytest.mark.slow
@pytest.mark.real_data
class TestRealPickers:
    @pytest.fixture
    def picks(self, real_data, tmp_path):
        psize = {"rlnMicrographPixelSize": PSIZE}
        paths = {}
        for name in ("crYOLO", "topaz", "deepPicker"):
            table = read_boxes(real_data / "repic_empiar10017" / name)
            for column, value in psize.items():
                table = table.append_column(column, pa.array(np.full(table.num_rows, value)))
            paths[name] = write_file(table, tmp_path / f"{name}.parquet")
        return paths

    def test_have_no_offset(self, picks):
        found = inspect(list(picks.values()), params=NO_SCORE)
        assert [pair.match.offset for pair in found.pairs] == [None] * 3

    @pytest.mark.parametrize("name", ["crYOLO", "topaz", "deepPicker"])
    def test_corners_of_one_are_found_against_the_others(self, picks, name):
        # EMAN boxes of 180 px read as centres.
        table = pa.parquet.read_table(picks[name])
        for number, column in enumerate(table.column_names):
            if column.startswith("rlnCoordinate"):
                corner = pa.array(values(table, column) - 90)
                table = table.set_column(number, column, corner)
        write_file(table, picks[name])
        found = inspect(list(picks.values()), params=NO_SCORE)
        warnings = [line for line in found.warnings if "constant offset" in line]
        assert len(warnings) == 2
        assert all(line.startswith(f"{picks[name]}: ") for line in warnings)
        assert all("corners of boxes of" in line for line in warnings)
        for pair in found.pairs:
            if pair.match.offset:
                assert np.abs(pair.match.offset.offset) == pytest.approx([90 * PSIZE] * 2, abs=12)

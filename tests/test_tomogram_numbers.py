"""Numbers that stand for tomograms in Dynamo tables, STOPGAP and EM motive lists."""

from __future__ import annotations

import numpy as np
import pytest
from test_coordinates_lines import columns, put
from test_coordinates_tomography import run, star

NUMBERS = [7, 1_234_567, 1_234_568, 16_777_216, 0]
NAME = "rlnTomoName"


def motive_list(folder, numbers, xs):
    values = np.zeros((len(numbers), 20), "<f4")
    values[:, 4], values[:, 7] = numbers, xs
    header = np.zeros(128, "<i4")
    header[:4] = 6 + (5 << 24), 20, len(numbers), 1
    return put(folder, "list.em", header.tobytes() + values.tobytes())


def dynamo(folder, numbers, xs, name="picks.tbl"):
    rows = [["0"] * 35 for _ in numbers]
    for row, number, x in zip(rows, numbers, xs, strict=True):
        row[19], row[23] = str(number), str(x)
    return put(folder, name, "".join(" ".join(row) + "\n" for row in rows).encode())


def test_large_numbers_in_motive_lists_stay_apart(tmp_path):
    path = motive_list(tmp_path, NUMBERS, [10] * 5)
    assert columns(path, NAME) == [["7", "1234567", "1234568", "16777216", "0"]]
    assert run([path], tmp_path / "out", 50, micrograph_pixel_size=1.0) == [5]


@pytest.mark.parametrize("text", ["5.0000", "5.", "5.0e+00", "5"])
def test_a_number_with_decimals_is_the_same_tomogram(tmp_path, text):
    one = dynamo(tmp_path, [5, "1234567"], [10, 10], "one.tbl")
    two = dynamo(tmp_path, [text, "1.234567e+06"], [10, 10], "two.tbl")
    put(tmp_path, "two.doc", b"5 TS_05\n1234567.0 TS_67\n")
    assert columns(two, NAME) == [["TS_05", "TS_67"]]
    (tmp_path / "two.doc").unlink()
    three = motive_list(tmp_path, [5, 1_234_567], [10, 10])
    labels = ("tomo_num", "orig_x", "orig_y", "orig_z")
    rows = [(text, 10, 0, 0), (1_234_567, 10, 0, 0)]
    four = put(tmp_path, "four.star", star(labels, *rows, block="stopgap_motivelist"))
    options = {"micrograph_pixel_size": 1.0, "prefer_input_order": True}
    assert run([one, two, three, four], tmp_path / "out", 5, **options) == [2, 0, 0, 0]


def test_names_that_are_no_numbers_stay(tmp_path):
    path = dynamo(tmp_path, ["00255", "5.5", "nan"], [10, 10, 10])
    assert columns(path, NAME) == [["00255", "5.5", "nan"]]
    assert columns(motive_list(tmp_path, [np.nan, 5.5], [1, 2]), NAME) == [["nan", "5.5"]]

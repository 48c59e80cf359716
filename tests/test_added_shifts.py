"""Shifts in pick files: added to positions, unless the shift is none."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from test_coordinates_lines import put

import dask_dedup
from dask_dedup import verify

#: Positions and shifts along x, in voxels. With shifts, the first two and the last two are equal.
PICKS = [(10, 5), (15, 0), (40, 0), (30, 10)]


def _dynamo():
    rows = []
    for number, (x, shift) in enumerate(PICKS, 1):
        values = [0] * 35
        values[0], values[3], values[9], values[19] = number, shift, number, 1
        values[23:26] = x, 20, 30
        rows.append(" ".join(map(str, values)) + "\n")
    return "".join(rows).encode()


def _stopgap():
    labels = [
        "motl_idx",
        "tomo_num",
        "orig_x",
        "orig_y",
        "orig_z",
        "score",
        "x_shift",
        "y_shift",
        "z_shift",
    ]
    rows = "".join(f"{n} 1 {x} 20 30 0.{n} {s} 0 0\n" for n, (x, s) in enumerate(PICKS, 1))
    head = "\ndata_stopgap_motivelist\n\nloop_\n" + "".join(f"_{label}\n" for label in labels)
    return f"{head}\n{rows}".encode()


def _em():
    values = np.zeros((4, 20), "<f4")
    values[:, 0], values[:, 4] = range(1, 5), 1
    values[:, 7], values[:, 8:10], values[:, 10] = [x for x, _ in PICKS], 20, [s for _, s in PICKS]
    head = bytes([6, 0, 0, 5]) + np.array([20, 4, 1], "<i4").tobytes()
    return head.ljust(512, b"\0") + values.tobytes()


def _copick():
    points = []
    for number, (x, shift) in enumerate(PICKS, 1):
        moved = np.eye(4)
        moved[0, 3] = 10 * shift
        location = {"x": 10 * x, "y": 200, "z": 300}
        points.append(
            {"location": location, "transformation_": moved.tolist(), "score": number / 10}
        )
    return json.dumps({"pickable_object_name": "a", "run_name": "r", "points": points}).encode()


FORMS = {
    "a.tbl": (_dynamo(), "dx dy dz"),
    "a.star": (_stopgap(), "x_shift y_shift z_shift"),
    "a.em": (_em(), "rows 11 to 13"),
    "a.json": (_copick(), "transformation_"),
}


@pytest.mark.parametrize("name", FORMS)
def test_shifts_are_added_unless_the_shift_is_none(tmp_path, caplog, name):
    content, shifts = FORMS[name]
    path = put(tmp_path, name, content)
    size = {} if name == "a.json" else {"micrograph_pixel_size": 10}
    with caplog.at_level(logging.INFO, logger="dask_dedup"):
        # 20 A are 2 voxels: with shifts 2 of 4 are kept, without all.
        for key, kept in (("auto", 2), ("none", 4)):
            output = tmp_path / key
            result = dask_dedup.run([path], output, min_separation=20, shift_key=key, **size)
            assert result.kept == kept
            assert f"shift: {shifts if key == 'auto' else 'none'};" in caplog.text
            assert verify(output).verified
            caplog.clear()
    if name != "a.em":
        assert (tmp_path / "none/particles_kept" / tmp_path.name / name).read_bytes() == content
    found = dask_dedup.run([path], tmp_path / "far", min_separation=60, shift_key="none", **size)
    assert found.kept == 3  # 10 and 15 are 50 A apart, 30 and 40 are 100 A apart
    unit = " in angstrom" if name == "a.json" else ""
    for key, text in (("auto", f"with shifts ({shifts})"), ("none", "without shifts")):
        (entry,) = dask_dedup.inspect([path], shift_key=key, **size).inputs
        assert f"centres{unit} {text}" in entry.description

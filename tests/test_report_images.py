"""Images of micrographs in the report: found, made smaller, to scale, and left out if they do not fit."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import mrcfile
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tables import cryosparc, relion
from test_report import Page, finished, made

from dask_dedup import DedupParams, report, run
from dask_dedup.results.report import image as images
from dask_dedup.results.report.image import Images, average, find_image, read_image

pytestmark = pytest.mark.slow


def mrc(path, rows=90, columns=120):
    """An image whose values increase along y."""
    values = np.repeat(np.arange(rows, dtype=np.float32)[:, np.newaxis], columns, axis=1)
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(values)
    return path


def decoded(uri):
    """Return the grey values of a data URI, (h, w)."""
    content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)), dtype=float)


def unpacked(shown):
    """Return x and y of the picks of a micrograph on the page, in the unit of its width, (n, 2)."""
    data, number = base64.b64decode(shown["d"]), shown["p"]
    start = next(
        len(data) - number * width
        for width in (2 * 4, 2 * 5)
        if len(data) in (number * (4 + 12 + width), number * (8 + 12 + width))
    )
    x, y = np.frombuffer(data[start:], "<u2")[: 2 * number].reshape(2, number) / 65535
    return np.column_stack([x * shown["w"], y * shown["h"]])


def test_the_image_is_under_the_picks_to_scale_and_not_flipped(tmp_path):
    mrc(tmp_path / "m.mrc")
    columns = {
        "rlnMicrographName": np.array(["m.mrc"] * 3),
        "rlnCoordinateX": np.array([10.0, 14.0, 100.0]),
        "rlnCoordinateY": np.array([20.0, 20.0, 80.0]),
    }
    _, page = made(tmp_path, [relion(3, columns=columns)], min_separation=10.0, shift_key="none")
    (shown,) = page.data["micrographs"]
    psize = 1.2
    assert (shown["w"], shown["h"]) == pytest.approx((120 * psize, 90 * psize))
    places = unpacked(shown)
    expected = np.array([[10.0, 20.0], [14.0, 20.0], [100.0, 80.0]]) * psize
    np.testing.assert_allclose(places[np.argsort(places[:, 0])], expected, atol=0.01)
    grey = decoded(shown["i"])
    assert grey.shape == (90, 120)
    assert grey[5].mean() + 50 < grey[-5].mean()
    assert "<image href=" in page.source
    assert "how large" not in page.text


def test_an_image_of_another_shape_is_not_drawn(tmp_path):
    mrc(tmp_path / "m.mrc")
    shape = pa.FixedSizeListArray.from_arrays(pa.array([4096] * 4, pa.uint32()), 2)
    columns = {
        "location/micrograph_path": np.array(["m.mrc"] * 2),
        "location/micrograph_shape": shape,
    }
    _, page = made(tmp_path, [cryosparc(2, micrographs=1, columns=columns)])
    assert "An image has 120 x 90 pixels, but the micrograph has 4096 x 4096" in page.text
    assert "i" not in page.data["micrographs"][0]


def test_a_damaged_image_is_left_out_with_the_reason(tmp_path):
    (tmp_path / "m.mrc").write_bytes(b"no image" * 40)
    names = {"rlnMicrographName": np.array(["m.mrc"] * 3)}
    _, page = made(tmp_path, [relion(3, columns=names)])
    assert "cannot be read" in page.text


def test_images_are_found_by_the_names_that_programs_store(tmp_path):
    project = tmp_path / "project"
    (project / "Extract" / "job9").mkdir(parents=True)
    (project / "MotionCorr").mkdir()
    path = mrc(project / "MotionCorr" / "m.mrc")
    folders = [project / "Extract" / "job9"]
    assert find_image("MotionCorr/m.mrc", folders) == path
    assert find_image(">MotionCorr/m.mrc", folders) == path
    assert find_image("000012@MotionCorr/m.mrc", folders) == path
    assert find_image(str(path), []) == path
    assert find_image("elsewhere/m.mrc", [path.parent]) == path
    assert find_image("m.tif", [path.parent]) is None
    assert find_image("x" * 5_000 + ".mrc", folders) is None
    assert find_image("m\0.mrc", folders) is None


@pytest.mark.parametrize("factor", [1, 3, 7])
def test_a_large_image_is_made_smaller_by_averaging(monkeypatch, factor):
    monkeypatch.setattr(images, "_STRIP_BYTES", 10_000)
    data = np.random.default_rng(0).integers(0, 200, (100, 130)).astype(np.uint8)
    height, width = 100 // factor, 130 // factor
    squares = data[: height * factor, : width * factor].astype(float)
    expected = squares.reshape(height, factor, width, factor).mean(axis=(1, 3))
    np.testing.assert_allclose(average(data, factor), expected, rtol=1e-5)


def test_an_image_has_a_fixed_size(tmp_path):
    found = read_image(mrc(tmp_path / "m.mrc", rows=3_200, columns=1_000))
    assert found.shape == (3_200, 1_000)
    assert decoded(found.uri).shape == (457, 142)
    assert read_image(tmp_path / "m.mrc", most_pixels=3_199_999) is None
    assert read_image(tmp_path / "m.mrc").uri == found.uri


def test_images_stop_at_a_fixed_number_of_pixels(tmp_path, monkeypatch):
    for number in range(5):
        mrc(tmp_path / f"{number}.mrc", rows=20, columns=50)
    monkeypatch.setattr(images, "MOST_PIXELS", 3_500)
    reader = Images([tmp_path])
    assert [reader.read(f"{n}.mrc") is not None for n in range(5)] == [True] * 3 + [False] * 2
    assert reader.left_out == 2
    monkeypatch.setattr(images, "MOST_IMAGES", 2)
    reader = Images([tmp_path])
    assert [reader.read(f"{n}.mrc") is not None for n in range(3)] == [True, True, False]


def test_a_page_without_images_imports_no_library_for_them(tmp_path):
    out = finished(tmp_path, [cryosparc(100)], min_separation=60.0)
    code = f"import sys, dask_dedup; dask_dedup.report({str(out)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not {"PIL", "mrcfile", "matplotlib"} & {*loaded}


@pytest.mark.slow
@pytest.mark.real_data
def test_real_picks_are_on_their_real_micrograph(tmp_path, real_data):
    table = real_data / "micrograph_cleaner" / "Ucsf_stack_1142_DW_autopick.star"
    params = DedupParams(min_separation=150.0, micrograph_pixel_size=4.0)
    result = run(table, tmp_path / "out", params)
    assert (result.kept, result.rejected) == (38, 7)
    page = Page(report(tmp_path / "out"))
    (shown,) = page.data["micrographs"]
    assert (shown["w"], shown["h"]) == (959 * 4.0, 927 * 4.0)
    grey = decoded(shown["i"])
    scale = grey.shape[1] / shown["w"]
    # Particles of this micrograph are darker than the ice, except on the contamination.
    columns, rows = (unpacked(shown) * scale).round().astype(int).T
    inside = (columns < 240) & (rows > 6) & (columns > 6) & (rows < grey.shape[0] - 6)
    means = [
        grey[y - 3 : y + 3, x - 3 : x + 3].mean()
        for x, y in zip(columns[inside], rows[inside], strict=True)
    ]
    assert np.median(means) < np.median(grey[50:, :240])
    flipped = [
        grey[grey.shape[0] - y - 3 : grey.shape[0] - y + 3, x - 3 : x + 3].mean()
        for x, y in zip(columns[inside], rows[inside], strict=True)
    ]
    assert np.median(means) < np.median(flipped)

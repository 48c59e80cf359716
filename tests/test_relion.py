"""RELION reads converted and merged results. Skipped where RELION is not installed (Debian: relion)."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from test_conversion import GROUP, LABELS, columns_of, run, star
from test_coordinates_folders import LAYOUTS
from test_coordinates_lines import put

import dask_dedup
from dask_dedup.formats import open_table, read

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("relion_star_handler", "relion_preprocess"))),
        reason="RELION is not installed",
    ),
]
PIXEL = 2.0
DATASETS = ("particles_kept", "particles_rejected")


def relion(folder, program, *arguments):
    """Run a program of RELION in a folder. Return what it prints."""
    done = subprocess.run(
        [f"relion_{program}", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def removed(folder, path, distance, pixel_size=PIXEL):
    """Return the number of duplicates that RELION finds in a particle table."""
    text = relion(
        folder, "star_handler", "--i", path, "--o", "unique.star",
        "--remove_duplicates", distance, "--image_angpix", pixel_size,
    )  # fmt: skip
    assert "Removed" in text, text
    return int(text.split("Removed", 1)[1].split()[0])


def read_by_relion(folder, path):
    """Return the x coordinates of a particle table as RELION has read and written them."""
    relion(
        folder, "star_handler", "--i", path, "--o", "read.star",
        "--select", "rlnCoordinateX", "--minval", -1e9, "--maxval", 1e9,
    )  # fmt: skip
    return [float(x) for (x,) in columns_of(folder / "read.star", "rlnCoordinateX")]


def tables(folder):
    """Write two particle tables with shifts, which share particles and the name of an optics group."""
    random = np.random.default_rng(7)
    labels = (*LABELS, "rlnOriginXAngst", "rlnOriginYAngst", "rlnAnglePsi")
    paths = []
    places = random.uniform(0, 2000, (300, 2))
    for name, group in (("one", GROUP), ("two", GROUP.replace("300", "200"))):
        rows = []
        for x, y in places + random.normal(0, 1, places.shape):
            dx, dy = random.normal(0, 3, 2)
            rows.append(
                f"MotionCorr/job002/m{int(x) % 3}.mrc {x:.6f} {y:.6f} {random.random():.4f} 1 "
                f"{dx:.6f} {dy:.6f} 0.0"
            )
        extra = ("rlnClassNumber",) if name == "two" else ()
        rows = [f"{row} 1" if extra else row for row in rows]
        paths.append(star(folder, f"{name}/particles.star", (*labels, *extra), rows, [group]))
    return paths


def test_relion_reads_merged_particles_and_finds_no_duplicates(tmp_path):
    inputs = tables(tmp_path)
    result = run(inputs, tmp_path / "out", separation=20)
    assert result.rejected > 100
    kept, rejected = (
        tmp_path / "out" / dataset / "particles.star"
        for dataset in ("particles_kept", "particles_rejected")
    )
    assert removed(tmp_path, kept, 20) == 0
    for path, count in ((kept, result.kept), (rejected, result.rejected)):
        expected = [float(x) for (x,) in columns_of(path, "rlnCoordinateX")]
        assert len(expected) == count
        assert read_by_relion(tmp_path, path) == pytest.approx(expected)
    relion(tmp_path, "star_handler", "--combine", "--i", f"{kept} {rejected}", "--o", "both.star")
    assert len(columns_of(tmp_path / "both.star", "rlnCoordinateX")) == 600
    # Both optics groups are there.
    groups = columns_of(tmp_path / "both.star", "rlnVoltage", block="optics")
    assert sorted(float(voltage) for (voltage,) in groups) == [200, 300]
    # The check can fail: RELION removes the duplicates from all particles.
    assert removed(tmp_path, tmp_path / "both.star", 20) > 50


def test_relion_reads_files_in_the_form_of_the_input(tmp_path):
    inputs = tables(tmp_path)
    dask_dedup.run(inputs, tmp_path / "out", min_separation=20)
    for dataset in ("particles_kept", "particles_rejected"):
        for path in (tmp_path / "out" / dataset).rglob("particles.star"):
            expected = [float(x) for (x,) in columns_of(path, "rlnCoordinateX")]
            assert read_by_relion(tmp_path, path) == pytest.approx(expected)


def test_relion_reads_the_result_of_the_example(tmp_path):
    name = "relion_round_trip.py"
    command = [sys.executable, str(REPOSITORY / "examples" / name), "--output", str(tmp_path)]
    subprocess.run([*command, "--particles", "500"], check=True, capture_output=True)
    kept = sorted((tmp_path / "result/particles_kept").iterdir())
    rejected = sorted((tmp_path / "result/particles_rejected").iterdir())
    # RELION reads no table without rows.
    rejected = [path for path in rejected if columns_of(path, "rlnCoordinateX")]
    assert rejected
    for path in [*kept, *rejected]:
        expected = [float(x) for (x,) in columns_of(path, "rlnCoordinateX")]
        assert read_by_relion(tmp_path, path) == pytest.approx(expected)
    names = " ".join(map(str, kept))
    relion(tmp_path, "star_handler", "--combine", "--i", names, "--o", "both.star")
    separation = json.loads((tmp_path / "result/manifest.json").read_text())["parameters"]
    assert removed(tmp_path, tmp_path / "both.star", separation["min_separation"], 1.0) == 0


@pytest.mark.slow
@pytest.mark.real_data
def test_relion_reads_the_merged_picks_of_real_pickers(real_data, tmp_path):
    folder = real_data / "pick_folders_10017"
    inputs = [folder / LAYOUTS[name] for name in ("cbox", "autopick", "csv", "manualpick")]
    result = run(
        inputs, tmp_path / "out", separation=80, prefer_input_order=True,
        micrographs=folder / "relion/CtfFind/job003/micrographs_ctf.star",
    )  # fmt: skip
    both = [tmp_path / "out" / each / "particles.star" for each in DATASETS]
    for path, count in zip(both, (result.kept, result.rejected), strict=True):
        expected = [float(x) for (x,) in columns_of(path, "rlnCoordinateX")]
        assert len(expected) == count
        assert read_by_relion(tmp_path, path) == pytest.approx(expected)
    names = " ".join(map(str, both))
    relion(tmp_path, "star_handler", "--combine", "--i", names, "--o", "both.star")
    # RELION needs the columns of shifts. The picks by hand are those in the CSV files.
    for path, least, most in ((both[0], 0, 0), ("both.star", 1363, result.rows)):
        for axis in "XY":
            relion(
                tmp_path, "star_handler", "--i", path, "--o", "shifts.star",
                "--add_column", f"rlnOrigin{axis}Angst", "--add_column_value", 0,
            )  # fmt: skip
            path = tmp_path / "shifts.star"
        assert least <= removed(tmp_path, path, 80, 1.77) <= most


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *(("star", ".star"), ("eman", ".box"), ("deeppicker", ".box")),
        *(("autopick", "_autopick.star"), ("manualpick", "_manualpick.star")),
        ("relion 3.1", "_autopick.star"),
    ],
)
def test_extract_reads_kept_and_rejected_pick_files(real_data, tmp_path, name, suffix):
    path = real_data / "pick_folders_10017" / LAYOUTS[name]
    options = {"micrograph_pixel_size": 1.77, "score_field": "none", "min_separation": 300}
    result = dask_dedup.run(path, tmp_path / "out", **options)
    names = sorted(file.stem for file in (real_data / "pick_folders_10017/csv").iterdir())
    below = "Micrographs/" if "pick" in suffix else ""
    rows = [f"{below}{each}.mrc 1" for each in names]
    labels = ("rlnMicrographName", "rlnOpticsGroup")
    listed = star(tmp_path, "micrographs.star", labels, rows, block="micrographs")
    for each in names:
        empty_micrograph(tmp_path / f"{below}{each}.mrc", 4096)
    for dataset, count in zip(DATASETS, (result.kept, result.rejected), strict=True):
        shutil.rmtree(tmp_path / "Extract", ignore_errors=True)
        relion(
            tmp_path, "preprocess", "--i", listed, "--coord_dir", f"out/{dataset}/{path.name}/",
            "--coord_suffix", suffix, "--part_star", "Extract/job004/particles.star",
            "--part_dir", "Extract/job004/", "--extract", "--extract_size", 8,
        )  # fmt: skip
        table = open_table(tmp_path / "out" / dataset / path.name)
        axes = ["rlnCoordinateX", "rlnCoordinateY"]
        expected = np.concatenate(
            [np.column_stack(read(table, part, axes).columns) for part in table.fragments]
        )
        found = columns_of(tmp_path / "Extract/job004/particles.star", *axes)
        assert len(found) == count
        # RELION's positions are whole pixels.
        assert np.abs(np.array(found, float) - expected).max() <= 1


SIZE, BOX = 512, 32


def empty_micrograph(path, size):
    """Write a micrograph of zeros, as a sparse MRC file of int8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytearray(1024)
    struct.pack_into("<10i", head, 0, size, size, 1, 0, 0, 0, 0, size, size, 1)
    struct.pack_into("<6f", head, 40, size * PIXEL, size * PIXEL, PIXEL, 90, 90, 90)
    head[208:216] = b"MAP DA\0\0"
    path.write_bytes(bytes(head))
    os.truncate(path, 1024 + size * size)


def blobs(path, centres):
    """Write a micrograph with dark blobs, as an MRC file of float32."""
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.random.default_rng(1).normal(0, 0.1, (SIZE, SIZE))
    for cx, cy in centres:
        image -= 2 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 50)
    head = bytearray(1024)
    struct.pack_into("<10i", head, 0, SIZE, SIZE, 1, 2, 0, 0, 0, SIZE, SIZE, 1)
    struct.pack_into("<6f", head, 40, SIZE * PIXEL, SIZE * PIXEL, PIXEL, 90, 90, 90)
    struct.pack_into("<3i", head, 64, 1, 2, 3)
    head[208:216] = b"MAP DA\0\0"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(head) + image.astype("<f4").tobytes())


def images_in(path):
    """Return the images of an MRC stack, (n, BOX, BOX) float32."""
    data = path.read_bytes()
    nx, ny, count, mode = struct.unpack_from("<4i", data)
    assert (nx, ny, mode) == (BOX, BOX, 2)
    return np.frombuffer(data, "<f4", offset=len(data) - count * BOX * BOX * 4).reshape(
        -1, BOX, BOX
    )


def extracted(folder, count, *arguments):
    """Let RELION extract particles. Check their number, and that each has a blob in its centre."""
    text = relion(
        folder, "preprocess", *arguments, "--part_star", "Extract/job004/particles.star",
        "--part_dir", "Extract/job004/", "--extract", "--extract_size", BOX,
    )  # fmt: skip
    assert len(columns_of(folder / "Extract/job004/particles.star", "rlnImageName")) == count, text
    stacks = sorted((folder / "Extract/job004").rglob("*.mrcs"))
    images = np.concatenate([images_in(path) for path in stacks])
    assert len(images) == count
    centre = images[:, BOX // 2 - 1 : BOX // 2 + 2, BOX // 2 - 1 : BOX // 2 + 2].mean(axis=(1, 2))
    corner = images[:, :4, :4].mean(axis=(1, 2))
    assert (centre < -1.3).all()
    assert (np.abs(corner) < 0.3).all()


@pytest.fixture
def blob_project(tmp_path):
    """Make a project with micrographs of blobs that two pickers have found, one of them in boxes.

    Returns the inputs, the table of micrographs, and the number of blobs.
    """
    (tmp_path / "default_pipeline.star").touch()
    random = np.random.default_rng(3)
    grid = np.array([(64 + 64 * i, 64 + 64 * j) for i in range(6) for j in range(6)])
    names = [f"Micrographs/mic{number}.mrc" for number in range(3)]
    lines, expected = ["image_name\tx_coord\ty_coord\tscore"], 0
    for number, name in enumerate(names):
        centres = grid[random.permutation(len(grid))[: 20 + number]]
        expected += len(centres)
        blobs(tmp_path / name, centres)
        half = BOX // 2
        boxes = [f"{x - half}\t{y - half}\t{BOX}\t{BOX}" for x, y in centres[:12]]
        put(tmp_path, f"EMAN/Micrographs/mic{number}.box", ("\n".join(boxes) + "\n").encode())
        lines += [f"mic{number}\t{x + 1}\t{y}\t1.5" for x, y in centres[6:]]
    topaz = put(tmp_path, "topaz/picks.txt", ("\n".join(lines) + "\n").encode())
    labels = ("rlnMicrographName", "rlnOpticsGroup")
    rows = [f"{name} 1" for name in names]
    listed = star(tmp_path, "micrographs.star", labels, rows, block="micrographs")
    return [tmp_path / "EMAN", topaz], listed, expected


def merge(project, output, form):
    inputs, listed, expected = project
    options = {"micrographs": listed, "match_micrographs": "name", "prefer_input_order": True}
    assert run(inputs, output, form, separation=20, **options).kept == expected
    return output / "particles_kept"


def test_extract_finds_the_blobs(tmp_path, blob_project):
    """Each blob is extracted once, in the centre of its box."""
    kept = merge(blob_project, tmp_path / "External/job003", "relion-coordinates")
    listed = (kept / "coords_suffix_autopick.star").read_text().strip()
    folder = f"{kept.relative_to(tmp_path)}/"
    extracted(
        tmp_path, blob_project[2],
        "--i", listed, "--coord_dir", folder, "--coord_suffix", "_autopick.star",
    )  # fmt: skip


def test_extract_finds_the_blobs_of_merged_particles(tmp_path, blob_project):
    kept = merge(blob_project, tmp_path / "External/job003", "star")
    listed = blob_project[1]
    path = kept / "particles.star"
    extracted(tmp_path, blob_project[2], "--i", listed, "--reextract_data_star", path)


def test_extract_finds_the_blobs_in_the_files_of_one_picker(tmp_path, blob_project):
    """The kept boxes of a picker in its own form are read by RELION, too."""
    (boxes, _), listed, _ = blob_project
    options = {"micrographs": listed, "min_separation": 200, "score_field": "none"}
    result = dask_dedup.run(boxes, tmp_path / "out", **options)
    assert result.rejected > 0
    for dataset, count in zip(DATASETS, (result.kept, result.rejected), strict=True):
        shutil.rmtree(tmp_path / "Extract", ignore_errors=True)
        folder = f"out/{dataset}/EMAN/"
        arguments = ("--i", listed, "--coord_dir", folder, "--coord_suffix", ".box")
        extracted(tmp_path, count, *arguments)

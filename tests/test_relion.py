"""RELION reads converted and merged results. Skipped where RELION is not installed (Debian: relion)."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from test_conversion import GROUP, LABELS, columns_of, run, star
from test_coordinates_lines import put

import dask_dedup

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("relion_star_handler", "relion_preprocess"))),
    reason="RELION is not installed",
)
PIXEL = 2.0


def relion(folder, program, *arguments):
    """Run a program of RELION in a folder. Return what it prints."""
    done = subprocess.run(
        [f"relion_{program}", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def removed(folder, path, distance):
    """Return the number of duplicates that RELION finds in a particle table."""
    text = relion(
        folder, "star_handler", "--i", path, "--o", "unique.star",
        "--remove_duplicates", distance, "--image_angpix", PIXEL,
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
    for path in sorted((tmp_path / "result/particles_kept").iterdir()):
        expected = [float(x) for (x,) in columns_of(path, "rlnCoordinateX")]
        assert len(expected) > 100
        assert read_by_relion(tmp_path, path) == pytest.approx(expected)


SIZE, BOX = 512, 32


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


def test_extract_finds_the_blobs(tmp_path):
    """Two pickers have found the same blobs, one of them in boxes. Each is extracted once, in the centre."""
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
        put(tmp_path, f"EMAN/mic{number}.box", ("\n".join(boxes) + "\n").encode())
        lines += [f"mic{number}\t{x + 1}\t{y}\t1.5" for x, y in centres[6:]]
    topaz = put(tmp_path, "topaz/picks.txt", ("\n".join(lines) + "\n").encode())
    rows = [f"{name} 1" for name in names]
    listed = star(
        tmp_path,
        "micrographs.star",
        ("rlnMicrographName", "rlnOpticsGroup"),
        rows,
        block="micrographs",
    )
    output = tmp_path / "External/job003"
    result = run(
        [tmp_path / "EMAN", topaz], output, "relion-coordinates", separation=20,
        micrographs=listed, match_micrographs="name", prefer_input_order=True,
    )  # fmt: skip
    assert result.kept == expected
    kept = output / "particles_kept"
    text = relion(
        tmp_path, "preprocess", "--i", (kept / "coords_suffix_autopick.star").read_text().strip(),
        "--coord_dir", f"{kept.relative_to(tmp_path)}/", "--coord_suffix", "_autopick.star",
        "--part_star", "Extract/job004/particles.star", "--part_dir", "Extract/job004/",
        "--extract", "--extract_size", BOX,
    )  # fmt: skip
    found = columns_of(tmp_path / "Extract/job004/particles.star", "rlnImageName")
    assert len(found) == expected, text
    stacks = sorted((tmp_path / "Extract/job004").rglob("*.mrcs"))
    images = np.concatenate([images_in(path) for path in stacks])
    assert len(images) == expected
    centre = images[:, BOX // 2 - 1 : BOX // 2 + 2, BOX // 2 - 1 : BOX // 2 + 2].mean(axis=(1, 2))
    corner = images[:, :4, :4].mean(axis=(1, 2))
    assert (centre < -1.3).all()
    assert (np.abs(corner) < 0.3).all()

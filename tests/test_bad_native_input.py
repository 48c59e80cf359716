"""Broken .star, .cs and .csg files end with one clear line, exit code 2 and no output."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from dask_dedup.simulation import simulate_pickers

EXAMPLES = Path(__file__).parent.parent / "examples"
relion = runpy.run_path(str(EXAMPLES / "relion_round_trip.py"))
cryosparc = runpy.run_path(str(EXAMPLES / "cryosparc_round_trip.py"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the particles of one picker as .star text, as records, and as the folder of a group."""
    folder = tmp_path_factory.mktemp("sound")
    picks, *_ = simulate_pickers(folder / "picks", particles=60, micrographs=2)
    relion["write_star"](picks, folder / "a.star")
    records = cryosparc["records_of"](picks)
    cryosparc["write_group"](records, folder / "J7", "J7")
    return (folder / "a.star").read_bytes(), records, folder / "J7"


def refused(cli, path, out, *phrases):
    outcome = cli("run", path, "--output", out)
    assert outcome.exit_code == 2, outcome.stderr
    assert not out.exists()
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("dask-dedup: ")
    assert [phrase for phrase in phrases if phrase not in line] == []


def lines_of(text):
    return text.splitlines(keepends=True)


def change_row(text, change, row=3):
    """Change one particle row, counted from 0."""
    lines = lines_of(text)
    rows = [n for n, line in enumerate(lines) if b".mrc" in line]
    lines[rows[row]] = change(lines[rows[row]])
    return b"".join(lines)


STARS = {
    "a row cut off": (
        lambda text: text[: text.rindex(b".mrc")] + b".mrc",
        ["values", "7 columns"],
    ),
    "a row too long": (
        lambda text: change_row(text, lambda row: row.rstrip() + b" 1.0\n"),
        ["row 3", "8 values", "7 columns"],
    ),
    "a word among numbers": (
        lambda text: change_row(text, lambda row: b"here " + row.split(None, 1)[1]),
        ["rlnCoordinateX", "row 3", "here"],
    ),
    "no x": (
        lambda text: text.replace(b"_rlnCoordinateX", b"_rlnSomethingX"),
        ["no particle positions", "rlnCoordinateX"],
    ),
    "no score": (
        lambda text: text.replace(b"_rlnAutopickFigureOfMerit", b"_rlnSomethingElse"),
        ["no score ncc_score", "none"],
    ),
    "no micrograph pixel size": (
        lambda text: text.replace(b"_rlnMicrographPixelSize", b"_rlnMicrographSomething"),
        ["no micrograph pixel size", "--micrographs", "--micrograph-pixel-size", "Extract"],
    ),
    "an unknown optics group": (
        lambda text: change_row(text, lambda row: row.replace(b".mrc 1 ", b".mrc 5 ")),
        ["optics group", "5"],
    ),
    "not a number": (
        lambda text: change_row(text, lambda row: b"nan " + row.split(None, 1)[1]),
        ["1 row has no finite position", "row 3"],
    ),
    "binary": (lambda text: bytes(range(256)) * 40, ["bad.star"]),
    "empty": (lambda text: b"", ["bad.star"]),
    "no table": (lambda text: b"data_\n\n_rlnVersion 5\n", ["bad.star"]),
}


@pytest.mark.parametrize("name", STARS)
def test_a_broken_star_is_refused(cli, sound, tmp_path, name):
    damage, phrases = STARS[name]
    path = tmp_path / "bad.star"
    path.write_bytes(damage(sound[0]))
    refused(cli, path, tmp_path / "out", *phrases)


def saved(path, records):
    with path.open("wb") as file:
        np.save(file, records)
    return path


def fields(records, keep):
    names = [name for name in records.dtype.names if keep(name)]
    part = np.empty(records.size, [(name, records.dtype[name]) for name in names])
    for name in names:
        part[name] = records[name]
    return part


def test_a_cs_without_location_is_refused(cli, sound, tmp_path):
    records = fields(sound[1], lambda name: not name.startswith("location"))
    path = saved(tmp_path / "bad.cs", records)
    refused(cli, path, tmp_path / "out", "no particle positions", "location/center_x_frac")


def test_a_cs_without_a_header_is_refused(cli, sound, tmp_path):
    path = tmp_path / "bad.cs"
    path.write_bytes(sound[1].tobytes())
    refused(cli, path, tmp_path / "out", "bad.cs")


def test_a_cs_that_is_cut_off_is_refused(cli, sound, tmp_path):
    path = saved(tmp_path / "bad.cs", sound[1])
    path.write_bytes(path.read_bytes()[:-100])
    refused(cli, path, tmp_path / "out", "bad.cs")


def test_a_pickled_cs_is_refused(cli, tmp_path):
    path = tmp_path / "bad.cs"
    with path.open("wb") as file:
        np.save(file, np.array([{"uid": 1}], dtype=object), allow_pickle=True)
    refused(cli, path, tmp_path / "out", "bad.cs")


@pytest.mark.parametrize(
    ("old", "new", "phrases"),
    [
        ("'>J7_particles.cs'", "'>../J7_particles.cs'", ["J7_particles.cs"]),
        ("'>J7_particles.cs'", "/etc/hostname", ["/etc/hostname"]),
        ("'>J7_particles.cs'", "'>gone.cs'", ["gone.cs"]),
        ("results:", "nothing:", ["results"]),
    ],
)
def test_a_group_that_points_to_other_files_is_refused(cli, sound, tmp_path, old, new, phrases):
    folder = tmp_path / "J7"
    folder.mkdir()
    for file in sound[2].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    group = folder / "J7_particles.csg"
    text = group.read_text()
    assert old in text
    group.write_text(text.replace(old, new))
    refused(cli, group, tmp_path / "out", "J7_particles.csg", *phrases)


def test_a_passthrough_file_with_other_particles_is_refused(cli, sound, tmp_path):
    folder = tmp_path / "J7"
    folder.mkdir()
    for file in sound[2].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    passthrough = folder / "J7_passthrough_particles.cs"
    records = np.load(passthrough)
    records["uid"][:5] += np.uint64(1)
    saved(passthrough, records)
    refused(cli, folder / "J7_particles.csg", tmp_path / "out", "5", "uid")


def test_a_group_may_point_outside_its_folder_with_allow_outside(cli, sound, tmp_path):
    folder, outside = tmp_path / "J7", tmp_path / "elsewhere"
    folder.mkdir()
    outside.mkdir()
    for file in sound[2].iterdir():
        target = outside if file.name == "J7_particles.cs" else folder
        (target / file.name).write_bytes(file.read_bytes())
    group = folder / "J7_particles.csg"
    group.write_text(
        group.read_text().replace("'>J7_particles.cs'", "'>../elsewhere/J7_particles.cs'")
    )
    refused(cli, group, tmp_path / "out", "--allow-outside")
    assert cli("run", group, "-o", tmp_path / "out", "--allow-outside").exit_code == 0
    kept = tmp_path / "out" / "particles_kept"
    assert {path.name for path in kept.iterdir()} == {path.name for path in sound[2].iterdir()}
    assert cli("verify", tmp_path / "out").exit_code == 0

"""The examples run as a person runs them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import REPOSITORY
from tables import Output

from dask_dedup import verify


def script(name, *arguments, **options):
    path = REPOSITORY / "examples" / f"{name}.py"
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, **options)


def test_undo_symmetry_expansion(tmp_path):
    outcome = script("undo_symmetry_expansion", "--output", tmp_path, "--particles", 600)
    assert outcome.returncode == 0, outcome.stderr
    assert "each particle is there exactly once" in outcome.stdout
    report = verify(tmp_path / "result")
    assert report.passed, report.lines()


@pytest.mark.real_data
def test_combine_pickers(real_data, tmp_path):
    folders = [real_data / "repic_empiar10017" / name for name in ("crYOLO", "topaz", "deepPicker")]
    options = ("--pixel-size", 1.77, "--output", tmp_path)
    outcome = script("combine_pickers", *folders, *options)
    assert outcome.returncode == 0, outcome.stderr
    assert "topaz:  9,518 picks,  9,176 kept" in outcome.stdout
    assert Output(tmp_path / "result").manifest["totals"]["rows"] == 22_390


def test_combine_pickers_of_two_small_folders(tmp_path):
    for name, score in (("first", 0.9), ("second", 0.8)):
        (tmp_path / name).mkdir()
        lines = [f"{x}\t10\t64\t64\t{score}\n" for x in (0, 500, 1000)]
        (tmp_path / name / "grid_1.box").write_text("".join(lines))
    outcome = script(
        "combine_pickers", "first", "second", "--pixel-size", 1, "--output", "out", cwd=tmp_path
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "first:      3 picks,      3 kept" in outcome.stdout
    assert "second:      3 picks,      0 kept" in outcome.stdout


def test_combine_pickers_says_where_no_boxes_are(tmp_path):
    outcome = script("combine_pickers", tmp_path, "--pixel-size", 1, "--output", tmp_path / "out")
    assert outcome.returncode == 1
    assert outcome.stderr == f"{tmp_path}: no .box files\n"


@pytest.mark.slow
def test_dask_dataframe(tmp_path):
    outcome = script("dask_dataframe", "--output", tmp_path, "--particles", 3_000)
    assert outcome.returncode == 0, outcome.stderr
    rows, kept, rejected = (
        int(word.replace(",", ""))
        for word in outcome.stdout.splitlines()[0].split()
        if word[0].isdigit()
    )
    assert rows == kept + rejected
    assert 0 < rejected < kept


@pytest.mark.parametrize("name", ["relion_round_trip", "cryosparc_round_trip"])
def test_a_round_trip_changes_no_row(tmp_path, name):
    outcome = script(name, "--output", tmp_path, "--particles", 300)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.count("kept") == 2
    assert "SOME CHANGED" not in outcome.stdout
    assert verify(tmp_path / "result").proven


def test_an_example_that_cannot_go_on_says_why_in_one_line(tmp_path):
    (tmp_path / "picks" / "blob").mkdir(parents=True)
    outcome = script("relion_round_trip", "--output", tmp_path)
    assert outcome.returncode == 1
    (line,) = outcome.stderr.splitlines()
    assert "exists" in line


@pytest.mark.slow
def test_object_store(store):
    from object_stores import BUCKET

    outcome = script("object_store", "--bucket", BUCKET, "--particles", 600, env=store.around())
    assert outcome.returncode == 0, outcome.stderr
    first, proof, last = outcome.stdout.splitlines()
    assert proof == f"s3://{BUCKET}/dask-dedup-example/result is proven"
    assert first.split()[2] == last.split()[0]
    outcome = script("object_store", "--bucket", "no-such-bucket", env=store.around())
    assert outcome.returncode == 1
    assert "Traceback" not in outcome.stderr

"""Outputs that hold a result, uids of several inputs, and usage errors; test_messages.py has the broken inputs."""

from __future__ import annotations

import pyarrow as pa
import pytest
from damaged.parquet import blank, picks
from tables import Output, cryosparc, stamps, uids, write_file


def test_the_result_of_another_run_is_refused_and_left_unchanged(cli, tmp_path):
    path, out = picks(tmp_path), tmp_path / "out"
    assert cli("run", path, "--output", out).exit_code == 0
    before = stamps(out)
    outcome = cli("run", path, "--output", out, "--min-separation", 5)
    assert outcome.exit_code == 2
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("dask-dedup: ")
    assert "--overwrite" in line
    assert stamps(out) == before


def test_a_result_cannot_be_overwritten_by_a_run_on_itself(cli, tmp_path):
    path, out = picks(tmp_path), tmp_path / "out"
    assert cli("run", path, "--output", out).exit_code == 0
    before = stamps(out)
    outcome = cli("run", out / "particles_kept", "--output", out, "--overwrite")
    assert outcome.exit_code == 2
    assert "the input is inside the output" in outcome.stderr
    assert stamps(out) == before


def test_a_failed_run_leaves_an_empty_output_folder_empty(cli, tmp_path):
    (tmp_path / "out").mkdir()
    path = blank(picks(tmp_path), "pick_stats/power")
    assert cli("run", path, "--output", tmp_path / "out").exit_code == 2
    assert list((tmp_path / "out").iterdir()) == []


def test_a_uid_in_two_inputs_is_the_same_particle(cli, tmp_path):
    one = cryosparc(30)
    two = cryosparc(30, columns={"uid": pa.array([*uids(one)[:12], *range(18)], pa.uint64())})
    paths = [write_file(one, tmp_path / "1.parquet"), write_file(two, tmp_path / "2.parquet")]
    out = tmp_path / "out"
    outcome = cli("run", *paths, "--output", out, "--min-separation", 0)
    assert outcome.exit_code == 0
    assert "12 uids occur in more than one input" in outcome.stderr
    totals = Output(out).manifest["totals"]
    assert (totals["rejected"], totals["same_uid"]) == (30, 12)


def test_rows_without_a_uid_are_never_the_same_particle(cli, tmp_path):
    # The first input uses row numbers as uids; the uids of the second are as small.
    one = write_file(cryosparc(30, drop=["uid"]), tmp_path / "1.parquet")
    two = picks(tmp_path, columns={"uid": pa.array(range(30), pa.uint64())})
    out = tmp_path / "out"
    assert cli("run", one, two, "--output", out, "--min-separation", 0).exit_code == 0
    totals = Output(out).manifest["totals"]
    assert (totals["rejected"], totals["same_uid"]) == (30, 0)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--no-such-option"], "No such option"),
        (["--min-separation", "wide"], "--min-separation"),
        (["--shift-key", "alignments4D"], "--shift-key"),
        (["--workers", "0"], "--workers"),
        (["--seed", "1.5"], "--seed"),
        (["--scheduler", "tcp://a:1", "--workers", "2"], "exclude each other"),
    ],
)
def test_invalid_options_are_a_usage_error(cli, tmp_path, options, phrase):
    outcome = cli("run", picks(tmp_path), "--output", tmp_path / "out", *options)
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("Usage: ")
    assert phrase in outcome.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["run"], ["run", "--output", "out"], ["run", "in.parquet"]])
def test_a_missing_argument_is_a_usage_error(cli, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    outcome = cli(*arguments)
    assert outcome.exit_code == 2
    assert "Missing" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_verify_refuses_a_folder_without_a_run(cli, tmp_path):
    outcome = cli("verify", tmp_path)
    assert outcome.exit_code == 2
    assert "no finished run" in outcome.stderr

"""`inspect` recommends a separation, and shows what a run would keep at others."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from tables import relion, write_file
from test_chosen_separation import picks, table
from test_recommended_separation import apart, jittered

from dask_dedup import InputError, inspect, run
from dask_dedup.inspection import survey
from dask_dedup.particles import sample, scanned_sample


@pytest.fixture
def two(tmp_path):
    return [write_file(picks(100 * n), tmp_path / f"{name}.parquet") for n, name in enumerate("ab")]


def test_the_number_is_that_of_a_run(two, tmp_path):
    found = inspect(two)
    run_found = run(two, tmp_path / "out", min_separation="auto").manifest["separation"]
    assert found.recommended_separation == run_found["recommended"]
    assert found.separation.spacing.duplicates_end == run_found["duplicates_end"]
    assert (found.separation.picks, found.separation.micrographs) == (960, 4)
    assert found.advice[-1] == found.separation.reason


def test_the_number_of_a_large_table_is_that_of_a_run(tmp_path, monkeypatch):
    for module in (sample, survey, scanned_sample):
        monkeypatch.setattr(module, "SAMPLE_PICKS", 900)
    monkeypatch.setattr(survey, "PICKS_MEASURED", 2_000)
    both = pa.concat_tables([picks(0, micrographs=12), picks(100, micrographs=12)])
    path = write_file(both, tmp_path / "a.parquet")
    found = inspect(path).separation
    expected = run(path, tmp_path / "out", min_separation="auto").manifest["separation"]
    assert (found.picks, found.micrographs) == (expected["picks"], expected["micrographs"])
    assert found.picks < 1_500
    assert found.recommended == expected["recommended"]


@pytest.mark.parametrize(
    "options", [{"prefer_input_order": True}, {"between_inputs_only": True, "seed": 3}]
)
def test_kept_at_each_separation_is_what_a_run_keeps(two, tmp_path, options):
    found = inspect(two, separations=[20, 5.5, 170], **options).separation.kept_at
    assert [at.separation for at in found] == [5.5, 20, 170]
    for at in found:
        result = run(two, tmp_path / str(at.separation), min_separation=at.separation, **options)
        assert at.by_input == tuple(entry["kept"] for entry in result.by_input)
        assert at.kept == result.kept


def test_the_separations_are_round_numbers_up_to_where_neighbours_are(two):
    found = inspect(two).separation
    tried = [at.separation for at in found.kept_at]
    assert tried == [10.0 * k for k in range(1, len(tried) + 1)]
    assert tried[-1] == pytest.approx(1.5 * found.spacing.neighbours_begin, abs=10)
    assert not found.cut_short


def test_nothing_to_separate_and_no_gap(two, tmp_path):
    alone = inspect(two[0])
    assert alone.recommended_separation is None
    assert (
        "there are no duplicates to separate, apart from particles at the same position; neighbours begin at 1"
        in alone.advice[-1]
    )
    random = np.random.default_rng(0)
    some = table(random.random((500, 2)) * 2_000, np.arange(500) % 2)
    found = inspect(write_file(some, tmp_path / "random.parquet"))
    assert found.recommended_separation is None
    assert found.separation.spacing is None
    assert "half of it is usual" in found.advice[-1]


def test_without_a_pixel_size_there_is_no_number_in_angstrom(two, tmp_path):
    both = pa.concat_tables([picks(0), picks(100)]).drop_columns(["rlnMicrographPixelSize"])
    found = inspect(write_file(both, tmp_path / "c.parquet"))
    assert found.recommended_separation is None
    assert "times the pixel size" in found.advice[-1]
    number = inspect(two).recommended_separation
    assert f"choose min_separation {number:g} times the pixel size" in found.advice[-1]


def test_inputs_whose_y_axes_differ_have_no_number_yet(tmp_path):
    found = apart(400, 150.0, 6_000.0)
    other = jittered(found, 3.0)
    other[:, 1] = 6_000.0 - other[:, 1]
    zero = np.zeros(400, int)
    paths = [
        write_file(table(each, zero), tmp_path / f"{n}.parquet")
        for n, each in enumerate((found, other))
    ]
    found = inspect(paths, min_separation=40)
    assert found.flips
    assert found.recommended_separation is None
    assert "see the advice" in found.separation.reason


def test_no_picks_have_no_number(tmp_path):
    found = inspect(write_file(relion(0), tmp_path / "empty.parquet"))
    assert found.recommended_separation is None
    assert found.lines()


def test_json(two, cli):
    shown = json.loads(cli("inspect", *two, "--separations", "10,90", "--json").stdout)
    assert shown["recommended_separation"] == inspect(two).recommended_separation
    assert [at["separation"] for at in shown["kept_at"]] == [10, 90]
    assert shown["kept_at"][0]["kept"] == sum(shown["kept_at"][0]["by_input"])
    assert shown["separation"]["unit"] == "A"
    assert shown["separation"]["spacing"]["duplicates_end"] > 0


def test_the_text_begins_with_a_short_summary(two, cli):
    number = inspect(two).recommended_separation
    lines = cli("inspect", *two).stdout.splitlines()
    summary = lines[: lines.index("")] if "" in lines else lines
    assert len(summary) <= 15
    assert summary[0] == "2 inputs: 960 particles on 4 micrographs"
    assert any(line.startswith("  a.parquet  480 on 4 micrographs, 1 A/px") for line in summary)
    assert any(f"separation: choose --min-separation {number:g}:" in line for line in summary)
    assert "--verbose shows columns" in summary[-1]
    assert not any("histogram" in line or "pairs within" in line for line in lines)
    more = cli("inspect", *two, "--verbose").stdout
    for text in ("pairs within", "kept at each separation, of 960 picks", "they share"):
        assert text in more


def test_the_summary_of_many_inputs_is_short(tmp_path, cli):
    paths = [write_file(picks(100 * n), tmp_path / f"{n}.parquet") for n in range(7)]
    lines = cli("inspect", *paths).stdout.splitlines()
    assert "  and 3 more inputs" in lines
    assert "  and 18 more pairs of inputs" in lines
    assert [*lines, ""].index("") <= 15


def test_wrong_separations_are_refused(two, cli):
    for text, message in [
        ("1,x", "write numbers with commas between them"),
        ("0,5", "each must be above 0"),
        (",".join(map(str, range(1, 34))), "pass 1 to 32"),
    ]:
        result = cli("inspect", *two, "--separations", text)
        assert result.exit_code == 2
        assert message in result.stderr
        assert "--separations" in result.stderr
    with pytest.raises(InputError, match="each must be above 0"):
        inspect(two, separations=[float("nan")])

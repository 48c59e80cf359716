"""What the report says about the separation: the answer, and numbers over whole micrographs only."""

from __future__ import annotations

import re
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest
from tables import write_file
from test_chosen_separation import picks, separation_warnings, table
from test_recommended_separation import jittered
from test_report_viewer import data_of

from dask_dedup import report, run
from dask_dedup.dedup.params import DedupParams
from dask_dedup.dedup.recommended_separation import Spacing
from dask_dedup.dedup.separation import Fit, judge_separation
from dask_dedup.particles import sample, scanned_sample
from dask_dedup.results.report import datasets
from dask_dedup.results.report.sections.separation import verdict

GAP = Spacing(12.0, 40.0, 25.0)


def filaments(seed):
    """Return the picks of a picker on filaments with a repeat of 40 A."""
    random = np.random.default_rng(seed)
    along, filament, micrograph = np.meshgrid(np.arange(60), np.arange(5), np.arange(6))
    points = np.column_stack([along.ravel() * 40.0 + 100, filament.ravel() * 500.0 + 300])
    points += random.normal(0, 1, points.shape)
    tubes = pa.array(filament.ravel() + 1)
    return table(points, micrograph.ravel(), seed).append_column("rlnHelicalTubeID", tubes)


def text_of(result):
    page = report(result.output, contents=result.report_contents).read_text("utf-8")
    return re.sub(r"<[^>]+>", "", page)


@pytest.mark.parametrize(
    ("separation", "exempt", "fit"),
    [
        (11.0, {}, Fit.SMALL),
        (12.0, {}, Fit.RIGHT),
        (40.0, {}, Fit.RIGHT),
        (41.0, {}, Fit.LARGE),
        (41.0, {"ignore_within_filament": True}, Fit.EXEMPT),
        (41.0, {"between_inputs_only": True}, Fit.EXEMPT),
        (11.0, {"between_inputs_only": True}, Fit.SMALL),
    ],
)
@pytest.mark.parametrize("rejected", [0, 9])
def test_the_answer(separation, exempt, fit, rejected):
    params = DedupParams(min_separation=separation, **exempt)
    assert judge_separation(GAP, params) is fit
    subject = Mock(
        params=params,
        separation=separation,
        duplicates=rejected,
        noun="pick",
        image_kind="micrograph",
        is_planned=False,
        were="were",
    )
    answer = verdict(subject, GAP)
    assert answer.startswith("It looks right. ") == (fit is Fit.RIGHT)
    assert answer.startswith("It looks too small: ") == (fit is Fit.SMALL)
    assert ("were rejected as duplicates" in answer) == (fit is Fit.LARGE and rejected > 0)
    if fit in (Fit.LARGE, Fit.EXEMPT) and not rejected:
        assert answer.startswith("It made no difference, because nothing was rejected.")
    assert ("were not compared" in answer) == (fit is Fit.EXEMPT and rejected > 0)


@pytest.mark.parametrize(("separation", "far"), [(41, True), (44, True), (46, False), (139, False)])
def test_a_separation_far_from_the_recommended_one_is_answered_with_it(separation, far):
    gap = Spacing(41.0, 139.0, 90.0)
    params = DedupParams(min_separation=separation)
    subject = Mock(params=params, separation=separation, duplicates=9, noun="pick")
    answer = verdict(subject, gap)
    assert answer.startswith("It looks right. Duplicates are up to about 41 \u00c5 apart")
    assert ("90 \u00c5 is the safer choice" in answer) == far


@pytest.mark.parametrize("exemption", ["ignore_within_filament", "between_inputs_only"])
def test_the_answer_where_nothing_was_compared(tmp_path, exemption):
    path = write_file(filaments(1), tmp_path / "a.parquet")
    result = run(path, tmp_path / "out", min_separation=60, **{exemption: True})
    assert result.rejected == 0
    text = text_of(result)
    assert "It made no difference, because nothing was rejected." in text
    assert "were rejected as duplicates" not in text
    assert not [line for line in separation_warnings(result) if "rejects" in line]


def test_page_and_warning_agree_at_the_ends_of_the_gap(tmp_path):
    paths = [write_file(picks(100 * n), tmp_path / f"{n}.parquet") for n in range(2)]
    found = run(paths, tmp_path / "auto", min_separation="auto").manifest["separation"]
    ends = (found["farthest_duplicates"], found["duplicates_end"], found["neighbours_begin"])
    for number, separation in enumerate(ends):
        result = run(paths, tmp_path / f"{number}", min_separation=separation)
        assert separation_warnings(result) == []
        assert "It looks right." in text_of(result)


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """Return the result of a run whose sample has a window and whole micrographs."""
    for module in (sample, datasets, scanned_sample):
        for name, value in (("SAMPLE_PICKS", 3_000), ("MOST_ON_ONE", 2_000)):
            monkeypatch.setattr(module, name, value, raising=False)
    random = np.random.default_rng(0)
    large = random.random((4_000, 2)) * 5_000
    few = random.random((1_200, 2)) * 2_000
    points = np.concatenate([large, few, jittered(few, 3)])
    micrographs = np.concatenate([np.full(4_000, 99), *(np.arange(1_200) % 8,) * 2])
    path = write_file(table(points, micrographs), tmp_path / "in.parquet")
    return run(path, tmp_path / "out", min_separation=40)


def test_charts_count_picks_on_whole_micrographs_only(mixed):
    contents = mixed.report_contents
    whole = contents.choice.whole[contents.choice.find(contents.sample.micrograph)]
    assert 0 < np.count_nonzero(whole) < len(contents.sample)
    page = report(mixed.output, contents=contents).read_text("utf-8")
    data = data_of(page)
    what = data["what"]
    assert what["total"] == np.count_nonzero(whole)
    assert what["kept"][data["at"]] == np.count_nonzero(contents.sample.kept[whole])
    assert what["kept"] == sorted(what["kept"], reverse=True)
    assert sum(what["before"]) <= what["total"]
    assert f"All {what['total']:,} picks" in page
    assert "because it has very many picks, the micrograph is left out." in page
    fixed = {each["n"]: each.get("f") for each in data["micrographs"]}
    assert fixed == {name: 1 if name == "m99.mrc" else None for name in fixed}
    assert len(fixed) > 2


def test_a_micrograph_with_many_picks_is_sampled_by_a_window():
    rows = np.array([200_000, 100, 100])
    bounds = np.tile([0.0, 0.0, 4_000.0, 4_000.0], (3, 1))
    choice = sample.choose_sample(np.arange(3, dtype=np.uint64), rows, bounds)
    assert choice.whole.tolist() == [False, True, True]
    left, top, right, bottom = choice.windows[0]
    assert (right - left) * (bottom - top) == pytest.approx(4_000**2 * 0.3)


def test_an_answer_without_charts_where_only_windows_are_sampled(tmp_path, monkeypatch):
    for module in (sample, datasets, scanned_sample):
        for name, value in (("SAMPLE_PICKS", 400), ("MOST_ON_ONE", 400)):
            monkeypatch.setattr(module, name, value, raising=False)
    points = np.random.default_rng(0).random((900, 2)) * 2_000
    points = np.concatenate([points, jittered(points, 3)])
    path = write_file(table(points, np.zeros(1_800, int)), tmp_path / "in.parquet")
    result = run(path, tmp_path / "out", min_separation=40)
    text = text_of(result)
    assert "Is 40 Å the right separation?" in text
    assert "This was measured in a window of each micrograph of the sample." in text
    assert "What if the separation were" not in text
    assert len(result.report_contents.sample) < 800

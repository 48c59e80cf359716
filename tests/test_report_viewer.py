"""The micrographs in the page of a report: which are chosen, and which of their picks."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pytest
from tables import write_file

from dask_dedup import report, run
from dask_dedup.results.report import viewer
from dask_dedup.results.report.viewer import busiest_window, choose


def table(names, x, y):
    random = np.random.default_rng(0)
    columns = {"rlnMicrographName": names, "rlnCoordinateX": x, "rlnCoordinateY": y}
    columns["rlnMicrographPixelSize"] = np.ones(len(names))
    columns["rlnAutopickFigureOfMerit"] = random.random(len(names))
    return pa.table(columns)


def scattered(micrographs, each, side=3_000.0):
    """Return a table of picks at random."""
    random = np.random.default_rng(1)
    names = np.repeat([f"m{number:02d}.mrc" for number in range(micrographs)], each)
    return table(names, *(random.random((2, len(names))) * side))


def page_of(tmp_path, table, named=(), **params):
    result = run(write_file(table, tmp_path / "in.parquet"), tmp_path / "out", **params)
    return report(result.output, plot_micrographs=named).read_text("utf-8")


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.mark.parametrize("spread", [0.0, 1e-7])
def test_a_window_of_picks_in_one_place_has_the_first_of_them(monkeypatch, spread):
    monkeypatch.setattr(viewer, "MOST_ON_ONE", 50)
    points = np.full((200, 2), 50.0) + spread * np.random.default_rng(0).random((200, 2))
    points[0] = 4_000.0
    field = (0.0, 0.0, 5_000.0, 5_000.0)
    inside, (left, top, width, height) = busiest_window(points, np.ones(200, bool), field)
    assert np.flatnonzero(inside).tolist() == list(range(1, 51))
    assert width > 0
    assert height > 0
    assert left <= 50.0 <= left + width
    assert top <= 50.0 <= top + height


def test_a_page_of_thousands_of_picks_in_one_place(tmp_path):
    picks = table(["a.mrc"] * 7_000, np.full(7_000, 50.0), np.full(7_000, 50.0))
    page = page_of(tmp_path, picks, min_separation=50.0)
    (shown,) = data_of(page)["micrographs"]
    assert (shown["p"], shown["c"]) == (5_000, 7_000)
    assert "at most 5,000 are shown" in page


def test_a_page_of_forty_micrographs_that_were_asked_for(tmp_path):
    every = [f"m{number:02d}.mrc" for number in range(45)]
    picks = scattered(45, 30)
    page = page_of(tmp_path, picks, min_separation=100.0)
    data = data_of(page)
    typical = data["micrographs"][data["first"]]["n"]
    assert "a typical micrograph" in page
    named = [name for name in every if name != typical][:40]
    page = report(tmp_path / "out", plot_micrographs=named).read_text("utf-8")
    data = data_of(page)
    assert sorted(each["n"] for each in data["micrographs"]) == named
    assert 0 <= data["first"] < 40
    assert "a typical micrograph" not in page


def test_the_page_names_micrographs_that_it_has_no_place_for(tmp_path):
    named = [f"m{number:02d}.mrc" for number in range(12)]
    page = page_of(tmp_path, scattered(12, 5_200, 20_000.0), named, min_separation=40.0)
    shown = [each["n"] for each in data_of(page)["micrographs"]]
    left_out = [name for name in named if name not in shown]
    assert len(left_out) == 4
    (note,) = re.findall(r"Not shown although asked for: [^<]*", page)
    assert re.findall(r"m\d\d", note) == [name.removesuffix(".mrc") for name in left_out]
    assert "at most 40 micrographs and 40,000 picks" in note


def test_micrographs_that_were_asked_for_come_first():
    keys = np.arange(60, dtype=np.uint64)
    number, rejected = np.full(60, 10), np.arange(60) % 10
    chosen, typical = choose(keys, number, rejected, named=range(40))
    assert sorted(chosen) == list(range(40))
    assert typical in choose(keys, number, rejected)[0]

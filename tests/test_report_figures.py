"""The numbers in the figures of the report are right."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cryosparc, write_file

from dask_dedup import run
from dask_dedup.particles.sample import NO_ROW, SampledPicks
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.report.analysis import analyse
from dask_dedup.results.report.chart import Axis, steps
from dask_dedup.results.report.datasets import read_contents
from dask_dedup.results.report.neighbours import find_close_pairs
from dask_dedup.results.report.sections.agreement import found_by
from dask_dedup.results.report.sections.separation import find_pairs, measure
from dask_dedup.results.report.subject import Subject
from dask_dedup.results.report.ticks import make_ticks


def subject_of(tmp_path, tables, **params):
    """Run on tables, and return the subject of the report."""
    paths = [write_file(table, tmp_path / f"{n}.parquet") for n, table in enumerate(tables)]
    run(paths, tmp_path / "out", **params)
    result = open_finished_run(tmp_path / "out")
    contents = read_contents(result)
    return Subject(result, contents, analyse(result, contents))


def sample_of(points, micrograph, **columns):
    n = len(points)
    values = {
        "micrograph": np.asarray(micrograph, dtype=np.uint64),
        "source": np.zeros(n, dtype=np.uint16),
        "row": np.arange(n),
        "x": points[:, 0],
        "y": points[:, 1],
        "z": np.zeros(n),
        "score": np.arange(n, dtype=float),
        "uid": np.arange(n, dtype=np.uint64),
        "half": np.full(n, -1, dtype=np.int8),
        "label": np.full(n, -1),
        "kept": np.ones(n, dtype=bool),
        "winner_source": np.zeros(n, dtype=np.uint16),
        "winner_row": np.full(n, NO_ROW),
        "distance": np.full(n, np.nan),
        "votes": np.zeros(n, dtype=np.uint16),
    }
    return SampledPicks.from_columns(values | columns)


def brute_nearest(points, micrograph, among):
    distance = np.sqrt(((points[:, np.newaxis] - points[np.newaxis]) ** 2).sum(axis=2))
    np.fill_diagonal(distance, np.inf)
    distance[micrograph[:, np.newaxis] != micrograph] = np.inf
    distance[:, ~among] = np.inf
    return distance.min(axis=1)


@given(st.integers(0, 2**32), st.integers(2, 60))
def test_nearest_distances_equal_those_of_all_pairs(seed, number):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 200, (number, 2)).astype(float)
    micrograph = rng.integers(0, 3, number)
    pairs = find_close_pairs(sample_of(points, micrograph), micrograph.astype(np.intp), 45.0)
    every = np.ones(number, dtype=bool)
    some = [every, *(rng.random((3, number)) < 0.5)]
    bits = sum(among.astype(np.uint32) << np.uint32(bit) for bit, among in enumerate(some))
    for among, found in zip(some, pairs.nearest_at(bits, len(some)), strict=True):
        expected = brute_nearest(points, micrograph, among)
        expected[expected > pairs.reach] = np.inf
        expected[~among] = np.nan
        np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(pairs.nearest(), next(pairs.nearest_at(bits, 1)))
    group = rng.integers(0, 2, number)
    of_groups = pairs.nearest_of(group, 2)
    for one in (0, 1):
        expected = brute_nearest(points, micrograph, group == one)
        expected[expected > pairs.reach] = np.inf
        np.testing.assert_allclose(of_groups[:, one], expected)


@pytest.mark.parametrize("pickers", [3, pytest.param(65, marks=pytest.mark.slow)])
def test_kept_picks_are_counted_by_the_pickers_that_found_them(tmp_path, pickers):
    tables = [cryosparc(20, seed=seed, micrographs=1) for seed in range(pickers)]
    subject = subject_of(tmp_path, tables, min_separation=15.0)
    sample, winner = subject.contents.sample, subject.winner
    expected = {}
    for row in np.flatnonzero(sample.kept).tolist():
        finders = {int(sample.source[row])} | set(sample.source[winner == row].tolist())
        key = tuple(sorted(finders))
        expected[key] = expected.get(key, 0) + 1
    assert found_by(subject) == expected
    assert sum(expected.values()) == np.count_nonzero(sample.kept)


def test_bits_are_the_decisions_of_runs_at_each_separation(tmp_path):
    tables = [cryosparc(300, seed=1), cryosparc(200, seed=2)]
    subject = subject_of(tmp_path, tables, min_separation=30.0)
    numbers = measure(subject, find_pairs(subject))
    assert numbers.separations[numbers.at] == 30.0
    inputs = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for separation, kept in list(zip(numbers.separations, numbers.kept, strict=True))[::5]:
        found = run(inputs, tmp_path / f"at-{separation}", min_separation=separation)
        assert found.kept == kept
    at = numbers.at
    assert numbers.closest > 30.0
    assert sum(numbers.after[at]) <= numbers.kept[at]
    edges = np.linspace(0, numbers.limit, len(numbers.before) + 1)
    inside = edges[1:] <= 30.0
    assert not np.array(numbers.after[at])[inside].any()
    assert sum(numbers.before) + numbers.beyond == 500


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e6), st.integers(3, 7))
def test_an_axis_has_at_least_three_round_ticks(low, size, most):
    ticks = make_ticks(low, low + size, most)
    assert 3 <= len(ticks) <= 14
    slack = 1e-6 * max(size, abs(low))
    assert low - slack <= ticks[0] <= ticks[-1] <= low + size + slack
    steps_between = np.diff(ticks)
    np.testing.assert_allclose(steps_between, steps_between[0], rtol=1e-3)


def test_a_histogram_is_drawn_to_scale():
    axis = Axis.counts(100)
    assert axis.ticks[0] == 0
    assert all(tick == round(tick) for tick in axis.ticks)
    path = steps([0, 100, 50], axis)
    heights = [float(found) for found in re.findall(r"V([\d.]+)", path)]
    top = 1000 - 1000 * 100 / axis.high
    assert heights == pytest.approx([1000, top, (1000 + top) / 2, 1000], abs=0.1)

"""The grid of cells finds the same pairs as a comparison of all points."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st

from dask_dedup.results.verify import close_pairs as neighbours
from dask_dedup.results.verify.close_pairs import (
    Points,
    best_within,
    close_pairs,
    closest_pair,
    nearest_other,
    nearest_within,
)

STEPS = st.sampled_from([0.25, 1.0, 1 / 3, 1e-7, 1e9])


@st.composite
def points(draw, labelled=None, step=None, axes=None, most=30):
    n = draw(st.integers(0, most))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    axes = axes or draw(st.sampled_from([2, 3]))
    span = draw(st.sampled_from([1, 3, 12, 100]))
    centres = np.zeros((n, 3))
    centres[:, :axes] = rng.integers(-span, span + 1, (n, axes)) * (step or draw(STEPS))
    if draw(st.booleans()):
        centres[:, :axes] += rng.normal(size=(n, axes))
    centres[rng.random((n, 3)) < 0.1] = -0.0
    with_label = draw(st.booleans()) if labelled is None else labelled
    labels = [rng.integers(-1, 3, n) for _ in range(2 * with_label)]
    return Points(rng.integers(0, 3, n), centres[:, :axes], labels)


def all_distances(a, b):
    """(len(a), len(b)) float64; infinite where there is no pair."""
    steps = a.centres[:, None] - b.centres[None]
    distance = np.sqrt(sum((steps * steps)[..., axis] for axis in range(steps.shape[-1])))
    distance[a.micrograph[:, None] != b.micrograph[None]] = np.inf
    for label, other in zip(a.labels, b.labels, strict=True):
        distance[(label[:, None] == other[None]) & (label[:, None] >= 0)] = np.inf
    return distance


REACHES = st.sampled_from([0.0, 0.25, 1.0, 1.5, 2.0, 5.0, 1e-7, 1e3, 1e9])


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    monkeypatch.setattr(neighbours, "CANDIDATES", 7)


@examples(200)
@given(st.data(), REACHES, st.booleans(), STEPS, st.integers(1, 3))
def test_close_pairs_are_found_and_no_others(data, reach, labelled, step, axes):
    a, b = (data.draw(points(labelled, step, axes)) for _ in range(2))
    distance = all_distances(a, b)
    expected = {(int(i), int(j)): distance[i, j] for i, j in np.argwhere(distance <= reach)}
    found = {}
    for i, j, d in close_pairs(a, b, reach):
        new = dict(zip(zip(i.tolist(), j.tolist(), strict=True), d.tolist(), strict=True))
        assert not new.keys() & found.keys()
        assert len(new) == i.size
        found |= new
    assert found == expected


@examples(200)
@given(points(), REACHES)
def test_the_closest_pair_and_the_nearest_other_are_found(some, reach):
    distance = all_distances(some, some)
    np.fill_diagonal(distance, np.inf)
    distance[distance > reach] = np.inf
    expected = distance.min(axis=1, initial=np.inf)
    assert nearest_other(some, reach).tolist() == expected.tolist()
    closest = closest_pair(some, reach)
    if np.isinf(expected).all():
        assert closest is None
    else:
        assert closest[0] == expected.min() == distance[closest[1], closest[2]]


@examples(200)
@given(st.data(), REACHES, st.booleans(), STEPS, st.integers(1, 3))
def test_the_best_ranked_within_reach_is_found(data, reach, labelled, step, axes):
    queries, targets = (data.draw(points(labelled, step, axes)) for _ in range(2))
    rank = np.random.default_rng(len(targets)).permutation(len(targets) * 2)[: len(targets)]
    near = all_distances(queries, targets) <= reach
    expected = [int(min(np.flatnonzero(row), key=lambda j: rank[j], default=-1)) for row in near]
    assert best_within(queries, targets, rank, reach).tolist() == expected


@given(st.data(), REACHES, st.booleans(), STEPS, st.integers(1, 3))
def test_the_nearest_within_reach_is_found(data, reach, labelled, step, axes):
    queries, targets = (data.draw(points(labelled, step, axes)) for _ in range(2))
    rank = np.random.default_rng(len(targets)).permutation(len(targets) * 2)[: len(targets)]
    distance = all_distances(queries, targets)
    nearest, found = nearest_within(queries, targets, rank, reach)
    for row, number, least in zip(distance, nearest.tolist(), found.tolist(), strict=True):
        near = np.flatnonzero(row <= reach)
        best = min(near.tolist(), key=lambda j: (row[j], rank[j]), default=-1)
        assert (number, least) == (best, row[best] if near.size else np.inf)


@pytest.mark.parametrize("labelled", [False, True])
def test_many_coincident_points_are_fast(monkeypatch, labelled):
    monkeypatch.setattr(neighbours, "CANDIDATES", 2**20)
    n = 200_000
    labels = [np.arange(n) % 2] if labelled else []
    coincident = Points(np.zeros(n, dtype=np.intp), np.full((n, 3), 5.0), labels)
    assert (nearest_other(coincident, 20.0) == 0).all()
    assert closest_pair(coincident, 20.0)[0] == 0
    rank = np.arange(n)[::-1].copy()
    other = Points(coincident.micrograph, coincident.centres, [label + 5 for label in labels])
    assert (best_within(other, coincident, rank, 20.0) == n - 1).all()
    assert (nearest_within(other, coincident, rank, 20.0)[0] == n - 1).all()


def test_points_at_extreme_positions_do_not_hide_other_pairs():
    x = np.array([0.0, 10.0, 1e300, 500.0, -1e300])
    centres = np.column_stack([x, x * 0, x * 0])
    some = Points(np.zeros(5, dtype=np.intp), centres)
    assert nearest_other(some, 20.0).tolist() == [10.0, 10.0, np.inf, np.inf, np.inf]


def test_the_number_of_candidate_pairs_in_memory_is_bounded(monkeypatch):
    sizes = []
    seen = neighbours.distances
    monkeypatch.setattr(neighbours, "CANDIDATES", 500)
    monkeypatch.setattr(neighbours, "distances", lambda a, b: sizes.append(len(a)) or seen(a, b))
    rng = np.random.default_rng(0)
    crowd = Points(np.zeros(300, dtype=np.intp), rng.random((300, 3)))
    total = sum(i.size for i, _, _ in close_pairs(crowd, crowd, 20.0))
    assert total == 300 * 300
    assert max(sizes) <= 500

"""The gap between duplicates and real neighbours, and the recommended separation in it."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from conftest import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dask_dedup.dedup import pairs, recommended_separation
from dask_dedup.dedup.recommended_separation import Spacing, find_spacing


def lattice(step, side, axes=2):
    axis = np.arange(side) * float(step)
    return np.stack(np.meshgrid(*[axis] * axes), axis=-1).reshape(-1, axes)


def jittered(points, sigma, seed=1):
    return points + np.random.default_rng(seed).normal(0, sigma, points.shape)


def apart(count, least, side, seed=0):
    """Return points at random, no two of them closer than `least`."""
    random, found = np.random.default_rng(seed), np.empty((0, 2))
    while len(found) < count:
        one = random.uniform(0, side, 2)
        if (np.hypot(*(found - one).T) >= least).all():
            found = np.vstack([found, one])
    return found


def two_pickers(error=6.0, least=150.0, micrographs=4, seed=0):
    """Return the picks of two pickers, and the micrograph of each."""
    found = [apart(120, least, 3_000.0, seed + n) for n in range(micrographs)]
    points = np.concatenate(
        [jittered(p, error, 10 * k + n) for n, p in enumerate(found) for k in (1, 2)]
    )
    return points, np.repeat(np.arange(micrographs), 240)


def on_one(points):
    return find_spacing(points, np.zeros(len(points), np.intp))


@pytest.mark.parametrize("axes", [2, 3])
def test_the_spacing_of_a_lattice_is_its_constant(axes):
    points = lattice(80, 30 if axes == 2 else 12, axes)
    found = on_one(points)
    assert found.neighbours_begin == pytest.approx(80, rel=0.05)
    assert (found.duplicates_end, found.recommended) == (0, None)
    found = on_one(np.concatenate([points, jittered(points, 2)]))
    assert 3 < found.duplicates_end < 15
    assert 65 < found.neighbours_begin < 85
    assert found.includes(found.recommended)


def test_the_spacing_of_a_filament_is_its_repeat():
    line = np.arange(400) * 40.0
    filaments = [np.column_stack([line, np.full(400, y), line / 3]) for y in (0.0, 900.0)]
    found = on_one(np.concatenate(filaments))
    assert found.neighbours_begin == pytest.approx(40 * np.hypot(1, 1 / 3), rel=0.05)


def test_random_picks_have_no_gap():
    random = np.random.default_rng(0)
    some, number = random.random((4_000, 2)) * 4_000.0, np.arange(4_000) % 8
    assert find_spacing(some, number) is None
    assert find_spacing(np.concatenate([some, jittered(some, 5)]), np.tile(number, 2)) is None


@pytest.mark.parametrize("count", [0, 1, 2, 12])
def test_few_picks_have_no_gap(count):
    random = np.random.default_rng(0)
    assert find_spacing(random.random((count, 2)) * 4_000.0, np.arange(count) % 3) is None


def test_few_picks_of_each_particle_are_little_evidence_for_a_gap():
    """120 particles at random, each picked twice at almost the same point: the true end is about 20 A."""
    for seed in range(40):
        random = np.random.default_rng(seed)
        some = random.random((120, 3)) * [4_000.0, 4_000.0, 2_000.0]
        found = find_spacing(np.concatenate([some, jittered(some, 5, seed)]), np.arange(240) % 2)
        assert found is None or found.duplicates_end < 60, seed
    assert find_spacing(*two_pickers(micrographs=1)).recommended is not None


def test_the_farthest_duplicates_are_measured():
    points, micrographs = two_pickers()
    found = find_spacing(points, micrographs)
    i, j = np.triu_indices(len(points), 1)
    distances = np.hypot(*(points[i] - points[j]).T)[micrographs[i] == micrographs[j]]
    farthest = distances[distances <= found.duplicates_end].max()
    assert found.farthest_duplicates == pytest.approx(farthest)
    assert found.includes(farthest)
    assert not found.includes(farthest - 0.1)


def test_coincident_picks_have_no_gap():
    assert on_one(np.zeros((1_000, 2))) is None


@examples(30)
@given(seed=st.integers(0, 2**32 - 1), error=st.sampled_from((2.0, 6.0, 12.0)))
def test_the_recommended_separation_has_the_fewest_pairs_per_angstrom(seed, error):
    points, micrographs = two_pickers(error, seed=seed)
    found = find_spacing(points, micrographs)
    assume(found is not None and found.duplicates_end > 0)
    end, begin = found.duplicates_end, found.neighbours_begin
    i, j = np.triu_indices(len(points), 1)
    same = micrographs[i] == micrographs[j]
    distances = np.hypot(*(points[i[same]] - points[j[same]]).T)
    density = {}
    for k in range(1_000):
        r = max(end, begin / 20) * np.exp(0.01 * k)
        if r > begin:
            break
        close = np.count_nonzero((distances >= r / 1.15) & (distances <= 1.15 * r))
        density[r] = close / (r * (1.15 - 1 / 1.15))
    least = min(density.values())
    best = [r for r, value in density.items() if value == least]
    assert found.recommended == pytest.approx(np.exp(np.log(best).mean()), rel=0.06)
    assert end <= found.recommended <= begin


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_spacing_does_not_depend_on_the_order_of_rows(seed, sampled):
    points, micrographs = two_pickers()
    order = np.random.default_rng(seed).permutation(len(points))
    # Few pairs allowed: only some points are measured, with a KD-tree.
    with mock.patch.object(recommended_separation, "_PAIRS", 8_000 if sampled else 2_000_000):
        one = find_spacing(points, micrographs)
        assert one == find_spacing(points[order], micrographs[order])
    assert one.includes(one.recommended)


def test_a_sweep_and_a_tree_find_the_same_spacing():
    points, micrographs = two_pickers()
    one = find_spacing(points, micrographs)
    with mock.patch.object(recommended_separation, "sweep_pairs", return_value=None):
        other = find_spacing(points, micrographs)
    assert one == other


def test_the_recommended_separation_is_rounded_within_the_gap():
    radial = mock.Mock(distances=np.zeros(0), edges=np.array([0.0, 400.0]))
    # The geometric mean of 103 and 106.6 is 104.8, which would be 100.
    assert recommended_separation._recommend(radial, 103.0, 106.6) == 105.0
    assert recommended_separation._recommend(radial, 41.0, 139.0) == 75.0


def test_the_gap_includes_its_ends():
    gap = Spacing(41.0, 139.0, 90.0)
    assert [gap.includes(each) for each in (20, 41, 90, 139, 140)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_the_spacing_of_a_small_table_needs_no_scipy():
    points, micrographs = two_pickers()
    with mock.patch.object(pairs, "_tree", side_effect=AssertionError("a tree was built")):
        assert find_spacing(points, micrographs) is not None

"""The decision equals that of a brute-force loop, row for row, on every path through the code."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from oracle import crowded, greedy
from scipy.spatial import cKDTree

from dask_dedup.dedup import coincident, nearest, pairs
from dask_dedup.dedup import greedy as greedy_rule
from dask_dedup.dedup.greedy import reject_all_close, suppress
from dask_dedup.dedup.pairs import Points

BUDGETS = (1, 7, 4_000_000)
ROUNDS = (0, 1, 12)
SEPARATIONS = (0.0, 1e-9, 0.1, 1.0, 20.0, 1e7)


def on_one(centres, *labels):
    """Return points on one micrograph."""
    return Points(centres, np.zeros(len(centres), np.intp), labels)


@dataclass(frozen=True)
class Case:
    centres: np.ndarray
    micrographs: np.ndarray
    keys: tuple[np.ndarray, ...]
    separation: float
    labels: tuple[np.ndarray, ...] = ()

    def take(self, rows):
        return replace(
            self,
            centres=self.centres[rows],
            micrographs=self.micrographs[rows],
            keys=tuple(key[rows] for key in self.keys),
            labels=tuple(label[rows] for label in self.labels),
        )

    def ranks(self):
        return list(zip(*(key.tolist() for key in self.keys), strict=True))

    def share_label(self, i, j):
        return any(label[i] >= 0 and label[i] == label[j] for label in self.labels)

    def run(self, method=suppress):
        points = Points(self.centres, self.micrographs, self.labels)
        return method(points, self.keys, self.separation)


@st.composite
def cases(draw, max_rows=28):
    """Rows on a grid with a step near the separation, on a chain, coincident, or anywhere."""
    n = draw(st.integers(0, max_rows))
    axes = draw(st.sampled_from((2, 3)))
    separation = draw(st.sampled_from(SEPARATIONS))
    step = (separation or 1.0) * draw(st.sampled_from((1.0, 0.5, 0.7071067811865476, 0.3, 1.1)))
    columns = axes + 5
    drawn = draw(st.binary(min_size=columns * n, max_size=columns * n))
    bits = np.frombuffer(drawn, dtype=np.uint8).reshape(n, columns).astype(np.int64)

    layout = draw(st.sampled_from(("grid", "chain", "coincident", "anywhere")))
    if layout == "chain":
        centres = np.zeros((n, axes))
        centres[:, 0] = np.arange(n) * step
    elif layout == "anywhere":
        centres = bits[:, :axes] * (step / 61.0)
    else:
        centres = (bits[:, :axes] % (5 if layout == "grid" else 2)) * step
    centres = centres + draw(st.sampled_from((0.0, 0.0, -2 * step, 1e6, 12345.678)))
    centres[(centres == 0) & (bits[:, :axes] > 127)] = -0.0

    micrographs = bits[:, axes] % draw(st.sampled_from((1, 3, 1000)))
    distinct_scores = draw(st.sampled_from((1, 2, 256)))
    score = bits[:, axes + 1] % distinct_scores
    if layout == "chain" and draw(st.booleans()):
        score = n - np.arange(n)
    second = bits[:, axes + 2] % draw(st.sampled_from((1, 3, 256)))
    unique = draw(st.sampled_from((1, -1))) * np.arange(n)
    labels = [bits[:, axes + 3] % 4 - 1, bits[:, axes + 4] % 2 - 1]
    return Case(
        centres,
        micrographs.astype(np.intp),
        tuple(key.astype(np.uint64) for key in (score, second, unique)),
        separation,
        tuple(labels[: draw(st.sampled_from((0, 0, 1, 2)))]),
    )


@contextmanager
def tuned(budget=pairs.PAIR_BUDGET, rounds=greedy_rule.ROUNDS):
    with (
        # A sweep never reaches the budget.
        without_sweep() if budget < pairs.PAIR_BUDGET else nullcontext(),
        mock.patch.object(pairs, "PAIR_BUDGET", budget),
        mock.patch.object(greedy_rule, "ROUNDS", rounds),
    ):
        yield


def without_sweep():
    return mock.patch.object(pairs, "sweep_pairs", return_value=None)


def random_case(n, *, side, separation, micrographs=1, axes=2, seed=0):
    random = np.random.default_rng(seed)
    return Case(
        random.uniform(0, side, (n, axes)),
        random.integers(micrographs, size=n),
        (random.permutation(n).astype(np.uint64),),
        separation,
    )


def assert_same(one, other):
    np.testing.assert_array_equal(one.rejected, other.rejected)
    np.testing.assert_array_equal(one.winner, other.winner)
    np.testing.assert_array_equal(one.distance, other.distance)


def brute_force(case):
    """Winners and distances by a loop over all pairs."""
    return greedy(case.centres, case.micrographs, case.ranks(), case.separation, case.share_label)


def assert_greedy(case, result):
    assert_is(result, *brute_force(case))


def assert_is(result, winner, distance):
    np.testing.assert_array_equal(result.rejected, winner >= 0)
    np.testing.assert_array_equal(result.winner, winner)
    np.testing.assert_array_equal(result.distance, distance)


def assert_crowded(case, result):
    closest = crowded(case.centres, case.micrographs, case.separation, case.share_label)
    np.testing.assert_array_equal(result.rejected, ~np.isnan(closest))
    np.testing.assert_array_equal(result.distance, closest)
    assert (result.winner == -1).all()


@examples(200)
@given(case=cases())
def test_suppress_equals_brute_force_for_any_budget_and_rounds(case):
    truth = brute_force(case)
    for budget, rounds in product(BUDGETS, ROUNDS):
        with tuned(budget, rounds):
            assert_is(case.run(), *truth)


@pytest.mark.parametrize("most", [1, 1_000], ids=["rarely", "always"])
@examples(150)
@given(case=cases())
def test_sweep_and_tree_decide_alike(most, case):
    with mock.patch.multiple(pairs, MOST_CANDIDATES=most, MOST_PAIRS=most):
        swept, crowd = case.run(), case.run(reject_all_close)
    with without_sweep():
        trees, crowd_by_trees = case.run(), case.run(reject_all_close)
    assert_same(swept, trees)
    assert_same(crowd, crowd_by_trees)
    assert_greedy(case, swept)
    assert_crowded(case, crowd)


@pytest.mark.parametrize("sparse", [0, 4, 10**9], ids=["few rows", "all, then few", "all rows"])
@pytest.mark.parametrize("crowded_rows", [0, 40, 300])
def test_a_sweep_finds_all_pairs_of_uneven_tables(sparse, crowded_rows):
    rng = np.random.default_rng(crowded_rows)
    centres = rng.random((300, 2)) * 1_000
    centres[:crowded_rows] /= 20  # all near each other along x
    micrographs = rng.permutation(np.arange(300) % 3)
    points = pairs.Points(centres, micrographs, ())
    with mock.patch.object(pairs, "_SPARSE", sparse):
        i, j, distance = pairs.sweep_pairs(points, 15.0, most_candidates=300, most_pairs=300)
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    close = (apart <= 15.0) & (micrographs[:, None] == micrographs[None])
    expected = np.argwhere(np.triu(close, 1))
    found = np.sort(np.column_stack([i, j]), axis=1)
    np.testing.assert_array_equal(found[np.lexsort(found.T[::-1])], expected)
    np.testing.assert_allclose(distance, apart[i, j])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("method", [suppress, reject_all_close])
def test_arguments_are_not_modified(method, order):
    case = random_case(500, side=100.0, separation=3.0, micrographs=3)
    centres = np.array(case.centres, order=order)
    before = [centres.copy(), case.micrographs.copy(), *(key.copy() for key in case.keys)]
    replace(case, centres=centres).run(method)
    for given_, kept in zip([centres, case.micrographs, *case.keys], before, strict=True):
        np.testing.assert_array_equal(given_, kept)


@pytest.mark.parametrize("offset", [0.0, -1e9, 1e9, 0.1])
@pytest.mark.parametrize("axes", [2, 3])
def test_pairs_at_exactly_the_separation_are_found(axes, offset):
    separation = 20.0
    random = np.random.default_rng(axes)
    # One separation apart, up to the rounding of coordinates this large.
    corner = random.integers(0, 40, (2_000, axes)) * separation * 5 + offset
    step = np.zeros_like(corner)
    step[np.arange(2_000), random.integers(0, axes, 2_000)] = separation
    centres = np.concatenate([corner, corner + step])
    case = Case(
        centres,
        np.tile(np.arange(2_000), 2),
        (random.permutation(4_000).astype(np.uint64),),
        separation,
    )
    exact = np.sqrt(((centres[:2_000] - centres[2_000:]) ** 2).sum(axis=1)) <= separation
    result = case.run()
    np.testing.assert_array_equal(result.rejected[:2_000] | result.rejected[2_000:], exact)
    with without_sweep():
        assert_same(result, case.run())


@examples(200)
@given(case=cases())
def test_reject_all_close_equals_brute_force_for_any_budget(case):
    for budget in BUDGETS:
        with tuned(budget):
            assert_crowded(case, case.run(reject_all_close))


@pytest.mark.parametrize("budget", BUDGETS)
@examples(75)
@given(case=cases(), data=st.data())
def test_row_order_does_not_matter(budget, case, data):
    rows = np.array(data.draw(st.permutations(range(len(case.centres)))), dtype=np.intp)
    with tuned(budget):
        straight, shuffled = case.run(), case.take(rows).run()
        crowd, shuffled_crowd = case.run(reject_all_close), case.take(rows).run(reject_all_close)
    np.testing.assert_array_equal(straight.rejected[rows], shuffled.rejected)
    np.testing.assert_array_equal(straight.distance[rows], shuffled.distance)
    numbers = np.append(rows, -1)
    np.testing.assert_array_equal(straight.winner[rows], numbers[shuffled.winner])
    np.testing.assert_array_equal(crowd.distance[rows], shuffled_crowd.distance)


@examples(150)
@given(case=cases())
def test_no_two_kept_are_within_the_separation(case):
    kept = np.flatnonzero(~case.run().rejected)
    alone = case.take(kept)
    assert np.isnan(
        crowded(alone.centres, alone.micrographs, alone.separation, alone.share_label)
    ).all()


@examples(150)
@given(case=cases())
def test_every_rejected_has_a_better_kept_one_within_the_separation(case):
    result, ranks = case.run(), case.ranks()
    for row in np.flatnonzero(result.rejected):
        winner = result.winner[row]
        assert not result.rejected[winner]
        assert ranks[winner] < ranks[row]
        assert case.micrographs[winner] == case.micrographs[row]
        assert not case.share_label(row, winner)
        assert result.distance[row] <= case.separation


@given(case=cases())
def test_kept_particles_are_kept_again(case):
    kept = np.flatnonzero(~case.run().rejected)
    assert not case.take(kept).run().rejected.any()


@given(case=cases(max_rows=14), times=st.integers(2, 4))
def test_copies_of_all_rows_are_rejected_and_change_nothing_else(case, times):
    case = replace(case, labels=())
    once = case.run()
    n = len(case.centres)
    many = case.take(np.tile(np.arange(n), times))
    copy = np.repeat(np.arange(times), n).astype(np.uint64)
    result = replace(many, keys=(*many.keys, copy)).run()
    np.testing.assert_array_equal(result.rejected[:n], once.rejected)
    np.testing.assert_array_equal(result.winner[:n], once.winner)
    assert result.rejected[n:].all()
    expected = np.where(once.rejected, once.winner, np.arange(n))
    np.testing.assert_array_equal(result.winner[n:], np.tile(expected, times - 1))


@given(case=cases())
def test_micrographs_are_decided_independently(case):
    whole = case.run()
    for micrograph in np.unique(case.micrographs):
        rows = np.flatnonzero(case.micrographs == micrograph)
        part = replace(case.take(rows), micrographs=np.zeros(rows.size, np.intp)).run()
        np.testing.assert_array_equal(whole.rejected[rows], part.rejected)
        np.testing.assert_array_equal(whole.winner[rows], np.append(rows, -1)[part.winner])
        np.testing.assert_array_equal(whole.distance[rows], part.distance)


@pytest.mark.parametrize("hashed", [lambda z: np.zeros_like(z), lambda z: z & np.uint64(3)])
@given(case=cases())
def test_colliding_hashes_do_not_merge_positions(hashed, case):
    mix = coincident._hash
    with without_sweep(), mock.patch.object(coincident, "_hash", lambda parts: hashed(mix(parts))):
        assert_greedy(case, case.run())
        assert_crowded(case, case.run(reject_all_close))


@pytest.mark.parametrize("method", [suppress, reject_all_close])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_have_no_duplicates(method, axes, rows):
    case = random_case(rows, side=1.0, separation=1.0, axes=axes)
    result = case.run(method)
    assert result.rejected.tolist() == [False] * rows
    assert result.winner.tolist() == [-1] * rows
    assert np.isnan(result.distance).all()
    assert len(result.distance) == rows


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("separation", [0.1, 3.0, 20.0, 1.0 / 3.0])
@pytest.mark.parametrize("micrographs", [1, 40])
def test_two_particles_at_exactly_the_separation_are_duplicates(budget, separation, micrographs):
    n = 2 * micrographs
    centres = np.zeros((n, 2))
    centres[1::2, 0] = separation
    number = np.repeat(np.arange(micrographs), 2)
    rank = (np.arange(n, dtype=np.uint64),)
    with tuned(budget):
        at = suppress(Points(centres, number), rank, separation)
        below = suppress(Points(centres, number), rank, np.nextafter(separation, 0))
    np.testing.assert_array_equal(at.rejected, np.arange(n) % 2 == 1)
    assert (at.distance[1::2] == separation).all()
    assert not below.rejected.any()


def test_at_separation_zero_only_equal_coordinates_are_duplicates():
    next_up = np.nextafter(1.0, 2.0)
    centres = np.array([[1.0, 0.0], [1.0, -0.0], [next_up, 0.0], [1.0, 5e-324], [1.0, 0.0]])
    number = np.array([0, 0, 0, 0, 1])
    result = suppress(Points(centres, number), (np.arange(5, dtype=np.uint64),), 0.0)
    assert result.winner.tolist() == [-1, 0, -1, -1, -1]
    assert result.distance[1] == 0.0


def test_the_winner_is_the_best_kept_neighbour_not_the_nearest():
    centres = np.array([[0.0, 0.0], [1.9, 0.0], [1.0, 0.0]])
    rank = (np.arange(3, dtype=np.uint64),)
    result = suppress(on_one(centres), rank, 1.5)
    assert result.winner.tolist() == [-1, -1, 0]
    assert result.distance[2] == 1.0
    other_way = suppress(on_one(centres[[1, 0, 2]]), rank, 1.5)
    assert other_way.winner.tolist() == [-1, -1, 0]
    assert other_way.distance[2] == 1.9 - 1.0


def test_a_rejected_particle_rejects_no_other():
    centres = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    points, rank = on_one(centres), (np.arange(3, dtype=np.uint64),)
    assert suppress(points, rank, 1.0).rejected.tolist() == [False, True, False]
    assert reject_all_close(points, rank, 1.0).rejected.all()


def test_rows_that_share_a_label_are_never_duplicates():
    centres = np.zeros((4, 2))
    rank = (np.arange(4, dtype=np.uint64),)
    same = on_one(centres, np.array([5, 5, 5, 5]))
    assert not suppress(same, rank, 1.0).rejected.any()
    assert not reject_all_close(same, rank, 1.0).rejected.any()
    mixed = on_one(centres, np.array([0, 0, 1, -1]))
    assert suppress(mixed, rank, 1.0).winner.tolist() == [-1, -1, 0, 0]
    none = on_one(centres, np.full(4, -1))
    assert suppress(none, rank, 1.0).winner.tolist() == [-1, 0, 0, 0]


@pytest.mark.parametrize("budget", [1000, 4_000_000])
def test_a_chain_of_rising_scores_keeps_every_other_one(budget):
    n = 200_000 if budget > 1000 else 20_000
    centres = np.zeros((n, 2))
    centres[:, 0] = np.arange(n)
    rank = np.arange(n, dtype=np.uint64)[::-1].copy()
    with tuned(budget):
        result = suppress(on_one(centres), (rank,), 1.5)
    from_the_end = np.arange(n)[::-1]
    np.testing.assert_array_equal(result.rejected, from_the_end % 2 == 1)
    lost = np.flatnonzero(result.rejected)
    np.testing.assert_array_equal(result.winner[lost], lost + 1)
    assert (result.distance[lost] == 1.0).all()


@pytest.mark.parametrize("budget", [1000, 4_000_000])
def test_the_best_of_sixty_coincident_particles_is_kept(budget):
    positions, copies = 400, 60
    random = np.random.default_rng(1)
    position = random.permutation(np.repeat(np.arange(positions), copies))
    centres = np.column_stack([position % 20, position // 20]) * 100.0
    score = random.integers(30, size=position.size).astype(np.uint64)
    uid = random.permutation(position.size).astype(np.uint64)
    with tuned(budget):
        result = suppress(on_one(centres), (score, uid), 20.0)
        crowd = reject_all_close(on_one(centres), (score, uid), 20.0)
    order = np.lexsort((uid, score, position))
    best = order[::copies]
    np.testing.assert_array_equal(np.sort(best), np.flatnonzero(~result.rejected))
    lost = np.flatnonzero(result.rejected)
    np.testing.assert_array_equal(result.winner[lost], best[position[lost]])
    assert (result.distance[lost] == 0).all()
    assert (crowd.distance == 0).all()


def test_the_next_key_decides_if_all_scores_tie():
    case = random_case(3_000, side=600.0, separation=20.0, micrographs=3)
    tied = replace(case, keys=(np.zeros(3_000, np.uint64), *case.keys))
    assert_same(case.run(), tied.run())


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("separation", [5.0, 40.0])
def test_a_dense_micrograph_in_blocks_equals_all_at_once(axes, separation):
    case = random_case(2_500, side=200.0, separation=separation, axes=axes)
    whole, crowd = case.run(), case.run(reject_all_close)
    for budget in (50, 3_000, 100_000):
        with tuned(budget):
            assert_same(whole, case.run())
            assert_same(crowd, case.run(reject_all_close))


def test_blocks_decide_alike_if_one_micrograph_is_dense_among_sparse_ones():
    dense = random_case(1_500, side=30.0, separation=20.0)
    sparse = random_case(4_000, side=4_000.0, separation=20.0, micrographs=50, seed=1)
    n = 5_500
    case = Case(
        np.vstack([dense.centres, sparse.centres]),
        np.concatenate([dense.micrographs + 25, sparse.micrographs]),
        (np.random.default_rng(2).permutation(n).astype(np.uint64),),
        20.0,
        (np.arange(n) % 5 - 1,),
    )
    whole = case.run()
    with tuned(2_000):
        assert_same(whole, case.run())


@pytest.mark.parametrize("offset", [0.0, 1e6, -3e7])
def test_thousands_of_rows_equal_brute_force(offset):
    case = random_case(1_500, side=900.0, separation=20.0, micrographs=4, seed=3)
    case = replace(case, centres=np.round(case.centres / 10) * 10 + offset)
    assert_greedy(case, case.run())


DENSE = """
import sys
from pathlib import Path
import numpy as np
from dask_dedup.dedup.greedy import suppress
from dask_dedup.dedup.pairs import Points

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

n = 60_000
random = np.random.default_rng(0)
centres = random.uniform(0, 10, (n, 2))
rank = random.permutation(n).astype(np.uint64)
suppress(Points(centres[:1000], np.zeros(1000, np.intp)), (rank[:1000],), 20.0)
before = peak()
result = suppress(Points(centres, np.zeros(n, np.intp)), (rank,), 20.0)
best = int(np.argmin(rank))
assert not result.rejected[best] and result.rejected.sum() == n - 1
assert (np.delete(result.winner, best) == best).all()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's peak memory")
def test_memory_is_bounded_if_all_pairs_are_close():
    done = subprocess.run(
        [sys.executable, "-c", DENSE], capture_output=True, text=True, check=True, timeout=250
    )
    assert int(done.stdout) < 400


@pytest.mark.parametrize("labels", [0, 1])
def test_removing_entirely_measures_few_pairs_however_dense_the_particles(labels):
    """Of 30,000 particles with 1,000 neighbours each, also between two inputs only."""
    case = random_case(30_000, side=194.0, separation=20.0)
    case = replace(case, labels=(np.arange(30_000) % 2,) * labels)
    with mock.patch.object(pairs, "PAIR_BUDGET", 100_000):
        measured = []
        measure = pairs.Points.measure

        def noted(points, i, j, separation):
            measured.append(i.size)
            return measure(points, i, j, separation)

        with mock.patch.object(pairs.Points, "measure", noted):
            result = case.run(reject_all_close)
    assert sum(measured) < 8 * 30_000
    distance = np.full(30_000, np.inf)
    for side in (0, 1):
        mine = case.labels[0] == side if labels else np.ones(30_000, dtype=bool)
        other = case.centres[~mine] if labels else case.centres
        nearest = cKDTree(other).query(case.centres[mine], [1 if labels else 2])[0]
        distance[mine] = nearest[:, 0]
    np.testing.assert_allclose(result.distance, distance, rtol=1e-12)
    assert result.rejected.all()


def test_points_without_a_label_need_no_more_searches():
    """The number of searches depends on the number of labels, not of points."""
    rng = np.random.default_rng(0)

    def searches(n):
        sources, tubes = rng.integers(0, 2, n), rng.integers(0, 4, n)
        tubes[::2] = -1
        micrographs, keys = np.zeros(n, np.intp), (np.arange(n, dtype=np.uint64),)
        case = Case(rng.uniform(0, 100, (n, 2)), micrographs, keys, 20.0, (sources, tubes))
        expected = case.run(reject_all_close)
        with tuned(budget=1), mock.patch.object(nearest, "_search_nearest", wraps=search) as calls:
            found = case.run(reject_all_close)
        assert np.array_equal(found.rejected, expected.rejected)
        assert np.array_equal(found.distance, expected.distance, equal_nan=True)
        return calls.call_count

    search = nearest._search_nearest
    assert searches(100) == searches(400)

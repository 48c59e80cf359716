"""Micrographs in several fragments go whole to partitions of nearly equal size; others do not move."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st

from dask_dedup.particles.scan_summary import ScanSummary
from dask_dedup.pipeline import plan as planning
from dask_dedup.pipeline.plan import make_plan, pack


def summary(number, counts):
    """Return the summary of a fragment with the given rows per micrograph."""
    keys = np.array(sorted(counts), dtype=np.uint64)
    rows = np.array([counts[key] for key in keys.tolist()], dtype=np.int64)
    return ScanSummary(
        fragment=number,
        source=0,
        rows=int(rows.sum()),
        micrographs=keys,
        counts=rows,
        names=[],
        psize={},
        stored_psize=(1.0, 1.0),
        score=None,
        problems=[],
    )


def plan_of(*fragments):
    return make_plan([summary(number, counts) for number, counts in enumerate(fragments)])


keys = st.integers(0, 12).map(lambda number: 2**64 - 1 - number * 2**60)
fragments = st.lists(st.dictionaries(keys, st.integers(1, 50), max_size=8), max_size=6)


@pytest.fixture
def small_partitions(monkeypatch):
    monkeypatch.setattr(planning, "PARTITION_ROWS", 10)


@examples(300)
@given(st.lists(st.integers(1, 1_000), max_size=60), st.sampled_from([1, 10, 500, 400_000]))
def test_partitions_are_balanced(rows, partition_rows):
    rows = np.array(rows, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "PARTITION_ROWS", partition_rows)
        partition, weight = pack(rows)
    assert partition.shape == rows.shape
    expected = np.bincount(partition, weights=rows, minlength=weight.size)
    np.testing.assert_array_equal(weight, expected)
    assert weight.size == min(rows.size, -(-rows.sum() // partition_rows))
    if rows.size:
        assert (weight > 0).all()
        assert weight.max() - weight.min() <= rows.max()


def test_packing_is_the_same_each_time():
    rows = np.random.default_rng(0).integers(1, 20_000, 1_000)
    first, again = pack(rows), pack(rows)
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1].size == -(-rows.sum() // planning.PARTITION_ROWS)


def test_the_largest_micrographs_are_packed_first(small_partitions):
    partition, weight = pack(np.array([1, 1, 1, 1, 1, 1, 6]))
    assert weight.tolist() == [6, 6]
    assert len(set(partition[:6].tolist())) == 1


def test_a_micrograph_is_never_split():
    partition, weight = pack(np.array([planning.PARTITION_ROWS * 5]))
    assert partition.tolist() == [0]
    assert weight.tolist() == [planning.PARTITION_ROWS * 5]


@examples(300)
@given(fragments, st.sampled_from([1, 10, 400_000]))
def test_a_plan_moves_the_straddling_micrographs_and_no_others(fragments, partition_rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "PARTITION_ROWS", partition_rows)
        plan = plan_of(*fragments)
    fragments_of = {}
    for number, counts in enumerate(fragments):
        for key in counts:
            fragments_of.setdefault(key, set()).add(number)
    straddling = {key for key, numbers in fragments_of.items() if len(numbers) > 1}

    assert plan.rows == sum(sum(counts.values()) for counts in fragments)
    assert plan.fragments == len(fragments)
    assert plan.micrographs == len(fragments_of)
    assert plan.straddling.tolist() == sorted(straddling)
    assert plan.moving_rows == sum(
        rows for counts in fragments for key, rows in counts.items() if key in straddling
    )
    assert plan.sending_fragments == tuple(
        sorted({n for key in straddling for n in fragments_of[key]})
    )

    everything = np.array([*fragments_of, 1, 2**63], dtype=np.uint64)
    where = dict(zip(everything.tolist(), plan.partition_of(everything).tolist(), strict=True))
    for key, partition in where.items():
        assert (partition >= 0) == (key in straddling)
        assert partition < plan.partition_rows.size
    weight = np.zeros(plan.partition_rows.size, dtype=np.int64)
    for counts in fragments:
        for key in straddling & set(counts):
            weight[where[key]] += counts[key]
    np.testing.assert_array_equal(plan.partition_rows, weight)
    assert (weight > 0).all()


@given(fragments, st.randoms(use_true_random=False))
def test_partitions_do_not_depend_on_the_order_of_the_fragments(fragments, random):
    summaries = [summary(number, counts) for number, counts in enumerate(fragments)]
    plan = make_plan(summaries)
    random.shuffle(summaries)
    shuffled = make_plan(summaries)
    np.testing.assert_array_equal(plan.straddling, shuffled.straddling)
    np.testing.assert_array_equal(plan.partition, shuffled.partition)
    assert plan.sending_fragments == shuffled.sending_fragments
    assert plan.to_dict() == shuffled.to_dict()


def test_many_micrographs_fill_their_partitions_evenly():
    random = np.random.default_rng(1)
    counts = dict(enumerate(random.integers(1, 5_000, 2_000).tolist()))
    plan = plan_of(counts, counts)
    assert plan.partition_rows.size == -(-plan.rows // planning.PARTITION_ROWS)
    assert plan.partition_rows.max() <= planning.PARTITION_ROWS
    spread = plan.partition_rows.max() - plan.partition_rows.min()
    assert spread <= 2 * max(counts.values())


def test_micrographs_in_one_fragment_do_not_move():
    plan = plan_of({1: 10, 2: 20}, {3: 5})
    assert plan.moving_rows == 0
    assert plan.sending_fragments == ()
    assert plan.partition_of(np.array([1, 2, 3], np.uint64)).tolist() == [-1, -1, -1]
    assert plan.partition_of(np.array([], np.uint64)).size == 0


def test_no_particles_give_an_empty_plan():
    for plan in (plan_of(), plan_of({}, {})):
        assert (plan.rows, plan.micrographs, plan.moving_rows) == (0, 0, 0)
        assert plan.partition_of(np.array([7], np.uint64)).tolist() == [-1]
        assert plan.to_dict()["largest_partition_rows"] == 0
        assert "0 particles" in plan.describe()[0]


def test_the_description_counts_particles_and_says_that_nothing_is_shuffled():
    text = "\n".join(plan_of({1: 1_500, 2: 20}, {3: 5}).describe())
    for figure in ("1,525 particles", "3 micrographs", "2 fragments", "nothing is shuffled"):
        assert figure in text


def test_the_description_says_what_is_shuffled(small_partitions):
    text = "\n".join(plan_of({1: 12, 2: 8, 3: 20}, {1: 8, 2: 12, 4: 40}).describe())
    for figure in (
        "100 particles",
        "4 micrographs",
        "2 micrographs span several fragments",
        "40 picks",
        "40%",
        "2 partitions of up to 20",
    ):
        assert figure in text


def test_the_description_of_one_partition():
    text = "\n".join(plan_of({1: 3}, {1: 4}).describe())
    assert "7 picks (100%)" in text
    assert "1 partition of up to 7" in text


def test_the_numbers_for_the_manifest(small_partitions):
    plan = plan_of({1: 12, 2: 8, 3: 20}, {1: 8, 2: 12, 4: 40}, {5: 1})
    assert plan.to_dict() == {
        "rows": 101,
        "fragments": 3,
        "micrographs": 5,
        "straddling_micrographs": 2,
        "moving_rows": 40,
        "sending_fragments": 2,
        "partitions": 2,
        "largest_partition_rows": 20,
    }


def test_one_of_each_is_in_the_singular():
    (line, moves) = plan_of({7: 1}).describe()
    assert line == "1 particle on 1 micrograph, in 1 fragment"
    (line, moves) = plan_of({7: 1}, {7: 2}).describe()
    assert line == "3 particles on 1 micrograph, in 2 fragments"
    assert moves.startswith("1 micrograph spans several fragments: shuffling 3 picks (100%)")

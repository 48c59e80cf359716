"""Fragments are grouped into tasks of a cluster."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cryosparc, write_file

from dask_dedup import run
from dask_dedup.pipeline.executors import batching
from dask_dedup.pipeline.executors.batching import FRAGMENT_ROWS, group_fragments, groups_of

FRAGMENTS = st.dictionaries(st.integers(0, 50), st.integers(0, 300_000), max_size=30)
WHOLE, MOST = 100_000, 1_000_000


@pytest.fixture(autouse=True)
def whole_tasks(monkeypatch):
    """Use the size of tasks outside of tests."""
    monkeypatch.setattr(batching, "TASK_ROWS", WHOLE)
    monkeypatch.setattr(batching, "MOST_TASK_ROWS", MOST)


def grouped(fragments, most=None, threads=1_000):
    listed = {number: SimpleNamespace(rows=rows) for number, rows in fragments.items()}
    job = SimpleNamespace(inputs=SimpleNamespace(fragments=listed))
    return group_fragments(job, sorted(fragments), threads, most)


@given(FRAGMENTS)
def test_every_fragment_is_in_one_group_in_order(fragments):
    made = grouped(fragments)
    assert [number for group in made for number in group] == sorted(fragments)
    assert all(made)


@given(FRAGMENTS)
def test_a_group_ends_when_its_work_is_enough(fragments):
    made = grouped(fragments)
    work = [[fragments[number] + FRAGMENT_ROWS for number in group] for group in made]
    assert all(sum(group[:-1]) < WHOLE for group in work)
    assert all(sum(one) + sum(next_one) > WHOLE for one, next_one in pairwise(work[:-1]))


@given(FRAGMENTS, st.integers(1, 5))
def test_the_number_of_groups_is_limited(fragments, most):
    assert len(grouped(fragments, most)) <= most


@given(FRAGMENTS, st.lists(st.integers(0, 60)))
def test_the_group_of_a_fragment_is_found(fragments, wanted):
    made = grouped(fragments)
    group_of = {number: at for at, group in enumerate(made) for number in group}
    found = groups_of(dict(enumerate(made)), 61)[np.array(wanted, dtype=np.int64)]
    assert found.tolist() == [group_of.get(number, -1) for number in wanted]


@given(FRAGMENTS, st.integers(1, 3))
def test_few_threads_have_fewer_and_larger_groups(fragments, threads):
    made = grouped(fragments, threads=threads)
    assert [number for group in made for number in group] == sorted(fragments)
    work = [[fragments[number] + FRAGMENT_ROWS for number in group] for group in made]
    share = sum(map(sum, work)) // (threads * batching.TASKS_PER_THREAD)
    assert all(sum(group[:-1]) < max(WHOLE, min(share, MOST)) for group in work)
    assert len(made) <= threads * batching.TASKS_PER_THREAD + 1 + sum(map(sum, work)) // WHOLE


def test_a_group_is_no_larger_than_its_rows_may_be_in_memory():
    made = grouped(dict.fromkeys(range(1_000), 200_000), threads=1)
    assert {len(group) for group in made} == {4, 5}


def test_large_fragments_are_alone_and_tiny_ones_together():
    assert grouped(dict.fromkeys(range(4), 125_000)) == [[0], [1], [2], [3]]
    assert grouped(dict.fromkeys(range(25), 100)) == [
        [*range(10)],
        [*range(10, 20)],
        [*range(20, 25)],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("scrambled", [False, True])
def test_tasks_of_many_fragments_give_the_bytes_of_threads(
    tmp_path, cluster, monkeypatch, scrambled
):
    rows = cryosparc(900)
    if scrambled:
        rows = rows.take(np.random.default_rng(0).permutation(rows.num_rows))
    monkeypatch.setattr("dask_dedup.formats.parquet.table.FRAGMENT_BYTES", 1)
    path = write_file(rows, tmp_path / "in.parquet", row_group_size=40)
    here, there = run(path, tmp_path / "here"), run(path, tmp_path / "there", client=cluster)
    assert here.manifest["plan"]["fragments"] == 23
    for one, other in zip(here.manifest["outputs"], there.manifest["outputs"], strict=True):
        assert one == other

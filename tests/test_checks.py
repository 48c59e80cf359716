"""Repeated uids are found."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_dedup.particles.checks import uids as checks


def repeated(runs):
    counts = Counter(uid for run in runs for uid in run)
    return sorted(uid for uid, count in counts.items() if count > 1)


def as_runs(runs):
    return [np.sort(np.array(run, dtype=np.uint64)) for run in runs]


FEW = st.integers(0, 30)
ALL = st.integers(0, 2**64 - 1)


@given(st.lists(st.lists(FEW | ALL, max_size=40), max_size=8), st.integers(1, 12))
def test_every_repeated_uid_is_found_once(runs, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_BLOCK_ROWS", rows)
        patch.setattr(checks, "_SPACING", 3)
        assert checks.find_repeated(as_runs(runs)).tolist() == repeated(runs)


def test_runs_larger_than_a_block_are_compared_with_each_other():
    runs = np.random.default_rng(0).permutation(3 * checks._BLOCK_ROWS).astype(np.uint64)
    runs = as_runs(np.split(runs, 6))
    assert not checks.find_repeated(runs).size
    runs[5][-1] = runs[0][7]
    runs[5].sort()
    assert checks.find_repeated(runs).tolist() == [runs[0][7]]

"""Benchmarks of the algorithm alone.

python -m pytest benchmarks/bench_kernel.py --benchmark-only
python -m benchmarks.bench_kernel CASE    # one case, with its memory
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import pytest

from benchmarks.generate import geometry, splitmix
from dask_dedup.dedup.greedy import suppress
from dask_dedup.dedup.pairs import Points

#: Case: (layout, picks, separation in angstrom).
CASES = {
    # The size of a fragment, and of a shuffle partition.
    "sparse": ("clustered", 125_000, 20.0),
    "sparse, random order": ("random", 400_000, 20.0),
    "60 coincident picks": ("expanded", 10_000_000, 0.0),
    "one micrograph, 200 neighbours": ("giant", 2_000_000, 20.0),
    "chain, rising scores": ("chain-rising", 1_000_000, 20.0),
    "chain, random scores": ("chain-random", 1_000_000, 20.0),
}


def arguments(case: str) -> tuple:
    """Return the arguments of `suppress` for a case."""
    layout, picks, separation = CASES[case]
    number = np.arange(picks, dtype=np.uint64)
    if layout == "random":
        number = np.random.default_rng(0).permutation(number)
    micrograph, x, y, score = geometry(layout, number, picks)
    uid = splitmix(number)
    key = ~(score * 2.0**52).astype(np.uint64)
    _, dense = np.unique(micrograph, return_inverse=True)
    points = Points(np.column_stack([x, y]).astype(np.float64), dense)
    return points, [key, splitmix(uid), uid], separation


@pytest.mark.parametrize("case", CASES)
def test_suppress(benchmark, case):
    call = arguments(case)
    benchmark.extra_info["picks"] = CASES[case][1]
    outcome = benchmark.pedantic(suppress, call, rounds=3, warmup_rounds=1)
    assert outcome.rejected.any()


def main() -> None:
    call = arguments(sys.argv[1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(3):
        began = time.process_time()
        suppress(*call)
        times.append(time.process_time() - began)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    picks = CASES[sys.argv[1]][1]
    print(
        f"{sys.argv[1]}: {min(times):.2f} s CPU, {picks / min(times) / 1e6:.2f} M picks/s, "
        f"{(after - before) * 1024 / picks:.0f} bytes per pick above the input"
    )


if __name__ == "__main__":
    main()

"""Benchmark of the decisions at 32 separations at once.

python -m benchmarks.bench_separations [--rows N] [INPUT ...]

The picks of the inputs are repeated on further micrographs. The inputs have 1.77 A a pixel, and the first input wins.
Without inputs, the picks are a clustered table of `benchmarks.generate`.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from benchmarks.generate import geometry, splitmix
from dask_dedup.dedup.pairs import Points
from dask_dedup.dedup.params import DedupParams
from dask_dedup.dedup.picks import Picks
from dask_dedup.dedup.separation import MOST_SEPARATIONS, reject_at
from dask_dedup.formats import open_tables, read
from dask_dedup.particles.extract import extract
from dask_dedup.particles.inputs import make_inputs

#: The largest of 32 separations, in angstrom.
FARTHEST = 200.0
OPTIONS = {"micrograph_pixel_size": 1.77, "prefer_input_order": True, "score_field": "none"}


def read_repeated(paths: list[str], rows: int) -> tuple[np.ndarray, ...]:
    """Return micrograph, x and y in angstrom, and rank of real picks, repeated on further micrographs."""
    params = DedupParams(**OPTIONS)
    inputs = make_inputs(open_tables(paths, params)[0], None, params)
    parts = []
    for each in inputs.fragments:
        roles = inputs.roles[each.source]
        table = read(inputs.tables[each.source], each, roles.columns)
        parts.append(extract(table, each, roles, params, None).picks)
    picks = Picks.concatenate(parts)
    _, number = np.unique(picks.micrograph, return_inverse=True)
    times = -(-rows // len(picks))
    number = (np.arange(times)[:, np.newaxis] * (number.max() + 1) + number).ravel()
    columns = (picks.x, picks.y, 100.0 - picks.source)
    return number[:rows], *(np.tile(column, times)[:rows] for column in columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("inputs", nargs="*")
    options = parser.parse_args()
    number = np.arange(options.rows, dtype=np.uint64)
    micrograph, x, y, score = (
        read_repeated(options.inputs, options.rows)
        if options.inputs
        else geometry("clustered", number, options.rows)
    )
    _, micrograph = np.unique(micrograph, return_inverse=True)
    uid = splitmix(number)
    keys = [~(score * 2.0**40).astype(np.uint64), splitmix(uid), uid]
    centres = np.column_stack([x, y]).astype(np.float64)
    separations = FARTHEST / MOST_SEPARATIONS * np.arange(1, MOST_SEPARATIONS + 1)
    del number, x, y, score
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        began, cpu = time.perf_counter(), time.process_time()
        rejected, known = reject_at(Points(centres, micrograph), keys, separations)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        last = np.count_nonzero(rejected >> np.uint32(known - 1) & 1) / options.rows
        print(
            f"{options.rows:,} picks, {known} separations to {separations[known - 1]:g} A "
            f"({last:.0%} rejected there): {seconds:.1f} s, {cpu:.1f} s CPU, peak {peak / 1024:,.0f} MB, "
            f"of which {before / 1024:,.0f} MB are the picks and their making"
        )


if __name__ == "__main__":
    main()

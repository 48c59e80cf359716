"""Undo a symmetry expansion: keep exactly one copy of each particle.

The program simulates particles and makes four copies of each particle. Each copy has a new uid, as
in CryoSPARC. A run with a separation of 0 (exactly equal coordinates) keeps one copy of each
particle::

    python examples/undo_symmetry_expansion.py --output undone

For your own table::

    dask-dedup run expanded.parquet --output undone --min-separation 0 --shift-key none
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup import DedupError, DedupParams, run
from dask_dedup.simulation import simulate_pickers


def expand(particles: pa.Table, fold: int, seed: int) -> pa.Table:
    """Return `fold` copies of each particle, with new uids and the uid of the original."""
    copies = particles.take(np.repeat(np.arange(particles.num_rows), fold))
    uids = np.random.default_rng(seed).integers(2**64, size=copies.num_rows, dtype=np.uint64)
    index = np.tile(np.arange(fold, dtype=np.uint32), particles.num_rows)
    copies = copies.append_column("sym_expand/src_uid", copies.column("uid"))
    copies = copies.append_column("sym_expand/idx", pa.array(index))
    return copies.set_column(copies.column_names.index("uid"), "uid", pa.array(uids))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--particles", type=int, default=2_000)
    parser.add_argument("--fold", type=int, default=4)
    args = parser.parse_args()
    simulated = args.output / "picks"
    picker, *_ = simulate_pickers(simulated, particles=args.particles, micrographs=10)
    original = pq.read_table(picker)
    expanded = args.output / "expanded.parquet"
    pq.write_table(expand(original, args.fold, seed=0), expanded)

    params = DedupParams(min_separation=0, shift_key="none")
    result = run(expanded, args.output / "result", params)
    kept = pq.read_table(result.output / "particles_kept")
    same = set(kept.column("sym_expand/src_uid").to_pylist()) == set(
        original.column("uid").to_pylist()
    )
    print(f"{original.num_rows:,} particles, {result.rows:,} copies, {result.kept:,} kept")
    print("each particle is kept exactly once" if same else "some particles are missing")


if __name__ == "__main__":
    try:
        main()
    except DedupError as error:
        raise SystemExit(str(error)) from None

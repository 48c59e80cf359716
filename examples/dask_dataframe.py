"""Remove duplicates within a Dask program of your own: lazy frames in, lazy frames out.

::

    python examples/dask_dataframe.py --output lazy
"""

from __future__ import annotations

import argparse
from pathlib import Path

import dask
import dask.dataframe as dd

from dask_dedup import DedupError, DedupParams, remove_duplicates
from dask_dedup.simulate import simulate_pickers

# Dask turns columns of lists, such as alignments2D/shift, into text unless told not to.
dask.config.set({"dataframe.convert-string": False})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--particles", type=int, default=20_000)
    args = parser.parse_args()
    pickers = simulate_pickers(args.output / "picks", particles=args.particles)
    particles = dd.concat([dd.read_parquet(folder) for folder in pickers])

    kept, rejected = remove_duplicates(particles, DedupParams(min_separation=20.0))
    # Nothing has been computed yet: go on with the frames as with any other.
    rows, n_kept, n_rejected, per_micrograph = dask.compute(
        particles.shape[0],
        kept.shape[0],
        rejected.shape[0],
        kept.groupby("location/micrograph_uid").size().mean(),
    )
    print(f"{rows:,} picks, {n_kept:,} kept, {n_rejected:,} rejected")
    print(f"{per_micrograph:.1f} particles stay on a micrograph")


if __name__ == "__main__":
    try:
        main()
    except DedupError as error:
        raise SystemExit(str(error)) from None

"""Remove duplicates in a Dask program, with lazy data frames as input and output.

::

    python examples/dask_dataframe.py --output lazy
    python examples/dask_dataframe.py --output lazy --scheduler tcp://127.0.0.1:8786

The second command computes on the workers of a cluster. The workers must have access to the output
folder. To store the result, pass the schema of the input, because Dask cannot infer the type of
list columns::

    schema = pyarrow.parquet.read_schema("lazy/picks/blob/part-00000.parquet")
    kept.to_parquet("lazy/kept", schema=schema, write_index=False)
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

import dask
import dask.dataframe as dd
from distributed import Client

from dask_dedup import DedupError, DedupParams, remove_duplicates
from dask_dedup.simulation import simulate_pickers

# By default, Dask converts list columns such as alignments2D/shift to text.
dask.config.set({"dataframe.convert-string": False})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--particles", type=int, default=20_000)
    parser.add_argument("--scheduler", metavar="ADDRESS", help="compute on this Dask cluster")
    args = parser.parse_args()
    pickers = simulate_pickers(args.output / "picks", particles=args.particles)
    particles = dd.concat([dd.read_parquet(folder) for folder in pickers])

    kept, rejected = remove_duplicates(particles, DedupParams(min_separation=20.0))
    # Nothing has been computed yet. The results are lazy Dask data frames.
    wanted = (
        particles.shape[0],
        kept.shape[0],
        rejected.shape[0],
        kept.groupby("location/micrograph_uid").size().mean(),
    )
    with Client(args.scheduler) if args.scheduler else nullcontext():
        rows, n_kept, n_rejected, per_micrograph = dask.compute(*wanted)
    print(f"{rows:,} picks, {n_kept:,} kept, {n_rejected:,} rejected")
    print(f"{per_micrograph:.1f} particles stay on a micrograph")


if __name__ == "__main__":
    try:
        main()
    except DedupError as error:
        raise SystemExit(str(error)) from None

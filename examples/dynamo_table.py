"""Remove the duplicates that alignment created in a Dynamo table.

Alignment can move several picks onto the same particle, so duplicates appear only with shifts
applied. This example converts a table (.tbl) to RELION column names and runs without and with
shifts::

    python examples/dynamo_table.py particles.tbl --pixel-size 10.8 --min-separation 40 --output cleaned

Columns of a Dynamo table, counted from 1, in voxels: 4 to 6 shift, 10 cross-correlation, 20
tomogram, 24 to 26 position. Dynamo adds the shift to the position and RELION subtracts it, so the
sign changes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup import DedupError, DedupParams, run

_SHIFT, _SCORE, _TOMOGRAM, _POSITION = (3, 4, 5), (9,), (19,), (23, 24, 25)


def read_dynamo(path: Path, pixel_size: float) -> pa.Table:
    """Return a Dynamo table with RELION column names, one row per particle."""
    columns = np.loadtxt(path, usecols=_SHIFT + _SCORE + _TOMOGRAM + _POSITION, unpack=True)
    shift, (score, tomogram), position = columns[:3], columns[3:5], columns[5:]
    rows = {"rlnTomoName": [f"tomogram_{number:.0f}" for number in tomogram]}
    rows |= {f"rlnCoordinate{axis}": position[n] for n, axis in enumerate("XYZ")}
    rows |= {f"rlnOrigin{axis}Angst": -shift[n] * pixel_size for n, axis in enumerate("XYZ")}
    rows["rlnTomoTiltSeriesPixelSize"] = np.full(score.size, pixel_size)
    rows["rlnLCCmax"] = score
    return pa.table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="a Dynamo .tbl file")
    parser.add_argument("--pixel-size", type=float, required=True, help="angstrom per voxel")
    parser.add_argument("--min-separation", type=float, required=True, help="angstrom")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    particles = args.output / f"{args.table.stem}.parquet"
    pq.write_table(read_dynamo(args.table, args.pixel_size), particles)
    for shift_key in ("none", "auto"):
        params = DedupParams(
            min_separation=args.min_separation,
            shift_key=shift_key,
            score_field="rlnLCCmax:higher",
        )
        result = run(particles, args.output / f"shift-{shift_key}", params)
        applied = "without" if shift_key == "none" else "with"
        print(f"{applied} shifts: {result.rejected:,} of {result.rows:,} particles are duplicates")


if __name__ == "__main__":
    try:
        main()
    except DedupError as error:
        raise SystemExit(str(error)) from None

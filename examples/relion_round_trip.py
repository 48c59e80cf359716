"""RELION round trip: read .star files, and write kept and rejected .star files with unchanged rows.

The program simulates the picks of pickers as RELION 3.1 particle files, and removes the duplicates.
The optics table has the pixel size of the micrographs::

    python examples/relion_round_trip.py --output round_trip

For your own files::

    dask-dedup run particles_a.star particles_b.star --output round_trip
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dask_dedup import DedupError, DedupParams, run
from dask_dedup.simulation import simulate_pickers

OPTICS = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnImagePixelSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
opticsGroup1 1 0.830000 1.660000 300.000000 2.700000 0.100000


# version 30001

data_particles

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnAutopickFigureOfMerit #3
_rlnMicrographName #4
_rlnOpticsGroup #5
_rlnOriginXAngst #6
_rlnOriginYAngst #7
"""


def write_star(folder: Path, path: Path) -> list[str]:
    """Write the particles of a simulated picker as a RELION file. Return the rows."""
    table = pq.read_table(folder)
    column = {name: table.column(name).to_numpy() for name in table.column_names}
    shape = np.stack(column["location/micrograph_shape"])
    shift = np.stack(column["alignments2D/shift"]) * column["alignments2D/psize_A"][:, None]
    values = zip(
        column["location/center_x_frac"] * shape[:, 1],
        column["location/center_y_frac"] * shape[:, 0],
        column["pick_stats/ncc_score"],
        column["location/micrograph_path"],
        *shift.T,
        strict=True,
    )
    rows = [
        f"{x:12.6f} {y:12.6f} {score:12.6f} {name} 1 {dx:12.6f} {dy:12.6f} \n"
        for x, y, score, name, dx, dy in values
    ]
    path.write_text(OPTICS + "".join(rows) + "\n")
    return rows


def rows_of(path: Path) -> list[str]:
    """Return the rows of a .star file."""
    return [line for line in path.read_text().splitlines(keepends=True) if ".mrc" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--particles", type=int, default=5_000)
    args = parser.parse_args()
    stars, written = [], []
    for folder in simulate_pickers(args.output / "picks", particles=args.particles):
        stars.append(args.output / f"{folder.name}.star")
        written.append(write_star(folder, stars[-1]))
    result = run(stars, args.output / "result", DedupParams(prefer_input_order=True))
    for star, rows in zip(stars, written, strict=True):
        kept = rows_of(result.output / "particles_kept" / star.name)
        rejected = rows_of(result.output / "particles_rejected" / star.name)
        same = sorted(kept + rejected) == sorted(rows)
        print(
            f"{star.name}: {len(rows):,} rows, {len(kept):,} kept, {len(rejected):,} rejected, "
            f"{'all unchanged' if same else 'SOME CHANGED'}"
        )


if __name__ == "__main__":
    try:
        main()
    except DedupError as error:
        raise SystemExit(str(error)) from None

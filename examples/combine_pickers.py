"""Combine the picks of several pickers from folders of EMAN .box files.

A .box file is named after its micrograph and holds one particle per line, in pixels: x and y of
the box corner, width, height and score::

    python examples/combine_pickers.py crYOLO/ topaz/ deepPicker/ \
        --pixel-size 1.77 --min-separation 100 --output combined

Each folder becomes a Parquet table with RELION column names; one run combines the tables. Scores of
different pickers are rarely on one scale. With --prefer-input-order, the first picker wins.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup import DedupError, DedupParams, RunResult, run


def read_boxes(folder: Path) -> pa.Table:
    """Return the particles of a folder of .box files as one table."""
    parts = []
    for path in sorted(folder.glob("*.box")):
        x, y, width, height, score = np.loadtxt(path, ndmin=2, unpack=True)
        parts.append(
            pa.table(
                {
                    "rlnMicrographName": pa.array([f"{path.stem}.mrc"] * x.size),
                    "rlnCoordinateX": x + width / 2,
                    "rlnCoordinateY": y + height / 2,
                    "rlnAutopickFigureOfMerit": score,
                }
            )
        )
    if not parts:
        raise SystemExit(f"{folder}: no .box files")
    return pa.concat_tables(parts)


def combine(
    folders: list[Path], output: Path, params: DedupParams, *, overwrite: bool = False
) -> RunResult:
    """Convert each folder to ``OUTPUT/picks/NAME.parquet`` and remove the duplicates of all."""
    picks = output / "picks"
    picks.mkdir(parents=True, exist_ok=True)
    tables = []
    for folder in folders:
        table, found = picks / f"{folder.name}.parquet", read_boxes(folder)
        # Unchanged tables keep their time stamp, so running the same command again does nothing.
        if not (table.exists() and pq.read_table(table).equals(found)):
            pq.write_table(found, table)
        tables.append(table)
    return run(tables, output / "result", params, overwrite=overwrite)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="one folder of .box files per picker")
    parser.add_argument("--pixel-size", type=float, required=True, help="angstrom per pixel")
    parser.add_argument("--min-separation", type=float, default=100.0, help="angstrom")
    parser.add_argument("--prefer-input-order", action="store_true", help="first picker wins")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result")
    args = parser.parse_args()
    params = DedupParams(
        min_separation=args.min_separation,
        micrograph_pixel_size=args.pixel_size,
        prefer_input_order=args.prefer_input_order,
    )
    result = combine(args.folders, args.output, params, overwrite=args.overwrite)
    for entry in result.by_input:
        name = Path(entry["path"]).stem
        print(f"{name:>12}: {entry['rows']:6,} picks, {entry['kept']:6,} kept")
    print(f"{'all':>12}: {result.rows:6,} picks, {result.kept:6,} kept, in {result.output}")


if __name__ == "__main__":
    try:
        main()
    except DedupError as error:
        raise SystemExit(str(error)) from None

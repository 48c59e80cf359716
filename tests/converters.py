"""Read EMAN boxes and Dynamo tables as tables with RELION columns, without the package's own readers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import dask_dedup

_SHIFT, _SCORE, _TOMOGRAM, _POSITION = (3, 4, 5), (9,), (19,), (23, 24, 25)


def read_boxes(folder):
    """Return the particles of a folder of .box files of five columns as one table."""
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
    return pa.concat_tables(parts)


def combine(folders, output, params):
    """Convert each folder to ``OUTPUT/picks/NAME.parquet`` and remove the duplicates of all."""
    picks = output / "picks"
    picks.mkdir(parents=True, exist_ok=True)
    tables = [picks / f"{folder.name}.parquet" for folder in folders]
    for folder, table in zip(folders, tables, strict=True):
        pq.write_table(read_boxes(folder), table)
    return dask_dedup.run(tables, output / "result", params)


def read_dynamo(path, pixel_size):
    """Return a Dynamo table with RELION column names. Dynamo adds the shift and RELION subtracts it."""
    columns = np.loadtxt(path, usecols=_SHIFT + _SCORE + _TOMOGRAM + _POSITION, unpack=True)
    shift, (score, tomogram), position = columns[:3], columns[3:5], columns[5:]
    rows = {"rlnTomoName": [f"tomogram_{number:.0f}" for number in tomogram]}
    rows |= {f"rlnCoordinate{axis}": position[n] for n, axis in enumerate("XYZ")}
    rows |= {f"rlnOrigin{axis}Angst": -shift[n] * pixel_size for n, axis in enumerate("XYZ")}
    rows["rlnTomoTiltSeriesPixelSize"] = np.full(score.size, pixel_size)
    rows["rlnLCCmax"] = score
    return pa.table(rows)

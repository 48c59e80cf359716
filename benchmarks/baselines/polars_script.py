"""polars reads and writes; cKDTree and NumPy decide. Arguments: INPUT... OUTPUT"""

import sys
from pathlib import Path

import numpy as np
import polars as pl
from greedy import NARROW, centres, keep_best_of_all

*inputs, output = map(Path, sys.argv[1:])
output.mkdir(parents=True)
frame = pl.concat([pl.scan_parquet(path / "*.parquet") for path in inputs])
narrow = frame.select(NARROW).collect()
columns = {name: narrow[name].to_numpy() for name in NARROW}
points = centres(
    *(columns[name] for name in (NARROW[2], NARROW[3], NARROW[4], NARROW[5], NARROW[6], NARROW[7]))
)
keep = keep_best_of_all(columns[NARROW[1]], points, columns[NARROW[8]].astype(np.float64))
del narrow, columns, points
whole = frame.collect()
whole.filter(keep).write_parquet(output / "kept.parquet")
whole.filter(~keep).write_parquet(output / "rejected.parquet")

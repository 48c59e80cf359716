"""pandas reads, groups and writes; cKDTree and NumPy decide. Arguments: INPUT... OUTPUT"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from greedy import NARROW, centres, keep_best

*inputs, output = map(Path, sys.argv[1:])
output.mkdir(parents=True)
frame = pd.concat([pd.read_parquet(path) for path in inputs], ignore_index=True)
points = centres(
    *(frame[name].to_numpy() for name in NARROW[2:4]),
    np.stack(frame[NARROW[4]].to_numpy()),
    frame[NARROW[5]].to_numpy(),
    np.stack(frame[NARROW[6]].to_numpy()),
    frame[NARROW[7]].to_numpy(),
)
score = frame[NARROW[8]].to_numpy(dtype=np.float64)
keep = np.ones(len(frame), dtype=bool)
for rows in frame.groupby(NARROW[1]).indices.values():
    keep[rows] = keep_best(points[rows], score[rows])
frame[keep].to_parquet(output / "kept.parquet")
frame[~keep].to_parquet(output / "rejected.parquet")

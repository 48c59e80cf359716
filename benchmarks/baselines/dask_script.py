"""Dask: shuffle whole rows by micrograph, decide in map_partitions, write with to_parquet. Arguments: INPUT... OUTPUT

The shuffle does not support vector columns, so they are split into scalars.
"""

import sys
from pathlib import Path

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from distributed import Client, LocalCluster
from greedy import keep_best_of_all


def read(path):
    table = pq.read_table(path)
    frame = {}
    for name in table.column_names:
        column = table[name]
        if hasattr(column.type, "list_size"):
            values = column.combine_chunks().flatten().to_numpy().reshape(-1, column.type.list_size)
            frame |= {f"{name}.{axis}": values[:, axis] for axis in range(values.shape[1])}
        else:
            frame[name] = column.to_pandas()
    return pd.DataFrame(frame)


def decide(frame):
    psize = frame["location/micrograph_psize_A"].to_numpy()
    x, y = (
        frame[f"location/center_{axis}_frac"].to_numpy()
        * frame[f"location/micrograph_shape.{side}"].to_numpy()
        for axis, side in (("x", 1), ("y", 0))
    )
    shift = np.column_stack([frame[f"alignments3D/shift.{axis}"] for axis in (0, 1)])
    pixels = np.column_stack([x, y]).astype(np.float64)
    points = pixels * psize[:, None] - shift * frame["alignments3D/psize_A"].to_numpy()[:, None]
    score = frame["pick_stats/ncc_score"].to_numpy(dtype=np.float64)
    micrograph = frame["location/micrograph_uid"].to_numpy()
    return frame.assign(
        keep=keep_best_of_all(micrograph, points, score) if len(frame) else np.empty(0, bool)
    )


def main():
    *inputs, output = map(Path, sys.argv[1:])
    paths = sorted(path for folder in inputs for path in folder.glob("*.parquet"))
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster),
    ):
        meta = read(paths[0]).iloc[:0]
        frame = dd.from_map(read, paths, meta=meta)
        frame = frame.shuffle("location/micrograph_uid", npartitions=max(8, len(paths) // 3))
        frame = frame.map_partitions(decide, meta=decide(meta)).persist()
        kept, rejected = (
            part.drop(columns="keep").to_parquet(output / name, compute=False, write_index=False)
            for part, name in ((frame[frame.keep], "kept"), (frame[~frame.keep], "rejected"))
        )
        dask.compute(kept, rejected)


if __name__ == "__main__":
    main()

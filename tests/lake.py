"""Runs to publish, and readers of tables, which return (rows, sum of x) for each run and input."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tables import Output, cryosparc, uids, values, write_file

import dask_dedup
from dask_dedup import DedupParams

X = "location/center_x_frac"
#: In the name of the folder of rows without a value.
NULL = "__HIVE_DEFAULT_PARTITION__"


def finished_run(folder, *, seed=1, rows=600, separation=20.0, votes=False, **options):
    """Run on the tables of two pickers and return the output folder. Runs that many tests need are copied."""
    if options or (rows, separation, votes) != (600, 20.0, False):
        return _run(folder, seed, rows, separation, votes=votes, **options)
    return Path(shutil.copytree(_original(seed), folder / "out"))


@cache
def _original(seed):
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return _run(folder, seed, 600, 20.0, votes=False)


def _run(folder, seed, rows, separation, **options):
    for number, picker in enumerate(("topaz", "blob")):
        table = cryosparc(rows, micrographs=20, seed=10 * seed + number)
        write_file(table, folder / "picks" / f"{picker}.parquet")
    inputs = [folder / "picks" / "topaz.parquet", folder / "picks" / "blob.parquet"]
    params = DedupParams(min_separation=separation, votes=options.pop("votes"))
    return dask_dedup.run(inputs, folder / "out", params, **options).output


def truth(output, name="particles_kept"):
    """Return the expected value of a reader."""
    manifest = Output(output).manifest
    run = manifest["run_id"][:12]
    found = {}
    for entry in manifest["outputs"]:
        if entry["path"].startswith(f"{name}/"):
            picker = ("topaz", "blob")[entry["input"]]
            table = pq.read_table(output / entry["path"])
            rows, total = found.get((run, picker), (0, 0.0))
            found[run, picker] = rows + table.num_rows, total + values(table, X).sum()
    return found


def summed(rows):
    """Return rows of (run, input, rows, sum) in the form of `truth`."""
    return {(run, picker): (count, total) for run, picker, count, total in rows}


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, (rows, total) in expected.items():
        assert found[key][0] == rows
        np.testing.assert_allclose(found[key][1], total, rtol=1e-5)
    return True


def whole(number):
    """Return decimals, and lists of them, as integers."""
    if isinstance(number, (list, tuple)) or hasattr(number, "tolist"):
        return [whole(one) for one in number]
    return number if isinstance(number, (float, str)) or number is None else int(number)


QUERY = f'select run, input_name, count(*), sum("{X}"::double) from {{}} group by all'


def arrow_sums(table):
    grouped = pa.table(
        {
            "run": table["run"].cast(pa.string()),
            "input": table["input_name"].cast(pa.string()),
            "x": table[X].cast(pa.float64()),
        }
    ).group_by(["run", "input"])
    sums = grouped.aggregate([("x", "count"), ("x", "sum")]).to_pydict()
    return summed(zip(sums["run"], sums["input"], sums["x_count"], sums["x_sum"], strict=True))


def polars_sums(frame):
    import polars as pl

    sums = frame.group_by("run", "input_name").agg(pl.len(), pl.col(X).cast(pl.Float64).sum())
    return summed(sums.collect().rows())


def in_folders(folder, sessions, rows=60, separation=20.0, key="session"):
    """Run on a hive folder with one file for each session, {name: seed}. Return the output folder."""
    for name, seed in sessions.items():
        path = folder / "in" / f"{key}={name}" / "0.parquet"
        write_file(cryosparc(rows, micrographs=5, seed=seed), path)
    params = DedupParams(min_separation=separation, group_by=key)
    return dask_dedup.run(folder / "in", folder / "out", params).output


def kept_uids(output, key="session"):
    """Return the kept uids of each session, from the files of a run."""
    found = {}
    for path in Output(output).parts("particles_kept"):
        name = path.parent.name.removeprefix(f"{key}=")
        found.setdefault(name, []).extend(uids(pq.read_table(path, partitioning=None)))
    return {name: sorted(numbers) for name, numbers in found.items()}


def grouped(rows):
    """Return the uids of each session, given rows of (session, uid)."""
    found = {}
    for session, uid in rows:
        found.setdefault(NULL if session is None else str(session), []).append(int(uid))
    return {session: sorted(numbers) for session, numbers in found.items()}

"""Readers get the uids of ``duplicates`` exactly, also where rows have no winner or no uid."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tables import cryosparc, relion, write_file, write_folder

from dask_dedup import run

pytestmark = pytest.mark.slow


def from_pandas(folder):
    return pd.read_parquet(folder)


def from_one_file(folder):
    return pd.concat(map(pd.read_parquet, sorted(folder.iterdir())))


def from_pyarrow(folder):
    return pq.read_table(folder).to_pandas()


def from_dask(folder):
    import dask.dataframe as dd

    return dd.read_parquet(folder).compute()


def from_polars(folder):
    polars = pytest.importorskip("polars")
    rows = polars.read_parquet(f"{folder}/*.parquet")
    return rows.to_pandas(use_pyarrow_extension_array=True)


def from_duckdb(folder):
    duckdb = pytest.importorskip("duckdb")
    return duckdb.sql(f"select * from '{folder}/*.parquet'").df()


READERS = [from_pandas, from_one_file, from_pyarrow, from_dask, from_polars, from_duckdb]


@pytest.fixture(scope="module", params=["some without a winner", "none with a winner", "no uids"])
def folder(request, tmp_path_factory):
    nowhere = np.where(np.arange(120) < 3, np.nan, cryosparc()["location/center_x_frac"])
    table = cryosparc(columns={"location/center_x_frac": nowhere})
    options = {"invalid": "reject"}
    if request.param == "none with a winner":
        options["remove_entirely"] = True
    elif request.param == "no uids":
        table, options = relion(), {}
    there = tmp_path_factory.mktemp("run")
    run(write_folder(table, there / "in", files=3), there / "out", **options)
    return there / "out" / "duplicates"


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask 2026.8 on pandas 3.1
@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_uids_and_rows_are_exact_integers(folder, read):
    stored = pq.read_table(folder)
    found = read(folder)
    assert len(found) > 10
    for name in ("uid", "winner_uid", "row", "winner_row"):
        values = [None if pd.isna(value) else int(value) for value in found[name]]
        assert values == stored[name].to_pylist()
        assert found[name].dtype.kind in "ui"
    if stored["uid"].null_count == 0:
        assert max(stored["uid"].to_pylist()) > 2**63


def test_the_files_say_nothing_else_to_pandas(tmp_path):
    run(write_file(cryosparc(), tmp_path / "in.parquet"), tmp_path / "out")
    rows = pd.read_parquet(tmp_path / "out" / "duplicates")
    assert isinstance(rows.index, pd.RangeIndex)
    assert rows["distance_A"].dtype == np.float64
    assert rows["winner_uid"].dtype == pd.UInt64Dtype()
    assert rows["half_set"].dtype == pd.Int8Dtype()

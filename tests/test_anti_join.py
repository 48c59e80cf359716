"""The anti-joins of the guide give the kept particles, in every library that it names."""

from __future__ import annotations

import re
import shutil
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from tables import Output, cryosparc, write_file, write_folder

from dask_dedup import materialize, publish, read_kept, run

pytestmark = pytest.mark.slow

PAGE = REPOSITORY / "docs" / "guides" / "duplicates-only.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
UID = "uid"


def blocks(heading):
    """Return the Python programs below a heading of the page, in order."""
    text = PAGE.read_text()
    below = re.split(rf"^##+ {heading}$", text, flags=re.MULTILINE)[1]
    return BLOCK.findall(re.split(r"^##", below, flags=re.MULTILINE)[0])


def execute(program, names):
    exec(compile(program, PAGE.name, "exec"), names)
    return names


def rows_of(table):
    """Return the number of columns, and the uid and the x of each row, sorted."""
    columns = [table.column(name).to_pylist() for name in (UID, "location/center_x_frac")]
    return len(table.column_names), sorted(
        (int(uid), float(x)) for uid, x in zip(*columns, strict=True)
    )


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Duplicates of two folders in ``found``; returns what `rows_of` gives for the kept particles."""
    for seed, name in enumerate(("template", "blob")):
        rows = cryosparc(300, seed=seed, columns={"more/empty": pa.array([1, None] * 150)})
        write_folder(rows, tmp_path / "picks" / name, files=3)
    monkeypatch.chdir(tmp_path)
    result = run(["picks/template", "picks/blob"], "found", duplicates_only=True)
    assert 0 < result.rejected < result.rows
    shutil.copytree("found", "whole")
    materialize("whole")
    return rows_of(Output(tmp_path / "whole").kept)


def test_dask(found):
    names = execute(blocks("Read the kept particles in Dask")[0], {})
    kept = names["kept"].compute()
    assert rows_of(pa.Table.from_pandas(kept, preserve_index=False)) == found
    assert names["on_micrographs"].sum() == len(kept)


@pytest.mark.parametrize("number", [0, 1], ids=["file and row", "uid"])
def test_duckdb(found, number):
    pytest.importorskip("duckdb")
    names = {}
    for program in blocks("DuckDB")[: number + 1]:
        execute(program, names)
    assert rows_of(names["kept"].to_arrow_table()) == found


@pytest.mark.parametrize("number", [0, 1], ids=["file and row", "uid"])
def test_polars(found, number):
    pytest.importorskip("polars")
    names = {}
    for program in blocks("Polars")[: number + 1]:
        execute(program, names)
    assert rows_of(names["kept"].to_arrow()) == found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_spark(found):
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("SPARK_LOCAL_HOSTNAME", "localhost")
        warnings.simplefilter("ignore")
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        # Relative paths are those of the folder in which the JVM was started, which other tests may have done.
        if SparkContext._gateway:
            SparkContext._gateway.shutdown()
            SparkContext._gateway = SparkContext._jvm = None
        spark = SparkSession.builder.master("local[1]").config(
            "spark.driver.bindAddress", "127.0.0.1"
        )
        names = {"spark": spark.getOrCreate()}
        try:
            for program in blocks("Spark SQL"):
                execute(program, names)
                kept = names["kept"]
                rows = kept.select(UID, "`location/center_x_frac`").collect()
                # Spark gives single precision in its shortest form.
                pairs = sorted((int(uid), float(np.float32(x))) for uid, x in rows)
                assert (len(kept.columns), pairs) == found
        finally:
            names["spark"].stop()


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """A Delta table ``lake/picks``, and its duplicates in ``in_lake``; returns the rows to keep."""
    pytest.importorskip("deltalake")
    monkeypatch.chdir(tmp_path)
    rows = cryosparc(300, columns={"more/empty": pa.array([1, None] * 150)})
    run(write_file(rows, "picks.parquet"), "all", min_separation=0)
    publish("all", delta="lake/picks")
    run("lake/picks", "in_lake", duplicates_only=True)
    return rows_of(pa.Table.from_pandas(read_kept("in_lake").compute(), preserve_index=False))


@pytest.mark.parametrize("number", [0, 1], ids=["uid", "without uids"])
def test_delta(lake, number):
    from deltalake import DeltaTable

    first, second = blocks("Delete the duplicates from a Delta table")
    names = execute(first, {}) if number == 0 else {"pa": pa, "pq": pq, "DeltaTable": DeltaTable}
    if number == 1:
        execute(second, names)
    table = DeltaTable("lake/picks")
    assert table.version() == 1
    assert rows_of(table.to_pyarrow_table()) == lake
    # The types are those of before.
    assert table.to_pyarrow_table().schema == DeltaTable("lake/picks", 0).to_pyarrow_table().schema

"""Spark reads a published table's files with the table's schema, which is what its reader of Delta does with them.

The reader itself is a library of the JVM that no package registry of Python has, so the list of files is
deltalake's here.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lake import X, finished_run, same, summed, truth, whole
from tables import Output, contents, cryosparc, uids, write_file

from dask_dedup import DedupParams, run, verify
from dask_dedup.results.publish import publish

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "lake.md"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
deltalake = pytest.importorskip("deltalake")
pytest.importorskip("pyspark")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)


@pytest.fixture(scope="module")
def spark():
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # Spark resolves the name of its host, which does not work on every machine.
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("SPARK_LOCAL_HOSTNAME", "localhost")
        # Spark supports pandas up to version 2.
        warnings.simplefilter("ignore")
        from pyspark.sql import SparkSession

        session = (
            SparkSession.builder.master("local[1]")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "1")
            .getOrCreate()
        )
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spark")
    outputs = [finished_run(folder / f"s{seed}", seed=seed) for seed in (1, 2)]
    for output in outputs:
        publish(output, delta=folder / "lake")
    return outputs, folder / "lake"


def read_as_delta(spark, lake):
    """Read the files of the log with the schema of the log."""
    from pyspark.sql.types import StructType

    table = deltalake.DeltaTable(str(lake))
    # Delta schemas have the JSON format of Spark.
    schema = StructType.fromJson(json.loads(table.schema().to_json()))
    return spark.read.schema(schema).option("basePath", str(lake)).parquet(*table.file_uris())


@pytest.fixture(params=["true", "false"], ids=["vectorized", "row by row"])
def frame(spark, runs, request):
    spark.conf.set("spark.sql.parquet.enableVectorizedReader", request.param)
    return read_as_delta(spark, runs[1])


@pytest.mark.filterwarnings("ignore")
def test_types_are_those_of_the_page(frame, spark, runs):
    types = dict(frame.dtypes)
    columns = ("uid", "alignments3D/split", "alignments3D/shift", "location/micrograph_path")
    row = " | ".join(f"`{types[name]}`" for name in columns)
    assert f"| Spark, files | {row} |" in PAGE.read_text()
    _, lake = runs
    files = deltalake.DeltaTable(str(lake)).file_uris()
    inferred = dict(spark.read.parquet(*files).dtypes)
    assert inferred.items() <= types.items()


@pytest.mark.filterwarnings("ignore")
def test_counts_and_sums(frame, runs):
    outputs, _ = runs
    expected = truth(outputs[0]) | truth(outputs[1])
    found = frame.selectExpr("run", "input_name", f"cast(`{X}` as double) x")
    rows = found.groupBy("run", "input_name").agg({"*": "count", "x": "sum"}).collect()
    found = [(row["run"], row["input_name"], row["count(1)"], row["sum(x)"]) for row in rows]
    assert same(summed(found), expected)


@pytest.mark.filterwarnings("ignore")
def test_every_column_has_the_runs_values(frame, runs):
    kept = Output(runs[0][0]).kept
    run = Output(runs[0][0]).manifest["run_id"][:12]
    rows = [row.asDict() for row in frame.where(f"run = '{run}'").collect()]
    by_uid = {int(row["uid"]): row for row in rows}
    assert sorted(by_uid) == sorted(uids(kept))
    assert max(by_uid) > 2**63
    for expected in kept.to_pylist():
        row = by_uid[expected["uid"]]
        for name, value in expected.items():
            assert whole(row[name]) == whole(value), name


@pytest.mark.filterwarnings("ignore")
def test_each_uid_is_found(frame, runs):
    for uid in uids(Output(runs[0][0]).kept)[:3]:
        assert frame.where(f"uid = {uid}").count() == 1


def check_sessions(spark, lake, expected):
    """Check that three readers find the uids of each session, {session: sorted uids}."""
    polars = pytest.importorskip("polars")
    duckdb = pytest.importorskip("duckdb")
    spark_rows = read_as_delta(spark, lake).select("session", "uid").collect()
    polars_rows = polars.scan_delta(str(lake)).select("session", "uid").collect().rows()
    kept = deltalake.DeltaTable(str(lake)).to_pyarrow_table(columns=["session", "uid"])
    with duckdb.connect() as connection:
        connection.register("kept", kept)
        duckdb_rows = connection.sql("select session, uid from kept").fetchall()
    for rows in (spark_rows, polars_rows, duckdb_rows):
        assert len(rows) == sum(map(len, expected.values()))
        found = {session: [] for session in expected}
        for session, uid in rows:
            found[session].append(int(uid))
        assert {session: sorted(each) for session, each in found.items()} == expected


@pytest.mark.filterwarnings("ignore")
def test_a_lake_of_forty_sessions(spark, tmp_path):
    """Publish a run of each session with a tag, add one and replace one."""
    lake, expected = tmp_path / "lake", {}

    def add(number, separation=20.0, **options):
        session = f"s{number:02}"
        folder = tmp_path / session
        out = finished_run(folder, seed=number, rows=100, separation=separation, **options)
        publish(out, delta=lake, tags={"session": session}, mode="replace-tagged")
        expected[session] = sorted(uids(Output(out).kept))

    for number in range(39):
        add(number)
    check_sessions(spark, lake, expected)
    add(39)
    check_sessions(spark, lake, expected)
    before = len(expected["s07"])
    add(7, separation=60.0, overwrite=True)
    assert len(expected["s07"]) < before
    check_sessions(spark, lake, expected)


@pytest.mark.filterwarnings("ignore")
def test_a_lake_of_forty_partition_folders(spark, tmp_path):
    """Run and publish 40 sessions at once, add one in a run of its own, and replace one."""
    lake, expected = tmp_path / "lake", {}

    def write(folder, *numbers):
        for number in numbers:
            table = cryosparc(150, micrographs=6, seed=number)
            write_file(table, tmp_path / folder / f"session=s{number:02}" / "picks.parquet")
        return tmp_path / folder

    def add(folder, *numbers, separation=20.0):
        params = DedupParams(min_separation=separation, group_by="session")
        out = run(write(folder, *numbers), tmp_path / f"{folder}_out", params).output
        assert verify(out).verified
        publish(out, delta=lake, mode="replace-tagged")
        for path in Output(out).parts("particles_kept"):
            session = path.parent.name.removeprefix("session=")
            expected[session] = sorted(uids(pq.read_table(path, partitioning=None)))
        return out

    together = add("all", *range(40))
    assert len(expected) == 40
    check_sessions(spark, lake, expected)
    add("tomorrow", 40)
    check_sessions(spark, lake, expected)
    before = len(expected["s07"])
    add("again", 7, separation=60.0)
    assert len(expected["s07"]) < before
    check_sessions(spark, lake, expected)
    # A session alone has the bytes that it has among forty.
    for number in (0, 7, 39):
        folder = f"alone{number}"
        params = DedupParams(min_separation=20, group_by="session")
        out = run(write(folder, number), tmp_path / f"{folder}_out", params).output
        for name in ("particles_kept", "particles_rejected"):
            session = f"{name}/session=s{number:02}"
            assert contents(out / session) == contents(together / session)
            assert len(contents(out / session)) == 1

"""Parquet files are compressed as asked, their columns encoded as their values suggest, and every reader reads them."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import Output, assert_same_rows, cryosparc, write_file, write_folder

from dask_dedup import InputError, OutputExistsError, run
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.parquet import writer
from dask_dedup.formats.parquet.encoding import COMPRESSIONS

ROWS = 3_000
CONSTANT = ("location/micrograph_psize_A",)
REPEATING = (
    *("location/micrograph_path", "location/micrograph_uid", "alignments2D/split"),
    *("location/micrograph_shape.list.element", "few/integers", "few/floats"),
)
DIFFERENT_FLOATS = (
    *("location/center_x_frac", "pick_stats/ncc_score", "alignments3D/shift.list.element"),
    "many/floats",
)
DIFFERENT_INTEGERS = ("uid", "many/integers")
#: What every reader of Parquet 1 knows.
OLD_ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    few = rng.integers(20, size=ROWS)
    extra = {
        "few/integers": few,
        "few/floats": few.astype(np.float32),
        "many/integers": rng.integers(2**60, size=ROWS),
        "many/floats": rng.random(ROWS),
        "many/texts": [f"text {number}" for number in range(ROWS)],
        "nullable": pa.array([None, *range(1, ROWS)], pa.uint64()),
    }
    table = cryosparc(ROWS, columns=extra)
    return write_file(table, tmp_path_factory.mktemp("input") / "in.parquet")


@pytest.fixture(scope="module")
def result(path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("result") / "out"
    run(path, folder, min_separation=1)
    return Output(folder)


def columns(part):
    """Return the column chunks of a file, by path."""
    group = pq.read_metadata(part).row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    return {chunk.path_in_schema: chunk for chunk in chunks}


def encodings(part):
    """Return how each column of a file is stored: dictionary, split, differences, or plain."""
    known = {
        "RLE_DICTIONARY": "dictionary",
        "BYTE_STREAM_SPLIT": "split",
        "DELTA_BINARY_PACKED": "differences",
    }
    return {
        name: next((known[each] for each in known if each in chunk.encodings), "plain")
        for name, chunk in columns(part).items()
    }


def test_values_decide_about_the_encoding(result):
    found = encodings(result.parts("particles_kept")[0])
    assert {name for name in CONSTANT if found[name] != "plain"} == set()
    assert {name for name in REPEATING if found[name] != "dictionary"} == set()
    assert {name for name in DIFFERENT_FLOATS if found[name] != "split"} == set()
    assert {name for name in DIFFERENT_INTEGERS if found[name] != "plain"} == set()
    duplicates = encodings(result.parts("duplicates")[0])
    assert duplicates["distance_A"] == "split"
    assert duplicates["micrograph"] == duplicates["half_set"] == "dictionary"
    assert duplicates["uid"] == "plain"
    assert duplicates["row"] == duplicates["winner_row"] == "differences"


def test_statistics_are_written(result):
    chunks = columns(result.parts("particles_kept")[0])
    scores = chunks["pick_stats/ncc_score"].statistics
    assert scores.has_min_max
    assert 0 <= scores.min < scores.max <= 1
    assert chunks["location/micrograph_path"].statistics.null_count == 0
    assert not chunks["many/texts"].is_stats_set


@pytest.mark.parametrize("codec", [name for name in COMPRESSIONS if name != "auto"])
def test_a_codec_is_that_of_all_columns_in_encodings_of_old(codec, path, tmp_path, cli, result):
    cli("run", path, "-o", tmp_path / "out", "--min-separation", 1, "--compression", codec)
    output = Output(tmp_path / "out")
    name = "UNCOMPRESSED" if codec == "none" else codec.upper()
    for dataset in ("particles_kept", "particles_rejected", "duplicates"):
        for chunk in columns(output.parts(dataset)[0]).values():
            assert chunk.compression == name
            assert set(chunk.encodings) <= OLD_ENCODINGS
    assert_same_rows(output.kept, result.kept)
    assert output.manifest["run_id"] != result.manifest["run_id"]


def test_all_files_of_a_table_are_encoded_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    rows = np.arange(120)
    table = cryosparc(columns={"late": np.where(rows < 60, rows % 2, rows).astype(np.int32)})
    run(write_folder(table, tmp_path / "in", files=4), tmp_path / "out", min_separation=0)
    parts = Output(tmp_path / "out").parts("particles_kept")
    assert len(parts) == 4
    assert [encodings(part)["late"] for part in parts] == ["dictionary"] * 4


def test_another_compression_is_another_run(path, tmp_path):
    run(path, tmp_path / "out", min_separation=1, compression="none")
    assert run(path, tmp_path / "out", min_separation=1, compression="none").already_done
    with pytest.raises(OutputExistsError):
        run(path, tmp_path / "out", min_separation=1)


def test_an_unknown_compression_is_refused(path, tmp_path):
    with pytest.raises(InputError, match=r"compression is 'gzip'; it must be one of auto, zstd"):
        run(path, tmp_path / "out", compression="gzip")
    assert not (tmp_path / "out").exists()


def test_large_parts_have_several_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "ROW_GROUP_ROWS", 50)
    path = write_file(cryosparc(120), tmp_path / "in.parquet")
    run(path, tmp_path / "out", min_separation=0)
    output = Output(tmp_path / "out")
    assert pq.read_metadata(output.parts("particles_kept")[0]).num_row_groups == 3
    assert_same_rows(output.kept, pq.read_table(path))


def test_the_schema_is_the_inputs(path, result):
    assert result.kept.schema.equals(pq.read_schema(path), check_metadata=True)


def from_duckdb(folder):
    duckdb = pytest.importorskip("duckdb")
    return duckdb.sql(f"select * from '{folder}/*.parquet'").to_arrow_table()


def from_polars(folder):
    polars = pytest.importorskip("polars")
    return polars.read_parquet(f"{folder}/*.parquet").to_arrow()


def from_pandas(folder):
    return pa.Table.from_pandas(pd.read_parquet(folder, dtype_backend="pyarrow"))


@pytest.mark.parametrize("read", [from_duckdb, from_polars, from_pandas])
def test_readers_get_every_value(read, result):
    found, stored = read(result.folder / "particles_kept"), result.kept
    assert found.column_names == stored.column_names
    for name in stored.column_names:
        column, expected = found[name], stored[name]
        if pa.types.is_fixed_size_list(expected.type):
            assert list(map(list, column.to_pylist())) == expected.to_pylist(), name
        else:
            assert column.cast(expected.type).equals(expected), name


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("vectorized", ["true", "false"])
def test_spark_gets_every_value(vectorized, result, monkeypatch):
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    # Spark resolves the name of its host, which does not work on every machine.
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("SPARK_LOCAL_HOSTNAME", "localhost")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Spark supports pandas up to version 2
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
        for end in ("bindAddress", "host"):
            builder = builder.config(f"spark.driver.{end}", "127.0.0.1")
        session = builder.getOrCreate()
    try:
        session.sparkContext.setLogLevel("OFF")
        session.conf.set("spark.sql.parquet.enableVectorizedReader", vectorized)
        rows = session.read.parquet(str(result.folder / "particles_kept")).collect()
    finally:
        session.stop()
    found = {int(row["uid"]): row for row in rows}
    assert len(found) == result.kept.num_rows
    for expected in result.kept.to_pylist():
        row = found[expected["uid"]].asDict()
        assert {**row, "uid": int(row["uid"])} == {
            name: list(value) if isinstance(value, list) else value
            for name, value in expected.items()
        }

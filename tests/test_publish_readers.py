"""What each reader gives for a published table: the types in docs/guides/lake.md, and the run's values."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tables import Output, cryosparc, write_file

import dask_dedup
from dask_dedup.results.publish import publish

pytestmark = pytest.mark.slow

duckdb = pytest.importorskip("duckdb")
pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "lake.md"
COLUMNS = ("uid", "class", "alignments3D/shift", "note")
LARGE = 2**64 - 1
ROWS = 60
# Integers that a float64 does not hold.
UIDS = np.array([LARGE, 0, *range(2**63 - 8, 2**63 + ROWS - 10)], np.uint64)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A run with large uids, and nulls in a column of integers and a column of text."""
    columns = {
        "uid": UIDS,
        "class": pa.array([None, 2**31 + 1, *range(ROWS - 2)], pa.uint32()),
        "note": pa.array(["x", None, *map(str, range(ROWS - 2))]).dictionary_encode(),
    }
    folder = tmp_path_factory.mktemp("readers")
    table = cryosparc(ROWS, micrographs=ROWS, columns=columns)
    path = write_file(table, folder / "picks.parquet")
    return dask_dedup.run(path, folder / "out", min_separation=0.001).output


@pytest.fixture(scope="module")
def delta(out):
    deltalake = pytest.importorskip("deltalake")
    publish(out, delta=out.parent / "delta")
    return deltalake.DeltaTable(str(out.parent / "delta"))


@pytest.fixture(scope="module")
def iceberg(out):
    catalogs = pytest.importorskip("pyiceberg.catalog")
    pytest.importorskip("sqlalchemy")
    folder = out.parent
    settings = {
        "type": "sql",
        "uri": f"sqlite:///{folder / 'catalog.db'}",
        "warehouse": f"file://{folder / 'warehouse'}",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYICEBERG_HOME", str(folder))
        for name, value in settings.items():
            patch.setenv(f"PYICEBERG_CATALOG__LAB__{name.upper()}", value)
        publish(out, iceberg=("lab", "em.kept"))
        catalog = catalogs.load_catalog("lab", **settings)
        yield catalog.load_table("em.kept")
        catalog.close()


def arrow(table):
    types = {name: str(table.schema.field(name).type) for name in COLUMNS}
    return types, [table[name].to_pylist() for name in COLUMNS]


def frame(rows):
    types = {name: str(rows[name].dtype) for name in COLUMNS}
    return types, [
        [None if np.isscalar(value) and pandas.isna(value) else value for value in rows[name]]
        for name in COLUMNS
    ]


def duck(relation):
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    return types, list(zip(*relation.fetchall(), strict=True))


def lazy(rows):
    found = rows.select(COLUMNS).collect()
    types = {name: str(found[name].dtype) for name in COLUMNS}
    return types, [found[name].to_list() for name in COLUMNS]


def query_builder(table):
    import deltalake

    names = ", ".join(f'"{name}"' for name in COLUMNS)
    engine = deltalake.QueryBuilder().register("t", table)
    return arrow(pa.table(engine.execute(f"select {names} from t")))


def in_duckdb(table):
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    with duckdb.connect() as connection:
        connection.register("t", table)
        return duck(connection.sql(f"select {names} from t"))


def files_in_duckdb(table):
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    with duckdb.connect() as connection:
        return duck(connection.sql(f"select {names} from read_parquet({table.file_uris()})"))


DELTA = {
    "deltalake, Arrow": lambda table: arrow(table.to_pyarrow_table()),
    "deltalake, pandas": lambda table: frame(table.to_pandas()),
    "deltalake, `QueryBuilder`": query_builder,
    "DuckDB over Arrow": lambda table: in_duckdb(table.to_pyarrow_dataset()),
    "DuckDB, files": files_in_duckdb,
    "pandas, files": lambda table: frame(pandas.read_parquet(table.file_uris())),
    "Polars": lambda table: lazy(polars.scan_delta(table)),
}
ICEBERG = {
    "pyiceberg, Arrow": lambda table: arrow(table.scan().to_arrow()),
    "pyiceberg, pandas": lambda table: frame(table.scan().to_pandas()),
    "DuckDB over pyiceberg": lambda table: in_duckdb(table.scan().to_arrow()),
    "Polars, `scan_iceberg`": lambda table: lazy(
        polars.scan_iceberg(table, reader_override="native")
    ),
}


def check(reader, read, table, out):
    types, found = read(table)
    kept = Output(out).kept
    uid, number, vector, text = found
    assert [int(each) for each in uid] == kept["uid"].to_pylist()
    assert LARGE in map(int, uid)
    assert list(number) == kept["class"].to_pylist()
    assert [list(each) for each in vector] == kept["alignments3D/shift"].to_pylist()
    assert list(text) == kept["note"].to_pylist()
    row = " | ".join([reader, *(f"`{types[name]}`" for name in COLUMNS)])
    assert f"| {row} |" in PAGE.read_text()


@pytest.mark.parametrize("reader", DELTA)
def test_a_reader_of_delta_gives_the_values_and_types_of_the_page(reader, delta, out):
    check(reader, DELTA[reader], delta, out)


@pytest.mark.parametrize("reader", ICEBERG)
def test_a_reader_of_iceberg_gives_the_values_and_types_of_the_page(
    reader, iceberg, out, monkeypatch
):
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    check(reader, ICEBERG[reader], iceberg, out)


def test_each_reader_finds_a_uid(delta, iceberg):
    import deltalake
    import pyarrow.dataset as ds

    large = Decimal(LARGE)
    assert delta.to_pyarrow_table(filters=ds.field("uid") == large).num_rows == 1
    assert polars.scan_delta(delta).filter(polars.col("uid") == LARGE).collect().height == 1
    engine = deltalake.QueryBuilder().register("t", delta)
    assert pa.table(engine.execute(f"select uid from t where uid = {LARGE}")).num_rows == 1
    query = f"select uid from read_parquet({delta.file_uris()}) where uid = {LARGE}"
    assert duckdb.sql(query).fetchall() == [(large,)]
    assert iceberg.scan(row_filter=f"uid = {LARGE}").to_arrow().num_rows == 1


def test_uids_become_unsigned_again(delta):
    """The way that docs/guides/lake.md names for each reader."""
    expected = sorted(UIDS.tolist())
    uid = delta.to_pyarrow_table()["uid"]
    assert sorted(uid.cast(pa.uint64()).to_pylist()) == expected
    assert sorted(delta.to_pandas()["uid"].astype("uint64").tolist()) == expected
    column = polars.scan_delta(delta).select(polars.col("uid").cast(polars.UInt64)).collect()
    assert sorted(column["uid"].to_list()) == expected
    cast = f"select uid::ubigint as uid from read_parquet({delta.file_uris()})"
    assert sorted(duckdb.sql(cast).df()["uid"].tolist()) == expected


def test_a_data_frame_of_duckdb_has_inexact_uids(delta):
    # See docs/guides/lake.md. If this fails, DuckDB has fixed it: remove the warning there.
    rows = duckdb.sql(f"select uid from read_parquet({delta.file_uris()})").df()
    assert rows["uid"].dtype == np.float64


def test_uids_are_found_after_a_compaction(out):
    import deltalake

    root = str(out.parent / "compacted")
    publish(out, delta=root, tags={"session": "a"})
    again = dask_dedup.run(
        out.parent / "picks.parquet", out.parent / "again", min_separation=0.002
    ).output
    publish(again, delta=root, tags={"session": "a"})
    table = deltalake.DeltaTable(root)
    table.optimize.compact()
    found = polars.scan_delta(root).filter(polars.col("uid") == LARGE).collect()
    assert found.height == 2

"""Hive keys as pyarrow, Dask, DuckDB and Polars write them, and folders that are no keys."""

from __future__ import annotations

import os
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import Output, cryosparc, relion, write_file

from dask_dedup import InputError, inspect, run, verify
from dask_dedup.formats import open_table, read

NAMES = ["MotionCorr/job002/m00.mrc", "a b.mrc", "é%.mrc", "x=y.mrc", "p+q&.mrc", "m;n,o#.mrc"]
UID, PATH = "location/micrograph_uid", "location/micrograph_path"


def by_pyarrow(table, folder, keys):
    pq.write_to_dataset(table, folder, partition_cols=keys)


def by_duckdb(table, folder, keys):
    duckdb = pytest.importorskip("duckdb")
    columns = ", ".join(f'"{key}"' for key in keys)
    with duckdb.connect() as connection:
        connection.register("rows", table)
        options = f"FORMAT parquet, PARTITION_BY ({columns})"
        connection.execute(f"COPY (SELECT * FROM rows) TO '{folder}' ({options})")


def by_polars(table, folder, keys):
    polars = pytest.importorskip("polars")
    polars.from_arrow(table).write_parquet(folder, partition_by=keys, mkdir=True)


def by_dask(table, folder, keys):
    import dask.dataframe as dd
    import pandas as pd

    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dask uses what pandas deprecates
        dd.from_pandas(frame, npartitions=2).to_parquet(folder, partition_on=keys)


ENCODING = {"pyarrow": by_pyarrow, "duckdb": by_duckdb, "polars": by_polars}
WRITERS = {**ENCODING, "dask": by_dask}


def read_back(folder, *columns):
    table = open_table(folder)
    parts = [read(table, fragment, columns) for fragment in table.fragments]
    rows = pa.concat_tables(parts, promote_options="none").unify_dictionaries()
    return [rows[name].to_pylist() for name in columns]


@pytest.mark.parametrize("writer", ENCODING)
@pytest.mark.parametrize("key", ["rlnMicrographName", PATH, "session"])
def test_text_is_read_back_exactly(tmp_path, writer, key):
    stored = [*NAMES, None]
    table = pa.table({key: stored, "v": range(len(stored))})
    ENCODING[writer](table, tmp_path / "in", [key])
    texts, numbers = read_back(tmp_path / "in", key, "v")
    assert dict(zip(numbers, texts, strict=True)) == dict(enumerate(stored))


def test_dask_writes_text_without_slashes_so_that_it_is_read_back(tmp_path):
    stored = ["a b.mrc", "é.mrc", "x=y.mrc", "p+q&.mrc", None]
    by_dask(
        pa.table({"rlnMicrographName": stored, "v": range(5)}),
        tmp_path / "in",
        ["rlnMicrographName"],
    )
    texts, numbers = read_back(tmp_path / "in", "rlnMicrographName", "v")
    assert dict(zip(numbers, texts, strict=True)) == dict(enumerate(stored))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    "stored", [[2**64 - 1, 3, 2**63 + 11, None], [17, 0, 2**62, None], [5, 6, 7, 8]]
)
def test_uids_of_micrographs_are_read_back_exactly(tmp_path, writer, stored):
    table = pa.table({UID: pa.array(stored, pa.uint64()), "v": range(4)})
    WRITERS[writer](table, tmp_path / "in", [UID])
    uids, numbers = read_back(tmp_path / "in", UID, "v")
    assert dict(zip(numbers, uids, strict=True)) == dict(enumerate(stored))


@pytest.mark.parametrize("writer", WRITERS)
def test_keys_within_keys(tmp_path, writer):
    table = pa.table(
        {
            "session": ["A", "B", None],
            UID: pa.array([1, 2**64 - 1, 3], pa.uint64()),
            "v": range(3),
        }
    )
    WRITERS[writer](table, tmp_path / "in", ["session", UID])
    sessions, uids, numbers = read_back(tmp_path / "in", "session", UID, "v")
    found = sorted(zip(numbers, sessions, uids, strict=True))
    assert found == [(0, "A", 1), (1, "B", 2**64 - 1), (2, None, 3)]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_run_by_uid_decides_as_on_the_plain_table(tmp_path, writer):
    table = cryosparc(60, drop=["alignments", PATH])
    plain = run(write_file(table, tmp_path / "plain.parquet"), tmp_path / "plain")
    # Not all of them write lists of a fixed size.
    shape = table.column_names.index("location/micrograph_shape")
    lists = pa.array(table["location/micrograph_shape"].to_pylist(), pa.list_(pa.uint32()))
    table = table.set_column(shape, "location/micrograph_shape", lists)
    WRITERS[writer](table, tmp_path / "in", [UID])
    found = run(tmp_path / "in", tmp_path / "out")
    assert found.rejected == plain.rejected > 0
    assert Output(tmp_path / "out").by_uid == Output(tmp_path / "plain").by_uid
    assert verify(tmp_path / "out").verified


def test_a_number_as_a_name_stays_text(tmp_path):
    table = relion(60, axes=3, columns={"rlnTomoName": ["255", "00255", "12"] * 20})
    plain = run(write_file(table, tmp_path / "a.parquet"), tmp_path / "plain")
    for number, names in enumerate((["255", "00255", "12"], ["255", "12"])):
        part = table.filter(pa.compute.is_in(table["rlnTomoName"], pa.array(names)))
        folder = tmp_path / f"in{number}"
        by_pyarrow(part, folder, ["rlnTomoName"])
        assert set(read_back(folder, "rlnTomoName")[0]) == set(names)
    assert run(tmp_path / "in0", tmp_path / "out").rejected == plain.rejected


def test_some_files_may_have_the_key_as_a_column(tmp_path):
    table = pa.table({"session": ["A", "B"], "v": [1, 2]})
    by_pyarrow(table, tmp_path / "in", ["session"])
    write_file(pa.table({"session": ["C"], "v": [3]}), tmp_path / "in" / "more.parquet")
    sessions, numbers = read_back(tmp_path / "in", "session", "v")
    assert dict(zip(numbers, sessions, strict=True)) == {1: "A", 2: "B", 3: "C"}


class TestAFolderBelowAKeyThatIsNoKey:
    def refused(self, cli, folder, out):
        outcome = cli("run", folder, "-o", out, "--micrograph-pixel-size", 1)
        assert outcome.exit_code == 2
        assert not os.path.lexists(out)
        with pytest.raises(InputError, match="is not key=value"):
            inspect(folder)
        return outcome.stderr

    def test_dask_writes_slashes_of_micrograph_names(self, cli, tmp_path):
        names = [f"MotionCorr/job002/m{n:02}.mrc" for n in range(4)] * 5
        table = relion(20, columns={"rlnMicrographName": names})
        by_dask(table, tmp_path / "in", ["rlnMicrographName"])
        message = self.refused(cli, tmp_path / "in", tmp_path / "out")
        assert "the folder job002 in rlnMicrographName=MotionCorr is not key=value" in message
        assert "%2F" in message

    def test_slashes_of_dates(self, cli, tmp_path):
        table = relion(20, columns={"session": ["2024/03/07", "2024/03/08"] * 10})
        by_dask(table, tmp_path / "in", ["session"])
        message = self.refused(cli, tmp_path / "in", tmp_path / "out")
        assert "the folder 03 in session=2024 is not key=value" in message

    def test_a_folder_by_hand(self, cli, tmp_path):
        write_file(relion(20), tmp_path / "in" / "session=A" / "batch" / "a.parquet")
        self.refused(cli, tmp_path / "in", tmp_path / "out")

    def test_a_path_of_cryosparc(self, cli, tmp_path):
        by_dask(
            cryosparc(20, drop=["alignments", "location/micrograph_uid"]), tmp_path / "in", [PATH]
        )
        message = self.refused(cli, tmp_path / "in", tmp_path / "out")
        assert f"the folder imported in {PATH}=J1 is not key=value" in message

    def test_folders_above_the_first_key_are_fine(self, tmp_path):
        write_file(relion(20), tmp_path / "in" / "2024" / "session=A" / "a.parquet")
        assert read_back(tmp_path / "in", "session") == [["A"] * 20]

    def test_hidden_folders_are_no_matter(self, tmp_path):
        write_file(relion(20), tmp_path / "in" / "session=A" / "a.parquet")
        write_file(relion(20), tmp_path / "in" / "session=A" / "_old" / "a.parquet")
        assert read_back(tmp_path / "in", "session") == [["A"] * 20]


MISSING = ["", " ", "None", "none", "null", "NULL", "<NA>", "nan", "NaN"]


@pytest.mark.parametrize(
    ("name", "column"),
    [*((name, "rlnMicrographName") for name in MISSING), ("None", "rlnTomoName")],
)
def test_a_name_that_stands_for_none_is_missing(cli, tmp_path, name, column):
    table = relion(30, axes=3 if column == "rlnTomoName" else 2)
    names = table[column].to_pylist()
    names[7], names[9] = name, None
    table = table.set_column(0, column, pa.array(names))
    path = write_file(table, tmp_path / "a.parquet")
    outcome = cli("run", path, "-o", tmp_path / "out")
    assert outcome.exit_code == 2
    assert f"2 rows have no micrograph ({column}; first: row 7, row 9)" in outcome.stderr
    for option in ("reject", "keep"):
        out = tmp_path / option
        result = run(path, out, invalid=option)
        assert result.manifest["totals"]["invalid_by_reason"] == {"micrograph": 2}
        assert verify(out).verified


@pytest.mark.parametrize("word", ["None", "null", "<NA>", '""'])
def test_star_files_too(tmp_path, word):
    path = tmp_path / "a.star"
    path.write_text(
        "data_\n\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n"
        f"m.mrc 1 1\n{word} 1 1\n{word} 2 2\n"
    )
    params = {"micrograph_pixel_size": 1.0, "score_field": "none"}
    with pytest.raises(InputError, match=r"2 rows have no micrograph .*first: row 1, row 2"):
        run(path, tmp_path / "out", **params)
    assert run(path, tmp_path / "out", invalid="keep", **params).rejected == 0
    assert verify(tmp_path / "out").verified


@pytest.mark.parametrize("word", ["None", "null", "<NA>"])
def test_the_micrograph_table_must_have_names(tmp_path, word):
    known = tmp_path / "micrographs.star"
    known.write_text(f"data_\n\nloop_\n_rlnMicrographName\n_rlnMicrographPixelSize\n{word} 1\n")
    path = write_file(relion(20), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="1 row has no rlnMicrographName"):
        run(path, tmp_path / "out", micrographs=known)


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64()])
def test_a_key_that_is_no_value_of_the_column_of_other_files_is_named(tmp_path, kind):
    table = relion(20, columns={"session": pa.array([1] * 20, kind)})
    folder = tmp_path / "in"
    write_file(table, folder / "a.parquet")
    other = write_file(table.drop_columns(["session"]), folder / "session=abc" / "b.parquet")
    with pytest.raises(InputError) as caught:
        run(folder, tmp_path / "out", min_separation=20)
    assert str(caught.value) == (
        f"{other}: the folder session=abc is no value of the column session, which is {kind} in other "
        "files. Rename the folder, or cast the column to text."
    )
    other.parent.rename(folder / "session=2")
    assert set(read_back(folder, "session")[0]) == {1, 2}

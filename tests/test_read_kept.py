"""The kept particles of a finished run as a Dask frame, which reads the inputs and leaves out the rejected rows."""

from __future__ import annotations

import os

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tables import Output, bits, cryosparc, relion, write_file, write_hive
from test_materialize import make_case, many_fragments  # noqa: F401 (a fixture)
from test_resume import write_star

from dask_dedup import InputError, RunError, materialize, read_kept, remove_duplicates, run
from dask_dedup.formats.parquet import table as parquet


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def as_arrow(frame):
    return pa.Table.from_pandas(frame.compute(), preserve_index=False)


def assert_same(frame, output):
    """Check that a frame has the rows of ``particles_kept``, to the bit and in order."""
    found, expected = as_arrow(frame), Output(output).kept
    keys = Output(output).manifest["partitions"]
    assert found.column_names == [*expected.column_names, *keys]
    for name in expected.column_names:
        assert bits(found.column(name)) == bits(expected.column(name)), name


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("parquet", {}),
        ("votes", {}),
        ("star to parquet", {}),
        ("picks", {"output_format": "parquet"}),
        pytest.param("hive", {}, marks=pytest.mark.slow),
        pytest.param("cs", {"output_format": "parquet"}, marks=pytest.mark.slow),
        pytest.param("csg", {"output_format": "parquet"}, marks=pytest.mark.slow),
    ],
)
def test_its_rows_are_the_kept_particles(tmp_path, out, kind, options):
    inputs, given = make_case(kind, tmp_path)
    options = {**given, **options}
    result = run(inputs, out, duplicates_only=True, **options)
    frame = read_kept(out)
    assert frame.npartitions == result.manifest["plan"]["fragments"]
    materialize(out)
    assert_same(frame, out)
    assert_same(read_kept(out), out)
    assert len(frame) == result.kept


@pytest.mark.parametrize("kind", ["star", "picks"])
def test_it_needs_no_parquet(tmp_path, out, kind):
    inputs, options = make_case(kind, tmp_path)
    result = run(inputs, out, **options)
    assert len(read_kept(out)) == result.kept


def test_nothing_is_computed_before_it_is_asked_for(tmp_path, out, monkeypatch):
    inputs, _ = make_case("parquet", tmp_path)
    run(inputs, out, duplicates_only=True)
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "read", None)
        frame = read_kept(out)
        assert frame.dtypes["uid"] == "uint64[pyarrow]"
    assert len(frame)


def test_only_the_needed_columns_are_read(tmp_path, out, monkeypatch):
    inputs, _ = make_case("parquet", tmp_path)
    result = run(inputs, out, duplicates_only=True)
    real, columns = parquet.read, set()

    def noting(table, fragment, names):
        columns.update(names)
        return real(table, fragment, names)

    monkeypatch.setattr(parquet, "read", noting)
    assert read_kept(out)["uid"].nunique().compute() == result.kept
    assert read_kept(out, columns=["uid"]).compute().columns.tolist() == ["uid"]
    assert columns == {"uid"}


def test_no_value_is_rounded(tmp_path, out):
    largest = np.array([2**64 - 1, 2**63 + 1, 2**53 + 1] * 20, np.uint64) - np.arange(
        60, dtype=np.uint64
    )
    numbers = pa.array([None, 2**63 - 1, -(2**53) - 1] * 20, pa.int64())
    names = pa.array(["a", None, "b"] * 20).dictionary_encode()
    table = cryosparc(60, columns={"uid": largest, "more/number": numbers, "more/name": names})
    run(write_file(table, tmp_path / "picks.parquet"), out)
    frame = read_kept(out)
    assert_same(frame, out)
    computed = frame.compute()
    assert computed.dtypes["more/number"] == pd.ArrowDtype(pa.int64())
    assert computed.dtypes["more/name"] == pd.ArrowDtype(pa.string())
    kept = Output(out).kept
    assert computed["uid"].tolist() == kept["uid"].to_pylist()
    assert computed["more/number"].isna().sum() == kept["more/number"].null_count


def test_a_column_that_an_input_lacks_is_null_there(tmp_path, out):
    one = write_file(relion(40), tmp_path / "one.parquet")
    two = write_star(relion(40, seed=1, drop=["rlnRandomSubset"]), tmp_path / "two.star")
    run([one, two], out, output_format="parquet")
    frame = read_kept(out)
    assert_same(frame, out)
    half = frame["rlnRandomSubset"].compute()
    assert 0 < half.isna().sum() < len(half)
    assert len(read_kept(out, columns=["rlnRandomSubset"])) == len(half)


def test_keys_of_folders_are_columns(tmp_path, out):
    folder = write_hive(cryosparc(), tmp_path / "in", "location/micrograph_path")
    run(folder, out, duplicates_only=True)
    counts = read_kept(out)["location/micrograph_path"].value_counts().compute()
    assert len(counts) == 4


def test_it_computes_on_a_cluster(tmp_path, out, cluster):
    inputs, options = make_case("votes", tmp_path)
    run(inputs, out, **options)
    assert_same(read_kept(out), out)


def test_duplicates_can_be_removed_from_it_again(tmp_path, out):
    inputs, _ = make_case("parquet", tmp_path)
    run(inputs, out, duplicates_only=True)
    kept, rejected = remove_duplicates(read_kept(out), min_separation=20)
    assert (len(kept), len(rejected)) == (len(read_kept(out)), 0)


def test_an_unknown_column_is_refused(tmp_path, out):
    inputs, _ = make_case("parquet", tmp_path)
    run(inputs, out)
    with pytest.raises(InputError, match="no column nonsense"):
        read_kept(out, columns=["uid", "nonsense"])


def test_a_changed_input_is_refused(tmp_path, out):
    inputs, _ = make_case("parquet", tmp_path)
    run(inputs, out)
    frame = read_kept(out)
    os.utime(sorted(inputs[0].iterdir())[0], ns=(1, 1))
    with pytest.raises(RunError, match="changed since the run"):
        frame.compute()
    with pytest.raises(InputError, match="changed since the run"):
        read_kept(out)


def test_changed_duplicates_are_not_trusted(tmp_path, out):
    inputs, _ = make_case("parquet", tmp_path)
    run(inputs, out)
    frame = read_kept(out)
    next((out / "duplicates").iterdir()).unlink()
    with pytest.raises(RunError, match="so the rejected rows are not known"):
        frame.compute()


def test_frames_of_two_results_are_told_apart(tmp_path):
    inputs, _ = make_case("parquet", tmp_path)
    run(inputs, tmp_path / "a", min_separation=20)
    run(inputs, tmp_path / "b", min_separation=60)
    both = dd.concat([read_kept(tmp_path / name, columns=["uid"]) for name in "ab"])
    assert len(both) == sum(Output(tmp_path / name).kept.num_rows for name in "ab")

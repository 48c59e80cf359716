"""Parameters with a value for each input."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dask_dedup import DedupParams, InputError, remove_duplicates, run, verify
from dask_dedup.cli import main
from dask_dedup.dedup import per_input
from dask_dedup.dedup.per_input import as_input, normalize, split_input
from dask_dedup.results.command import run_command


def write(path, x, **more):
    columns = {
        "rlnMicrographName": ["m.mrc"] * len(x),
        "rlnCoordinateX": [float(value) for value in x],
        "rlnCoordinateY": [100.0] * len(x),
        **more,
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        (None, ()),
        (1.5, (("", 1.5),)),
        ({"a.star": 1.5}, (("a.star", 1.5),)),
        ({"./d//a.star": 1, "": 2}, (("d/a.star", 1), ("", 2))),
        ([["a.star", 1.5], ["", 2.0]], (("a.star", 1.5), ("", 2.0))),
        ({"s3://b//a.star": 1.5}, (("s3://b//a.star", 1.5),)),
    ],
)
def test_values_are_stored_as_pairs_of_input_and_value(given, pairs):
    assert normalize("micrograph_pixel_size", given) == pairs
    assert normalize("micrograph_pixel_size", pairs) == pairs


def test_an_input_has_one_value_unless_the_parameter_is_repeatable():
    with pytest.raises(InputError, match=r"is given twice for a\.star"):
        DedupParams(micrograph_pixel_size=(("a.star", 1.0), ("./a.star", 2.0)))
    pairs = normalize("rename", {"a": ["x", "y"], "": "z"}, repeatable=True)
    assert pairs == (("a", "x"), ("a", "y"), ("", "z"))
    assert pairs.values_for("a") == ["x", "y"]
    assert pairs.values_for("b") == ["z"]


def test_the_cost_of_values_per_input_is_linear(monkeypatch):
    calls = Counter()

    class Text(str):
        __slots__ = ()

        def __eq__(self, other):
            calls["eq"] += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    def counting(path):
        calls["as_input"] += 1
        return Text(as_input(path))

    monkeypatch.setattr(per_input, "as_input", counting)
    paths = [f"picks/{number}.star" for number in range(500)]
    params = DedupParams(micrograph_pixel_size=dict.fromkeys(paths, 1.5))
    for path in paths:
        assert params.for_input("micrograph_pixel_size", path) == 1.5
        assert params.names_input("micrograph_pixel_size", path)
    assert calls.total() < 20 * len(paths)


def test_values_per_input_are_the_same_after_a_lookup():
    params = DedupParams(micrograph_pixel_size={"a": 1.5})
    before = pickle.dumps(params)
    params.for_input("micrograph_pixel_size", "a")
    assert pickle.dumps(params) == before
    assert pickle.loads(before) == params


def test_an_option_is_split_at_the_last_equals_sign_after_an_input():
    inputs = ["a=1", "a", "dir/b.star"]
    assert split_input("a=1=2", inputs) == ("a=1", "2")
    assert split_input("a=s/=/x/", inputs) == ("a", "s/=/x/")
    assert split_input("./dir/b.star=3", inputs) == ("dir/b.star", "3")
    assert split_input("c=3", inputs) == ("", "c=3")


def test_parameters_survive_json():
    params = DedupParams(micrograph_pixel_size={"a": 1.5}, coordinate_pixel_size=2.0)
    stored = json.loads(json.dumps(params.to_dict()))
    assert DedupParams.from_dict(stored) == params
    # Written before values could differ between inputs.
    assert DedupParams.from_dict({**stored, "micrograph_pixel_size": 1.5}) == DedupParams(
        micrograph_pixel_size=1.5, coordinate_pixel_size=2.0
    )


@pytest.fixture
def pickers(tmp_path, monkeypatch):
    """Two tables of the same three particles, one in pixels of 2 A, one in pixels of 4 A."""
    monkeypatch.chdir(tmp_path)
    write("a.parquet", [100, 200, 300])
    write("b.parquet", [50, 100, 150], rlnCoordinateY=[50.0] * 3)
    return tmp_path


def test_each_input_has_its_own_pixel_size(pickers):
    sizes = {"a.parquet": 2.0, "b.parquet": 4.0}
    for name in ("micrograph_pixel_size", "coordinate_pixel_size"):
        result = run(
            ["a.parquet", "b.parquet"], name, min_separation=5, score_field="none", **{name: sizes}
        )
        assert (result.kept, result.rejected) == (3, 3)
        assert verify(name).verified
    words = ["run", "a.parquet", "b.parquet", "--score-field", "none", "--min-separation", "5"]
    flags = ["--micrograph-pixel-size", "2", "--micrograph-pixel-size", "b.parquet=4"]
    done = CliRunner().invoke(main, [*words, *flags, "-o", "out"])
    assert done.exit_code == 0, done.output
    manifest = json.loads((pickers / "out/manifest.json").read_text())
    assert manifest["totals"]["rejected"] == 3
    assert manifest["parameters"]["micrograph_pixel_size"] == [["", 2.0], ["b.parquet", 4.0]]
    command = run_command(manifest, "out")
    assert "--micrograph-pixel-size 2 --micrograph-pixel-size b.parquet=4" in command


def test_the_coordinate_pixel_size_overrides_the_tables(tmp_path):
    table = write(tmp_path / "a.parquet", [100, 110], rlnMicrographPixelSize=[1.0, 1.0])
    near = run(table, tmp_path / "near", min_separation=15, score_field="none")
    far = run(
        table, tmp_path / "far", min_separation=15, score_field="none", coordinate_pixel_size=2.0
    )
    assert (near.rejected, far.rejected) == (1, 0)
    assert verify(tmp_path / "far").verified


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("c.parquet=2", "c.parquet is not one of the inputs"),
        ("a.parquet=two", "'two' is not a number"),
        ("a.parquet=1000", "a.parquet: --micrograph-pixel-size is 1000; it must be between"),
        ("two", "'two' is not a number"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(pickers, value, message):
    words = ["run", "a.parquet", "b.parquet", "-o", "out", "--micrograph-pixel-size", value]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.splitlines()) == 1
    assert not (pickers / "out").exists()


def test_an_unknown_input_is_refused_in_python(pickers):
    with pytest.raises(
        InputError, match=r"has a value for c\.parquet, which is not one of the inputs"
    ):
        run(["a.parquet"], "out", micrograph_pixel_size={"c.parquet": 2.0})
    with pytest.raises(
        InputError, match=r"has a value for c\.parquet, which is not one of the inputs"
    ):
        remove_duplicates(pq.read_table("a.parquet"), micrograph_pixel_size={"c.parquet": 2.0})


def test_coordinates_in_angstrom_have_no_pixel_size(tmp_path):
    axes = {f"rlnCenteredCoordinate{axis}Angst": [1.0, 2.0] for axis in "XYZ"}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"rlnTomoName": ["t", "t"], **axes}), path)
    for name in ("coordinate_pixel_size", "micrograph_pixel_size"):
        given = {name: {str(path): 2.0}}
        with pytest.raises(InputError, match=rf"XAngst is in angstrom, so {name} cannot apply"):
            run(path, tmp_path / "out", score_field="none", **given)
    result = run(path, tmp_path / "out", score_field="none", micrograph_pixel_size=2.0)
    assert result.rejected == 1


def test_whole_and_decimal_numbers_are_the_same_parameters():
    whole, decimal = (
        DedupParams(min_separation=value, micrograph_pixel_size={"a.star": value}).to_dict()
        for value in (2, 2.0)
    )
    assert json.dumps(whole) == json.dumps(decimal)

"""STAR files without a table or without rows among the inputs, as programs write for micrographs without picks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tables import Output

import dask_dedup
from dask_dedup import InputError

LABELS = ("MicrographName", "CoordinateX", "CoordinateY", "AutopickFigureOfMerit")
HEADER = "data_\n\nloop_\n" + "".join(f"_rln{label}\n" for label in LABELS)
WITHOUT_TABLE = {
    "0 bytes": "",
    "blank lines": "\n\n",
    "a comment": "# version 30001\n",
    "a block without a loop": "data_\n",
    "a loop without labels": "data_particles\n\nloop_\n",
    "positions without rows or micrographs": HEADER.replace("_rlnMicrographName\n", ""),
}
OPTIONS = {
    "min_separation": 20,
    "micrograph_pixel_size": 1.0,
    "score_field": "rlnAutopickFigureOfMerit:higher",
}


def star(path, seed):
    positions = np.random.default_rng(seed).integers(0, 300, (80, 2))
    rows = "".join(f"m.mrc {x} {y} {n / 80}\n" for n, (x, y) in enumerate(positions))
    path.write_text(HEADER + rows)
    return path


@pytest.fixture
def full(tmp_path):
    return [star(tmp_path / f"{name}.star", number) for number, name in enumerate("ab")]


def test_files_without_a_table_are_left_out_with_one_warning(tmp_path, full, caplog):
    empty = [tmp_path / f"empty{number}.star" for number in range(len(WITHOUT_TABLE))]
    for path, content in zip(empty, WITHOUT_TABLE.values(), strict=True):
        path.write_text(content)
    dask_dedup.run(full, tmp_path / "expected", **OPTIONS)
    paths = [empty[0], full[0], *empty[1:], full[1]]
    caplog.clear()
    result = dask_dedup.run(paths, tmp_path / "out", **OPTIONS)
    warning = f"6 STAR files have no table or no rows, and are left out (first: {empty[0]})"
    assert result.warnings.count(warning) == 1
    assert caplog.messages.count(warning) == 1
    assert dask_dedup.verify(tmp_path / "out").verified
    found, expected = (Output(tmp_path / name).duplicates for name in ("out", "expected"))
    assert found.equals(expected)
    assert found.num_rows
    inspection = dask_dedup.inspect(paths, **OPTIONS)
    assert warning in inspection.warnings
    assert [entry.path for entry in inspection.inputs] == list(map(str, full))


@pytest.mark.parametrize("content", WITHOUT_TABLE.values(), ids=WITHOUT_TABLE)
def test_files_without_a_table_alone_are_refused(tmp_path, content):
    paths = [tmp_path / f"{name}.star" for name in "ab"]
    for path in paths:
        path.write_text(content)
    for inputs in (paths[:1], paths):
        with pytest.raises(
            InputError,
            match=r"a\.star: (the file is empty|no table|the particle table has no rows)",
        ):
            dask_dedup.run(inputs, tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output_format", ["native", "parquet"])
def test_tables_without_rows_are_copied(tmp_path, full, output_format):
    (tmp_path / "none.star").write_text(HEADER)
    out = tmp_path / "out"
    inputs = [tmp_path / "none.star", *full]
    dask_dedup.run(inputs, out, output_format=output_format, **OPTIONS)
    assert dask_dedup.verify(out).verified
    if output_format == "native":
        for name in ("particles_kept", "particles_rejected"):
            assert (out / name / "none.star").read_text() == HEADER


def test_a_table_of_something_else_is_refused(tmp_path, full):
    (tmp_path / "job.star").write_text("data_job\n_rlnJobTypeLabel relion.x\n")
    with pytest.raises(InputError, match=r"job\.star: no table could hold the particles"):
        dask_dedup.run([*full, tmp_path / "job.star"], tmp_path / "out", **OPTIONS)


def test_options_of_an_input_stay_with_it(tmp_path, full):
    """`flip_y` numbers the inputs as they are given; other options name them."""
    empty = tmp_path / "empty.star"
    empty.write_text("")
    sizes = {str(full[0]): 1.0, str(full[1]): 2.0}
    options = {**OPTIONS, "micrograph_height": 300, "micrograph_pixel_size": sizes}
    dask_dedup.run(full, tmp_path / "expected", flip_y=(1,), **options)
    options["micrograph_pixel_size"] = {**sizes, str(empty): 3.0}
    dask_dedup.run([empty, *full], tmp_path / "out", flip_y=(2,), **options)
    found, expected = (Output(tmp_path / name) for name in ("out", "expected"))
    assert found.duplicates.equals(expected.duplicates)
    assert found.manifest["parameters"] == expected.manifest["parameters"]
    assert found.manifest["parameters"]["flip_y"] == [1]


def test_the_command_line_leaves_them_out(cli, tmp_path, full):
    (tmp_path / "empty.star").write_text("")
    outcome = cli(
        *("run", tmp_path / "empty.star", *full, "--output", tmp_path / "out", "--no-report"),
        *("--micrograph-pixel-size", "1", "--score-field", OPTIONS["score_field"], "--json"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["rows"] == 160
    assert outcome.stderr.count("1 STAR file has no table or no rows, and is left out") == 1


def test_a_table_without_rows_needs_no_pixel_size(tmp_path, full):
    empty = tmp_path / "empty.star"
    empty.write_text(HEADER)
    options = OPTIONS | {"micrograph_pixel_size": {str(path): 1.0 for path in full}}
    result = dask_dedup.run([*full, empty], tmp_path / "out", **options)
    assert [entry["rows"] for entry in result.by_input] == [80, 80, 0]

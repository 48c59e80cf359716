"""The same particles give the same decisions in every format, alone or mixed."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dask_dedup import DedupParams, InputError, run, verify
from dask_dedup.simulation import simulate_pickers

EXAMPLES = Path(__file__).parent.parent / "examples"
relion = runpy.run_path(str(EXAMPLES / "relion_round_trip.py"))
cryosparc = runpy.run_path(str(EXAMPLES / "cryosparc_round_trip.py"))
PARAMS = DedupParams(min_separation=30.0)


@pytest.fixture(scope="module")
def pickers(tmp_path_factory):
    """The particles of two pickers as Parquet, .star, .cs and .csg."""
    folder = tmp_path_factory.mktemp("pickers")
    forms = {name: [] for name in ("parquet", "star", "cs", "csg")}
    for number, picks in enumerate(
        simulate_pickers(folder / "picks", particles=600, micrographs=3)
    ):
        records = cryosparc["records_of"](picks)
        forms["parquet"].append(picks)
        forms["csg"].append(cryosparc["write_group"](records, folder / f"J{number}", f"J{number}"))
        forms["star"].append(folder / f"{number}.star")
        relion["write_star"](picks, forms["star"][-1])
        forms["cs"].append(folder / f"{number}.cs")
        with forms["cs"][-1].open("wb") as file:
            np.save(file, records)
    return forms


def read_duplicates(output):
    """Return the distance for each (input, row, input of the winner, row of the winner)."""
    duplicates = pq.read_table(output / "duplicates").to_pydict()
    order = {path: n for n, path in enumerate(dict.fromkeys(duplicates["input"]))}
    sides = zip(
        duplicates["input"],
        duplicates["row"],
        duplicates["winner_input"],
        duplicates["winner_row"],
        strict=True,
    )
    pairs = [(order[a], row, order[b], winner) for a, row, b, winner in sides]
    return dict(zip(pairs, duplicates["distance_A"], strict=True))


def decisions(inputs, output, params=PARAMS, **options):
    result = run(inputs, output, params, **options)
    duplicates = read_duplicates(result.output)
    rows = {(a, row): (b, winner) for a, row, b, winner in duplicates}
    return rows, np.array(list(duplicates.values()))


@pytest.mark.parametrize("form", ["star", "cs", "csg"])
@pytest.mark.parametrize("output_format", ["native", "parquet"])
def test_every_format_gives_the_decisions_of_parquet(pickers, tmp_path, form, output_format):
    expected, distances = decisions(pickers["parquet"], tmp_path / "parquet")
    given, others = decisions(pickers[form], tmp_path / form, output_format=output_format)
    assert len(expected) > 100
    assert given == expected
    # The .star files have six decimal places.
    np.testing.assert_allclose(others, distances, atol=1e-5 if form == "star" else 0)


@pytest.mark.parametrize("form", ["star", "cs", "csg"])
def test_every_format_is_verified(pickers, tmp_path, form):
    run(pickers[form], tmp_path / "out", PARAMS)
    verification = verify(tmp_path / "out")
    assert [check for check in verification.checks if check.passed is not True] == []


def test_mixed_formats_match_micrographs_by_name(pickers, tmp_path):
    expected, _ = decisions(pickers["parquet"], tmp_path / "parquet")
    mixed = [pickers["star"][0], pickers["cs"][1]]
    given, _ = decisions(mixed, tmp_path / "mixed")
    assert given == expected
    names = sorted(path.name for path in (tmp_path / "mixed" / "particles_kept").iterdir())
    assert names == ["0.star", "1.cs"]
    assert verify(tmp_path / "mixed").passed


def test_mixed_inputs_as_one_parquet_dataset(pickers, tmp_path):
    result = run(
        [pickers["star"][0], pickers["csg"][1]], tmp_path / "out", PARAMS, output_format="parquet"
    )
    kept = pq.read_table(result.output / "particles_kept")
    assert kept.num_rows == result.kept
    assert {"rlnCoordinateX", "location/center_x_frac"} <= set(kept.column_names)
    assert kept.column("uid").null_count == result.by_input[0]["kept"]


def test_inputs_of_the_same_name_get_separate_outputs(pickers, tmp_path):
    copies = []
    for number, path in enumerate(pickers["star"]):
        (tmp_path / str(number)).mkdir()
        copies.append(tmp_path / str(number) / "particles.star")
        copies[-1].write_bytes(path.read_bytes())
    result = run(copies, tmp_path / "out", PARAMS)
    kept = sorted((result.output / "particles_kept").rglob("*.star"))
    assert [path.relative_to(result.output).as_posix() for path in kept] == [
        "particles_kept/input-2/particles.star",
        "particles_kept/particles.star",
    ]
    assert verify(result.output).passed


def test_flip_y_makes_a_flipped_input_match(pickers, tmp_path):
    expected, _ = decisions(pickers["parquet"], tmp_path / "straight")
    rows = []
    for line in pickers["star"][1].read_text().splitlines(keepends=True):
        values = line.split()
        if ".mrc" in line:
            values[1] = f"{4092 - float(values[1]):.6f}"
            values[6] = f"{-float(values[6]):.6f}"
            line = " ".join(values) + "\n"
        rows.append(line)
    flipped = tmp_path / "flipped.star"
    flipped.write_text("".join(rows))
    inputs = [pickers["star"][0], flipped]
    as_it_is, _ = decisions(inputs, tmp_path / "as_it_is")
    assert len(as_it_is) < len(expected) / 4
    with pytest.raises(InputError, match="micrograph_height"):
        run(inputs, tmp_path / "none", DedupParams(min_separation=30.0, flip_y=(1,)))
    params = DedupParams(min_separation=30.0, flip_y=(1,), micrograph_height=4092)
    given, _ = decisions(inputs, tmp_path / "back", params)
    assert given == expected

"""Filament numbers that belong to several filaments, as after joining files, are found and named."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tables import Output, write_file, write_folder

from dask_dedup import DedupParams, run
from dask_dedup.formats.parquet import table as parquet

SPACING = 40.0


def tubes(seed, *, number=6, micrographs=2, curved=False, length=12):
    """Return filaments numbered from 1 on each micrograph, with segments every 40 angstrom."""
    rng = np.random.default_rng(seed)
    rows = []
    for micrograph in range(micrographs):
        for tube in range(1, number + 1):
            x, y = rng.uniform(500, 3500, 2)
            angle = rng.uniform(0, 2 * np.pi)
            for segment in range(length):
                rows.append((f"m{micrograph}.mrc", x, y, tube, segment * SPACING))
                x, y = x + SPACING * np.cos(angle), y + SPACING * np.sin(angle)
                angle += 0.05 if curved else 0.0
    names, x, y, tube, track = zip(*rows, strict=True)
    return pa.table(
        {
            "rlnMicrographName": names,
            "rlnCoordinateX": x,
            "rlnCoordinateY": y,
            "rlnMicrographPixelSize": np.ones(len(rows)),
            "rlnHelicalTubeID": tube,
            "rlnHelicalTrackLengthAngst": track,
        }
    )


def moved(table, distance, axis="Y"):
    name = f"rlnCoordinate{axis}"
    there = pa.array(np.array(table[name].to_pylist()) + distance)
    return table.set_column(table.schema.get_field_index(name), name, there)


def warnings_of(path, tmp_path, **params):
    options = {"ignore_within_filament": True, "score_field": "none", **params}
    run(path, tmp_path / "out", DedupParams(**options))
    return [line for line in Output(tmp_path / "out").manifest["warnings"] if "filament" in line]


def thinned(table, seed=0, share=0.5):
    """Return a selection of segments, as after a 2-D classification."""
    return table.filter(pa.array(np.random.default_rng(seed).random(table.num_rows) < share))


def expanded(table):
    """Return each row three times in sequence, as symmetry expansion does."""
    return table.take(pa.array(np.repeat(np.arange(table.num_rows), 3)))


def shuffled(table, seed=0):
    return table.take(pa.array(np.random.default_rng(seed).permutation(table.num_rows)))


def jittered(table, seed=0):
    """Move segments by up to a quarter of their spacing, as after extraction at refined positions."""
    rng = np.random.default_rng(seed)
    for axis in "XY":
        table = moved(table, rng.uniform(-SPACING / 4, SPACING / 4, table.num_rows), axis)
    return table


ALONE = {
    "straight": tubes(1),
    "curved": tubes(1, curved=True),
    "selected segments": thinned(tubes(1)),
    "few segments": thinned(tubes(1), share=0.15),
    "symmetry copies": expanded(tubes(1)),
    "any order": shuffled(tubes(1)),
    "moved segments": jittered(tubes(1, curved=True)),
    "single segments": tubes(1, length=1),
    "no rows": tubes(1).slice(0, 0),
}
JOINED = {
    "other filaments": [tubes(1), tubes(2)],
    "other filaments, selected": [thinned(tubes(1)), thinned(tubes(2), seed=1)],
    "the same filaments picked twice": [tubes(1), moved(tubes(1), 10.0)],
    "the same rows twice": [tubes(1), tubes(1)],
    "three files": [tubes(1), tubes(2), tubes(3)],
}


@pytest.mark.parametrize("name", ALONE)
def test_filaments_of_one_table_give_no_warning(tmp_path, monkeypatch, name):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    path = write_folder(ALONE[name], tmp_path / "in", files=3)
    assert warnings_of(path, tmp_path) == []


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("name", JOINED)
def test_filaments_of_joined_files_are_counted_and_the_cure_is_named(
    tmp_path, monkeypatch, name, files
):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    joined = pa.concat_tables(JOINED[name])
    (line,) = warnings_of(write_folder(joined, tmp_path / "in", files=files), tmp_path)
    assert "12 filament numbers belong to several filaments (first: number 1 on m0.mrc)" in line
    assert "separate inputs" in line


def test_strangers_are_found_in_any_order_of_rows(tmp_path):
    path = write_file(shuffled(pa.concat_tables([tubes(1), tubes(2)])), tmp_path / "in.parquet")
    (line,) = warnings_of(path, tmp_path)
    assert "12 filament numbers" in line


def test_only_the_joined_numbers_count(tmp_path):
    joined = pa.concat_tables([tubes(1), tubes(2, number=1, micrographs=1)])
    (line,) = warnings_of(write_file(joined, tmp_path / "in.parquet"), tmp_path)
    assert "1 filament number belongs to several filaments (first: number 1 on m0.mrc)" in line


def test_separate_inputs_are_the_cure(tmp_path):
    paths = [write_file(tubes(1), tmp_path / f"{name}.parquet") for name in "ab"]
    assert warnings_of(paths, tmp_path) == []
    assert Output(tmp_path / "out").manifest["totals"]["rejected"] == tubes(1).num_rows


def test_the_track_of_relion_3_0_is_in_pixels_and_only_its_order_counts(tmp_path):
    names = ["rlnHelicalTrackLength" if "Track" in n else n for n in tubes(1).column_names]
    alone = tubes(1).rename_columns(names)
    assert warnings_of(write_file(alone, tmp_path / "one.parquet"), tmp_path) == []
    path = write_file(pa.concat_tables([alone, alone]), tmp_path / "two.parquet")
    run(path, tmp_path / "two", ignore_within_filament=True, score_field="none")
    (line,) = Output(tmp_path / "two").manifest["warnings"]
    assert "12 filament numbers" in line


def test_without_the_option_nothing_is_said(tmp_path):
    path = write_file(pa.concat_tables(JOINED["the same rows twice"]), tmp_path / "in.parquet")
    assert warnings_of(path, tmp_path, ignore_within_filament=False) == []

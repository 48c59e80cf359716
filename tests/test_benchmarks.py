"""The benchmarks run, and all programs that they compare keep the same particles."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY))

from benchmarks.compare import DECIDING, NAMES, compare, lines
from benchmarks.generate import CASES, generate
from benchmarks.pick_files import write_picker
from dask_dedup.formats import open_table


@pytest.mark.parametrize("case", CASES)
def test_generated_tables_have_the_requested_size_and_are_reproducible(tmp_path, case):
    once, twice = (
        [pq.read_table(folder) for folder in generate(case, 4_000, tmp_path / name)]
        for name in ("once", "twice")
    )
    assert sum(table.num_rows for table in once) == 4_000
    assert all(table.num_columns == 41 for table in once)
    assert once == twice
    uids = np.concatenate([table["uid"].to_numpy() for table in once])
    assert np.unique(uids).size == 4_000


def test_random_order_holds_the_same_rows(tmp_path):
    tables = [
        pq.read_table(generate(case, 4_000, tmp_path / case)[0]).select(
            ["uid", "location/center_x_frac", "pick_stats/ncc_score"]
        )
        for case in ("clustered", "random")
    ]
    assert tables[0] != tables[1]
    assert tables[0].sort_by("uid") == tables[1].sort_by("uid")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["clustered", "random", "two-pickers"])
def test_all_programs_keep_the_same_particles(tmp_path, case):
    pytest.importorskip("polars")
    inputs = generate(case, 9_000, tmp_path / "data")
    names = list(NAMES) if case == "two-pickers" else ["dask-dedup", "copy_tuned", DECIDING[0]]
    taken = compare(inputs, names, 1, tmp_path, ["--no-report"])
    assert {name for name, rounds in taken.items() if rounds[0].wall > 0} == set(names)
    assert len(lines(taken)) == len(names) + 2


@pytest.mark.parametrize(
    ("kind", "format_"),
    [
        ("cbox", "crYOLO CBOX"),
        ("star", "RELION STAR"),
        ("topaz", "topaz"),
        ("box", "EMAN boxes"),
    ],
)
def test_generated_pick_files_are_those_of_a_program(tmp_path, kind, format_):
    table = open_table(write_picker(tmp_path / kind, kind, files=3, picks=5, seed=0))
    assert (table.rows, len(table.files)) == (15, 3)
    assert [layout.map for layout in table.detail.layouts] == [format_]

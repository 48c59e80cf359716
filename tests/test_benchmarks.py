"""The benchmarks run, and all programs that they compare keep the same particles."""

from __future__ import annotations

import re
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY))

from benchmarks import cluster
from benchmarks.compare import DECIDING, NAMES, WAYS, compare, lines, put_section
from benchmarks.generate import CASES, generate
from benchmarks.measure import measure
from benchmarks.pick_files import write_picker
from dask_dedup.formats import open_table

pytestmark = pytest.mark.slow


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
    names = list(NAMES) if case == "two-pickers" else [*WAYS, "copy_tuned", DECIDING[0]]
    rounds = compare(inputs, names, 1, tmp_path, [])
    assert {name for name, (only,) in rounds.items() if only.taken.wall > 0} == set(names)
    assert {name for name, (only,) in rounds.items() if only.written > 0} == set(names)
    assert len(lines(rounds)) == len(names) + 2


def test_a_new_table_replaces_the_section_of_the_same_title_and_no_other():
    page = (
        "# Results\n\nText.\n\n## random, 5 x 41\n\nold\n\n| a |\n\n## random, 50 x 41\n\nother\n"
    )
    replaced = put_section(page, "random, 5 x 41", "new\n\n| b |")
    assert replaced == page.replace("old\n\n| a |", "new\n\n| b |")
    assert put_section(replaced, "random, 5 x 41", "new\n\n| b |") == replaced
    added = put_section(page, "clustered, 5 x 41", "| c |")
    assert added == f"{page}\n## clustered, 5 x 41\n\n| c |\n"
    assert put_section(added, "clustered, 5 x 41", "| d |") == added.replace("| c |", "| d |")


def test_make_bench_compares_with_programs_that_exist():
    (named,) = re.findall(r"^BENCH := (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert set(named.split(",")) <= set(NAMES)


@pytest.mark.parametrize("megabytes", [100, 200])
def test_the_cost_of_a_command_includes_its_children(megabytes):
    child = f"held = bytearray({megabytes}_000_000); import time; time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    taken = measure([sys.executable, "-c", parent])
    assert taken.wall > 0.5
    assert 0 < taken.cpu < taken.wall
    assert megabytes * 1e6 < taken.rss < megabytes * 1e6 + 100e6


def test_a_command_that_fails_is_an_error_with_its_last_words():
    with pytest.raises(RuntimeError, match=r"exit code 3\s+no such"):
        measure(
            [sys.executable, "-c", "import sys; print('no such', file=sys.stderr); sys.exit(3)"]
        )


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


@pytest.mark.slow
def test_a_run_on_a_cluster_is_measured_by_process(tmp_path, capsys):
    cluster.fragments(6, 1, tmp_path)
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines()]
    (small,) = [line for line in lines if len(line) > 1 and line[1].strip() == "6"]
    assert all(float(each) > 0 for each in small[2:6])
    assert not (tmp_path / "output").exists()

"""The cost of a run is linear in the number of inputs, and of micrograph names."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tables import relion, write_file

from dask_dedup import DedupParams
from dask_dedup.formats import open_table, read
from dask_dedup.output.checkpoints import PairCounts
from dask_dedup.particles.checks.names import check_groups, check_new_names
from dask_dedup.particles.checks.scanned_inputs import check_scanned, find_warnings
from dask_dedup.particles.checks.uids import RepeatedUids
from dask_dedup.particles.extract import extract
from dask_dedup.particles.inputs import make_inputs
from dask_dedup.particles.scan_summary import summarize
from dask_dedup.pipeline.manifest_content import _totals

pytestmark = pytest.mark.slow


class Source(int):
    """Ordinal of an input whose comparisons are calls of Python functions, which `count_calls` counts."""

    __hash__ = int.__hash__

    def __eq__(self, other):
        return int(self) == int(other)


class Text(str):
    """Text whose comparisons are counted likewise."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        return str(self) == str(other)


def count_calls(function, *arguments):
    """Count the calls of functions while a function runs."""
    calls = Counter()
    previous = sys.getprofile()
    sys.setprofile(lambda _frame, event, _function: calls.update([event]))
    try:
        function(*arguments)
    finally:
        sys.setprofile(previous)
    return calls["call"] + calls["c_call"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return open_table(write_file(relion(20), tmp_path_factory.mktemp("many") / "p.parquet"))


def opened(table, count, params=None):
    """Return inputs of `count` copies of a table in folders session=0, session=1, ..., and their summaries."""
    tables = [
        replace(
            table,
            path=f"session={number}/p.parquet",
            source=Source(number),
            fragments=tuple(replace(part, source=Source(number)) for part in table.fragments),
        )
        for number in range(count)
    ]
    inputs = make_inputs(tables, None, params or DedupParams())
    roles = inputs.roles[0]
    rows = read(table, inputs.fragments[0], roles.columns)
    found = extract(rows, inputs.fragments[0], roles, inputs.params, None)
    summary = summarize(found, inputs.fragments[0], roles, inputs.params)
    return inputs, [
        replace(summary, source=Source(number), fragment=number) for number in range(count)
    ]


def check_all(table, count):
    paths = [f"session={number}/p.parquet" for number in range(count)]
    inputs, summaries = opened(
        table, count, DedupParams(micrograph_pixel_size=dict.fromkeys(paths, 1.2))
    )
    repeated = RepeatedUids()
    check_scanned(inputs, summaries, repeated)
    assert any("session=" in line for line in find_warnings(inputs, summaries, repeated))


def test_checks_and_warnings_are_linear_in_the_number_of_inputs(table):
    few, many = (count_calls(check_all, table, count) for count in (50, 200))
    assert many < 5 * few


def test_values_of_hive_keys_are_looked_up_once(table):
    def find(count):
        inputs, summaries = opened(table, count)
        values = ({"session": {Text(n): np.array([n], np.uint64)}} for n in range(count))
        each = zip(summaries, values, strict=True)
        check_groups(inputs, [replace(summary, hive_values=value) for summary, value in each])

    few, many = (count_calls(find, count) for count in (50, 200))
    assert many < 5 * few


def test_inputs_share_the_map_of_micrograph_names(table):
    names = {f"m{number}.mrc": f"n{number}.mrc" for number in range(100)}
    names |= {name: name for name in set(relion(20)["rlnMicrographName"].to_pylist())}
    inputs, summaries = opened(table, 3, DedupParams(micrograph_map=names))
    maps = {id(roles.naming.new_names) for roles in inputs.roles}
    assert len(maps) == 1

    class Names(dict):
        listed = 0

        def values(self):
            Names.listed += 1
            return super().values()

    naming = replace(inputs.roles[0].naming, new_names=Names(names))
    roles = tuple(replace(roles, naming=naming) for roles in inputs.roles)
    check_new_names(replace(inputs, roles=roles), summaries)
    assert Names.listed == 1


def test_the_totals_of_inputs_are_added_up_in_one_pass(table):
    @dataclass
    class Checkpoint:
        source: int
        fragment: int
        kept: int = 20
        rejected: int = 0
        outvoted: int = 0
        pairs: PairCounts = field(default_factory=lambda: PairCounts(0, 0, 0, (), ()))

    @dataclass
    class Parts:
        inputs: object
        invalid: dict

    def add_up(count):
        inputs, _ = opened(table, count)
        parts = Parts(inputs, {})
        found = [Checkpoint(Source(number), number) for number in range(count)]
        totals = _totals(parts, parts, found)
        assert [each["kept"] for each in totals["by_input"]] == [20] * count

    few, many = (count_calls(add_up, count) for count in (50, 200))
    assert many < 5 * few

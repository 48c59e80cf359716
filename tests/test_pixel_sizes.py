"""The pixel size of each row, against the rule written row by row."""

from __future__ import annotations

import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from dask_dedup import DedupParams, InputError, run, verify
from dask_dedup.particles import pixel_sizes as sizes
from dask_dedup.particles.column_roles import resolve_roles
from dask_dedup.particles.column_values import Columns

WARP = re.compile(r"_(\d+\.\d\d)A(_\d+)?\.mrcs?$")
RELION = re.compile(r"(^|/)\d+_(data|stack2d)\.mrcs?$")
SIZES = st.sampled_from([None, math.nan, 0.0, 1.35, 4.0, 4.004, 4.03, 5.0])
IMAGES = [
    None,
    "TS_1_0000001_4.00A.mrc",
    "p/TS_1_4.00A_000001.mrcs",
    "TS_1_0000001_5.00A.mrc",
    "TS_1_ctf_4A.mrc",
    "TS_1.tomostar/12_data.mrc",
    "7_stack2d.mrcs",
    "000001@TS_1_4.00A.mrcs",
    "other.mrc",
]
rows = st.tuples(
    st.sampled_from(["TS_1.tomostar", "TS_1", "a.tomostar.mrc"]),
    SIZES,
    SIZES,
    st.sampled_from(IMAGES),
    st.sampled_from([None, 0, 1]),
)


@st.composite
def tables(draw):
    """Some rows, the columns that the table has, and the micrograph pixel size of the parameters."""
    some = draw(st.lists(rows, min_size=1, max_size=6))
    columns = {name: draw(st.booleans()) for name in ("column", "images", "stacks")}
    return some, columns, draw(st.sampled_from([None, 4.0]))


def rule(row, columns, option):
    """Return the pixel size, its source and whether there are two readings, for one row."""
    tomogram, column, image, name, stacks = row
    column = column if columns["column"] and column is not None else math.nan
    image = math.nan if image is None else image
    name = name if columns["images"] else None
    used, source = column, sizes.COLUMN
    if option is not None and not column > 0:
        used, source = option, sizes.MICROGRAPH_OPTION
    elif not columns["column"]:
        source = sizes.UNKNOWN
    if not image > 0 or abs(image / used - 1 if used else math.inf) <= 0.01:
        return used, source, False
    tomostar, relion = tomogram.endswith(".tomostar"), bool(name and RELION.search(name))
    named = WARP.search(name) if name else None
    if named and abs(float(named[1]) - image) <= 0.0101:
        return image, sizes.IMAGE, False
    if columns["stacks"] and stacks == 1 and tomostar and not relion:
        return image, sizes.IMAGE, False
    return used, source, tomostar and not relion and source == sizes.COLUMN and used > 0


def table_of(some, columns):
    tomogram, column, image, name, stacks = zip(*some, strict=True)
    count = len(some)
    data = {
        "rlnTomoName": pa.array(tomogram),
        "rlnCoordinateX": pa.array(np.arange(count) * 25.0 + 10),
        "rlnCoordinateY": pa.array(np.full(count, 10.0)),
        "rlnCoordinateZ": pa.array(np.full(count, 10.0)),
        "rlnImagePixelSize": pa.array(image, pa.float64()),
    }
    if columns["column"]:
        data["rlnTomoTiltSeriesPixelSize"] = pa.array(column, pa.float64())
    if columns["images"]:
        data["rlnImageName"] = pa.array(name, pa.string())
    if columns["stacks"]:
        data["rlnTomoSubTomosAre2DStacks"] = pa.array(stacks, pa.int64())
    return pa.table(data)


@examples(250)
@given(tables())
def test_each_row_follows_the_rule(case):
    some, columns, option = case
    table = table_of(some, columns)
    params = DedupParams(score_field="none", micrograph_pixel_size=option)
    roles = resolve_roles(table.column_names, params, "t.star")
    found = sizes.find_pixel_sizes(Columns(table, "t.star"), roles, None)
    unclear = np.zeros(len(some), bool) if found.unclear is None else found.unclear
    for number, row in enumerate(some):
        used, source, both = rule(row, columns, option)
        assert found.used[number] == pytest.approx(used, nan_ok=True)
        assert (found.source[number], bool(unclear[number])) == (source, both)


@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_every_run_is_verified_or_refused(tmp_path_factory, case):
    some, columns, option = case
    folder = tmp_path_factory.mktemp("case")
    pq.write_table(table_of(some, columns), folder / "t.parquet")
    params = DedupParams(
        min_separation=30, score_field="none", invalid="reject", micrograph_pixel_size=option
    )
    try:
        run(folder / "t.parquet", folder / "out", params)
    except InputError:
        return
    assert verify(folder / "out").verified

"""`remove_duplicates` makes the same decisions for every kind of frame."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dask.callbacks import Callback
from oracle import content_hashes, crowded, greedy, rank_tuple
from tables import (
    MICROGRAPH_UID,
    PSIZE,
    PSIZE_3D,
    SHAPE,
    casts_views,
    cryosparc,
    exposures,
    relion,
    uids,
    values,
)

from dask_dedup import DedupParams, InputError, remove_duplicates
from dask_dedup import frames as frame

ROWS = 300
UID = "location/micrograph_uid"
BY_SCORE = DedupParams()
BY_CHANCE = DedupParams(score_field="none", seed=7)


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set({"scheduler": "sync", "dataframe.convert-string": False}):
        yield


@pytest.fixture(scope="module")
def particles():
    """Return particles in random order, with an index that is not the row number."""
    table = cryosparc(ROWS)
    rows = table.take(np.random.default_rng(1).permutation(ROWS)).to_pandas()
    return rows.set_index(pd.Index(np.arange(ROWS) * 10 + 3, name="line"))


def centres(table):
    fraction = np.column_stack([values(table, f"location/center_{axis}_frac") for axis in "xy"])
    mic, own = np.float64(np.float32(PSIZE)), np.float64(np.float32(PSIZE_3D))
    pixels = fraction * np.array([SHAPE[1], SHAPE[0]], float)
    return (pixels - values(table, "alignments3D/shift") * own / mic) * mic


def ranks(table, *, scored=True, seed=0):
    scores = values(table, "pick_stats/ncc_score").tolist()
    return [
        rank_tuple(uid=uid, score=score if scored else None, seed=seed)
        for uid, score in zip(uids(table), scores, strict=True)
    ]


def rejected_uids(table, winner):
    return set(np.array(uids(table), dtype=np.uint64)[winner].tolist())


def lazy(rows, partitions=4):
    return dd.from_pandas(rows, npartitions=partitions, sort=False)


def assert_same_frames(result, expected):
    for one, other in zip(result, expected, strict=True):
        computed = one.compute() if isinstance(one, dd.DataFrame) else one
        pd.testing.assert_frame_equal(computed, other)


@pytest.mark.parametrize(("seed", "separation"), [(0, 5.0), (1, 20.0), (2, 60.0)])
def test_the_decisions_are_those_of_brute_force(seed, separation):
    table = cryosparc(ROWS, seed=seed)
    micrographs = table.column(UID).to_pylist()
    _, rejected = remove_duplicates(table, DedupParams(min_separation=separation))
    winner, _ = greedy(centres(table), micrographs, ranks(table), separation)
    assert 0 < rejected.num_rows < ROWS
    assert set(uids(rejected)) == rejected_uids(table, winner >= 0)

    chance = DedupParams(min_separation=separation, score_field="none", seed=seed)
    _, rejected = remove_duplicates(table, chance)
    by_hash = ranks(table, scored=False, seed=seed)
    winner, _ = greedy(centres(table), micrographs, by_hash, separation)
    assert set(uids(rejected)) == rejected_uids(table, winner >= 0)

    entirely = DedupParams(min_separation=separation, remove_entirely=True)
    _, rejected = remove_duplicates(table, entirely)
    closest = crowded(centres(table), micrographs, separation)
    assert set(uids(rejected)) == rejected_uids(table, ~np.isnan(closest))


@pytest.mark.parametrize("params", [BY_SCORE, BY_CHANCE, DedupParams(remove_entirely=True)])
def test_pandas_and_arrow_agree(particles, params):
    kept, rejected = remove_duplicates(particles, params)
    table = pa.Table.from_pandas(particles)
    arrow_kept, arrow_rejected = remove_duplicates(table, params)
    assert arrow_kept.schema == arrow_rejected.schema == table.schema
    assert uids(arrow_kept) == kept["uid"].tolist()
    assert uids(arrow_rejected) == rejected["uid"].tolist()


@pytest.mark.parametrize(
    ("params", "partitions"),
    [(BY_SCORE, 1), (BY_SCORE, 7), (BY_CHANCE, 2), (DedupParams(remove_entirely=True), 2)],
)
def test_dask_and_pandas_agree(particles, params, partitions):
    expected = remove_duplicates(particles, params)
    assert_same_frames(remove_duplicates(lazy(particles, partitions), params), expected)


def test_dask_agrees_with_pandas_under_threads(particles):
    expected = remove_duplicates(particles)
    with dask.config.set({"scheduler": "threads"}):
        assert_same_frames(dask.compute(*remove_duplicates(lazy(particles))), expected)


def test_dask_agrees_with_pandas_on_a_cluster(particles, cluster):
    result = cluster.compute(remove_duplicates(lazy(particles)), sync=True)
    assert_same_frames(result, remove_duplicates(particles))


@pytest.mark.parametrize("partitions", [1, 4])
def test_without_uids_dask_and_pandas_agree(particles, partitions):
    rows = particles.drop(columns="uid")
    expected = remove_duplicates(rows, BY_CHANCE)
    assert_same_frames(remove_duplicates(lazy(rows, partitions), BY_CHANCE), expected)


def test_row_order_does_not_matter(particles):
    shuffled = particles.sample(frac=1, random_state=3)
    for params in (BY_SCORE, BY_CHANCE):
        _, one = remove_duplicates(particles, params)
        _, other = remove_duplicates(shuffled, params)
        assert set(one["uid"]) == set(other["uid"])


def test_results_have_every_row_once_in_order_with_all_columns(particles):
    before = particles.copy(deep=True)
    kept, rejected = remove_duplicates(particles)
    pd.testing.assert_frame_equal(particles, before)
    for part in (kept, rejected):
        pd.testing.assert_frame_equal(part, particles.loc[part.index])
        assert part.index.is_monotonic_increasing
    pd.testing.assert_frame_equal(pd.concat([kept, rejected]).sort_index(), particles)


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(["a", "b"] * (ROWS // 2), name="twice"),
        pd.MultiIndex.from_product([range(ROWS // 3), list("xyz")]),
        pd.Index(np.arange(ROWS)[::-1]),
    ],
    ids=["repeated", "of two levels", "falling"],
)
def test_any_index_works(particles, index):
    plain = remove_duplicates(particles.reset_index(drop=True))
    for part, expected in zip(remove_duplicates(particles.set_index(index)), plain, strict=True):
        assert part["uid"].tolist() == expected["uid"].tolist()
        assert part.index.equals(index[expected.index])


def test_dask_keeps_partitions_index_and_columns(particles):
    whole = lazy(particles, 3)
    for part in remove_duplicates(whole):
        assert part.npartitions == 3
        assert part.columns.tolist() == particles.columns.tolist()
        assert part.index.name == "line"
        pd.testing.assert_series_equal(part.dtypes, whole.dtypes)
        for rows, own in zip(*dask.compute(part.to_delayed(), whole.to_delayed()), strict=True):
            assert set(rows.index) <= set(own.index)


@pytest.mark.parametrize("drop", [[], ["uid"]])
def test_dask_frames_stay_lazy(particles, drop):
    rows = particles.drop(columns=drop)
    made = []

    def make(part):
        made.append(part)
        return rows.iloc[part * 100 : (part + 1) * 100]

    whole = dd.from_map(make, range(3), meta=rows.iloc[:0])
    kept, rejected = remove_duplicates(whole, BY_CHANCE)
    assert isinstance(kept, dd.DataFrame)
    assert isinstance(rejected, dd.DataFrame)
    assert made == []
    assert len(kept.compute()) + len(rejected.compute()) == ROWS
    assert set(made) == {0, 1, 2}


class Tasks(Callback):
    """Names of the tasks that were run."""

    def __init__(self):
        super().__init__(pretask=lambda key, graph, state: self.names.append(str(key)))
        self.names = []

    def count(self, word):
        return sum(word in name for name in self.names)


def test_both_results_share_one_shuffle(particles, monkeypatch):
    decisions = []
    decide = frame.decide
    monkeypatch.setattr(frame, "decide", lambda *given: decisions.append(1) or decide(*given))
    with Tasks() as one:
        remove_duplicates(lazy(particles))[0].compute()
    assert len(decisions) == 4
    with Tasks() as both:
        kept, rejected = dask.compute(*remove_duplicates(lazy(particles)))
    assert len(kept) + len(rejected) == ROWS
    assert len(decisions) == 8
    assert one.count("shuffle") == both.count("shuffle") > 0


def test_only_numbers_are_shuffled(particles, monkeypatch):
    read, sent = [], []
    derive, decide = frame._partition_picks, frame._decide_partition

    def record_reading(number, narrow, *given):
        read.extend(narrow.columns)
        return derive(number, narrow, *given)

    def record_sending(picks, *given):
        sent.extend(column.dtype.kind for column in picks.columns().values())
        return decide(picks, *given)

    monkeypatch.setattr(frame, "_partition_picks", record_reading)
    monkeypatch.setattr(frame, "_decide_partition", record_sending)
    remove_duplicates(lazy(particles))[0].compute()
    assert "pick_stats/ncc_score" in read
    assert not {"pick_stats/power", "location/micrograph_path", "alignments2D/shift"} & set(read)
    assert sent
    assert set(sent) <= set("iuf")


def test_empty_frames_have_no_duplicates(particles):
    for nothing in (particles.iloc[:0], cryosparc(5).slice(0, 0), relion(5).slice(0, 0)):
        kept, rejected = remove_duplicates(nothing, BY_CHANCE)
        assert len(kept) == len(rejected) == 0


def test_dask_partitions_may_be_empty(particles):
    half = particles.index[ROWS // 2]
    some = lazy(particles, 4).map_partitions(lambda part: part[part.index >= half])
    expected = remove_duplicates(particles.iloc[ROWS // 2 :])
    assert_same_frames(remove_duplicates(some), expected)
    without = some.drop(columns="uid")
    expected = remove_duplicates(particles.iloc[ROWS // 2 :].drop(columns="uid"), BY_CHANCE)
    assert_same_frames(remove_duplicates(without, BY_CHANCE), expected)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask 2026.8 on pandas 3.1
def test_dask_frames_of_parquet_files(tmp_path, particles):
    for number in range(3):
        part = particles.iloc[number * 100 : (number + 1) * 100]
        pq.write_table(
            pa.Table.from_pandas(part, preserve_index=False), tmp_path / f"part-{number}.parquet"
        )
    kept, rejected = remove_duplicates(dd.read_parquet(tmp_path))
    expected_kept, expected_rejected = remove_duplicates(particles)
    assert kept.compute()["uid"].tolist() == expected_kept["uid"].tolist()
    assert rejected.compute()["uid"].tolist() == expected_rejected["uid"].tolist()


@pytest.mark.parametrize("axes", [2, 3])
def test_relion_tables(axes):
    table = relion(ROWS, axes=axes)
    position = [values(table, f"rlnCoordinate{axis}") for axis in "XYZ"[:axes]]
    shift = [values(table, f"rlnOrigin{axis}Angst") for axis in "XYZ"[:axes]]
    centre = (np.column_stack(position) - np.column_stack(shift) / PSIZE) * PSIZE
    scores = values(table, "rlnAutopickFigureOfMerit").tolist()
    hashes = content_hashes(table.to_pylist(), "rlnAutopickFigureOfMerit")
    order = [
        rank_tuple(uid=uid, score=score, row=row)
        for row, (uid, score) in enumerate(zip(hashes, scores, strict=True))
    ]
    winner, _ = greedy(centre, table.column(0).to_pylist(), order, 20.0)
    rows = table.to_pandas()
    kept, rejected = remove_duplicates(rows)
    assert rejected.index.tolist() == np.flatnonzero(winner >= 0).tolist()
    assert kept.index.tolist() == np.flatnonzero(winner < 0).tolist()
    with dask.config.set({"dataframe.convert-string": True}):
        lazy_kept, lazy_rejected = dask.compute(*remove_duplicates(lazy(rows)))
    assert lazy_kept.index.equals(kept.index)
    assert lazy_rejected.index.equals(rejected.index)


def test_pixel_sizes_come_from_a_micrograph_frame(particles):
    known = exposures()
    rows = particles.drop(columns=["location/micrograph_psize_A", "location/micrograph_shape"])
    expected = remove_duplicates(rows, micrographs=known)
    assert_same_frames(remove_duplicates(rows, micrographs=known.to_pandas()), expected)
    assert_same_frames(remove_duplicates(lazy(rows), micrographs=known), expected)

    size = values(known, "micrograph_blob/psize_A")
    own = size[(particles[UID].to_numpy() - np.uint64(MICROGRAPH_UID)).astype(int)]
    by_row = particles.assign(**{"location/micrograph_psize_A": own})
    _, rejected = remove_duplicates(by_row)
    assert expected[1].index.equals(rejected.index)
    assert not rejected.index.equals(remove_duplicates(particles)[1].index)


def test_a_missing_pixel_size_is_refused(particles):
    rows = particles.drop(columns="location/micrograph_psize_A")
    with pytest.raises(InputError, match="micrograph_pixel_size"):
        remove_duplicates(rows)
    with pytest.raises(InputError, match="micrograph_pixel_size"):
        remove_duplicates(lazy(rows))
    given = DedupParams(micrograph_pixel_size=float(np.float32(PSIZE)))
    assert_same_frames(
        remove_duplicates(rows, given)[1:], [remove_duplicates(particles)[1][rows.columns]]
    )


def tomograms():
    sizes = {f"rlnTomoSize{axis}": [1000.0] for axis in "XYZ"}
    return pa.table({"rlnTomoName": ["TS_1"], "rlnTomoTiltSeriesPixelSize": [2.0], **sizes})


def in_tomogram(positions, **columns):
    axes = {f"rlnCoordinate{axis}": positions[:, at] for at, axis in enumerate("XYZ")}
    scores = np.random.default_rng(1).random(len(positions))
    given = {"rlnTomoName": "TS_1", **axes, "rlnAutopickFigureOfMerit": scores}
    return pd.DataFrame({**given, **columns})


def test_fractions_of_a_tomogram_are_read_with_its_size():
    """Warp's template matching writes them. The first rows may have no position."""
    positions = np.random.default_rng(0).random((ROWS, 3))
    options = {"micrographs": tomograms(), "min_separation": 200, "invalid": "reject"}
    positions[:40, 0] = np.nan
    rows = in_tomogram(positions)
    expected = remove_duplicates(in_tomogram(positions * 1000.0), **options)
    results = remove_duplicates(rows, **options)
    assert results[0].index.equals(expected[0].index)
    assert len(results[1]) > 60
    # The first of 10 partitions has no position at all.
    assert_same_frames(remove_duplicates(lazy(rows, 10), **options), results)
    positions[-1] = 150.0
    later, _ = remove_duplicates(lazy(in_tomogram(positions), 10), **options)
    with pytest.raises(InputError, match="later rows reach 150"):
        later.compute()


def test_partitions_of_dask_are_not_checked_as_whole_tables():
    """One pick near the corner is alone in its partition; in another no row has a pixel size."""
    positions = np.random.default_rng(0).random((ROWS, 3)) * 900 + 2
    positions[0] = 0.5
    names = np.full(ROWS, "TS_1_000001_1.50A.mrcs", dtype=object)
    sizes = np.full(ROWS, 1.5)
    names[10:20], sizes[10:20] = "a.mrcs", np.nan
    rows = in_tomogram(positions, rlnImageName=names, rlnImagePixelSize=sizes)
    parts = dd.concat(
        [lazy(rows[:1], 1), lazy(rows[1:10], 1), lazy(rows[10:20], 1), lazy(rows[20:])]
    )
    options = {"min_separation": 100, "invalid": "reject"}
    expected = remove_duplicates(rows, **options)
    assert_same_frames(remove_duplicates(parts, **options), expected)
    assert 10 < len(expected[1]) < ROWS


def test_rows_without_a_position_are_counted_and_named(particles):
    rows = particles.reset_index(drop=True)
    rows.loc[[7, 120, 299], "location/center_x_frac"] = np.nan
    for given in (rows, pa.Table.from_pandas(rows)):
        with pytest.raises(
            InputError, match=r"3 rows have no finite position .*first: row 7, row 120, row 299"
        ):
            remove_duplicates(given)


@pytest.mark.parametrize("drop", [[], ["uid"]])
def test_dask_names_rows_without_a_position_when_computed(particles, drop):
    rows = particles.drop(columns=drop)
    rows.iloc[[180], rows.columns.get_loc("location/center_x_frac")] = np.nan
    kept, _ = remove_duplicates(lazy(rows, 3))
    with pytest.raises(
        InputError, match=r"partition 1 .*1 row has no finite position .*first: row 80"
    ):
        kept.compute()


def test_rows_without_a_micrograph_are_refused(particles):
    rows = particles.drop(columns=UID)
    rows.iloc[4, rows.columns.get_loc("location/micrograph_path")] = None
    with pytest.raises(InputError, match="1 row has no micrograph"):
        remove_duplicates(rows)


def test_a_missing_score_is_refused_at_once(particles):
    rows = particles.drop(columns="pick_stats/ncc_score")
    for given in (rows, lazy(rows)):
        with pytest.raises(InputError, match="ncc_score"):
            remove_duplicates(given)


def test_lists_that_dask_turned_into_text_are_explained(particles):
    with dask.config.set({"dataframe.convert-string": True}):
        whole = lazy(particles)
    with pytest.raises(InputError, match=r"micrograph_shape as text.*convert-string.: False"):
        remove_duplicates(whole)


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="cannot read particles from a list"):
        remove_duplicates([1, 2])
    with pytest.raises(TypeError, match="LazyFrame"):
        remove_duplicates(pl.LazyFrame({"a": [1]}))


def test_categories_are_kept(particles):
    path = "location/micrograph_path"
    rows = particles.drop(columns=UID).astype({path: "category"})
    expected = remove_duplicates(particles.drop(columns=UID))
    for given in (rows, lazy(rows)):
        for part, other in zip(remove_duplicates(given), expected, strict=True):
            part = part.compute() if isinstance(part, dd.DataFrame) else part
            assert part.index.equals(other.index)
            assert isinstance(part[path].dtype, pd.CategoricalDtype)


def test_pandas_frames_do_not_import_dask():
    code = (
        "import sys, pandas as pd\n"
        "from dask_dedup import DedupParams, remove_duplicates\n"
        "rows = pd.DataFrame({'rlnMicrographName': ['a', 'a'],\n"
        "    'rlnCoordinateX': [1.0, 2.0], 'rlnCoordinateY': [1.0, 2.0]})\n"
        "params = DedupParams(micrograph_pixel_size=1.0, score_field='none')\n"
        "assert len(remove_duplicates(rows, params)[1]) == 1\n"
        "assert 'dask.dataframe' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)


def test_parameters_are_keywords_or_an_object(particles):
    expected = remove_duplicates(particles, DedupParams(min_separation=60, score_field="none"))
    assert_same_frames(
        remove_duplicates(particles, min_separation=60, score_field="none"), expected
    )
    with pytest.raises(TypeError, match="either params or the keyword min_separation, not both"):
        remove_duplicates(particles, DedupParams(), min_separation=60)
    with pytest.raises(TypeError, match="min_seperation; did you mean min_separation"):
        remove_duplicates(particles, min_seperation=60)
    with pytest.raises(InputError, match="min_separation"):
        remove_duplicates(particles, min_separation=-1)


def test_the_y_axis_of_a_frame_is_flipped_by_a_list(particles):
    expected = remove_duplicates(particles, DedupParams(flip_y=(0,)))
    assert_same_frames(remove_duplicates(particles, flip_y=[0]), expected)


@pytest.mark.parametrize("text", [pl.String, pl.Categorical])
def test_polars_frames_come_back_as_polars_frames(text):
    path = "location/micrograph_path"
    table = cryosparc(ROWS, drop=[UID])
    frame = pl.DataFrame(pl.from_arrow(table)).with_columns(pl.col(path).cast(text))
    expected_kept, expected_rejected = remove_duplicates(table)
    kept, rejected = remove_duplicates(frame)
    assert isinstance(kept, pl.DataFrame)
    assert kept.schema == rejected.schema == frame.schema
    assert kept["uid"].to_list() == uids(expected_kept)
    assert rejected["uid"].to_list() == uids(expected_rejected)
    assert 0 < rejected.height < ROWS


def test_polars_gives_the_pixel_sizes_of_micrographs(particles):
    rows = particles.drop(columns=["location/micrograph_psize_A", "location/micrograph_shape"])
    known = exposures()
    expected = remove_duplicates(rows, micrographs=known)
    assert_same_frames(
        remove_duplicates(rows, micrographs=pl.DataFrame(pl.from_arrow(known))), expected
    )


def test_other_frames_of_arrow_come_back_as_arrow_tables():
    class Stream:
        def __init__(self, table):
            self.table = table

        def __arrow_c_stream__(self, requested_schema=None):
            return self.table.__arrow_c_stream__(requested_schema)

    table = cryosparc(ROWS)
    for part, expected in zip(
        remove_duplicates(Stream(table)), remove_duplicates(table), strict=True
    ):
        assert part.equals(expected)


@casts_views
@pytest.mark.parametrize("name", ["location/micrograph_path", "note"])
def test_text_of_other_programs_is_read(name):
    """Polars and DuckDB give `string_view` to other programs."""
    table = cryosparc(ROWS, columns={"note": pa.array(["x", None, "y" * 40] * (ROWS // 3))})
    number = table.schema.get_field_index(name)
    views = table.set_column(number, name, table[name].cast(pa.string_view()))
    options = {"match_micrographs": "path"}
    expected = remove_duplicates(table, **options)
    for part, rows in zip(remove_duplicates(views, **options), expected, strict=True):
        assert part.schema.field(name).type == pa.string_view()
        assert part.to_pylist() == rows.to_pylist()
        assert part.num_rows


@casts_views
@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical])
def test_views_of_other_programs_decide_as_text_does(dtype):
    """Without uids the image names decide between equal scores."""

    class Stream:
        def __init__(self, frame):
            self.frame = frame

        def __arrow_c_stream__(self, requested_schema=None):
            return self.frame.__arrow_c_stream__(requested_schema)

    names = [f"{row:06d}@Extract/a.mrcs" for row in range(ROWS)]
    columns = {"rlnImageName": names, "rlnAutopickFigureOfMerit": np.zeros(ROWS)}
    table = relion(ROWS, columns=columns)
    # All picks of a micrograph at one position, so names decide everything.
    for axis in "XY":
        name = f"rlnCoordinate{axis}"
        number = table.schema.get_field_index(name)
        table = table.set_column(number, name, pa.array(np.full(ROWS, 5.0)))
    views = pl.DataFrame(pl.from_arrow(table)).with_columns(pl.col(pl.String).cast(dtype))
    expected = remove_duplicates(table, shift_key="none")
    results = remove_duplicates(Stream(views), shift_key="none")
    for part, rows in zip(results, expected, strict=True):
        assert "string_view" in str(part.schema.field("rlnImageName").type)
        assert part["rlnImageName"].to_pylist() == rows["rlnImageName"].to_pylist()
        assert part.num_rows


def test_uids_may_be_decimals(particles):
    """Delta tables have them for unsigned integers."""
    kind = pa.decimal128(20, 0)
    table = cryosparc(ROWS)
    decimals = table
    for name in ("uid", UID):
        number = table.schema.get_field_index(name)
        decimals = decimals.set_column(number, name, table[name].cast(kind))
    kept, _ = remove_duplicates(decimals)
    assert kept["uid"].cast(pa.uint64()).to_pylist() == uids(remove_duplicates(table)[0])


@pytest.mark.parametrize("uid", ["-1", "18446744073709551616", "1.5"])
def test_decimals_that_are_no_uids_are_refused(uid):
    table = cryosparc(1)
    number = pa.array([Decimal(uid)])
    with pytest.raises(InputError, match="the column uid holds decimal"):
        remove_duplicates(table.set_column(0, "uid", number))


def test_an_asynchronous_client_is_refused(particles):
    import asyncio

    from distributed import Client

    async def split():
        async with Client(processes=False, asynchronous=True, dashboard_address=":0"):
            with pytest.raises(InputError, match="the Dask client is asynchronous"):
                remove_duplicates(lazy(particles))

    asyncio.run(split())


@pytest.mark.parametrize("columns", ["x=rlnCoordinateX,y=rlnCoordinateY", {"a.csv": "x=1,y=2"}])
def test_columns_by_role_are_for_files(columns):
    with pytest.raises(InputError, match="columns is for text tables of picks in files"):
        remove_duplicates(relion(), columns=columns, micrograph_pixel_size=1.5)

"""Rows that cannot be compared are refused, or set aside without effect on the others."""

from __future__ import annotations

import json
import logging
import math
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import examples
from hypothesis import Phase, given
from hypothesis import strategies as st
from tables import (
    MICROGRAPH_UID,
    Output,
    contents,
    cryosparc,
    exposures,
    relion,
    uids,
    values,
    vectors,
    write_file,
    write_folder,
)

import dask_dedup.pipeline.executors.select
from dask_dedup import DedupParams, InputError, inspect, remove_duplicates, run, verify
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.output.manifest import with_checksum
from dask_dedup.pipeline import plan, stages
from dask_dedup.pipeline.executors.threads import ThreadExecutor

TABLES = ("particles_kept", "particles_rejected", "duplicates")
X, Y, SHAPE = "location/center_x_frac", "location/center_y_frac", "location/micrograph_shape"
PSIZE, SHIFT, SHIFT_PSIZE = (
    "location/micrograph_psize_A",
    "alignments3D/shift",
    "alignments3D/psize_A",
)
MICROGRAPH, SCORE = "location/micrograph_uid", "pick_stats/ncc_score"
#: Faults of a row: the column, the bad value, the reason that counts it.
FAULTS = [
    (X, math.nan, "position"),
    (Y, math.inf, "position"),
    (X, None, "position"),
    (X, 1e12, "too_far"),
    (SHIFT, [math.nan, 0.0], "shift"),
    (SHIFT, None, "shift"),
    (SHIFT_PSIZE, -1.0, "pixel_size"),
    (PSIZE, 0.0, "pixel_size"),
    (PSIZE, 1000.0, "pixel_size"),
    (PSIZE, math.nan, "pixel_size"),
    (SHAPE, [0, 300], "shape"),
    (SHAPE, None, "shape"),
    (MICROGRAPH, None, "micrograph"),
    ("uid", None, "uid"),
]
ORDER = ["micrograph", "position", "shift", "pixel_size", "shape", "too_far", "uid"]


def crowded(rows=150, seed=0, *, bad=0.2, measured=True):
    """Return dense picks with ties and a tag per row; some rows are invalid, mainly the best-ranked ones.

    Gives the table and the reason each row cannot be compared for, None for those that can. Where no
    distances are measured, neither sizes nor shifts matter.
    """
    rng = np.random.default_rng(seed)
    table = cryosparc(rows, micrographs=3, seed=seed)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    columns[X] = (rng.integers(12, size=rows) / 16).tolist()
    columns[Y] = (rng.integers(12, size=rows) / 16).tolist()
    columns[SCORE] = rng.integers(3, size=rows).astype(float).tolist()
    columns[SHIFT] = rng.integers(-1, 2, (rows, 2)).astype(float).tolist()
    reasons = [set() for _ in range(rows)]
    for row in np.flatnonzero(rng.random(rows) < bad).tolist():
        for fault in rng.integers(len(FAULTS), size=rng.integers(1, 3)).tolist():
            name, value, _ = FAULTS[fault]
            columns[name][row] = value
        columns[SCORE][row] = rng.choice([99.0, math.nan, math.inf, -999.0])
        reasons[row] = {
            reason
            for name, value, reason in FAULTS
            if (now := columns[name][row]) is value or (now == value and value is not None)
        }
    order = ORDER if measured else ["micrograph", "position", "too_far", "uid"]
    first = [next((reason for reason in order if reason in some), None) for some in reasons]
    arrays = {
        name: pa.array(column, table.schema.field(name).type) for name, column in columns.items()
    }
    arrays[X], arrays[PSIZE] = pa.array(columns[X], pa.float64()), pa.array(columns[PSIZE])
    tags = np.arange(rows) + 1000 * seed
    return pa.table({**arrays, "tag": tags}), first


def expected(tables, reasons, params):
    """Return, by brute force, the tag of every rejected valid row with its winner's tag and the distance."""
    rows = [
        (source, row, values)
        for source, (table, why) in enumerate(zip(tables, reasons, strict=True))
        for row, values in enumerate(table.to_pylist())
        if why[row] is None
    ]
    centres, ranks = [], []
    for source, row, particle in rows:
        if params.measures:
            ny, nx = particle[SHAPE]
            size, factor = particle[PSIZE], particle[SHIFT_PSIZE]
            pixels = np.array([particle[X] * nx, particle[Y] * ny])
            centres.append((pixels - np.array(particle[SHIFT]) * factor / size) * size)
        else:
            centres.append([particle[X], particle[Y]])
        score = particle[SCORE] if params.scored else None
        priority = source if params.prefer_input_order else 0
        ranks.append(
            oracle.rank_tuple(
                uid=particle["uid"], score=score, priority=priority, source=source, row=row
            )
        )
    micrographs = [particle[MICROGRAPH] for _, _, particle in rows]
    tags = [particle["tag"] for _, _, particle in rows]

    def same_input(i, j):
        return rows[i][0] == rows[j][0]

    share = same_input if params.between_inputs_only else None
    if not rows:
        return {}
    if params.remove_entirely:
        closest = oracle.crowded(centres, micrographs, params.min_separation, share)
        return {tags[n]: (None, gap) for n, gap in enumerate(closest) if not math.isnan(gap)}
    winner, gap = oracle.greedy(centres, micrographs, ranks, params.min_separation, share)
    return {tags[n]: (tags[w], gap[n]) for n, w in enumerate(winner) if w >= 0}


def found(out):
    """Return the same of a finished run, and the tags of the rows set aside in ``duplicates``."""
    result = Output(out)
    listed, rejected = result.duplicates, result.rejected["tag"].to_pylist()
    tag_of_uid = {}
    for part in (result.kept, result.rejected):
        tag_of_uid |= dict(zip(uids(part), part["tag"].to_pylist(), strict=True))
    decided, aside = {}, set()
    for tag, row in zip(rejected, listed.to_pylist(), strict=True):
        if row["distance_A"] is None:
            aside.add(tag)
            assert {
                name for name, value in row.items() if name.startswith("winner") and value
            } == set()
        else:
            winner = None if row["winner_uid"] is None else tag_of_uid[row["winner_uid"]]
            decided[tag] = (winner, row["distance_A"])
    return decided, aside


def count(reasons):
    some = [reason for reason in reasons if reason]
    return {reason: some.count(reason) for reason in sorted(set(some))}


MODES = [
    {},
    {"remove_entirely": True},
    {"min_separation": 0.0},
    {"score_field": "none"},
    {"between_inputs_only": True},
    {"prefer_input_order": True, "min_separation": 70.0},
]


@pytest.mark.slow
@examples(25, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    rows=st.integers(0, 90),
    seed=st.integers(0, 200),
    bad=st.sampled_from([0.05, 0.3, 1.0]),
    invalid=st.sampled_from(["reject", "keep"]),
    files=st.integers(1, 4),
    fragment_bytes=st.sampled_from([1, 5_000, 2**20]),
    partition_rows=st.integers(10, 80),
    threads=st.integers(1, 3),
    held=st.sampled_from([0, 2**29]),
    order=st.randoms(use_true_random=False),
    mode=st.sampled_from(MODES),
)
def test_valid_rows_are_decided_as_without_invalid_rows(
    rows, seed, bad, invalid, files, fragment_bytes, partition_rows, threads, held, order, mode
):
    params = DedupParams(invalid=invalid, **mode)
    one, why_one = crowded(rows, seed, bad=bad, measured=params.measures)
    two, why_two = crowded(25, seed + 1, measured=params.measures)
    shuffled = list(range(rows))
    order.shuffle(shuffled)
    one, why_one = one.take(pa.array(shuffled, pa.int64())), [why_one[row] for row in shuffled]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "FRAGMENT_BYTES", fragment_bytes)
        patch.setattr(plan, "PARTITION_ROWS", partition_rows)
        patch.setattr("dask_dedup.pipeline.executors.threads.HELD_BYTES", held)
        patch.setattr(
            dask_dedup.pipeline.executors.select,
            "ThreadExecutor",
            lambda on_event: ThreadExecutor(on_event, threads),
        )
        folder = Path(name)
        inputs = [
            write_folder(one, folder / "in", files=files, row_group_size=20),
            write_file(two, folder / "other.parquet", row_group_size=20),
        ]
        result = run(inputs, folder / "out", params)
        decided, aside = found(folder / "out")
        truth = expected([one, two], [why_one, why_two], params)
        assert decided.keys() == truth.keys()
        for tag, (winner, gap) in truth.items():
            assert decided[tag][0] == winner
            assert decided[tag][1] == pytest.approx(gap, abs=1e-9)
        tags = [*one["tag"].to_pylist(), *two["tag"].to_pylist()]
        damaged = {tag for tag, reason in zip(tags, why_one + why_two, strict=True) if reason}
        assert aside == (damaged if invalid == "reject" else set())
        assert len(tags) == result.kept + result.rejected
        totals = result.manifest["totals"]
        assert totals["invalid"] == result.invalid == len(damaged)
        assert totals["invalid_by_reason"] == count(why_one + why_two)
        by_input = [sum(map(bool, why)) for why in (why_one, why_two)]
        assert [entry["invalid"] for entry in totals["by_input"]] == by_input
        verification = verify(folder / "out")
        assert verification.verified, "\n".join(verification.lines())


@pytest.mark.parametrize("invalid", ["reject", "keep"])
def test_all_kinds_of_frames_are_split_alike(invalid):
    import dask
    import dask.dataframe as dd

    table, reasons = crowded(120)
    params = DedupParams(invalid=invalid)
    gone = set(expected([table], [reasons], params))
    if invalid == "reject":
        gone |= {n for n, reason in enumerate(reasons) if reason}
    kept, rejected = remove_duplicates(table, params)
    assert set(rejected["tag"].to_pylist()) == gone
    assert kept.num_rows + rejected.num_rows == 120
    frame = table.to_pandas(types_mapper={pa.uint64(): pd.UInt64Dtype()}.get)
    assert set(remove_duplicates(frame, params)[1]["tag"]) == gone
    with dask.config.set({"dataframe.convert-string": False}):
        lazy = dd.from_pandas(frame, npartitions=4, sort=False)
        kept, rejected = dask.compute(*remove_duplicates(lazy, params), scheduler="sync")
    assert set(rejected["tag"]) == gone
    assert set(kept["tag"]) == set(range(120)) - gone


def test_frames_are_refused_by_default_and_raise_a_warning_otherwise(caplog):
    table, reasons = crowded(120)
    with pytest.raises(InputError, match="pass invalid='reject' or invalid='keep'"):
        remove_duplicates(table)
    with caplog.at_level(logging.WARNING, "dask_dedup"):
        remove_duplicates(table, DedupParams(invalid="keep"))
    number = sum(map(bool, reasons))
    assert f"{number} rows are kept without being compared (invalid='keep')" in caplog.text


class TestFormats:
    """The representation of a missing value in a format makes no difference."""

    def damaged(self):
        """Return a table with faults that a .cs file can also hold."""
        table = cryosparc(80, seed=3, drop=["location/micrograph_uid"])
        rows = {name: table[name].to_pylist() for name in table.column_names}
        rows[X][3], rows[Y][4], rows[PSIZE][5], rows[SHIFT][6] = (
            math.nan,
            -math.inf,
            0,
            [math.nan] * 2,
        )
        rows[SHAPE][7], rows["location/micrograph_path"][8] = [0, 0], ""
        return pa.table(
            {name: pa.array(rows[name], table.schema.field(name).type) for name in rows}
        )

    def records(self, table):
        kinds = {
            name: (name, "S64") if pa.types.is_string(kind) else (name, "f4", (2,))
            for name, kind in zip(table.column_names, table.schema.types, strict=True)
            if pa.types.is_string(kind) or name == SHIFT or name == "alignments2D/shift"
        }
        kinds[SHAPE] = (SHAPE, "u4", (2,))
        dtype = [
            kinds.get(name, (name, np.asarray(table[name].to_numpy()).dtype.str))
            for name in table.column_names
        ]
        records = np.zeros(table.num_rows, dtype)
        for name in table.column_names:
            records[name] = table[name].to_pylist()
        return records

    @pytest.mark.parametrize("invalid", ["reject", "keep"])
    def test_cs_and_parquet(self, tmp_path, invalid):
        table = self.damaged()
        with (tmp_path / "picks.cs").open("wb") as file:
            np.save(file, self.records(table))
        write_file(table, tmp_path / "picks.parquet")
        results = []
        for name in ("picks.cs", "picks.parquet"):
            params = DedupParams(invalid=invalid)
            run(tmp_path / name, tmp_path / f"out-{name}", params, output_format="parquet")
            results.append(Output(tmp_path / f"out-{name}"))
            assert verify(tmp_path / f"out-{name}").verified
        one, two = results
        assert uids(one.kept) == uids(two.kept)
        assert one.duplicates.drop(
            ["input", "file", "winner_input", "winner_file"]
        ) == two.duplicates.drop(["input", "file", "winner_input", "winner_file"])
        for result in results:
            reasons = result.manifest["totals"]["invalid_by_reason"]
            assert reasons == {
                "micrograph": 1,
                "pixel_size": 1,
                "position": 2,
                "shape": 1,
                "shift": 1,
            }

    @pytest.mark.parametrize("invalid", ["reject", "keep"])
    def test_star_keeps_its_lines(self, tmp_path, invalid):
        lines = ["data_", "", "loop_", "_rlnMicrographName #1", "_rlnCoordinateX #2"]
        lines += [
            "_rlnCoordinateY #3",
            "_rlnAutopickFigureOfMerit #4",
            "_rlnMicrographPixelSize #5",
        ]
        rows = ["a.mrc 10 10 0.5 1.5", "a.mrc 11 10 0.9 1.5", 'a.mrc nan 10 "9" 1.5']
        rows += ['"" 10.0 10 5 1.5', "a.mrc 10 10 7 0", "a.mrc 300 10 0.1 1.5"]
        (tmp_path / "picks.star").write_text("\n".join([*lines, *rows, ""]))
        result = run(tmp_path / "picks.star", tmp_path / "out", DedupParams(invalid=invalid))
        assert result.manifest["totals"]["invalid_by_reason"] == {
            "micrograph": 1,
            "pixel_size": 1,
            "position": 1,
        }
        aside = rows[2:5]
        kept, rejected = [rows[1], *(aside if invalid == "keep" else []), rows[5]], [rows[0]]
        rejected += aside if invalid == "reject" else []
        for folder, some in (("particles_kept", kept), ("particles_rejected", rejected)):
            text = (tmp_path / "out" / folder / "picks.star").read_text()
            assert [line for line in text.splitlines() if line in rows] == some
        assert verify(tmp_path / "out").verified


@pytest.mark.slow
class TestCluster:
    """Two worker processes write the same bytes as this process."""

    @pytest.mark.parametrize("invalid", ["reject", "keep"])
    @pytest.mark.parametrize("mode", [{}, {"remove_entirely": True}], ids=str)
    def test_the_result_is_byte_identical(self, cluster, tmp_path, monkeypatch, invalid, mode):
        monkeypatch.setattr(plan, "PARTITION_ROWS", 60)
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        tables, reasons = zip(*(crowded(120, seed) for seed in (1, 2)), strict=True)
        inputs = [
            write_folder(table, tmp_path / f"in-{n}", files=3) for n, table in enumerate(tables)
        ]
        params = DedupParams(invalid=invalid, **mode)
        here = run(inputs, tmp_path / "here", params)
        there = run(inputs, tmp_path / "there", params, cluster)
        assert there.invalid == sum(map(bool, reasons[0] + reasons[1])) > 20
        assert there.manifest["totals"] == here.manifest["totals"]
        assert there.manifest["plan"] == here.manifest["plan"]
        one, other = (
            {
                path: data
                for path, data in contents(tmp_path / name).items()
                if path.startswith(TABLES)
            }
            for name in ("here", "there")
        )
        assert one == other
        assert verify(tmp_path / "there").verified

    def test_invalid_rows_raise_the_same_message(self, cluster, tmp_path):
        table, _ = crowded(120)
        folder = write_folder(table, tmp_path / "in", files=3)
        listed = []
        for client in (None, cluster):
            with pytest.raises(InputError, match="invalid='reject'") as caught:
                run(folder, tmp_path / "out", client=client)
            listed.append(str(caught.value))
        assert listed[0] == listed[1]


# Effect on counts


def test_a_micrograph_of_invalid_rows_only_is_not_counted(tmp_path):
    x = values(cryosparc(60), X)
    micrograph = np.array(cryosparc(60)[MICROGRAPH].to_pylist(), dtype=np.uint64)
    x[[0, 59]] = np.nan
    # One is the only row of its micrograph; the micrograph of the other is in the first file only.
    micrograph[0], micrograph[59] = np.uint64(5), micrograph[1]
    table = cryosparc(60, columns={X: x, MICROGRAPH: micrograph})
    folder = write_folder(table, tmp_path / "in", files=2)
    whole = run(folder, tmp_path / "out", DedupParams(invalid="keep")).manifest["plan"]
    good = table.filter(pa.array(np.isfinite(x)))
    without = run(write_folder(good, tmp_path / "good", files=2), tmp_path / "out-good")
    for key in ("rows", "micrographs", "straddling_micrographs", "moving_rows"):
        assert whole[key] == without.manifest["plan"][key], key


@pytest.mark.parametrize("invalid", ["reject", "keep"])
def test_a_table_of_invalid_rows_only(tmp_path, invalid):
    table = cryosparc(30, columns={X: np.full(30, np.nan)})
    result = run(
        write_file(table, tmp_path / "in.parquet"), tmp_path / "out", DedupParams(invalid=invalid)
    )
    assert (result.kept, result.rejected) == ((30, 0) if invalid == "keep" else (0, 30))
    assert result.manifest["plan"]["micrographs"] == 0
    assert verify(tmp_path / "out").verified
    assert dask_dedup.report(tmp_path / "out").exists()


def test_rows_on_a_micrograph_missing_from_the_table_are_set_aside(tmp_path):
    table = cryosparc(80)
    known = write_file(exposures(3), tmp_path / "micrographs.parquet")
    lost = [uid - MICROGRAPH_UID > 2 for uid in table[MICROGRAPH].to_pylist()]
    params = DedupParams(invalid="reject")
    result = run(
        write_file(table, tmp_path / "in.parquet"), tmp_path / "out", params, micrographs=known
    )
    assert result.manifest["totals"]["invalid_by_reason"] == {"unknown_micrograph": sum(lost)}
    listed = Output(tmp_path / "out").duplicates
    aside = {row["uid"] for row in listed.to_pylist() if row["distance_A"] is None}
    assert aside == {uid for uid, gone in zip(uids(table), lost, strict=True) if gone}
    assert verify(tmp_path / "out").verified


def test_sources_and_angles_are_checked_only_if_they_are_used(tmp_path):
    source = pa.array([None, 7, 7, *range(27)], pa.uint64())
    table = cryosparc(30, columns={"sym_expand/src_uid": source})
    params = DedupParams(undo_symmetry_expansion=True, invalid="keep")
    result = run(write_file(table, tmp_path / "in.parquet"), tmp_path / "out", params)
    assert result.manifest["totals"]["invalid_by_reason"] == {"source": 1}
    assert verify(tmp_path / "out").verified
    angles = {f"rlnTomoSubtomogram{name}": np.zeros(50) for name in ("Rot", "Tilt", "Psi")}
    angles["rlnTomoSubtomogramTilt"][3] = np.nan
    tomograms = relion(50, axes=3, columns=angles)
    result = run(
        write_file(tomograms, tmp_path / "t.parquet"), tmp_path / "t", DedupParams(invalid="keep")
    )
    assert result.manifest["totals"]["invalid_by_reason"] == {"angle": 1}
    assert verify(tmp_path / "t").verified


def test_a_flip_about_an_unknown_height_makes_rows_invalid(tmp_path):
    heights = [[240, 300], [0, 0], [240, 300], [240, 300]]
    columns = {"micrograph_blob/shape": pa.array(heights, pa.list_(pa.uint32(), 2))}
    known = write_file(exposures(columns=columns), tmp_path / "m.parquet")
    table = relion(60)
    path = write_file(table, tmp_path / "in.parquet")
    with pytest.raises(InputError, match="no micrograph height above 0"):
        run(path, tmp_path / "out", DedupParams(flip_y=(0,)), micrographs=known)
    params = DedupParams(flip_y=(0,), invalid="reject")
    result = run(path, tmp_path / "out", params, micrographs=known)
    on_it = sum("001_grid" in name for name in table["rlnMicrographName"].to_pylist())
    assert result.manifest["totals"]["invalid_by_reason"] == {"shape": on_it}
    assert verify(tmp_path / "out").verified


# Errors with any choice


@pytest.mark.parametrize("invalid", ["error", "reject", "keep"])
def test_faults_of_a_whole_table_stay_errors(cli, tmp_path, invalid):
    twice = cryosparc(
        30, columns={"uid": pa.array([7, 7, None, None, *range(10, 36)], pa.uint64())}
    )
    whole = cryosparc(30, columns={"uid": pa.array([7, 7, *range(10, 38)], pa.uint64())})
    cases = {
        "mixed": "the column pick_stats/power has type string, but float",
        "twice": "1 uid occurs more than once",
        "whole": "1 uid occurs more than once (column uid: 7 in",
        "missing": "no score ncc_score",
    }
    write_file(cryosparc(30), tmp_path / "mixed" / "a.parquet")
    strings = {"pick_stats/power": ["strong"] * 30}
    write_file(cryosparc(30, seed=1, columns=strings), tmp_path / "mixed" / "b.parquet")
    write_file(twice, tmp_path / "twice")
    write_file(whole, tmp_path / "whole")
    write_file(cryosparc(30, drop=[SCORE]), tmp_path / "missing")
    for name, phrase in cases.items():
        outcome = cli("run", tmp_path / name, "-o", tmp_path / "out", "--invalid", invalid)
        assert outcome.exit_code == 2
        if name == "twice" and invalid == "error":
            phrase = "2 rows have no uid"
        (line,) = outcome.stderr.splitlines()
        assert phrase in line
        assert not (tmp_path / "out").exists()


def test_the_error_about_repeated_uids_names_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    table = cryosparc(30)
    for name, rows in {"a": range(9), "b": range(9, 20), "c": [20, 5, 21, 8]}.items():
        write_file(table.take(list(rows)), tmp_path / "in" / f"{name}.parquet")
    with pytest.raises(InputError, match="uids occur more than once") as caught:
        run(tmp_path / "in", tmp_path / "out")
    rows_named = f"{tmp_path}/in/a.parquet rows 0 to 8 and {tmp_path}/in/c.parquet rows 0 to 3"
    assert str(caught.value).count(rows_named) == 2


@pytest.mark.parametrize("files", [1, 2])
def test_names_of_invalid_rows_stay_distinct_like_others(tmp_path, files):
    x = values(cryosparc(20), X)
    x[19] = np.nan
    names = ["a/mic1.mrc"] * 19 + ["b/mic1.mrc"]
    columns = {X: x, "location/micrograph_path": names}
    table = cryosparc(20, columns=columns, drop=["location/micrograph_uid"])
    folder = write_folder(table, tmp_path / "in", files=files)
    params = DedupParams(invalid="reject", match_micrographs="name")
    assert run(folder, tmp_path / "out", params).manifest["plan"]["micrographs"] == 1
    other = write_file(
        cryosparc(1, columns={"location/micrograph_path": ["c/mic1.mrc"]}), tmp_path / "o.parquet"
    )
    result = run([folder, other], tmp_path / "both", params)
    assert [each["shared"] for each in result.manifest["micrograph_names"]["inputs"]] == [0, 0]
    assert any("a/mic1.mrc and b/mic1.mrc" in line for line in result.warnings)


def test_an_unknown_choice_is_refused(cli, tmp_path):
    with pytest.raises(
        InputError, match="invalid is 'drop'; it must be one of error, reject, keep"
    ):
        DedupParams(invalid="drop")
    outcome = cli("run", "x", "-o", tmp_path, "--invalid", "drop")
    assert outcome.exit_code == 2


# Messages


@pytest.fixture
def damaged(tmp_path):
    x = values(cryosparc(30), X)
    x[[3, 4, 7, 9]] = np.nan
    uid = pa.array([None, *uids(cryosparc(30))[1:]], pa.uint64())
    return write_file(cryosparc(30, columns={X: x, "uid": uid}), tmp_path / "picks.parquet")


def test_the_error_names_the_parameter_and_inspect_does_too(cli, damaged, tmp_path):
    outcome = cli("run", damaged, "-o", tmp_path / "out")
    assert outcome.exit_code == 2
    assert "4 rows have no finite position" in outcome.stderr
    assert "1 row has no uid (uid; first: " in outcome.stderr
    assert "Fix them, or pass --invalid reject or --invalid keep." in outcome.stderr
    (problem,) = inspect(damaged).problems
    assert "4 rows have no finite position" in problem
    assert "invalid='reject'" in problem
    words = " ".join(cli("inspect", damaged).stdout.split())
    assert "run refuses these inputs" in words
    assert "--invalid keep" in words


@pytest.mark.parametrize(("invalid", "outcome_of_rows"), [("reject", "rejected"), ("keep", "kept")])
def test_the_result_reports_invalid_rows(cli, damaged, tmp_path, invalid, outcome_of_rows):
    out = tmp_path / "out"
    outcome = cli("run", damaged, "-o", out, "--invalid", invalid, "--verify", no_report=False)
    assert outcome.exit_code == 0, outcome.stderr
    assert (
        f"{outcome_of_rows} without being compared: 5 rows (position: 4, uid: 1)" in outcome.stdout
    )
    assert (
        f"5 rows cannot be compared and are {outcome_of_rows}; no other row was set aside"
        in outcome.stdout
    )
    assert (
        f"5 rows are {outcome_of_rows} without being compared (--invalid {invalid})"
        in outcome.stderr
    )
    page = (out / "report.html").read_text()
    assert re.search("5 rows (that )?could not be compared", page)
    assert "position (4), uid (1)" in page
    assert f"--invalid {invalid}" in page
    again = cli("run", damaged, "-o", out, "--invalid", invalid, "--json")
    listed = json.loads(again.stdout)
    assert (listed["already_done"], listed["invalid"]) == (True, 5)
    assert listed["invalid_by_reason"] == {"position": 4, "uid": 1}


def test_a_valid_table_is_reported_without_them(cli, tmp_path):
    path = write_file(cryosparc(30), tmp_path / "in.parquet")
    outcome = cli("run", path, "-o", tmp_path / "out", "--invalid", "reject", no_report=False)
    assert "compared" not in outcome.stdout
    assert outcome.stderr.count("warning") == 0
    assert "not compared" not in (tmp_path / "out" / "report.html").read_text()


def test_positions_off_the_micrograph_raise_a_warning(cli, tmp_path):
    x = values(cryosparc(30), X)
    x[[2, 5]] = [-0.01, 1.5]
    path = write_file(cryosparc(30, columns={X: x}), tmp_path / "in.parquet")
    warned = run(path, tmp_path / "out").warnings
    (line,) = (line for line in warned if "outside the micrograph" in line)
    assert "2 rows are outside the micrograph (beyond 0 to 1)" in line
    assert "first: row 2, row 5" in line
    # Coordinates in pixels, and a table with the shape; a particle at the edge is on the micrograph.
    table = relion(60)
    y = values(table, "rlnCoordinateY").clip(0, 239)
    y[:3] = [240, 240.5, -1]
    path = write_file(relion(60, columns={"rlnCoordinateY": y}), tmp_path / "relion.parquet")
    known = write_file(exposures(), tmp_path / "m.parquet")
    warned = run(path, tmp_path / "out-2", micrographs=known).warnings
    (line,) = (line for line in warned if "outside the micrograph" in line)
    assert "2 rows are outside the micrograph (beyond the micrograph's shape)" in line
    assert not any("outside the" in line for line in run(path, tmp_path / "out-3").warnings)


def test_a_single_position_outside_the_micrograph(tmp_path):
    x = values(cryosparc(30), X)
    x[2] = 1.01
    path = write_file(cryosparc(30, columns={X: x}), tmp_path / "in.parquet")
    assert any("1 row is outside the micrograph" in line for line in inspect(path).warnings)


@pytest.mark.parametrize(("size", "listed"), [(1000.0, "1000"), (0.01, "0.01")])
def test_absurd_pixel_sizes_are_refused_in_any_column(tmp_path, size, listed):
    sizes = np.full(30, 1.2, np.float32)
    sizes[4:6] = size
    for column in (PSIZE, SHIFT_PSIZE):
        path = write_file(cryosparc(30, columns={column: sizes}), tmp_path / "in.parquet")
        phrase = rf"2 rows have a pixel size beyond 0.1 to 100 A \({column} is {listed};"
        with pytest.raises(InputError, match=phrase):
            run(path, tmp_path / "out")
    with pytest.raises(InputError, match=rf"micrograph_pixel_size is {listed}; it must be between"):
        DedupParams(micrograph_pixel_size=size)
    known = exposures(columns={"micrograph_blob/psize_A": np.array([1, size, 1, 1])})
    table = write_file(known, tmp_path / "m.parquet")
    with pytest.raises(
        InputError, match=rf"1 micrograph has a .* beyond 0.1 to 100 A .*, {listed}\)"
    ):
        run(write_file(cryosparc(30), tmp_path / "in.parquet"), tmp_path / "out", micrographs=table)


def test_absurd_pixel_sizes_of_several_files_are_reported_as_a_range(tmp_path):
    sizes = np.full(30, 1.2)
    sizes[[0, 29]] = [200, 5000]
    folder = write_folder(cryosparc(30, columns={PSIZE: sizes}), tmp_path / "in", files=2)
    with pytest.raises(InputError, match="is 200 to 5000"):
        run(folder, tmp_path / "out")


# Verification


class TestVerification:
    """verify finds a run that set the wrong rows aside."""

    @pytest.fixture(params=["reject", "keep"])
    def invalid(self, request):
        return request.param

    def run_with(self, monkeypatch, spoil, path, out, invalid):
        """Run with an error in the choice of invalid rows."""
        extract = stages.extract

        def wrong(*arguments):
            found = extract(*arguments)
            flags = spoil(np.array(found.picks.invalid))
            return replace(found, picks=replace(found.picks, invalid=flags))

        monkeypatch.setattr(stages, "extract", wrong)
        run(path, out, DedupParams(invalid=invalid))

    def check(self, out):
        return {check.name: check for check in verify(out).checks if check.passed is False}

    def test_a_valid_row_that_was_set_aside(self, monkeypatch, tmp_path, damaged, invalid):
        def spoil(flags):
            flags[12] = 4
            return flags

        self.run_with(monkeypatch, spoil, damaged, tmp_path / "out", invalid)
        failed = self.check(tmp_path / "out")
        assert "validity" in failed
        if invalid == "reject":
            assert "row 12 was set aside, but is valid" in failed["validity"].detail
        else:
            assert "invalid is 6 in the manifest, but 5 in the inputs" in failed["validity"].detail

    def test_an_invalid_row_that_was_compared(self, monkeypatch, tmp_path, damaged, invalid):
        def spoil(flags):
            flags[0] = 0
            return flags

        self.run_with(monkeypatch, spoil, damaged, tmp_path / "out", invalid)
        assert "validity" in self.check(tmp_path / "out")

    def test_a_row_set_aside_that_is_listed_wrongly(self, tmp_path, damaged):
        out = tmp_path / "out"
        run(damaged, out, DedupParams(invalid="reject"))
        (part,) = Output(out).parts("duplicates")
        listed = pq.read_table(part)
        row = listed["distance_A"].to_pylist().index(None)
        scores = listed["score"].to_pylist()
        scores[row] = 5.0
        at = listed.column_names.index("score")
        pq.write_table(listed.set_column(at, "score", pa.array(scores)), part)
        assert "score is 5.0 in duplicates, but should be" in self.check(out)["validity"].detail

    def test_a_count_that_is_wrong(self, tmp_path, damaged, invalid):
        out = tmp_path / "out"
        run(damaged, out, DedupParams(invalid=invalid))
        manifest = Output(out).manifest
        manifest["totals"]["invalid_by_reason"] = {"position": 5}
        (out / "manifest.json").write_text(json.dumps(with_checksum(manifest)))
        failed = self.check(out)
        assert failed.keys() == {"validity"}
        assert failed["validity"].detail.startswith("invalid_by_reason is {'position': 5}")

    def test_verify_reads_in_several_passes(self, monkeypatch, tmp_path):
        table, _ = crowded(150, 5)
        run(
            write_file(table, tmp_path / "in.parquet"),
            tmp_path / "out",
            DedupParams(invalid="reject"),
        )
        monkeypatch.setattr("dask_dedup.results.verify.kept_and_rejected.PASS_ROWS", 40)
        assert verify(tmp_path / "out").verified


def test_vectors_of_nan_are_a_missing_shift(tmp_path):
    shifts = np.zeros((30, 2))
    shifts[3] = np.nan
    table = cryosparc(30, columns={SHIFT: vectors(shifts)})
    path = write_file(table, tmp_path / "in.parquet")
    result = run(path, tmp_path / "out", DedupParams(invalid="reject"))
    assert result.manifest["totals"]["invalid_by_reason"] == {"shift": 1}
    # Without shifts, NaN in them does not matter.
    result = run(path, tmp_path / "out-2", DedupParams(invalid="reject", shift_key="none"))
    assert result.invalid == 0


def test_pixel_sizes_at_the_tolerance_are_judged_alike_in_verification(tmp_path):
    table = relion(30, drop=("rlnOriginXAngst", "rlnOriginYAngst"))
    zeros = pa.array(np.zeros(30))
    table = table.append_column("rlnOriginX", zeros).append_column("rlnOriginY", zeros)
    if "rlnImagePixelSize" in table.column_names:
        table = table.drop_columns(["rlnImagePixelSize"])
    table = table.append_column("rlnImagePixelSize", pa.array([1.01, 1.0, 0.99] * 10))
    path = write_file(table, tmp_path / "a.parquet")
    options = {"particle_pixel_size": 1.0, "invalid": "reject", "min_separation": 20}
    run(path, tmp_path / "out", **options)
    assert verify(tmp_path / "out").verified


def warp_export(path, image, name="TS_1_0000001_400.00A.mrc"):
    labels = ("rlnTomoName", *(f"rlnCoordinate{axis}" for axis in "XYZ"), "rlnImageName")
    head = "".join(f"_{label}\n" for label in (*labels, "rlnImagePixelSize"))
    rows = "".join(f"TS_1.tomostar {x}.5 20 20 {name} {image}\n" for x in (10, 900))
    path.write_text(f"data_particles\n\nloop_\n{head}{rows}")
    return path


def tomograms(path):
    path.write_text(
        "data_tomograms\n\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesPixelSize\nTS_1.tomostar 1.0\n"
    )
    return path


def test_absurd_sizes_of_exported_images_are_found_beside_a_micrograph_table(tmp_path):
    path, known = warp_export(tmp_path / "p.star", 400), tomograms(tmp_path / "t.star")
    options = {"micrographs": known, "score_field": "none"}
    with pytest.raises(InputError, match=r"\(rlnImagePixelSize is 400; first: row 0"):
        run(path, tmp_path / "no", **options)
    assert run(path, tmp_path / "out", invalid="reject", **options).rejected == 2
    assert verify(tmp_path / "out").verified


def test_a_missing_micrograph_pixel_size_is_not_blamed_on_the_images(tmp_path):
    path = warp_export(tmp_path / "p.star", 4, "TS_1_0000001_4.00A.mrc")
    text = path.read_text().replace("TS_1_0000001_4.00A.mrc 4\nTS_1", "1_data.mrc 4\nTS_1")
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        run(path, tmp_path / "no", score_field="none")
    assert "1 row has no pixel size above 0" in str(caught.value)
    assert "(first: row 0)" in str(caught.value)
    assert "rlnImagePixelSize" not in str(caught.value)

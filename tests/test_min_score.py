"""Particles whose score is worse than `min_score` are rejected and compete with no others."""

from __future__ import annotations

import json
import math

import numpy as np
import oracle
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import dask_dedup
from dask_dedup import DedupParams, InputError, remove_duplicates
from dask_dedup.cli import main

SCORE, ERROR = "rlnAutopickFigureOfMerit", "rlnEstimatedError"
SCORES = [0.1, 0.2, 0.5, 0.5, 0.7, 0.9, -999.0, math.nan]


def picks(rows=200, seed=0):
    """Return dense picks of three micrographs, with ties, missing scores and RELION's -999."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "rlnMicrographName": rng.choice(["a.mrc", "b.mrc", "c.mrc"], rows),
            "rlnCoordinateX": rng.integers(0, 200, rows).astype(float),
            "rlnCoordinateY": rng.integers(0, 200, rows).astype(float),
            SCORE: rng.choice(SCORES, rows),
            "tag": np.arange(rows) + 1000 * seed,
        }
    )


def is_low(score, limit, higher):
    if math.isnan(score) or score == -999:
        return False
    return score < limit if higher else score > limit


def expected(frames, limits, separation, *, higher=True, remove_entirely=False):
    """Return the tags of the kept particles and those with a low score, by brute force."""
    rows, low = [], set()
    for source, frame in enumerate(frames):
        every = frame.to_dict("records")
        hashes = oracle.content_hashes(every, SCORE)
        for number, row in enumerate(every):
            if limits[source] is not None and is_low(row[SCORE], limits[source], higher):
                low.add(row["tag"])
                continue
            rank = oracle.rank_tuple(
                uid=hashes[number], score=row[SCORE], higher=higher, source=source, row=number
            )
            rows.append((rank, row))
    rows.sort(key=lambda each: each[0])

    def near(one, other):
        apart = (one[f"rlnCoordinate{axis}"] - other[f"rlnCoordinate{axis}"] for axis in "XY")
        same = one["rlnMicrographName"] == other["rlnMicrographName"]
        return same and math.hypot(*apart) <= separation

    kept = []
    for _, row in rows:
        against = kept
        if remove_entirely:
            against = [other for _, other in rows if other is not row]
        if not any(near(row, other) for other in against):
            kept.append(row)
    return {row["tag"] for row in kept}, low


def write(folder, frames):
    paths = []
    for number, frame in enumerate(frames):
        paths.append(folder / f"picks{number}.parquet")
        frame.to_parquet(paths[-1], row_group_size=64)
    return paths


def tags(output, name):
    files = sorted((output / name).rglob("*.parquet"))
    return [tag for file in files for tag in pq.read_table(file)["tag"].to_pylist()]


def duplicates(output):
    return pd.concat(map(pd.read_parquet, sorted((output / "duplicates").rglob("*.parquet"))))


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("remove_entirely", [False, True])
def test_a_run_sets_low_scores_aside_as_by_brute_force(tmp_path, higher, remove_entirely):
    frames = [picks(seed=0), picks(seed=1)]
    limits = [0.5, None]
    paths = write(tmp_path, frames)
    direction = "higher" if higher else "lower"
    result = dask_dedup.run(
        paths,
        tmp_path / "out",
        min_separation=12,
        micrograph_pixel_size=1.0,
        score_field=f"{SCORE}:{direction}",
        min_score={str(paths[0]): 0.5},
        remove_entirely=remove_entirely,
    )
    kept, low = expected(frames, limits, 12, higher=higher, remove_entirely=remove_entirely)
    assert 0 < len(low) < 200
    assert set(tags(tmp_path / "out", "particles_kept")) == kept
    everything = {tag for frame in frames for tag in frame["tag"]}
    assert set(tags(tmp_path / "out", "particles_rejected")) == everything - kept
    assert (result.low_score, result.invalid) == (len(low), 0)
    assert [entry["low_score"] for entry in result.by_input] == [len(low), 0]
    listed = duplicates(tmp_path / "out")
    aside = listed[listed["reason"] == "score"]
    assert {frames[0]["tag"][row] for row in aside["row"]} == low
    assert aside[["distance_A", "winner_uid", "winner_file", "winner_score"]].isna().all(axis=None)
    assert set(listed["reason"]) == {"score", "duplicate"}
    assert dask_dedup.verify(tmp_path / "out").verified


@pytest.mark.parametrize("kind", ["pandas", "dask"])
def test_frames(kind):
    frame = picks(seed=3)
    given = frame
    if kind == "dask":
        import dask.dataframe as dd

        given = dd.from_pandas(frame, npartitions=3)
    kept, rejected = remove_duplicates(
        given, min_separation=12, micrograph_pixel_size=1.0, min_score=0.5
    )
    if kind == "dask":
        kept, rejected = kept.compute(), rejected.compute()
    right, low = expected([frame], [0.5], 12)
    assert set(kept["tag"]) == right
    assert low <= set(rejected["tag"])
    assert len(kept) + len(rejected) == len(frame)


@pytest.mark.parametrize("invalid", ["reject", "keep"])
def test_a_low_score_counts_before_any_other_reason(tmp_path, invalid):
    frame = picks(60, seed=4)
    frame.loc[:20, "rlnCoordinateX"] = math.nan
    frame.loc[:10, SCORE] = 0.1
    frame.loc[11:20, SCORE] = 0.9
    low = int((frame[SCORE] < 0.5).sum() - (frame[SCORE] == -999).sum())
    (path,) = write(tmp_path, [frame])
    result = dask_dedup.run(
        path,
        tmp_path / "out",
        micrograph_pixel_size=1.0,
        min_score=0.5,
        invalid=invalid,
    )
    assert (result.low_score, result.invalid) == (low, 10)
    assert result.manifest["totals"]["invalid_by_reason"] == {"position": 10}
    reasons = duplicates(tmp_path / "out")["reason"].value_counts()
    assert reasons["score"] == low
    assert reasons.get("position", 0) == (10 if invalid == "reject" else 0)
    assert dask_dedup.verify(tmp_path / "out").verified


def test_verification_finds_a_low_score_that_was_kept(tmp_path):
    """A manifest that states another limit is not one that the rows agree with."""
    (path,) = write(tmp_path, [picks()])
    output = tmp_path / "out"
    dask_dedup.run(path, output, min_separation=12, micrograph_pixel_size=1.0, min_score=0.2)
    manifest = json.loads((output / "manifest.json").read_text())
    manifest["parameters"]["min_score"] = [["", 0.6]]
    (output / "manifest.json").write_text(json.dumps(manifest))
    checks = {check.name: check for check in dask_dedup.verify(output).checks}
    assert checks["validity"].passed is False
    assert "has a score worse than the limit, but is kept" in checks["validity"].detail


def test_an_input_without_a_score(tmp_path):
    scored, bare = picks(), picks(seed=1).drop(columns=SCORE)
    paths = write(tmp_path, [scored, bare])
    options = {"min_separation": 12, "micrograph_pixel_size": 1.0}
    with pytest.raises(InputError, match=r"picks1.parquet: has no score for min_score"):
        dask_dedup.run(paths, tmp_path / "out", min_score={str(paths[1]): 0.5}, **options)
    with pytest.raises(InputError, match="needs a score, but no input has one"):
        dask_dedup.run(paths, tmp_path / "out", min_score=0.5, score_field="none", **options)
    result = dask_dedup.run(paths, tmp_path / "out", min_score=0.5, **options)
    assert [entry["low_score"] > 0 for entry in result.by_input] == [True, False]


@pytest.mark.parametrize("value", [math.nan, math.inf, "high"])
def test_a_limit_is_a_number(value):
    with pytest.raises(InputError, match="min_score is"):
        DedupParams(min_score=value)


def test_the_command_line_counts_low_scores(tmp_path):
    paths = write(tmp_path, [picks(), picks(seed=1)])
    command = ["run", *map(str, paths), "-o", str(tmp_path / "out"), "--min-separation", "12"]
    command += ["--micrograph-pixel-size", "1", "--min-score", f"{paths[0]}=0.5", "--no-report"]
    shown = CliRunner().invoke(main, command)
    assert shown.exit_code == 0, shown.output
    _, low = expected([picks()], [0.5], 12)
    assert f"rejected for their scores: {len(low)} rows" in shown.output
    page = dask_dedup.report(tmp_path / "out").read_text()
    assert f"{len(low)} picks with a score worse than the limit" in page


@pytest.mark.real_data
def test_a_limit_on_cryolo_boxes_gives_what_its_other_folders_hold(tmp_path, real_data):
    folder = real_data / "pick_folders_10017"
    options = {"min_separation": 80, "prefer_input_order": True, "micrograph_pixel_size": 1.77}
    cbox, topaz = folder / "cryolo/CBOX", folder / "relion/AutoPick/job010"
    result = dask_dedup.run(
        [cbox, topaz],
        tmp_path / "out",
        min_score={str(cbox): 0.5},
        match_micrographs="name",
        **options,
    )
    assert [entry["kept"] for entry in result.by_input] == [2470, 779]
    assert result.low_score == 249
    assert not any("confidence below" in line for line in result.warnings)
    assert dask_dedup.verify(tmp_path / "out").verified
    result = dask_dedup.run(cbox, tmp_path / "all", **options)
    (line,) = (line for line in result.warnings if "confidence below" in line)
    assert "249 of 2,719 boxes" in line
    assert f"pass {cbox.parent / 'EMAN'} or {cbox.parent / 'STAR'}, which crYOLO" in line
    assert f"min_score={{'{cbox}': 0.5}}" in line


def test_a_cluster_decides_like_threads(tmp_path, two_workers):
    frames = [picks(seed=0), picks(seed=1)]
    paths = write(tmp_path, frames)
    options = {"min_separation": 12, "micrograph_pixel_size": 1.0, "min_score": 0.5}
    here = dask_dedup.run(paths, tmp_path / "here", **options)
    there = dask_dedup.run(paths, tmp_path / "there", client=two_workers, **options)
    assert there.low_score == here.low_score > 0
    hashes = [
        {each["path"]: each["sha256"] for each in result.manifest["outputs"]}
        for result in (here, there)
    ]
    assert hashes[0] == hashes[1]


def test_an_inspection_leaves_low_scores_out(tmp_path):
    (path,) = write(tmp_path, [picks()])
    options = {"min_separation": 12, "micrograph_pixel_size": 1.0}
    every = dask_dedup.inspect(path, **options).inputs[0].neighbourhood.picks
    some = dask_dedup.inspect(path, min_score=0.5, **options).inputs[0].neighbourhood.picks
    _, low = expected([picks()], [0.5], 12)
    assert every - some == len(low)


def test_a_limit_for_missing_scores_is_refused(tmp_path):
    labels = "rlnCoordinateX", "rlnCoordinateY", SCORE
    star = "data_\n\nloop_\n" + "".join(f"_{label}\n" for label in labels) + "1 2 -999\n"
    for name, text in (("star/m.star", star), ("cbox/m.cbox", "1 2 8 8 0.5\n")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    bare, cbox = tmp_path / "star", tmp_path / "cbox"
    options = {"min_separation": 1, "micrograph_pixel_size": 1.0}
    for paths, limit in (([bare], 0.4), ([cbox, bare], {str(bare): 0.4})):
        with pytest.raises(InputError, match=r"star: no particle has a score, so min_score cannot"):
            dask_dedup.run(paths, tmp_path / "out", min_score=limit, **options)
    result = dask_dedup.run([cbox, bare], tmp_path / "out", min_score=0.9, **options)
    assert [entry["low_score"] for entry in result.by_input] == [1, 0]


def test_formats_without_scores_are_named_in_warnings(tmp_path):
    (tmp_path / "m.box").write_text("1 2 8 8\n")
    options = {"min_separation": 1, "micrograph_pixel_size": 1.0}
    result = dask_dedup.run([tmp_path / "m.box"], tmp_path / "out", **options)
    assert result.warnings == [f"{tmp_path / 'm.box'}: has no scores; a seeded choice decides"]


def test_no_score_is_needed_if_no_particle_wins(tmp_path):
    paths = write(tmp_path, [picks().drop(columns=SCORE)])
    options = {"min_separation": 12, "micrograph_pixel_size": 1.0}
    with pytest.raises(InputError, match="no score ncc_score"):
        dask_dedup.run(paths, tmp_path / "out", **options)
    result = dask_dedup.run(paths, tmp_path / "out", remove_entirely=True, **options)
    assert dask_dedup.verify(tmp_path / "out").verified
    assert not result.warnings


@pytest.mark.parametrize("column", [True, False])
def test_a_limit_that_does_not_apply_to_an_input_is_reported_once(tmp_path, column):
    with_scores, without = picks(), picks(seed=1)
    without = without.assign(**{SCORE: math.nan}) if column else without.drop(columns=SCORE)
    paths = write(tmp_path, [with_scores, without])
    options = {"micrograph_pixel_size": 1.0, "min_separation": 5.0}
    result = dask_dedup.run(paths, tmp_path / "out", min_score=0.5, **options)
    (line,) = (str(each) for each in result.warnings if "min_score does not apply" in str(each))
    assert line.startswith(f"{paths[1]}: ")
    result = dask_dedup.run(paths, tmp_path / "no", **options)
    assert not any("min_score" in str(each) for each in result.warnings)

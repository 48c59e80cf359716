"""Which pickers found a particle: votes, and the choice by votes, against the cases and the brute force."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from picked import COLUMNS, WIDTH, Case, assert_decided, write_picks
from tables import Output, contents

import dask_dedup
from dask_dedup import DedupParams, InputError

FOLDER = (
    Path(os.environ.get("DASK_DEDUP_REAL_DATA", REPOSITORY.parent / "shared" / "data"))
    / "consensus_cases"
)
CASES = sorted(FOLDER.glob("[0-9][0-9]_*.json")) or [
    pytest.param(None, marks=pytest.mark.skip(reason=f"no cases in {FOLDER}"))
]
TABLES = ("particles_kept", "particles_rejected", "duplicates", "votes")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda path: path and path.stem)


@every_case
def test_the_brute_force_agrees_with_the_case(case):
    case = Case(case)
    outcome, name = case.judge(), case.labels
    votes = {
        name[number]: {
            "votes": len(voters),
            "pickers_here": len(outcome.here[case.particles[number].micrograph]),
            "by": {
                picker: {"voter": name[voter], "distance_A": round(distance, 9), "picks": picks}
                for picker, (voter, distance, picks) in voters.items()
            },
        }
        for number, voters in outcome.votes.items()
    }
    assert votes == case.expected["votes"]
    rejected = {
        name[number]: {
            "reason": "duplicate",
            "winner": name[winner],
            "distance_A": round(distance, 9),
        }
        for number, (winner, distance) in outcome.winner.items()
    }
    nothing = {"winner": None, "distance_A": None}
    rejected |= {name[number]: {"reason": "votes", **nothing} for number in outcome.outvoted}
    compared = {
        each: row for each, row in case.expected["rejected"].items() if row["reason"] != "invalid"
    }
    assert rejected == compared
    assert {name[number] for number in outcome.kept} == {*case.expected["kept"]} & {*name}
    if "standing" in case.expected:
        assert dict(zip(name, outcome.standing, strict=True)) == case.expected["standing"]


def data(folder):
    return {name: content for name, content in contents(folder).items() if name.startswith(TABLES)}


def check(case, paths, out):
    pickers = case.pickers if case.counts_votes else None
    standing = case.params.get("score_scale") == "standing"
    options = {"invalid": case.invalid, "standing": standing}
    assert_decided(out, case.tables, case.judge(), paths, pickers, **options)


@every_case
def test_a_run_agrees_with_the_case(case, cli, tmp_path):
    case = Case(case)
    paths = case.write(tmp_path)
    found = cli("run", *case.words(paths), "-o", tmp_path / "out")
    assert found.exit_code == 0, found.stderr
    check(case, paths, tmp_path / "out")


@pytest.mark.slow
@every_case
def test_a_run_in_python_agrees_with_the_case(case, tmp_path):
    case = Case(case)
    paths = case.write(tmp_path)
    params = DedupParams(**case.keywords(paths))
    dask_dedup.run(paths, tmp_path / "out", params, names=case.given_names(paths))
    check(case, paths, tmp_path / "out")
    checks = dask_dedup.verify(tmp_path / "out")
    assert checks.verified, checks.lines()


def test_names_and_paths_name_the_same_picker(cli, tmp_path):
    case = Case(by_name("22_a_and_b"))
    paths = case.write(tmp_path)
    for out, picked in (("names", ("A", "B")), ("paths", paths[:2])):
        words = (*paths, "--min-separation", 100, "-o", tmp_path / out)
        found = cli("run", *words, "--found-by", picked[0], "--found-by", picked[1])
        assert found.exit_code == 0, found.stderr
        check(case, paths, tmp_path / out)
    assert data(tmp_path / "names") == data(tmp_path / "paths")


def by_name(stem):
    for path in CASES:
        if getattr(path, "stem", None) == stem:
            return path
    pytest.skip(f"no cases in {FOLDER}")


# --- refusals


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Picks of A, B and C: one particle that all found on m1, and one of A alone on m2."""
    folder = tmp_path_factory.mktemp("three")
    paths = []
    for number, name in enumerate("ABC"):
        rows = [{"uid": number, "micrograph": "m1", "x": 50.0 + number, "y": 50.0, "score": 0.5}]
        if name == "A":
            rows.append({"uid": 9, "micrograph": "m2", "x": 50.0, "y": 50.0, "score": 0.5})
        paths.append(write_picks(folder / f"{name}.parquet", rows))
    return paths


VOTES = [
    ["--votes"],
    ["--min-votes", 2],
    ["--found-by", "A"],
    ["--not-found-by", "A"],
    ["--vote-distance", 10],
    ["--relax-unseen"],
]


def refused(found, option):
    assert found.exit_code == 2, found.output
    message = found.stderr.strip()
    assert option in message
    assert len(message.splitlines()) == 1, message
    assert not found.stdout


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--min-votes", 0], "--min-votes"),
        (["--min-votes", -1], "--min-votes"),
        (["--min-votes", 4], "--min-votes"),
        (["--found-by", "D"], "--found-by"),
        (["--not-found-by", "D.parquet"], "--not-found-by"),
        (["--found-by", "A", "--not-found-by", "A"], "--not-found-by"),
        (["--found-by", "A", "--not-found-by", "{A}"], "--not-found-by"),
        (["--vote-distance", 0], "--vote-distance"),
        (["--vote-distance", -1], "--vote-distance"),
        (["--vote-distance", "nan"], "--vote-distance"),
        (["--vote-distance", 20.5], "--vote-distance"),
        (["--vote-distance", 10, "--min-separation", 0], "--vote-distance"),
        (["--vote-distance", 10, "--undo-symmetry-expansion"], "--vote-distance"),
        (["--score-scale", "standing", "--score-field", "none"], "--score-scale"),
        (["--relax-unseen", "--votes"], "--relax-unseen"),
        (["--relax-unseen", "--not-found-by", "A"], "--relax-unseen"),
        *(([*words, "--remove-entirely"], words[0]) for words in VOTES),
    ],
    ids=str,
)
def test_parameters_that_contradict_each_other_are_refused(cli, three, tmp_path, options, named):
    words = [str(word).format(A=three[0]) for word in options]
    refused(cli("run", *three, "-o", tmp_path / "out", *words), named)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", VOTES, ids=str)
def test_votes_of_one_picker_are_refused(cli, three, tmp_path, options):
    for inputs in ([three[0]], [f"A={path}" for path in three]):
        refused(cli("run", *inputs, "-o", tmp_path / "out", *options), options[0])


def test_as_many_votes_as_pickers_is_the_limit(cli, three, tmp_path):
    pairs = (f"x={three[0]}", f"x={three[1]}", three[2])
    assert cli("run", *pairs, "-o", tmp_path / "out", "--min-votes", 2).exit_code == 0
    refused(cli("run", *pairs, "-o", tmp_path / "none", "--min-votes", 3), "--min-votes")


@pytest.mark.parametrize(
    "params",
    [
        {"votes": True},
        {"min_votes": 2},
        {"found_by": "A"},
        {"not_found_by": ["A"]},
        {"vote_distance": 10.0},
        {"relax_unseen": True},
    ],
    ids=str,
)
def test_a_frame_has_one_input_and_refuses_votes(three, params):
    frame = pd.read_parquet(three[0])
    (name,) = params
    with pytest.raises(InputError, match=name):
        dask_dedup.remove_duplicates(frame, **params)
    with pytest.raises(InputError, match=name):
        dask_dedup.run(three[0], three[0].parent / "out", **params)


def test_parameters_of_votes_take_paths_and_no_truth_values():
    assert DedupParams(found_by=Path("a.star")).found_by == ("a.star",)
    for name in ("min_votes", "vote_distance"):
        with pytest.raises(InputError, match=f"{name} is True; it must be a"):
            DedupParams(**{name: True})


# --- warnings


def warnings_of(found, word):
    """Return the warnings with a word that a finished command has shown."""
    assert found.exit_code == 0, found.stderr
    return [line for line in found.stderr.splitlines() if "arning" in line and word in line]


def test_few_pickers_on_a_micrograph_are_warned_of(cli, three, tmp_path):
    needed = ["run", *three, "--min-votes", 2, "-o"]
    (warning,) = warnings_of(cli(*needed, tmp_path / "out"), "fewer than 2 pickers")
    assert "1 micrograph has" in warning
    assert "1 particle there is rejected" in warning
    assert "--relax-unseen" in warning
    relaxed = cli(*needed, tmp_path / "relaxed", "--relax-unseen")
    (other,) = warnings_of(relaxed, "fewer than 2 pickers")
    assert "1 particle there is kept" in other
    for name, kept in (("out", 1), ("relaxed", 2)):
        output = Output(tmp_path / name)
        assert output.manifest["totals"]["votes"]["micrographs_with_few_pickers"] == 1
        assert output.kept.num_rows == kept
    assert not warnings_of(cli("run", *three, "--votes", "-o", tmp_path / "any"), "pickers")


def test_micrographs_that_a_named_picker_has_not_seen_are_warned_of(cli, three, tmp_path):
    def warned(*options):
        found = cli("run", *three, *options, "--overwrite", "-o", tmp_path / "out")
        return warnings_of(found, "1 micrograph has no particles of B")

    (found,) = warned("--found-by", "B")
    assert "nothing there is kept (--found-by)" in found
    assert not warned("--found-by", "B", "--relax-unseen")
    (missed,) = warned("--not-found-by", "B")
    assert "count as not found by it (--not-found-by)" in missed


def test_one_picker_taken_for_two_is_warned_of(cli, tmp_path):
    case = Case(by_name("18_two_thresholds_counted_twice"))
    paths = case.write(tmp_path)
    (warning,) = warnings_of(
        cli("run", *case.words(paths), "-o", tmp_path / "out"), "the same picker"
    )
    assert "strict" in warning
    assert "loose" in warning
    case = Case(by_name("19_two_thresholds_one_vote"))
    assert not warnings_of(cli("run", *case.words(paths), "-o", tmp_path / "one"), "strict")


@pytest.mark.parametrize(("y", "same"), [(53.0, True), (47.0, False)])
def test_one_picker_taken_for_two_is_warned_of_if_a_third_one_wins(cli, tmp_path, y, same):
    """Equal distances to the winner are not enough: the picks must be at one position."""
    places = {"third": (50.0, 0.9), "one": (53.0, 0.5), "other": (y, 0.5)}
    paths = [
        write_picks(
            tmp_path / f"{name}.parquet",
            [
                {"uid": 100 * n + row, "micrograph": "m", "x": x, "y": 200.0 * row, "score": score}
                for row in range(3)
            ],
        )
        for n, (name, (x, score)) in enumerate(places.items())
    ]
    found = cli("run", *paths, "--votes", "-o", tmp_path / "out")
    assert Output(tmp_path / "out").manifest["totals"]["votes"]["by_votes"][2]["kept"] == 3
    warnings = warnings_of(found, "at exactly the position")
    assert len(warnings) == same
    if same:
        assert "one.parquet and " in warnings[0]
        assert "other.parquet: 100% of the votes" in warnings[0]
        named = [f"{name}={path}" for name, path in zip("tpp", paths, strict=True)]
        once = cli("run", *named, "--votes", "-o", tmp_path / "once")
        assert not warnings_of(once, "at exactly the position")
        undistanced = cli("run", *paths[1:], "--min-separation", 0, "--votes", "-o", tmp_path / "0")
        assert not warnings_of(undistanced, "at exactly the position")


def test_votes_that_reject_nearly_all_are_warned_of_with_the_reason(cli, three, tmp_path):
    needed = ["run", *three[:2], "--min-votes", 2, "--min-separation", 0.5, "-o"]
    found = cli(*needed, tmp_path / "out")
    (warning,) = warnings_of(found, "rejected for their votes")
    assert "100.0% of the particles that are not duplicates" in warning
    assert "Is --min-separation 0.5 large enough" in warning
    assert not warnings_of(found, "as duplicates")
    words = ["run", *three, "--min-votes", 3, "--min-score", f"{three[2]}=0.9", "-o"]
    (warning,) = warnings_of(cli(*words, tmp_path / "less"), "rejected for their votes")
    assert warning.endswith("Pickers without particles: C.")


def test_many_pickers_are_counted_by_number_only(cli, tmp_path):
    pickers, rows = 17, []
    for number in range(pickers):
        places = [(0.0, 100.0 * row) for row in range(pickers) if row <= number]
        places.append((500.0, 100.0 * number))
        rows.append(
            [
                {"uid": 100 * number + n, "micrograph": "m", "x": x, "y": y, "score": 1.0}
                for n, (x, y) in enumerate(places)
            ]
        )
    paths = [write_picks(tmp_path / f"p{n}.parquet", each) for n, each in enumerate(rows)]
    found = cli("run", *paths, "--min-votes", 2, "-o", tmp_path / "out")
    totals = Output(tmp_path / "out").manifest["totals"]["votes"]
    expected = [[1, 18, 0], *([votes, 1, 1] for votes in range(2, pickers + 1))]
    assert [[*each.values()] for each in totals["by_votes"]] == expected
    assert totals["by_pickers"] == totals["chance"] == []
    lines = found.stdout.splitlines()
    lines = lines[next(n for n, line in enumerate(lines) if line.startswith("found by")) + 1 :]
    assert [line.split()[-3:] for line in lines[:10]] == [
        *(["18", "0", "18"], *[["1", "1", "0"]] * 8),
        ["8", "8", "0"],
    ]
    assert lines[9].startswith("10 or more pickers")
    assert not lines[10].startswith("11")
    checks = dask_dedup.verify(tmp_path / "out")
    assert checks.verified, checks.lines()
    page = dask_dedup.report(tmp_path / "out").read_text()
    assert "10 or more pickers</td>" in page
    assert "smaller combinations" not in page


def test_votes_by_chance_are_warned_of(cli, tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for number, name in enumerate(("one", "two")):
        xy = rng.uniform(0, WIDTH, (400, 2)).round(2)
        rows = [
            {"uid": 1000 * number + k, "micrograph": "m", "x": x, "y": y, "score": 0.5 + k}
            for k, (x, y) in enumerate(xy.tolist())
        ]
        paths.append(write_picks(tmp_path / f"{name}.parquet", rows))
    words = ("run", *paths, "--votes", "--min-separation", 200, "-o")
    (warning,) = warnings_of(cli(*words, tmp_path / "far"), "chance")
    assert "--vote-distance" in warning
    assert not warnings_of(cli(*words, tmp_path / "near", "--vote-distance", 40), "chance")
    for name, reach in (("far", 200), ("near", 40)):
        levels = Output(tmp_path / name).manifest["totals"]["votes"]["chance"]
        expected = min(1, 400 * math.pi * reach**2 / WIDTH**2)
        assert [(each["picker"], each["near"]) for each in levels] == [
            ("one", "two"),
            ("two", "one"),
        ]
        assert all(each["level"] == pytest.approx(expected, rel=1e-3) for each in levels)


@pytest.mark.parametrize("depth", [0.0, 400.0])
def test_chance_levels_without_sizes_are_those_of_the_extent_of_all_picks(tmp_path, depth):
    rng = np.random.default_rng(1)
    paths, picks, reach = [], [], 30.0
    for number, count in enumerate((90, 40)):
        xyz = rng.uniform(0, 1, (count, 3)) * [500, 700, depth]
        names = [f"m{n}" for n in rng.integers(2, size=count)]
        rows = [
            {"uid": n, "micrograph": name, "x": x, "y": y, "z": z, "score": 1.0 + n}
            for n, (name, (x, y, z)) in enumerate(zip(names, xyz.tolist(), strict=True))
        ]
        paths.append(write_picks(tmp_path / f"{number}.parquet", rows))
        picks.append((np.array(names), xyz))
    dask_dedup.run(paths, tmp_path / "out", min_separation=reach, votes=True)
    levels = Output(tmp_path / "out").manifest["totals"]["votes"]["chance"]
    for each, (one, other) in zip(levels, [(0, 1), (1, 0)], strict=True):
        near = 0.0
        for name in ("m0", "m1"):
            here = [points[names == name] for names, points in picks]
            extent = np.ptp(np.vstack(here), axis=0)[: 3 if depth else 2]
            ball = 4 / 3 * math.pi * reach**3 if depth else math.pi * reach**2
            near += len(here[one]) * min(1, len(here[other]) * ball / extent.prod())
        assert each["level"] == pytest.approx(near / len(picks[one][0]), abs=1e-4)


def test_different_scales_name_three_ways(cli, tmp_path):
    case = Case(by_name("41_scores_as_stored"))
    paths = case.write(tmp_path)
    words = ("run", *paths, "--min-separation", 100, "-o")
    (warning,) = warnings_of(cli(*words, tmp_path / "out"), "scales")
    for way in ("--prefer-input-order", "--score-scale standing", "--min-votes"):
        assert way in warning
    assert not warnings_of(cli(*words, tmp_path / "two", "--score-scale", "standing"), "scales")
    (warning,) = warnings_of(cli(*words, tmp_path / "chosen", "--min-votes", 2), "scales")
    assert "--min-votes" not in warning
    page = dask_dedup.report(tmp_path / "chosen").read_text()
    assert "To choose particles that several pickers found" not in page


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["--min-votes", 2, "--found-by", "C"], "by at least 2 of 3 pickers and by C"),
        (
            ["--found-by", "A", "--not-found-by", "B", "--not-found-by", "C"],
            "by A, but not by B or C",
        ),
        (["--not-found-by", "C"], "not by C"),
    ],
    ids=str,
)
def test_the_first_line_says_which_votes_keep_a_particle(cli, three, tmp_path, words, rule):
    found = cli("run", *three, *words, "-o", tmp_path / "out")
    assert f"; kept if found {rule}; " in found.stderr + found.stdout


# --- other tables


def test_rows_with_a_low_score_cast_no_vote_and_see_no_micrograph(cli, tmp_path):
    rows = [
        {"uid": 1, "micrograph": "m1", "x": 50.0, "y": 50.0, "score": 0.9},
        {"uid": 2, "micrograph": "m2", "x": 50.0, "y": 50.0, "score": 0.9},
    ]
    others = [
        {"uid": 3, "micrograph": "m1", "x": 51.0, "y": 50.0, "score": 0.1},
        {"uid": 4, "micrograph": "m2", "x": 51.0, "y": 50.0, "score": 0.1},
        {"uid": 5, "micrograph": "m2", "x": 900.0, "y": 50.0, "score": 0.8},
    ]
    paths = [write_picks(tmp_path / "A.parquet", rows), write_picks(tmp_path / "B.parquet", others)]
    limit = f"{paths[1]}=0.5"
    words = (*paths, "-o", tmp_path / "out", "--min-votes", 2, "--min-score", limit)
    found = cli("run", *words, "--relax-unseen")
    assert found.exit_code == 0, found.stderr
    votes = Output(tmp_path / "out").read("votes").select(["uid", "kept", "votes", "pickers_here"])
    assert [tuple(row.values()) for row in votes.to_pylist()] == [
        (1, True, 1, 1),
        (2, False, 1, 2),
        (5, False, 1, 2),
    ]
    reasons = Output(tmp_path / "out").duplicates.select(["uid", "reason"]).to_pylist()
    assert {row["uid"]: row["reason"] for row in reasons} == {
        **{2: "votes", 5: "votes"},
        **{3: "score", 4: "score"},
    }
    assert dask_dedup.verify(tmp_path / "out").verified


def pickers_of_two_sessions(folder):
    """Write STAR files of two pickers, without uids. Micrographs of two sessions have one name."""
    paths = []
    for number, name in enumerate(("one", "two")):
        rng = np.random.default_rng(number)
        columns = ("MicrographName", "CoordinateX", "CoordinateY", "AutopickFigureOfMerit")
        lines = [
            "data_particles\n\nloop_",
            *(f"_rln{column}" for column in columns),
            *("_rlnMicrographPixelSize", "_picker", "_row"),
        ]
        for row in range(80):
            x, y, score = rng.integers(0, 40), rng.integers(0, 40), rng.integers(0, 5)
            lines.append(f"m{row % 2}.mrc {x}.0 {y}.0 {score}.5 1.0 s{row % 4 // 2} {row}")
        paths.append(folder / f"{name}.star")
        paths[-1].write_text("\n".join(lines) + "\n\n")
    return paths


def test_groups_are_part_of_the_micrograph(tmp_path):
    paths = pickers_of_two_sessions(tmp_path)
    params = {"min_votes": 2, "min_separation": 5.0, "score_scale": "standing"}
    dask_dedup.run(paths, tmp_path / "out", group_by="picker", **params)
    output = Output(tmp_path / "out")
    votes = output.read("votes")
    assert votes.column_names == [*COLUMNS, "group_picker"]
    assert votes["uid"].null_count == votes["voter_uid"].null_count == len(votes)
    groups = votes.select(["row", "voter_row", "group_picker"]).to_pylist()
    for row in groups:
        assert row["group_picker"] == f"s{row['row'] % 4 // 2}"
        assert row["voter_row"] % 4 // 2 == row["row"] % 4 // 2
    assert 0 < output.manifest["totals"]["outvoted"] < len(votes)
    checks = dask_dedup.verify(tmp_path / "out")
    assert checks.verified, checks.lines()
    dask_dedup.run(paths, tmp_path / "whole", **params)
    assert Output(tmp_path / "whole").manifest["totals"] != output.manifest["totals"]


@pytest.mark.slow
@pytest.mark.parametrize("output_format", ["relion-coordinates", "parquet"])
def test_votes_do_not_depend_on_the_output_format(tmp_path, output_format):
    paths = pickers_of_two_sessions(tmp_path)
    params = {"min_votes": 2, "min_separation": 5.0}
    dask_dedup.run(paths, tmp_path / "out", output_format=output_format, **params)
    dask_dedup.run(paths, tmp_path / "native", **params)
    votes = [Output(tmp_path / name).read("votes") for name in ("out", "native")]
    assert votes[0].equals(votes[1])
    checks = dask_dedup.verify(tmp_path / "out")
    assert checks.verified, checks.lines()


@pytest.mark.slow
def test_votes_in_an_object_store(three, there):
    dask_dedup.run(three, there / "out", min_votes=2)
    checks = dask_dedup.verify(there / "out")
    assert checks.verified, checks.lines()
    dask_dedup.run(three, there / "out", min_votes=3, overwrite=True)
    assert dask_dedup.verify(there / "out").verified


def test_votes_go_if_a_run_without_votes_replaces_them(three, tmp_path):
    dask_dedup.run(three, tmp_path / "out", min_votes=2)
    assert (tmp_path / "out" / "votes").is_dir()
    dask_dedup.run(three, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "votes").exists()
    assert dask_dedup.verify(tmp_path / "out").verified

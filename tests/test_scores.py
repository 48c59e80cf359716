"""Scores that differ between inputs: missing in one, in another column, or in another direction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from oracle import content_hashes, greedy, rank_tuple
from tables import Output, relion, write_file

from dask_dedup import DedupParams, InputError, inspect, run, verify

SCORE, OTHER = "rlnAutopickFigureOfMerit", "rlnLCCmax"


def scored(seed, column=SCORE, scores=None):
    """Return picks without shifts; `column` holds the scores, or is left out if it is None."""
    rng = np.random.default_rng(seed)
    values = rng.random(90) if scores is None else scores
    columns = {column: pa.array(values, pa.float64())} if column else {}
    return relion(90, seed=seed, columns=columns, drop=["rlnOrigin", SCORE])


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda **tables: [
        str(write_file(table, f"{name}.parquet")) for name, table in tables.items()
    ]


def check(paths, tables, columns, higher=(True, True), *, prefer=False, **params):
    """Compare a run with brute force. Return the output."""
    run(paths, "out", DedupParams(prefer_input_order=prefer, **params))
    rows, ranks = [], []
    for source, (table, column) in enumerate(zip(tables, columns, strict=True)):
        mine = table.to_pylist()
        for row, (values, uid) in enumerate(zip(mine, content_hashes(mine, column), strict=True)):
            score = values[column] if column else np.nan
            rows.append(values)
            ranks.append(
                rank_tuple(
                    uid=uid,
                    score=score,
                    higher=higher[source],
                    priority=source if prefer else 0,
                    source=source,
                    row=row,
                )
            )
    centres = [[row["rlnCoordinateX"] * 1.2, row["rlnCoordinateY"] * 1.2] for row in rows]
    winner, _ = greedy(centres, [row["rlnMicrographName"] for row in rows], ranks, 20)
    names = [(path, row) for path, table in zip(paths, tables, strict=True) for row in range(90)]
    expected = {names[row]: names[won] for row, won in enumerate(winner.tolist()) if won >= 0}
    output = Output(Path("out"))
    assert {row: won for row, (won, _) in output.decisions.items()} == expected
    assert verify("out").passed
    return output


def warnings_of(output):
    return [line for line in output.manifest["warnings"] if "score" in line]


@pytest.mark.parametrize("scores", [np.full(90, -999.0), np.full(90, np.nan), [None] * 90, None])
def test_an_input_without_scores_ranks_last_and_is_named(write, scores):
    tables = [scored(1), scored(2, SCORE if scores is not None else None, scores)]
    paths = write(a=tables[0], b=tables[1])
    column = SCORE if scores is not None else None
    output = check(paths, tables, [SCORE, column])
    (line,) = warnings_of(output)
    assert line.startswith("b.parquet: ")
    assert "its particles rank below the particles of an input with scores" in line
    assert "prefer_input_order" in line
    assert (line.startswith("b.parquet: has no score")) == (scores is None)
    listed = output.duplicates.filter(pa.compute.equal(output.duplicates["input"], "a.parquet"))
    assert set(listed["winner_input"].to_pylist()) == {"a.parquet"}


def test_with_input_order_the_unscored_input_may_win(write):
    tables = [scored(2, None), scored(1)]
    paths = write(b=tables[0], a=tables[1])
    output = check(paths, tables, [None, SCORE], prefer=True)
    (line,) = warnings_of(output)
    assert line == (
        "b.parquet: has no score ncc_score; a seeded choice decides between its particles"
    )


def test_the_command_line_warns_with_the_flag_and_the_usable_columns(write, cli):
    paths = write(a=scored(1), b=scored(2, OTHER))
    outcome = cli("run", *paths, "-o", "out")
    assert outcome.exit_code == 0, outcome.stderr
    assert "has no score ncc_score (but rlnLCCmax:higher)" in outcome.stderr
    assert "Consider --prefer-input-order, or select its score with --score-field" in outcome.stderr
    seen = cli("inspect", *paths)
    assert "b.parquet: has no score ncc_score" in seen.stdout + seen.stderr


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0.0, "its particles rank below the particles of"),
        (1.0, "its particles rank above the particles of"),
        (0.5, "they cannot be compared with the scores of"),
    ],
)
def test_an_input_with_one_score_for_all_is_named(write, value, verdict):
    tables = [scored(1), scored(2, SCORE, np.full(90, value))]
    output = check(write(a=tables[0], b=tables[1]), tables, [SCORE, SCORE])
    (line,) = warnings_of(output)
    assert line.startswith(f"b.parquet: all scores in {SCORE} are {value:g}, so {verdict}")


def test_two_inputs_with_one_score_each(write):
    tables = [scored(seed, SCORE, np.full(90, seed / 2)) for seed in (1, 2)]
    output = check(write(a=tables[0], b=tables[1]), tables, [SCORE, SCORE])
    first, second = warnings_of(output)
    assert (
        "a.parquet: all scores in rlnAutopickFigureOfMerit are 0.5, so its particles rank below"
        in first
    )
    assert (
        "b.parquet: all scores in rlnAutopickFigureOfMerit are 1, so its particles rank above"
        in second
    )


def test_inputs_that_share_one_score_are_ranked_by_chance(write):
    tables = [scored(seed, SCORE, np.zeros(90)) for seed in (1, 2)]
    output = check(write(a=tables[0], b=tables[1]), tables, [SCORE, SCORE])
    assert all("a seeded choice decides" in line for line in warnings_of(output))


def test_if_no_input_has_the_score_the_run_is_refused(write):
    paths = write(a=scored(1, OTHER), b=scored(2, OTHER))
    with pytest.raises(InputError, match=r"a.parquet: no score ncc_score .* rlnLCCmax:higher"):
        run(paths, "out")


def test_a_score_named_for_one_input_must_be_there(write):
    paths = write(a=scored(1), b=scored(2))
    with pytest.raises(InputError, match=r"b.parquet: no score rlnLCCmax"):
        run(paths, "out", score_field={"b.parquet": "rlnLCCmax:higher"})


def test_each_input_may_have_a_score_column(write, cli):
    tables = [scored(1), scored(2, OTHER)]
    paths = write(a=tables[0], b=tables[1])
    fields = {"a.parquet": f"{SCORE}:higher", "b.parquet": f"{OTHER}:higher"}
    output = check(paths, tables, [SCORE, OTHER], score_field=fields)
    assert not warnings_of(output)
    parameters = output.manifest["parameters"]
    options = [
        word for path, field in fields.items() for word in ("--score-field", f"{path}={field}")
    ]
    again = cli("run", *paths, "-o", "out", *options)
    assert "already" in again.stderr + again.stdout
    assert parameters["score_field"][0] == ["", "ncc_score"]


def test_directions_that_differ_are_refused(write):
    paths = write(a=scored(1), b=scored(2, OTHER))
    field = {"b.parquet": f"{OTHER}:lower"}
    with pytest.raises(InputError, match="have different directions") as caught:
        run(paths, "out", score_field=field)
    assert "prefer_input_order" in str(caught.value)
    assert "rlnLCCmax (lower is better)" in str(caught.value)
    assert any(
        "different directions" in line for line in inspect(paths, score_field=field).problems
    )


def test_directions_may_differ_if_the_input_order_decides(write):
    tables = [scored(1), scored(2, OTHER)]
    paths = write(a=tables[0], b=tables[1])
    field = {"b.parquet": f"{OTHER}:lower"}
    check(paths, tables, [SCORE, OTHER], (True, False), prefer=True, score_field=field)


def test_one_input_may_be_ranked_by_chance(write):
    tables = [scored(1), scored(2)]
    paths = write(a=tables[0], b=tables[1])
    check(paths, tables, [SCORE, None], score_field={"b.parquet": "none"})


def test_an_unknown_input_is_refused(write, cli):
    paths = write(a=scored(1))
    outcome = cli("run", *paths, "-o", "out", "--score-field", "c.parquet=error")
    assert outcome.exit_code == 2
    assert "c.parquet is not one of the inputs" in outcome.stderr


def test_two_scores_for_one_input_are_refused(write, cli):
    paths = write(a=scored(1))
    outcome = cli("run", *paths, "-o", "out", "--score-field", "error", "--score-field", "none")
    assert outcome.exit_code == 2
    assert "--score-field is given twice for all inputs" in outcome.stderr

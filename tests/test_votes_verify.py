"""`verify` counts votes and standings again: it accepts a correct run and finds every fault."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from picked import write_picks

import dask_dedup
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.output.manifest import with_checksum
from dask_dedup.results.verify import kept_and_rejected

CHECKS = [
    *("files", "inputs", "rows", "validity", "separation", "rejections", "duplicates", "votes"),
    "totals",
]
PARAMS = {"min_votes": 2, "score_scale": "standing", "min_separation": 25.0, "vote_distance": 20.0}


def picks(seed, rows=120):
    rng = np.random.default_rng(seed)
    return [
        {
            "uid": 1000 * seed + n,
            "micrograph": f"m{rng.integers(3)}",
            "x": 5.0 * rng.integers(60),
            "y": 5.0 * rng.integers(60),
            "score": None if n % 9 == 0 else float(rng.integers(12)),
        }
        for n in range(rows)
    ]


class Result:
    """A finished run of three inputs, whose files tests change."""

    def __init__(self, folder, **params):
        self.inputs = [
            write_picks(folder / f"{name}.parquet", picks(n)) for n, name in enumerate("ABC", 1)
        ]
        self.out = folder / "out"
        self.run(self.out, **params)

    def run(self, out, **params):
        return dask_dedup.run(self.inputs, out, **{**PARAMS, **params})

    def path(self, dataset, part=0):
        return self.out / dataset / f"part-{part:05}.parquet"

    def read(self, dataset, part=0):
        with pq.ParquetFile(self.path(dataset, part)) as file:
            return file.read()

    def edit(self, change):
        """Change the manifest, with the right checksum."""
        manifest = json.loads((self.out / "manifest.json").read_text())
        change(manifest)
        (self.out / "manifest.json").write_text(json.dumps(with_checksum(manifest)))

    def write(self, dataset, table, part=0):
        """Replace a file, as the manifest says."""
        pq.write_table(table, self.path(dataset, part))
        data = self.path(dataset, part).read_bytes()

        def update(manifest):
            name = f"{dataset}/part-{part:05}.parquet"
            entry = next(entry for entry in manifest["outputs"] if entry["path"] == name)
            entry |= {
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "rows": len(table),
            }

        self.edit(update)

    def change(self, dataset, column, row, value, part=0):
        """Change one value of a file."""
        table = self.read(dataset, part)
        values = table.column(column).to_pylist()
        assert values[row] != value
        values[row] = value
        index, field = table.schema.get_field_index(column), table.schema.field(column)
        self.write(dataset, table.set_column(index, field, pa.array(values, field.type)), part)

    def failures(self):
        """Return the detail of each failed check, by name."""
        verification = dask_dedup.verify(self.out)
        assert [check.name for check in verification.checks] == CHECKS
        return {check.name: check.detail for check in verification.checks if not check.passed}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    result = Result(tmp_path_factory.mktemp("template"))
    assert not result.failures()
    return result


@pytest.fixture
def result(template):
    """The same result for every test, with its files restored."""
    saved = template.out.with_name("saved")
    if not saved.exists():
        shutil.copytree(template.out, saved, copy_function=shutil.copy2)
    shutil.rmtree(template.out)
    shutil.copytree(saved, template.out, copy_function=shutil.copy2)
    return template


# --- correct runs


@pytest.mark.parametrize(
    "params",
    [
        {"relax_unseen": True, "found_by": "A"},
        {"min_votes": 1, "not_found_by": ["B", "C"], "between_inputs_only": True},
        {"prefer_input_order": True, "seed": 3, "invalid": "reject", "min_score": 2.0},
        {"min_separation": 0.0, "vote_distance": None, "score_scale": "stored"},
    ],
    ids=str,
)
def test_a_correct_run_is_verified_in_several_passes(result, tmp_path, monkeypatch, params):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    monkeypatch.setattr(kept_and_rejected, "PASS_ROWS", 100)
    outcome = result.run(tmp_path / "out", **params)
    assert 0 < outcome.rejected < outcome.rows
    verification = dask_dedup.verify(tmp_path / "out")
    assert verification.verified, verification.lines()


def test_what_was_found_is_told_in_numbers(result):
    lines = dask_dedup.verify(result.out).lines()
    totals = json.loads((result.out / "manifest.json").read_text())["totals"]
    every = sum(entry["representatives"] for entry in totals["votes"]["by_votes"])
    assert (
        f"ok    votes: votes/ lists every vote for the {every:,} representatives; "
        f"the {totals['kept']:,} with the required votes are kept"
    ) in lines
    assert every == totals["kept"] + totals["outvoted"]


def test_the_votes_check_is_left_out_if_votes_are_not_counted(template, tmp_path):
    dask_dedup.run(template.inputs, tmp_path / "out")
    checks = [check.name for check in dask_dedup.verify(tmp_path / "out").checks]
    assert checks == [name for name in CHECKS if name != "votes"]


def test_without_the_inputs_votes_are_not_checked(result):
    moved = result.inputs[0].with_name("moved")
    result.inputs[0].rename(moved)
    checks = {check.name: check.passed for check in dask_dedup.verify(result.out).checks}
    moved.rename(result.inputs[0])
    assert checks["votes"] is None
    assert checks["totals"]


# --- wrong votes


def shared(result):
    """Return the row number in votes/ of a vote of another picker than the representative's own."""
    table = result.read("votes")
    distance = table.column("distance_A").to_pylist()
    picker, votes = table.column("picker").to_pylist(), table.column("votes").to_pylist()
    return next(n for n, d in enumerate(distance) if d > 0 and picker[n] != "A" and votes[n] == 2)


def test_a_missing_vote_is_found(result):
    table, row = result.read("votes"), shared(result)
    result.write("votes", pa.concat_tables([table.slice(0, row), table.slice(row + 1)]))
    failures = result.failures()
    assert failures.keys() == {"votes", "totals"}
    place = f"{result.inputs[0]} row {table.column('row')[row]}"
    assert failures["votes"] == f"votes lacks the vote of {table.column('picker')[row]} for {place}"
    assert "by_votes" in failures["totals"]


def test_a_vote_too_many_is_found(result):
    table = result.read("votes")
    alone = table.column("votes").to_pylist().index(1)
    row = table.slice(alone, 1).to_pylist()
    more = pa.Table.from_pylist([{**row[0], "picker": "C"}], table.schema)
    result.write(
        "votes", pa.concat_tables([table.slice(0, alone + 1), more, table.slice(alone + 1)])
    )
    failures = result.failures()
    assert failures.keys() == {"votes", "totals"}
    place = f"{result.inputs[0]} row {row[0]['row']}"
    assert failures["votes"] == f"votes lists the vote of C for {place}, which was not cast"


def test_a_vote_that_is_listed_twice_or_out_of_place_is_found(result):
    table, row = result.read("votes"), shared(result)
    twice = pa.concat_tables([table.slice(0, row + 1), table.slice(row)])
    result.write("votes", twice)
    assert "which is out of place" in result.failures()["votes"]
    order = np.arange(len(table))
    order[[row - 1, row]] = order[[row, row - 1]]
    result.write("votes", table.take(pa.array(order)))
    assert "which is out of place" in result.failures()["votes"]


def test_a_vote_of_an_unknown_picker_is_found(result):
    result.change("votes", "picker", shared(result), "D")
    failures = result.failures()
    assert "votes lacks the vote" in failures["votes"] or "not a picker" in failures["votes"]
    assert "totals" in failures


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("voter_row", 119),
        ("distance_A", 1.25),
        ("picks", 7),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                ("voter_uid", 5),
                ("voter_input", "A.parquet"),
                ("voter_file", None),
                ("voter_score", 99.5),
                ("votes", 3),
                ("pickers_here", 2),
                ("uid", None),
                ("micrograph", "m9"),
                ("input", "A.parquet"),
            )
        ),
    ],
)
def test_a_wrong_value_is_found(result, column, value):
    row = shared(result)
    result.change("votes", column, row, value)
    failures = result.failures()
    assert failures.keys() == {"votes"}
    shown = "None" if value is None else value
    assert f": {column} is {shown} in votes, but should be " in failures["votes"]
    assert failures["votes"].startswith(f"the vote of {result.read('votes')['picker'][row]} for ")


def test_a_wrong_kept_flag_is_found(result):
    row = result.read("votes").column("votes").to_pylist().index(1)
    result.change("votes", "kept", row, value=True)
    failures = result.failures()
    assert failures.keys() == {"votes", "totals"}
    assert "kept is true in votes, but should be false" in failures["votes"].lower()


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("standing", "votes"),
        ("standing", "duplicate"),
        ("winner_standing", "duplicate"),
        ("votes", "votes"),
        ("winner_votes", "duplicate"),
    ],
)
def test_a_wrong_number_in_duplicates_is_found(result, column, reason):
    reasons = result.read("duplicates").column("reason").to_pylist()
    standings = result.read("duplicates").column(column).to_pylist()
    row = next(n for n, each in enumerate(reasons) if each == reason and standings[n])
    result.change("duplicates", column, row, 77)
    failures = result.failures()
    assert failures.keys() == {"duplicates"}
    assert f"{column} is 77" in failures["duplicates"]


def test_a_missing_file_is_found(result):
    result.path("votes").unlink()
    failures = result.failures()
    assert "votes/part-00000.parquet is missing" in failures["files"]
    assert {"votes", "totals"} <= failures.keys()
    assert failures["votes"] == "cannot be checked, because a file is missing"
    with pytest.raises(
        dask_dedup.RunError, match=r"votes/part-00000\.parquet is missing or has another size"
    ):
        dask_dedup.report(result.out)

    def forget(manifest):
        manifest["outputs"] = [
            entry
            for entry in manifest["outputs"]
            if not entry["path"].startswith("votes/part-00000")
        ]

    result.edit(forget)
    failures = result.failures()
    assert "files" not in failures
    assert failures["votes"] == "votes has 2 parts, but the inputs have 3 fragments"


def test_the_votes_of_another_run_are_found(result, tmp_path):
    result.run(tmp_path / "other", vote_distance=5.0)
    shutil.copy(tmp_path / "other" / "votes" / "part-00000.parquet", result.path("votes"))
    assert "has" in result.failures()["files"]
    result.write("votes", result.read("votes"))
    failures = result.failures()
    assert failures.keys() == {"votes", "totals"}


def test_a_file_of_the_wrong_fragment_is_found(result):
    one, other = result.read("votes", 0), result.read("votes", 1)
    result.write("votes", other, 0)
    result.write("votes", one, 1)
    assert "which is out of order or belongs to another fragment" in result.failures()["votes"]


# --- wrong decisions


def decide(result, change):
    """Change rows of duplicates/ as a list of dicts, and all that follows from them but votes/."""
    duplicates = result.read("duplicates")
    rows = change(duplicates.to_pylist())
    particles = pq.read_table(result.inputs[0])
    keep = np.ones(len(particles), dtype=bool)
    keep[[row["row"] for row in rows]] = False
    result.write("particles_kept", particles.filter(pa.array(keep)))
    result.write("particles_rejected", particles.filter(pa.array(~keep)))
    result.write("duplicates", pa.Table.from_pylist(rows, duplicates.schema))
    less = {
        "kept": int(keep.sum()) - (len(particles) - len(duplicates)),
        "rejected": len(rows) - len(duplicates),
        "outvoted": sum(row["reason"] == "votes" for row in rows)
        - pc.sum(pc.equal(duplicates["reason"], "votes")).as_py(),
    }

    def update(manifest):
        totals = manifest["totals"]
        for entry in (totals, totals["by_input"][0]):
            for name, number in less.items():
                entry[name] += number

    result.edit(update)


def test_a_particle_that_is_kept_with_too_few_votes_is_found(result):
    place = []

    def change(rows):
        number = next(n for n, row in enumerate(rows) if row["reason"] == "votes")
        place.append(rows.pop(number)["row"])
        return rows

    decide(result, change)
    failures = result.failures()
    assert failures.keys() == {"votes"}
    expected = f"{result.inputs[0]} row {place[0]} is kept for its votes, but was found by A"
    assert failures["votes"].startswith(expected)


def test_a_particle_that_is_rejected_for_enough_votes_is_found(result):
    votes = result.read("votes").to_pylist()
    kept = next(row for row in votes if row["kept"])

    def change(rows):
        like = next(row for row in rows if row["reason"] == "votes")
        rows.append({**like, "row": kept["row"], "uid": kept["uid"], "votes": kept["votes"]})
        return sorted(rows, key=lambda row: row["row"])

    decide(result, change)
    failures = result.failures()
    assert "votes" in failures
    place = f"{result.inputs[0]} row {kept['row']} is rejected for its votes"
    assert failures["votes"].startswith(place)


def test_a_duplicate_that_is_taken_for_a_representative_is_found(result):
    def change(rows):
        number = next(n for n, row in enumerate(rows) if row["reason"] == "duplicate")
        nothing = [name for name in rows[number] if name.startswith("winner_")]
        rows[number] |= {"reason": "votes", "votes": 1, "distance_A": None}
        rows[number] |= dict.fromkeys(nothing)
        return rows

    decide(result, change)
    failures = result.failures()
    assert "are kept or rejected for their votes, but" in failures["separation"]


# --- wrong totals


@pytest.mark.parametrize(
    ("check", "name", "change"),
    [
        ("votes", "micrographs_with_few_pickers", lambda totals: 5),
        ("totals", "by_votes", lambda totals: totals["by_votes"][:-1]),
        ("totals", "by_pickers", lambda totals: totals["by_pickers"][::-1]),
    ],
)
def test_wrong_totals_of_votes_are_found(result, check, name, change):
    def update(manifest):
        votes = manifest["totals"]["votes"]
        votes[name] = change(votes)

    result.edit(update)
    failures = result.failures()
    assert failures.keys() == {check}
    assert failures[check].startswith(f"{name} ")


def test_wrong_counts_of_outvoted_particles_are_found(result):
    def update(manifest):
        manifest["totals"]["by_input"][1]["outvoted"] += 1

    result.edit(update)
    assert result.failures().keys() == {"totals"}

"""Who found what among the real picks of three pickers: counts of the reference, and of the brute force."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from converters import read_boxes
from oracle import content_hashes
from tables import Output, values, write_file
from votes_oracle import Particle, judge

from dask_dedup import DedupParams, run, verify

pytestmark = pytest.mark.real_data

PICKERS = ("crYOLO", "topaz", "deepPicker")
PSIZE = 1.77
SCORE = "rlnAutopickFigureOfMerit"
#: Runs of the reference whose scores are stored.
STORED = [0, 1, 2, 3, 4, 8]
#: Representatives, particles with 1, 2 and 3 votes, and those of each picker with at least 2, if scores are compared
#: by standing. The reference decided its ties by input and row; here the content hash decides them.
STANDING = {
    5: ([4103, 4645, 3118], [3580, 6134, 2152], [3308, 3214, 1764]),
    6: ([4084, 4630, 3117], [3805, 5986, 2040], [3211, 3156, 1659]),
    7: ([5198, 5974, 3657], [7884, 6329, 616], [3127, 3213, 605]),
}


@pytest.fixture(scope="module")
def reference(real_data):
    path = real_data / "consensus_cases" / "reference_repic.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text())["runs"]


@pytest.fixture(scope="module")
def tables(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("picks")
    if not (real_data / "repic_empiar10017").is_dir():
        pytest.skip(f"no REPIC picks in {real_data}")
    return [
        write_file(read_boxes(real_data / "repic_empiar10017" / name), folder / f"{name}.parquet")
        for name in PICKERS
    ]


def counts(votes):
    """Return the counts of the reference from a table of votes."""
    voters, kept = {}, {}
    for row in votes.select(["input", "row", "picker"]).to_pylist():
        voters.setdefault((row["input"], row["row"]), set()).add(row["picker"])
    inputs = {place: place[0].rsplit("/", 1)[-1].removesuffix(".parquet") for place in voters}
    by_set = Counter(
        "+".join(name for name in PICKERS if name in found) for found in voters.values()
    )
    of_input = Counter(inputs.values())
    kept = Counter(inputs[place] for place, found in voters.items() if len(found) >= 2)
    number = Counter(map(len, voters.values()))
    return {
        "representatives": [of_input[name] for name in PICKERS],
        "found_by": dict(by_set),
        "votes": [number[n] for n in (1, 2, 3)],
        "kept_with_min_votes_2": [kept[name] for name in PICKERS],
        "found_by_crYOLO_and_topaz": sum({*PICKERS[:2]} <= found for found in voters.values()),
        "found_by_crYOLO_not_topaz": sum(
            "crYOLO" in found and "topaz" not in found for found in voters.values()
        ),
    }


def params_of(entry, **more):
    return DedupParams(**entry["parameters"], **more, micrograph_pixel_size=PSIZE)


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=[pytest.mark.slow] if n else []) for n in STORED]
)
def test_the_counts_are_those_of_the_reference(reference, tables, tmp_path, number):
    entry = reference[number]
    result = run(tables, tmp_path / "out", params_of(entry, min_votes=2))
    output = Output(tmp_path / "out")
    found = counts(output.read("votes"))
    assert found == {name: entry[name] for name in found}
    assert result.kept == sum(entry["kept_with_min_votes_2"])
    totals = output.manifest["totals"]
    assert totals["outvoted"] == entry["votes"][0]
    assert totals["votes"]["pickers"] == list(PICKERS)
    assert totals["votes"]["by_votes"] == [
        {"votes": n + 1, "representatives": each, "kept": each * (n > 0)}
        for n, each in enumerate(entry["votes"])
    ]
    by_pickers = {
        "+".join(each["pickers"]): each["representatives"] for each in totals["votes"]["by_pickers"]
    }
    assert by_pickers == entry["found_by"]
    assert [*by_pickers.values()] == sorted(by_pickers.values(), reverse=True)


@pytest.mark.slow
def test_a_found_by_and_a_not_found_by_keep_the_counts_of_the_reference(
    reference, tables, tmp_path
):
    entry = reference[1]
    both = params_of(entry, found_by=("crYOLO", "topaz"))
    assert run(tables, tmp_path / "both", both).kept == entry["found_by_crYOLO_and_topaz"]
    less = params_of(entry, found_by="crYOLO", not_found_by="topaz")
    assert run(tables, tmp_path / "less", less).kept == entry["found_by_crYOLO_not_topaz"]
    assert verify(tmp_path / "less").verified


@pytest.mark.slow
@pytest.mark.parametrize("number", STANDING)
def test_the_counts_with_standing(reference, tables, tmp_path, number):
    entry = reference[number]
    run(tables, tmp_path / "out", params_of(entry, min_votes=2))
    found = counts(Output(tmp_path / "out").read("votes"))
    names = ("representatives", "votes", "kept_with_min_votes_2")
    assert tuple(found[name] for name in names) == STANDING[number]
    for name in names:
        assert np.allclose(found[name], entry[name], atol=2), name


@pytest.mark.slow
def test_standing_decides_as_the_brute_force(reference, tables, tmp_path):
    params = reference[6]["parameters"]
    run(tables, tmp_path / "out", params_of(reference[6], min_votes=2))
    # Micrographs are decided alone; the brute force is slow.
    every = [particle for n, path in enumerate(tables) for particle in particles_of(n, path)]
    names = sorted({particle.micrograph for particle in every})[:2]
    particles = [particle for particle in every if particle.micrograph in names]
    outcome = judge(particles, PICKERS, min_votes=2, **params)
    expected = {
        (place_of(particles[winner], tables), picker): (
            picks,
            *place_of(particles[voter], tables),
            distance,
        )
        for winner, voters in outcome.votes.items()
        for picker, (voter, distance, picks) in voters.items()
    }
    columns = ("micrograph", "input", "row", "picker")
    columns += ("picks", "voter_input", "voter_row", "distance_A")
    rows = Output(tmp_path / "out").read("votes").select(columns).to_pylist()
    found = {
        ((path, row), picker): tuple(rest)
        for name, path, row, picker, *rest in (each.values() for each in rows)
        if name in names
    }
    assert found == expected
    assert verify(tmp_path / "out").verified


def place_of(particle, tables):
    return str(tables[particle.input]), particle.row


def particles_of(number, path):
    table = pq.read_table(path)
    xy = np.column_stack([values(table, f"rlnCoordinate{axis}") for axis in "XY"]) * PSIZE
    names = table["rlnMicrographName"].to_pylist()
    hashes = content_hashes(table.to_pylist(), SCORE)
    scores = values(table, SCORE).tolist()
    every = zip(hashes, names, xy.tolist(), scores, strict=True)
    return [
        Particle(uid=uid, input=number, row=row, micrograph=name, point=tuple(point), score=score)
        for row, (uid, name, point, score) in enumerate(every)
    ]

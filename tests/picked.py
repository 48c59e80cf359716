"""Particles of the brute force as tables for a run, and what the run must write about them."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import votes_oracle
from tables import Output
from votes_oracle import Particle

#: Pixels; a power of two, so that fractions of it are exact.
WIDTH = 4096
SCORE = "pick_stats/ncc_score"
TOMOGRAM_SCORE = "rlnAutopickFigureOfMerit"


def write_picks(path, rows):
    """Write dicts with uid, micrograph, x, y and score (None: missing) as a table of CryoSPARC.

    With z they are a table of RELION, which has no uids.
    """

    def column(name, kind):
        return pa.array([row.get(name) for row in rows], kind)

    if any("z" in row for row in rows):
        axes = {f"rlnCoordinate{axis.upper()}": column(axis, pa.float64()) for axis in "xyz"}
        table = {
            "rlnTomoName": column("micrograph", pa.string()),
            **axes,
            "rlnTomoTiltSeriesPixelSize": np.ones(len(rows)),
            TOMOGRAM_SCORE: column("score", pa.float64()),
        }
    else:
        table = {
            "uid": column("uid", pa.uint64()),
            "location/micrograph_path": column("micrograph", pa.string()),
            "location/micrograph_shape": pa.array(
                [[WIDTH, WIDTH]] * len(rows), pa.list_(pa.uint32(), 2)
            ),
            "location/micrograph_psize_A": np.ones(len(rows)),
            SCORE: column("score", pa.float64()),
        }
        for axis in "xy":
            values = np.array([row[axis] for row in rows], dtype=float) / WIDTH
            table[f"location/center_{axis}_frac"] = values
        for name, stored in (
            ("filament", "filament/filament_uid"),
            ("source", "sym_expand/src_uid"),
        ):
            if any(name in row for row in rows):
                table[stored] = column(name, pa.uint64())
    pq.write_table(pa.table(table), path)
    return path


def particles_of(tables):
    """Return the particles of several inputs, each a list of dicts as above, without those that have no position."""
    return [
        Particle(
            uid=row["uid"],
            input=number,
            row=place,
            micrograph=row["micrograph"],
            point=tuple(row[axis] for axis in "xyz" if axis in row),
            score=math.nan if row["score"] is None else row["score"],
            filament=row.get("filament"),
            source=row.get("source"),
        )
        for number, rows in enumerate(tables)
        for place, row in enumerate(rows)
        if row["x"] is not None
    ]


class Case:
    """A case of the folder ``consensus_cases``."""

    def __init__(self, path):
        case = json.loads(path.read_text(encoding="utf-8"))
        self.inputs, self.expected = case["inputs"], case["expected"]
        given = dict(case["parameters"])
        self.invalid = given.pop("invalid", "error")
        self.direction = given.pop("score", "higher")
        self.params = given
        self.names = [table["name"] for table in self.inputs]
        self.picker_of = [table.get("picker", table["name"]) for table in self.inputs]
        self.pickers = list(dict.fromkeys(self.picker_of))
        self.tables = [table["particles"] for table in self.inputs]
        self.particles = particles_of(self.tables)
        self.labels = [
            f"{self.names[each.input]}/{self.tables[each.input][each.row]['uid']}"
            for each in self.particles
        ]

    @property
    def counts_votes(self):
        return len(self.inputs) > 1

    def judge(self):
        """Decide by brute force."""
        picked = {
            name: [self.picker_of[self.names.index(each)] for each in self.params.get(name, ())]
            for name in ("found_by", "not_found_by")
        }
        higher = [self.direction == "higher"] * len(self.inputs)
        return votes_oracle.judge(
            self.particles, self.picker_of, higher=higher, **{**self.params, **picked}
        )

    def write(self, folder):
        """Write each input to ``folder/NAME.parquet``. Return the paths."""
        return [
            write_picks(folder / f"{name}.parquet", rows)
            for name, rows in zip(self.names, self.tables, strict=True)
        ]

    def keywords(self, paths):
        """Return the parameters of a run in Python. Pickers are named by the paths of their inputs."""
        by_path = dict(zip(self.names, map(str, paths), strict=True))
        picked = {
            name: tuple(by_path[each] for each in self.params[name])
            for name in ("found_by", "not_found_by")
            if name in self.params
        }
        score = {} if self.direction == "higher" else {"score_field": f"{SCORE}:lower"}
        votes = {"votes": True} if self.counts_votes else {}
        return {**votes, **self.params, **score, **picked, "invalid": self.invalid}

    def given_names(self, paths):
        """Return the names of pickers that the inputs' file names do not show, by path."""
        return {
            str(path): table["picker"]
            for path, table in zip(paths, self.inputs, strict=True)
            if "picker" in table
        }

    def words(self, paths):
        """Return the inputs and options of a command line. Pickers are named by name."""
        named = self.given_names(paths)
        words = [f"{named[str(path)]}={path}" if str(path) in named else path for path in paths]
        for name, value in self.keywords(paths).items():
            option = f"--{name.replace('_', '-')}"
            if name in ("found_by", "not_found_by"):
                for each in self.params[name]:
                    words += [option, self.picker_of[self.names.index(each)]]
            elif value is True:
                words.append(option)
            else:
                words += [option, value]
        return words


def assert_decided(output, tables, outcome, paths, pickers, *, invalid="error", standing=False):
    """Check a result against brute force: the rejected rows, and each row and column of votes/ (if `pickers`)."""
    output, particles = Output(output), particles_of(tables)
    by_place = {(each.input, each.row): number for number, each in enumerate(particles)}
    listed = {}
    number_of = {str(path): number for number, path in enumerate(paths)}
    for row in output.duplicates.to_pylist():
        place = number_of[row["input"]], row["row"]
        assert place not in listed
        listed[place] = row
        assert row["file"] == row["input"]
    for number, rows in enumerate(tables):
        for place in range(len(rows)):
            found = listed.pop((number, place), None)
            index = by_place.get((number, place))
            if index is None:
                assert (found is None) == (invalid == "keep")
                expected = {"reason": "position"}
            else:
                assert (found is None) == (index in outcome.kept)
                expected = expected_duplicate(outcome, particles, index, paths, standing, pickers)
            if found is not None:
                shown = {name: found[name] for name in expected}
                assert shown == expected
    assert not listed
    if pickers:
        found = output.read("votes").to_pylist()
        assert found == expected_votes(tables, outcome, paths, pickers)
    else:
        assert not (output.folder / "votes").exists()


def expected_duplicate(outcome, particles, index, paths, standing, pickers):
    """Return the columns of a rejected particle in duplicates/ that votes and standing concern."""
    own = outcome.standing[index] if standing else None
    if index not in outcome.winner:
        nothing = ("winner_file", "winner_row", "winner_uid", "winner_score", "winner_standing")
        return {
            "reason": "votes",
            "votes": len(outcome.votes.get(index, ())),
            "winner_votes": None,
            "distance_A": None,
            "standing": own,
            **dict.fromkeys(nothing),
        }
    winner, distance = outcome.winner[index]
    return {
        "reason": "duplicate",
        "votes": None,
        "winner_votes": len(outcome.votes[winner]) if pickers else None,
        "distance_A": distance,
        "standing": own,
        "winner_file": str(paths[particles[winner].input]),
        "winner_row": particles[winner].row,
        "winner_standing": outcome.standing[winner] if standing else None,
    }


def expected_votes(tables, outcome, paths, pickers):
    """Return the rows of votes/ in order, as dicts in the order of the columns."""
    particles = particles_of(tables)
    rows = []
    for index in sorted(outcome.votes):
        particle, votes = particles[index], outcome.votes[index]
        for picker in sorted(votes, key=pickers.index):
            voter, distance, picks = votes[picker]
            rows.append(
                {
                    **place_of(particle, paths, ""),
                    "kept": index in outcome.kept,
                    "votes": len(votes),
                    "pickers_here": len(outcome.here[particle.micrograph]),
                    "picker": picker,
                    "picks": picks,
                    **place_of(particles[voter], paths, "voter_"),
                    "voter_score": _shown(particles[voter].score),
                    "distance_A": distance,
                }
            )
    names = [name for row in rows for name in row]
    assert names == COLUMNS * len(rows)
    return rows


COLUMNS = [
    *("uid", "micrograph", "input", "file", "row", "kept", "votes", "pickers_here"),
    *("picker", "picks", "voter_uid", "voter_input", "voter_file", "voter_row", "voter_score"),
    "distance_A",
]


def place_of(particle, paths, prefix):
    path = str(paths[particle.input])
    names = {} if prefix else {"micrograph": particle.micrograph}
    uid = None if len(particle.point) == 3 else particle.uid
    return {
        f"{prefix}uid": uid,
        **names,
        f"{prefix}input": path,
        f"{prefix}file": path,
        f"{prefix}row": particle.row,
    }


def _shown(score):
    return None if math.isnan(score) else score

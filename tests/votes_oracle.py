"""Votes and standing by brute force, as a reference for the fast code.

Written from the specification; imports nothing from the package.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from oracle import distance_between, greedy, rank_tuple, within


@dataclass(frozen=True)
class Particle:
    """A particle that can be compared. `filament` and `source` are None if it has none."""

    uid: int
    input: int
    row: int
    micrograph: str
    point: tuple[float, ...]
    score: float = math.nan
    filament: int | None = None
    source: int | None = None


@dataclass(frozen=True)
class Outcome:
    """Decisions by index of the particle.

    `winner` maps each duplicate to its winner and the distance. `votes` maps each representative to
    {picker: (nearest voter, distance, number of picks)}. `here` maps each micrograph to its pickers.
    """

    winner: dict
    votes: dict
    here: dict
    kept: set
    standing: list

    @property
    def outvoted(self):
        return self.votes.keys() - self.kept


def standings(particles, higher):
    """Return twice the better scores of the same input and micrograph plus the equal ones; None without a score."""
    peers = defaultdict(list)
    for particle in particles:
        if _usable(particle.score):
            peers[particle.input, particle.micrograph].append(particle.score)
    found = []
    for particle in particles:
        if not _usable(particle.score):
            found.append(None)
            continue
        others = peers[particle.input, particle.micrograph]
        sign = 1 if higher[particle.input] else -1
        better = sum(sign * score > sign * particle.score for score in others)
        found.append(2 * better + others.count(particle.score))
    return found


def judge(
    particles,
    picker_of,
    *,
    min_separation=20.0,
    higher=None,
    scored=True,
    score_scale="stored",
    seed=0,
    prefer_input_order=False,
    between_inputs_only=False,
    ignore_within_filament=False,
    undo_symmetry_expansion=False,
    vote_distance=None,
    min_votes=1,
    found_by=(),
    not_found_by=(),
    relax_unseen=False,
):
    """Decide as a run does. `picker_of` and `higher` have the picker and the score's direction of each input."""
    higher = higher or [True] * len(picker_of)
    standing = standings(particles, higher)
    by_standing = score_scale == "standing"
    ranks = [
        rank_tuple(
            uid=particle.uid,
            score=_ranked(particle.score, place, by_standing) if scored else None,
            higher=higher[particle.input] and not by_standing,
            seed=seed,
            priority=particle.input if prefer_input_order else 0,
            source=particle.input,
            row=particle.row,
        )
        for particle, place in zip(particles, standing, strict=True)
    ]

    def exempt(i, j):
        one, other = particles[i], particles[j]
        same_filament = one.filament is not None and one.filament == other.filament
        return (between_inputs_only and one.input == other.input) or (
            ignore_within_filament and same_filament
        )

    points, limit = [particle.point for particle in particles], min_separation
    if undo_symmetry_expansion:
        points, limit = [(float(particle.source),) for particle in particles], 0.0
    reach = limit if vote_distance is None else vote_distance
    winners, distances = greedy(
        points, [particle.micrograph for particle in particles], ranks, limit, exempt
    )

    at, here = defaultdict(list), defaultdict(set)
    for number, particle in enumerate(particles):
        here[particle.micrograph].add(picker_of[particle.input])
        if winners[number] < 0:
            at[particle.micrograph].append(number)
    # A representative is its own picker's first voter, whatever else is at its place.
    ballots = {number: [(0.0, (-1,), number)] for rows in at.values() for number in rows}
    for number, particle in enumerate(particles):
        if winners[number] < 0:
            continue
        near = []
        for other in at[particle.micrograph]:
            gap = distance_between(points[number], points[other])
            duplicate = within(points[number], points[other], gap, limit)
            if duplicate and gap <= reach and not exempt(number, other):
                near.append((gap, ranks[other], other))
        near.sort()
        nearest = near[:1]
        filament = particles[nearest[0][2]].filament if nearest else None
        if ignore_within_filament and filament is not None:
            nearest = [each for each in near if particles[each[2]].filament == filament]
        for gap, _, chosen in nearest:
            ballots[chosen].append((gap, ranks[number], number))

    votes, kept = {}, set()
    for number, cast in ballots.items():
        voters = {}
        for gap, _, voter in sorted(cast):
            picker = picker_of[particles[voter].input]
            first, distance, picks = voters.get(picker, (voter, gap, 0))
            voters[picker] = (first, distance, picks + 1)
        votes[number] = voters
        there = here[particles[number].micrograph]
        needed, asked = min_votes, set(found_by)
        if relax_unseen:
            needed, asked = min(needed, len(there)), asked & there
        if len(voters) >= needed and asked <= voters.keys() and not voters.keys() & {*not_found_by}:
            kept.add(number)
    winner = {
        number: (int(winners[number]), float(distances[number]))
        for number in range(len(particles))
        if winners[number] >= 0
    }
    shown = [None if place is None else (place + 1) / 2 for place in standing]
    return Outcome(winner, votes, dict(here), kept, shown)


def _usable(score):
    return not (math.isnan(score) or score == -999)


def _ranked(score, place, by_standing):
    if not by_standing:
        return score
    return math.nan if place is None else float(place)

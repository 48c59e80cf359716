"""The algorithm on arrays counts votes as the brute force does, and votes have the properties of their definition."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from conftest import examples
from hypothesis import given, seed
from hypothesis import strategies as st
from scenes import decided, rules, scenes
from test_greedy import tuned, without_sweep
from votes_oracle import Particle, judge

FAST = examples(40)


def assert_same(found, expected, *, standing):
    assert found.winner == expected.winner
    assert found.votes == expected.votes
    assert found.kept == expected.kept
    assert found.here == {name: len(there) for name, there in expected.here.items()}
    if standing:
        rejected = expected.winner.keys() | expected.outvoted
        places = [
            place if number in rejected else None for number, place in enumerate(expected.standing)
        ]
        assert found.standing == places
    else:
        assert not any(found.standing)


def blocks():
    return tuned(budget=8)


def compare(data):
    particles, picker_of = data.draw(scenes())
    params = data.draw(rules(max(picker_of) + 1))
    higher = data.draw(st.lists(st.booleans(), min_size=len(picker_of), max_size=len(picker_of)))
    scored = params["score_scale"] == "standing" or data.draw(st.sampled_from([True, True, False]))
    expected = judge(particles, picker_of, higher=higher, scored=scored, **params)
    # Pairs come from a sweep, from a tree at once, or from a tree in blocks.
    with data.draw(st.sampled_from([nullcontext, without_sweep, blocks, blocks]))():
        found = decided(particles, picker_of, higher=higher, scored=scored, **params)
    assert_same(found, expected, standing=params["score_scale"] == "standing")


@examples(200)
@given(st.data())
def test_votes_are_those_of_the_brute_force(data):
    compare(data)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(7))
def test_votes_are_those_of_the_brute_force_many_times(part):
    @seed(part)
    @examples(400)
    @given(st.data())
    def many(data):
        compare(data)

    many()


@FAST
@given(st.data(), scenes())
def test_more_votes_keep_fewer_of_the_same_representatives(data, scene):
    particles, picker_of = scene
    pickers = max(picker_of) + 1
    params = data.draw(rules(pickers))
    picked = params.pop("found_by"), params.pop("not_found_by")
    last = None
    for votes in range(1, pickers + 1):
        found = decided(particles, picker_of, **{**params, "min_votes": votes})
        if last is not None:
            assert found.kept <= last.kept
            assert (found.winner, found.votes) == (last.winner, last.votes)
        last = found
    one = decided(particles, picker_of, **{**params, "min_votes": 1})
    for asked, names in zip(picked, ("found_by", "not_found_by"), strict=True):
        fewer = decided(particles, picker_of, **{**params, "min_votes": 1, names: asked})
        assert fewer.kept <= one.kept
        assert (fewer.winner, fewer.votes) == (one.winner, one.votes)


@FAST
@given(st.data(), scenes())
def test_one_vote_is_a_run_without_votes_and_every_representative_has_one(data, scene):
    particles, picker_of = scene
    params = data.draw(rules(max(picker_of) + 1))
    params |= {"min_votes": 1, "found_by": (), "not_found_by": ()}
    found = decided(particles, picker_of, **params)
    without = {**params, "vote_distance": None, "relax_unseen": False}
    plain = decided(particles, picker_of, votes=False, **without)
    assert plain.winner == found.winner
    assert plain.kept == found.kept == found.votes.keys()
    for number, voters in found.votes.items():
        own = picker_of[particles[number].input]
        assert voters[own][:2] == (number, 0.0)
    if not params.get("ignore_within_filament"):
        picks = [picks for voters in found.votes.values() for _, _, picks in voters.values()]
        assert sum(picks) <= len(particles)


def named(outcome, particles):
    """Return an outcome with particles by uid, which does not depend on their order."""
    uid = [particle.uid for particle in particles]
    return (
        {uid[number]: (uid[winner], gap) for number, (winner, gap) in outcome.winner.items()},
        {
            uid[number]: {picker: (uid[voter], *rest) for picker, (voter, *rest) in voters.items()}
            for number, voters in outcome.votes.items()
        },
        {uid[number] for number in outcome.kept},
        {uid[number]: place for number, place in enumerate(outcome.standing)},
    )


@FAST
@given(st.data(), scenes())
def test_rows_and_inputs_may_come_in_any_order(data, scene):
    particles, picker_of = scene
    params = {**data.draw(rules(max(picker_of) + 1)), "prefer_input_order": False}
    inputs = data.draw(st.permutations(range(len(picker_of))))
    pickers = [0] * len(picker_of)
    for old, new in enumerate(inputs):
        pickers[new] = picker_of[old]
    rows, next_row = [], [0] * len(picker_of)
    for number in data.draw(st.permutations(range(len(particles)))):
        source = inputs[particles[number].input]
        rows.append(replace(particles[number], input=source, row=next_row[source]))
        next_row[source] += 1
    found = decided(rows, pickers, **params)
    assert named(found, rows) == named(decided(particles, picker_of, **params), particles)


@FAST
@given(st.data(), scenes())
def test_a_micrograph_is_decided_alone(data, scene):
    particles, picker_of = scene
    params = data.draw(rules(max(picker_of) + 1))
    whole = named(decided(particles, picker_of, **params), particles)
    parts = []
    for name in sorted({particle.micrograph for particle in particles}):
        # Three axes are measured if any particle has a z.
        here = [particle for particle in particles if particle.micrograph == name]
        parts.append(named(decided(here, picker_of, **params), here))
    for number, of_kind in enumerate(whole):
        joined = [each for part in parts for each in part[number]]
        assert sorted(joined) == sorted(of_kind)
        if isinstance(of_kind, dict):
            assert {key: part[number][key] for part in parts for key in part[number]} == of_kind


def test_seventy_pickers_vote():
    count = 70
    order = np.random.default_rng(0).permutation(count).tolist()
    particles = [
        Particle(uid=n, input=n, row=0, micrograph="m0", point=(n / 10, 0.0), score=float(n))
        for n in order
    ]
    for params in ({"min_votes": count}, {"found_by": (0, 69)}, {"not_found_by": (64,)}):
        found = decided(particles, range(count), **params)
        assert_same(found, judge(particles, range(count), **params), standing=False)
        assert len(found.votes[particles.index(max(particles, key=lambda p: p.score))]) == count


def test_a_representative_is_its_own_pickers_voter_before_a_better_ranked_pick_at_its_position():
    def pick(uid, x, score, filament):
        return Particle(uid, 0, uid, "m0", (x, 0.0), score, filament)

    particles = [pick(0, 0.0, 0.9, 1), pick(1, 5.0, 0.5, 1), pick(2, 5.0, 0.7, None)]
    params = {"min_separation": 10.0, "ignore_within_filament": True}
    found = decided(particles, [0], **params)
    assert found.votes == {0: {0: (0, 0.0, 2)}, 1: {0: (1, 0.0, 2)}}
    assert_same(found, judge(particles, [0], **params), standing=False)

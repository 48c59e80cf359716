"""Scores compared by standing: the place of a particle among those of its input on its micrograph."""

from __future__ import annotations

import math

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from scenes import decided, picks_of, scenes
from tables import cryosparc, relion
from votes_oracle import standings as counted

from dask_dedup import DedupParams, InputError, remove_duplicates
from dask_dedup.dedup.rank import rank_keys, standings

STANDING = DedupParams(score_scale="standing")
FAST = examples(40)
#: Strictly rising, on all scores that occur.
RISING = [
    lambda s: 1000 * s - 7,
    lambda s: s**3,
    math.exp,
    lambda s: s / 2**40,
    lambda s: -1 / (1 + s),
]


def standings_of(particles, higher, params=STANDING):
    picks = picks_of(particles, "filament")
    found = standings(rank_keys(picks, params, higher), params)
    return [None if math.isnan(place) else place for place in found.tolist()]


def with_score(particle, score):
    return type(particle)(**{**vars(particle), "score": score})


directions = st.lists(st.booleans(), min_size=4, max_size=4)


@FAST
@given(scenes(), directions, st.booleans())
def test_standings_are_counted(scene, higher, first):
    particles, _ = scene
    expected = [None if twice is None else (twice + 1) / 2 for twice in counted(particles, higher)]
    params = DedupParams(score_scale="standing", prefer_input_order=first)
    assert standings_of(particles, higher, params) == expected


@FAST
@given(st.data(), scenes(), directions)
def test_any_rising_scale_of_an_input_gives_the_same_answer(data, scene, higher):
    particles, picker_of = scene
    scale = [data.draw(st.sampled_from([lambda s: s, *RISING])) for _ in picker_of]
    scaled = [
        particle
        if math.isnan(particle.score) or particle.score == -999
        else with_score(particle, scale[particle.input](particle.score))
        for particle in particles
    ]
    params = {"score_scale": "standing", "higher": higher, "min_separation": 10.0}
    assert decided(scaled, picker_of, **params) == decided(particles, picker_of, **params)


@FAST
@given(st.data(), scenes(), directions)
def test_a_stricter_threshold_changes_no_standing(data, scene, higher):
    particles, picker_of = scene
    limits = [data.draw(st.floats(0, 1)) for _ in picker_of]
    stays = [
        not (
            particle.score < limits[particle.input]
            if higher[particle.input]
            else particle.score > limits[particle.input]
        )
        for particle in particles
    ]
    before = standings_of(particles, higher)
    after = standings_of(
        [each for each, kept in zip(particles, stays, strict=True) if kept], higher
    )
    assert after == [place for place, kept in zip(before, stays, strict=True) if kept]


@FAST
@given(scenes(most=1), st.booleans(), st.sampled_from([0.0, 10.0, 25.0]))
def test_one_input_is_decided_as_by_its_scores(scene, higher, separation):
    particles, _ = scene
    params = {"higher": [higher], "min_separation": separation, "votes": False}
    stored = decided(particles, [0], **params)
    standing = decided(particles, [0], score_scale="standing", **params)
    assert (standing.winner, standing.kept) == (stored.winner, stored.kept)


@pytest.mark.parametrize("kind", ["pandas", "arrow", "dask"])
def test_a_frame_has_the_answer_of_its_scores(kind):
    score = np.random.default_rng(0).integers(0, 9, 400).astype("f4")
    table = relion(400, columns={"rlnAutopickFigureOfMerit": score, "tag": np.arange(400)})
    frame = {"pandas": table.to_pandas, "arrow": lambda: table}.get(kind, lambda: None)()
    if kind == "dask":
        frame = dd.from_pandas(table.to_pandas(), npartitions=3, sort=False)
    answers = [
        remove_duplicates(frame, min_separation=30.0, score_scale=scale)
        for scale in ("stored", "standing")
    ]
    kept = [
        pd.Series((pair[0].compute() if kind == "dask" else pair[0])["tag"]).tolist()
        for pair in answers
    ]
    assert kept[0] == kept[1]
    assert 0 < len(kept[0]) < 400


def test_without_a_score_there_is_no_standing():
    table = cryosparc(20)
    with pytest.raises(InputError, match="score_scale") as caught:
        remove_duplicates(table, score_scale="standing", score_field="none")
    assert "score_field" in str(caught.value)
    with pytest.raises(InputError, match="one of stored, standing"):
        DedupParams(score_scale="rank")

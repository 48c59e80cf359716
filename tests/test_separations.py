"""The particles kept at many separations are those that the rule of a run keeps at each of them."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from oracle import crowded
from test_greedy import brute_force, cases, random_case, without_sweep

from dask_dedup.dedup import separation as separations
from dask_dedup.dedup.decide import decide
from dask_dedup.dedup.greedy import reject_all_close, suppress
from dask_dedup.dedup.pairs import Points
from dask_dedup.dedup.params import DedupParams
from dask_dedup.dedup.picks import Picks, row_ids
from dask_dedup.dedup.separation import (
    analyse_separations,
    explain,
    keep_at,
    reject_at,
    round_separations,
    separations_around,
)


def several(separation):
    """Return 32 separations around one, on both sides of the usual steps, and at them."""
    unit = separation or 1.0
    return np.unique([0.0, unit, *unit * np.linspace(0.1, 2.4, 30)])


def rejected_at(case, wanted, *, entirely=False):
    bits, known = reject_at(
        Points(case.centres, case.micrographs, case.labels), case.keys, wanted, entirely=entirely
    )
    assert bits.dtype == np.uint32
    return [(bits >> np.uint32(k) & np.uint32(1)).astype(bool) for k in range(known)]


def tuned(rounds=12, batch=400_000, *, sweep=True):
    stack = ExitStack()
    stack.enter_context(mock.patch("dask_dedup.dedup.greedy.ROUNDS", rounds))
    stack.enter_context(mock.patch.object(separations, "BATCH_PICKS", batch))
    stack.enter_context(mock.patch.object(separations, "MOST_PAIRS", 1_000))
    if not sweep:
        stack.enter_context(without_sweep())
    return stack


@examples(300)
@given(
    case=cases(),
    rounds=st.sampled_from((0, 1, 12)),
    batch=st.sampled_from((1, 5, 400_000)),
    sweep=st.booleans(),
)
def test_kept_at_each_separation_equals_brute_force(case, rounds, batch, sweep):
    wanted = several(case.separation)
    with tuned(rounds, batch, sweep=sweep):
        found = rejected_at(case, wanted)
    assert len(found) == wanted.size
    for separation, rejected in zip(wanted.tolist(), found, strict=True):
        winner, _ = brute_force(mock.Mock(wraps=case, **case_at(case, separation)))
        np.testing.assert_array_equal(rejected, winner >= 0, err_msg=str(separation))


def case_at(case, separation):
    return {
        "centres": case.centres,
        "micrographs": case.micrographs,
        "separation": separation,
    }


@pytest.mark.slow
@examples(200)
@given(case=cases(), sweep=st.booleans())
def test_removed_entirely_at_each_separation_equals_brute_force(case, sweep):
    wanted = several(case.separation)
    with tuned(sweep=sweep):
        found = rejected_at(case, wanted, entirely=True)
    for separation, rejected in zip(wanted.tolist(), found, strict=True):
        closest = crowded(case.centres, case.micrographs, separation, case.share_label)
        np.testing.assert_array_equal(rejected, np.isfinite(closest), err_msg=str(separation))


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("entirely", [False, True])
@pytest.mark.parametrize("sweep", [False, True])
def test_thousands_of_rows_equal_the_decisions_of_a_run(axes, entirely, sweep):
    case = random_case(6_000, side=3_000.0, separation=50.0, micrographs=20, axes=axes)
    wanted = np.arange(1, 33) * 5.0
    with tuned(sweep=sweep):
        found = rejected_at(case, wanted, entirely=entirely)
    method = reject_all_close if entirely else suppress
    for separation, rejected in zip(wanted.tolist(), found, strict=True):
        expected = method(
            Points(case.centres, case.micrographs, case.labels), case.keys, separation
        )
        np.testing.assert_array_equal(rejected, expected.rejected)


def test_a_particle_may_be_rejected_at_one_separation_and_kept_at_a_larger_one():
    # The middle one is rejected by the better one from 10 A on; it then rejects the last one no longer.
    x = np.array([0.0, 10.0, 18.0])
    centres = np.column_stack([x, np.zeros(3)])
    rank = (np.arange(3, dtype=np.uint64),)
    bits, _ = reject_at(Points(centres, np.zeros(3, np.intp)), rank, np.array([8.0, 10.0, 18.0]))
    assert bits.tolist() == [0b000, 0b110, 0b101]


@pytest.mark.parametrize("sweep", [False, True])
def test_separations_with_too_many_pairs_are_left_out(sweep):
    case = random_case(5_000, side=1_000.0, separation=50.0)
    wanted = np.arange(1, 33) * 10.0
    with ExitStack() as stack:
        if not sweep:
            stack.enter_context(without_sweep())
        found = rejected_at(case, wanted)
    # Of 5,000 picks on a square of 1,000 A, 20 pairs a pick are within about 50 A.
    assert 4 <= len(found) <= 6
    for separation, rejected in zip(wanted.tolist(), found, strict=False):
        expected = suppress(Points(case.centres, case.micrographs), case.keys, separation)
        np.testing.assert_array_equal(rejected, expected.rejected)


def picks_of(rows, seed, *, inputs=3, tubes=4, invalid=True, spread=2.0):
    random = np.random.default_rng(seed)
    position = (random.integers(0, 40, (3, rows)) * 5.0) * np.array([[1.0], [1.0], [spread > 3]])
    return Picks(
        micrograph=random.integers(0, 4, rows).astype(np.uint64) * np.uint64(2**62 + 3),
        x=position[0],
        y=position[1],
        z=position[2],
        score=random.choice([0.5, 1.0, 2.0, -999.0, np.nan], rows),
        uid=random.integers(0, rows * 2, rows).astype(np.uint64),
        row_id=row_ids(0, rows),
        source=np.sort(random.integers(0, inputs, rows)).astype(np.uint16),
        half=np.full(rows, -1, np.int8),
        label=random.integers(-1, tubes, rows),
        invalid=(random.random(rows) < 0.1).astype(np.uint16)
        * random.choice(np.array([1, 2, 8], np.uint16), rows)
        * np.uint16(invalid),
    )


OPTIONS = [
    {},
    {"prefer_input_order": True},
    {"between_inputs_only": True},
    {"ignore_within_filament": True},
    {"between_inputs_only": True, "ignore_within_filament": True, "seed": 7},
    {"remove_entirely": True},
    {"score_field": "none"},
    {"invalid": "keep"},
]


@pytest.mark.parametrize(
    ("options", "own", "spread"),
    [
        *((options, 20.0, 2.0) for options in OPTIONS),
        *((options, 60.0, 4.0) for options in OPTIONS[::3]),
        ({}, 0.5, 2.0),
    ],
    ids=lambda each: each if isinstance(each, float) else "+".join(each) or "default",
)
def test_the_bit_of_the_runs_own_separation_is_the_runs_decision(options, own, spread):
    params = DedupParams(min_separation=own, **{"invalid": "reject", **options})
    picks = picks_of(400, seed=int(own), spread=spread)
    directions = (True, False, True)
    with tuned():
        found = analyse_separations(picks, params, directions, np.arange(1, 31) * 5.0)
    rejections = decide(picks, params, directions)[0].rejections
    kept = np.ones(len(picks), dtype=bool)
    kept[rejections.row] = False
    np.testing.assert_array_equal(found.at(own), kept)
    assert not found.cut_short
    for separation, counts in zip(found.separations.tolist(), found.kept.tolist(), strict=True):
        at = DedupParams.from_dict({**params.to_dict(), "min_separation": separation})
        kept = np.ones(len(picks), dtype=bool)
        kept[decide(picks, at, directions)[0].rejections.row] = False
        np.testing.assert_array_equal(found.at(separation), kept)
        assert counts == np.bincount(picks.source[kept], minlength=3).tolist()


@pytest.mark.parametrize("own", [20.0, 300.0])
@pytest.mark.parametrize("entirely", [False, True])
def test_the_runs_own_separation_is_decided_however_many_pairs_there_are(own, entirely):
    picks = picks_of(3_000, seed=1, invalid=False)
    params = DedupParams(min_separation=own, remove_entirely=entirely)
    found = analyse_separations(picks, params, (True,) * 3, [5.0, 100.0, 200.0])
    assert found.cut_short
    assert found.separations.tolist() == [5.0, own]
    lost = decide(picks, params, (True,) * 3)[0].rejections.row
    assert found.at(own).sum() == len(picks) - lost.size
    assert not found.at(own)[lost].any()


def test_no_picks_have_no_decisions():
    found = analyse_separations(Picks.concatenate([]), DedupParams(), (True,), [10.0])
    assert found.bits.size == 0
    assert found.separations.tolist() == [10.0, 20.0]
    assert found.kept.tolist() == [[0], [0]]
    assert explain(found.spacing).startswith(
        "there is no gap between duplicates and real neighbours"
    )


def test_more_than_32_separations_are_an_error():
    with pytest.raises(ValueError, match="33 separations"):
        keep_at(Picks.concatenate([]), DedupParams(), (True,), np.arange(1.0, 34.0))


@examples(300)
@given(own=st.floats(0.01, 1e4), farthest=st.floats(0.0, 1e5))
def test_separations_around_the_runs_own(own, farthest):
    found = separations_around(own, farthest)
    assert own in found
    assert 15 <= found.size <= 31
    assert (np.diff(found) > 0).all()
    assert found[0] == pytest.approx(own / 10)
    assert found[-1] >= min(farthest, 1.5 * own) * (1 - 1e-12)
    if farthest > 1.5 * own:
        assert found[-1] >= farthest * (1 - 1e-12)


def test_the_separations_of_an_example():
    tenths = [*range(10, 160, 10)]
    assert separations_around(100.0, 120.0).tolist() == tenths
    assert separations_around(100.0, 208.0).tolist() == [*tenths, *range(155, 215, 5)]
    assert separations_around(20.0, 208.0).tolist() == [*range(2, 32, 2), *range(40, 240, 20)]


def test_round_separations():
    assert round_separations(208.0).tolist() == [*range(10, 220, 10)]
    assert round_separations(32.0).tolist() == [*range(1, 33)]
    assert round_separations(0.9).tolist() == pytest.approx([k * 0.05 for k in range(1, 19)])


@examples(200)
@given(st.floats(0.01, 1e5))
def test_round_separations_are_few_and_reach_the_farthest(farthest):
    found = round_separations(farthest)
    assert 12 <= found.size <= 32
    assert 0.9 * farthest <= found[-1] <= 1.1 * farthest

"""The total order: best score first, ties broken by a seeded hash, the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from oracle import rank_tuple
from oracle import splitmix64 as scalar_splitmix64

from dask_dedup.dedup.params import DedupParams
from dask_dedup.dedup.picks import Picks, fragment_of, row_ids, row_of
from dask_dedup.dedup.rank import rank_keys, score_key, splitmix64, total_order

WORST = 2**64 - 1
integers = st.integers(0, WORST)
doubles = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, -999.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1.0, -1.0]),
)


def keys_of(scores, *, higher):
    return score_key(np.array(scores, dtype=float), higher_is_better=higher).tolist()


@st.composite
def key_columns(draw):
    """One to four keys with heavy ties, some of them large."""
    number = draw(st.integers(1, 4))
    value = st.sampled_from([0, 1, 2, WORST, WORST - 1, 2**63])
    rows = draw(st.lists(st.tuples(*[value] * number), max_size=60))
    return rows, [np.array([row[k] for row in rows], dtype=np.uint64) for k in range(number)]


@examples(500)
@given(key_columns())
def test_total_order_sorts_as_tuples_do(columns):
    rows, keys = columns
    order = total_order(keys)
    assert sorted(order.tolist()) == list(range(len(rows)))
    assert [rows[row] for row in order] == sorted(rows)


@examples(300)
@given(columns=key_columns(), data=st.data())
def test_a_unique_last_key_makes_the_order_unique(columns, data):
    rows, keys = columns
    unique = data.draw(st.permutations(range(len(rows))))
    tuples = [(*row, last) for row, last in zip(rows, unique, strict=True)]
    order = total_order([*keys, np.array(unique, dtype=np.uint64)])
    assert order.tolist() == sorted(range(len(rows)), key=tuples.__getitem__)


@pytest.mark.parametrize("ties", [1, 2, 10, 5_000, 2**62])
def test_total_order_sorts_many_rows(ties):
    random = np.random.default_rng(ties % 97)
    n = 20_000
    keys = [random.integers(ties, size=n, dtype=np.uint64) for _ in range(3)]
    keys.append(random.permutation(n).astype(np.uint64))
    np.testing.assert_array_equal(total_order(keys), np.lexsort(keys[::-1]))


def test_total_order_does_not_modify_its_keys():
    keys = [np.array([3, 1, 3], dtype=np.uint64), np.array([2, 1, 0], dtype=np.uint64)]
    before = [key.copy() for key in keys]
    assert total_order(keys).tolist() == [1, 2, 0]
    for key, copy in zip(keys, before, strict=True):
        np.testing.assert_array_equal(key, copy)


@examples(300)
@given(one=doubles, other=doubles, higher=st.booleans())
def test_score_keys_compare_as_scores_do(one, other, higher):
    wanted = [rank_tuple(uid=0, score=score, higher=higher)[1:3] for score in (one, other)]
    key, other_key = keys_of([one, other], higher=higher)
    assert (key < other_key) == (wanted[0] < wanted[1])
    assert (key == other_key) == (wanted[0] == wanted[1])


def test_higher_scores_come_first_and_missing_ones_last():
    scores = [-np.inf, -999.0, 1.0, np.nan, np.inf, -2.0, 0.0, -1000.0]
    order = np.argsort(keys_of(scores, higher=True), kind="stable")
    assert [scores[row] for row in order][:6] == [np.inf, 1.0, 0.0, -2.0, -1000.0, -np.inf]
    assert sorted(order[6:].tolist()) == [1, 3]


def test_lower_scores_come_first_and_missing_ones_last():
    scores = [-np.inf, -999.0, 1.0, np.nan, np.inf, -2.0, 0.0, -1000.0]
    order = np.argsort(keys_of(scores, higher=False), kind="stable")
    assert [scores[row] for row in order][:6] == [-np.inf, -1000.0, -2.0, 0.0, 1.0, np.inf]
    assert sorted(order[6:].tolist()) == [1, 3]


@pytest.mark.parametrize("higher", [True, False])
def test_equivalent_scores_tie(higher):
    missing, other_nan, sentinel = keys_of([np.nan, -np.nan, -999.0], higher=higher)
    assert missing == other_nan == sentinel == WORST
    zero, minus_zero = keys_of([0.0, -0.0], higher=higher)
    assert zero == minus_zero


def test_infinite_scores_are_not_missing():
    assert max(keys_of([np.inf, -np.inf], higher=True)) < WORST
    assert max(keys_of([np.inf, -np.inf], higher=False)) < WORST


@pytest.mark.parametrize(
    ("seed", "outputs"),
    [
        (
            1234567,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821,
            ],
        ),
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]),
    ],
)
def test_splitmix64_reproduces_the_published_sequences(seed, outputs):
    states = [(seed + k * 0x9E3779B97F4A7C15) % 2**64 for k in range(len(outputs))]
    assert splitmix64(np.array(states, dtype=np.uint64)).tolist() == outputs
    assert [scalar_splitmix64(state) for state in states] == outputs


@examples(200)
@given(st.lists(integers, max_size=20))
def test_splitmix64_equals_python_integer_arithmetic(values):
    hashed = splitmix64(np.array(values, dtype=np.uint64))
    assert hashed.dtype == np.uint64
    assert hashed.tolist() == [scalar_splitmix64(value) for value in values]


def test_splitmix64_has_no_collisions():
    assert np.unique(splitmix64(np.arange(100_000, dtype=np.uint64))).size == 100_000


@examples(200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.5, 0.25, -999.0, np.nan, -0.0, 0.0]),
            st.sampled_from([0, 1, 7, 2**63 + 1, WORST]),
            st.integers(0, 2),
        ),
        max_size=12,
    ),
    st.sampled_from([0, 1, 2**64 - 1]),
    st.sampled_from(["ncc_score", "error", "none"]),
    st.booleans(),
)
def test_picks_are_ranked_by_the_documented_order(rows, seed, score_field, prefer_input_order):
    n = len(rows)
    params = DedupParams(score_field=score_field, seed=seed, prefer_input_order=prefer_input_order)
    rows = sorted(rows, key=lambda row: row[2])
    columns = {name: np.zeros(n, dtype) for name, dtype in Picks.dtypes.items()}
    columns["row_id"] = np.arange(n, dtype=np.uint64)
    for at, name in enumerate(("score", "uid", "source")):
        columns[name] = np.array([row[at] for row in rows], dtype=Picks.dtypes[name])
    picks = Picks.from_columns(columns)
    tuples = [
        rank_tuple(
            uid=uid,
            score=None if score_field == "none" else score,
            higher=score_field == "ncc_score",
            seed=seed,
            priority=source if prefer_input_order else 0,
            source=source,
            row=row,
        )
        for row, (score, uid, source) in enumerate(rows)
    ]
    wanted = sorted(range(n), key=tuples.__getitem__)
    higher = [score_field == "ncc_score"] * 3
    assert total_order(rank_keys(picks, params, higher)).tolist() == wanted


def test_another_seed_makes_another_choice_among_ties():
    uid = np.arange(1000, dtype=np.uint64)
    orders = [np.argsort(splitmix64(uid ^ np.uint64(seed))) for seed in (0, 1, 2**63)]
    for one in range(3):
        assert (orders[one] != orders[one - 1]).mean() > 0.9


def test_row_ids_hold_fragment_and_row():
    row_id = row_ids(70_000, 5)
    assert fragment_of(row_id).tolist() == [70_000] * 5
    assert row_of(row_id).tolist() == [0, 1, 2, 3, 4]
    assert row_ids(3, 10)[-1] < row_ids(4, 1)[0]

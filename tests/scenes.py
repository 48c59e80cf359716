"""Random particles of several pickers, and what the algorithm on arrays decides about them."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st
from votes_oracle import Outcome, Particle

from dask_dedup import DedupParams
from dask_dedup.dedup.decide import decide
from dask_dedup.dedup.picks import NO_HALF, Picks, fragment_of, row_of
from dask_dedup.dedup.voting import Voting

SCORES = [0.0, -0.0, 0.25, 0.5, 1.0, math.nan, -999.0]


@st.composite
def scenes(draw, most=4):
    """Return particles of up to `most` inputs on a grid of 5 angstrom, with ties, and the picker of each input."""
    count = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    extent, axes = draw(st.sampled_from([4, 8, 16, 30])), draw(st.sampled_from([2, 2, 3]))
    rows, coarse = draw(st.integers(0, 50)), draw(st.booleans())
    uids = rng.permutation(10 * rows + 1)[:rows]
    next_row = [0] * count
    particles = []
    for uid in uids.tolist():
        number = int(rng.integers(count))
        particles.append(
            Particle(
                uid=uid,
                input=number,
                row=next_row[number],
                micrograph=f"m{rng.integers(3)}",
                point=tuple((5.0 * rng.integers(0, extent, axes)).tolist()),
                score=SCORES[rng.integers(len(SCORES))] if coarse else float(rng.random()),
                filament=[None, 1, 2, 3][rng.integers(4)],
                source=int(rng.integers(15)),
            )
        )
        next_row[number] += 1
    pickers = [int(rng.integers(count)) for _ in range(count)]
    # Pickers are numbered by their first input.
    numbers = {picker: n for n, picker in enumerate(dict.fromkeys(pickers))}
    return particles, [numbers[picker] for picker in pickers]


@st.composite
def rules(draw, pickers):
    """Return parameters that the numbers of the pickers allow, as keywords of the brute force."""
    compared = draw(
        st.sampled_from(
            [
                {},
                {},
                {"between_inputs_only": True},
                {"ignore_within_filament": True},
                {"ignore_within_filament": True, "between_inputs_only": True},
                {"undo_symmetry_expansion": True},
            ]
        )
    )
    separation = draw(st.sampled_from([0.0, 5.0, 10.0, 25.0, 40.0]))
    reach = draw(st.sampled_from([None, None, 0.3, 0.5, 0.8]))
    measures = separation and "undo_symmetry_expansion" not in compared
    asked = draw(st.lists(st.sampled_from(["found", "not", "any"]), min_size=pickers))
    return {
        **compared,
        "min_separation": separation,
        "vote_distance": reach and separation * reach if measures else None,
        "min_votes": draw(st.integers(1, pickers)),
        "found_by": tuple(n for n in range(pickers) if asked[n] == "found"),
        "not_found_by": tuple(n for n in range(pickers) if asked[n] == "not"),
        "relax_unseen": draw(st.booleans()),
        "score_scale": draw(st.sampled_from(["stored", "standing"])),
        "prefer_input_order": draw(st.booleans()),
        "seed": draw(st.sampled_from([0, 7])),
    }


def picks_of(particles, label):
    """Return the particles as picks. `label` is the name of the attribute that is the label."""
    n = len(particles)
    points = np.zeros((n, 3))
    for number, particle in enumerate(particles):
        points[number, : len(particle.point)] = particle.point
    labels = [getattr(particle, label) for particle in particles]

    def column(values, dtype):
        return np.array(list(values), dtype=dtype)

    return Picks(
        micrograph=column((hash_of(particle.micrograph) for particle in particles), np.uint64),
        x=points[:, 0],
        y=points[:, 1],
        z=points[:, 2],
        score=column((particle.score for particle in particles), np.float64),
        uid=column((particle.uid for particle in particles), np.uint64),
        row_id=column(((each.input << 32) + each.row for each in particles), np.uint64),
        source=column((particle.input for particle in particles), np.uint16),
        half=np.full(n, NO_HALF, np.int8),
        label=column((-1 if each is None else each for each in labels), np.int64),
        invalid=np.zeros(n, np.uint16),
    )


def hash_of(name):
    return 2**63 + int(name[1:]) * 977


def decided(particles, picker_of, *, higher=None, scored=True, votes=True, **params):
    """Decide by the algorithm on arrays. Without `votes`, none are counted."""
    label = "source" if params.get("undo_symmetry_expansion") else "filament"
    named = {name: tuple(params.pop(name, ())) for name in ("found_by", "not_found_by")}
    texts = {name: tuple(map(str, numbers)) for name, numbers in named.items()}
    voting = None
    if votes:
        voting = Voting(
            pickers=tuple(f"picker{n}" for n in range(max(picker_of) + 1)),
            picker_of=tuple(picker_of),
            min_votes=params.get("min_votes", 1),
            relax_unseen=params.pop("relax_unseen", False),
            **named,
        )
    field = {} if scored else {"score_field": "none"}
    found, _ = decide(
        picks_of(particles, label),
        DedupParams(**{**params, **texts, **field}),
        higher or [True] * len(picker_of),
        voting,
    )
    return as_outcome(found, particles)


def as_outcome(found, particles):
    """Return the decisions in the form of the brute force. Standings are those in the table of rejections."""
    number = {(each.input, each.row): n for n, each in enumerate(particles)}

    def numbers(row_id):
        places = zip(fragment_of(row_id).tolist(), row_of(row_id).tolist(), strict=True)
        return [number.get(place) for place in places]

    rejections, votes = found.rejections.in_order(), found.votes.in_order()
    winner, outvoted, standing = {}, set(), [None] * len(particles)
    columns = (rejections.distance, rejections.standing, rejections.votes, rejections.winner_votes)
    rows = zip(
        numbers(rejections.row_id),
        numbers(rejections.winner_row_id),
        *(column.tolist() for column in columns),
        strict=True,
    )
    winner_votes = {}
    for row, other, distance, place, own_votes, other_votes in rows:
        standing[row] = None if math.isnan(place) else place
        if other is None:
            assert math.isnan(distance)
            outvoted.add(row)
            winner_votes[row] = own_votes
        else:
            winner[row] = other, distance
            winner_votes.setdefault(other, other_votes)
            assert winner_votes[other] == other_votes
    table, here, kept, last = {}, {}, set(), (-1, -1)
    columns = (votes.kept, votes.votes, votes.pickers_here, votes.picker, votes.picks)
    rows = zip(
        numbers(votes.row_id),
        numbers(votes.voter_row_id),
        votes.distance.tolist(),
        *(column.tolist() for column in columns),
        strict=True,
    )
    sizes = {}
    for row, voter, distance, stays, size, there, picker, picks in rows:
        key = (particles[row].input, particles[row].row, picker)
        assert key > last
        last = key
        table.setdefault(row, {})[picker] = voter, distance, picks
        sizes[row] = size
        if stays:
            kept.add(row)
        assert here.setdefault(particles[row].micrograph, there) == there
    assert sizes == {row: len(voters) for row, voters in table.items()}
    assert all(sizes[row] == size for row, size in winner_votes.items() if table)
    if not table:
        kept = {*range(len(particles))} - winner.keys() - outvoted
    else:
        assert outvoted == table.keys() - kept
    return Outcome(winner, table, here, kept, standing)

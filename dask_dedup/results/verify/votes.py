"""Count the votes again, from the inputs and the representatives.

Representatives are the particles that the run did not reject as duplicates. Every particle votes for the
nearest representative, which is found with a grid of cells. ``votes`` must list exactly these votes, row for
row. The representatives with the required votes must be the kept particles.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.output.layout import VOTES
from dask_dedup.particles.column_values import Columns
from dask_dedup.results.verify.close_pairs import NOT_FOUND, close_pairs, nearest_within
from dask_dedup.results.verify.faults import Faults
from dask_dedup.results.verify.outcome import MismatchError
from dask_dedup.results.verify.particle_columns import particle_columns, texts

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks
    from dask_dedup.dedup.voting import Voting
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.verify.batch import Batch, Listing
    from dask_dedup.results.verify.close_pairs import Points

    Bools = NDArray[np.bool_]
    Indices = NDArray[np.intp]
    Floats = NDArray[np.float64]


@dataclass(slots=True)
class VoteResults:
    """Results of the checks of votes on all micrographs examined so far.

    Attributes
    ----------
    representatives, kept : int
        Number of representatives, and of representatives with the required votes.
    few : int
        Number of micrographs on which fewer than `min_votes` pickers have particles.
    """

    representatives: int = 0
    kept: int = 0
    few: int = 0
    faults: Faults = field(default_factory=Faults)

    def check(self, totals: dict[str, Any]) -> str:
        """Return the result as text. Raise `MismatchError` if a row fails or the totals in the manifest are wrong."""
        self.faults.check("")
        stated = totals["votes"]["micrographs_with_few_pickers"]
        if stated != self.few:
            raise MismatchError(
                f"micrographs_with_few_pickers is {stated} in the manifest, but {self.few} in the inputs"
            )
        return (
            f"{VOTES}/ lists every vote for the {self.representatives:,} representatives; "
            f"the {self.kept:,} with the required votes are kept"
        )


@dataclass(frozen=True, slots=True)
class _Tally:
    """Every vote: a row for each representative and each picker that voted for it, in this order.

    Attributes
    ----------
    representative, nearest : (n,) intp
        Index of the representative, and of the picker's nearest particle that voted for it.
    picker : (n,) intp
    picks : (n,) intp
        Number of the picker's particles that voted for the representative.
    distance : (n,) float64
        Distance between these two in angstrom.
    """

    representative: Indices
    picker: Indices
    picks: Indices
    nearest: Indices
    distance: Floats


def examine_votes(
    inputs: Inputs,
    voting: Voting,
    batch: Batch,
    points: Points,
    rank: Indices,
    representative: Bools,
    results: VoteResults,
    name: Callable[[int], str],
) -> NDArray[np.intp]:
    """Count the votes of representatives, and compare them with ``votes`` and with the kept particles.

    Returns the number of votes of each pick, (n,).

    Parameters
    ----------
    inputs : Inputs
    voting : Voting
    batch : Batch
        Picks that can be compared, of whole micrographs.
    points : Points
        Centres and labels of the picks.
    rank : (n,) intp
    representative : (n,) bool
        The picks that are not duplicates.
    results : VoteResults
        The results are added to this object.
    name : callable
        Returns the name of a pick.
    """
    picks, kept = batch.picks, batch.kept
    picker_of = np.array(voting.picker_of, dtype=np.intp)
    cast = _cast_votes(inputs.params, picks, points, rank, representative)
    tally = _count(cast, picker_of[picks.source], rank, representative)
    votes = np.bincount(tally.representative, minlength=len(picks))
    micrographs = int(points.micrograph.max(initial=-1)) + 1
    present = np.zeros((micrographs, len(voting.pickers)), dtype=bool)
    present[points.micrograph, picker_of[picks.source]] = True
    results.few += int((present.sum(axis=1) < voting.min_votes).sum())
    chosen = representative & _meets(voting, tally, votes, present, points.micrograph)
    results.representatives += int(representative.sum())
    results.kept += int(chosen.sum())

    def describe(row: int) -> str:
        of_row = tally.picker[tally.representative == row].tolist()
        outcome = "kept" if kept[row] else "rejected"
        names = ", ".join(voting.pickers[number] for number in of_row)
        return f"{name(row)} is {outcome} for its votes, but was found by {names}"

    results.faults.add(np.flatnonzero(representative & (kept != chosen)), describe)
    if batch.votes is not None:
        here = present.sum(axis=1)[points.micrograph]
        expected = _columns(inputs, voting, picks, tally)
        expected |= {
            "kept": pa.array(chosen[tally.representative]),
            "votes": pa.array(votes[tally.representative]),
            "pickers_here": pa.array(here[tally.representative]),
        }
        _compare(batch.votes, voting, tally, pa.table(expected), results.faults, name)
    return votes


def _cast_votes(
    params: DedupParams, picks: Picks, points: Points, rank: Indices, representative: Bools
) -> tuple[Indices, Indices, Floats]:
    """Return voter, representative and distance of each vote of a duplicate."""
    voters, targets = np.flatnonzero(~representative), np.flatnonzero(representative)
    _, limit = picks.points(params)
    reach = limit if params.vote_distance is None else params.vote_distance
    found, distance = nearest_within(
        points.take(voters), points.take(targets), rank[targets], reach
    )
    votes = found != NOT_FOUND
    voters, nearest, distance = voters[votes], targets[found[votes]], distance[votes]
    if not params.ignore_within_filament:
        return voters, nearest, distance
    filament = picks.label[nearest]
    alone = filament < 0
    parts = [(voters[alone], nearest[alone], distance[alone])]
    voters, filament = voters[~alone], filament[~alone]
    for i, j, gap in close_pairs(points.take(voters), points.take(targets), reach):
        same = picks.label[targets[j]] == filament[i]
        parts.append((voters[i[same]], targets[j[same]], gap[same]))
    voter, voted, gaps = (np.concatenate(each) for each in zip(*parts, strict=True))
    return voter, voted, gaps


def _count(
    cast: tuple[Indices, Indices, Floats], picker: Indices, rank: Indices, representative: Bools
) -> _Tally:
    """Count the votes for each representative, including its own. `picker` is the number of each pick's picker."""
    own = np.flatnonzero(representative)
    voter, voted = np.append(own, cast[0]), np.append(own, cast[1])
    # A representative is sorted before other particles at the same position.
    distance = np.append(np.full(own.size, -1.0), cast[2])
    order = np.lexsort((rank[voter], distance, picker[voter], voted))
    voter, voted, distance = voter[order], voted[order], distance[order]
    by = picker[voter]
    new = np.append(True, (voted[1:] != voted[:-1]) | (by[1:] != by[:-1]))[: voted.size]
    first = np.flatnonzero(new)
    return _Tally(
        representative=voted[first],
        picker=by[first],
        picks=np.diff(first, append=voted.size),
        nearest=voter[first],
        distance=np.maximum(distance[first], 0.0),
    )


def _meets(
    voting: Voting, tally: _Tally, votes: Indices, present: Bools, micrograph: Indices
) -> Bools:
    """Return a (n,) mask of the picks that have the required votes.

    `present`, (m, p) bool, shows which of p pickers have particles on each micrograph.
    """
    needed = np.full(votes.size, voting.min_votes)
    if voting.relax_unseen:
        needed = np.minimum(needed, present.sum(axis=1)[micrograph])
    meets = votes >= needed
    for number in {*voting.found_by, *voting.not_found_by}:
        found = np.zeros(votes.size, dtype=bool)
        found[tally.representative[tally.picker == number]] = True
        if number in voting.not_found_by:
            meets &= ~found
        elif voting.relax_unseen:
            meets &= found | ~present[micrograph, number]
        else:
            meets &= found
    return meets


def _columns(inputs: Inputs, voting: Voting, picks: Picks, tally: _Tally) -> dict[str, pa.Array]:
    """Map names of columns of ``votes`` to the expected values."""
    every = np.ones(tally.picker.size, dtype=bool)
    own = particle_columns(inputs, picks.take(tally.representative), every)
    nearest = particle_columns(inputs, picks.take(tally.nearest), every)
    return {
        **{name: own[name] for name in ("input", "file", "row")},
        "picker": texts(tally.picker, pa.array(voting.pickers, pa.string()), every),
        "picks": pa.array(tally.picks),
        **{f"voter_{name}": nearest[name] for name in ("uid", "input", "file", "row", "score")},
        "distance_A": pa.array(tally.distance),
    }


def _compare(
    listing: Listing,
    voting: Voting,
    tally: _Tally,
    expected: pa.Table,
    faults: Faults,
    name: Callable[[int], str],
) -> None:
    """Compare the rows of ``votes`` with `expected`, the columns of the votes in `tally`."""
    pickers = len(voting.pickers)
    number = {picker: n for n, picker in enumerate(voting.pickers)}
    codes, names = Columns(listing.table, VOTES).texts("picker")
    picker = np.array([*(number.get(text, -1) for text in names), -1], dtype=np.intp)[codes]

    def vote(representative: int, by: int) -> str:
        return f"the vote of {voting.pickers[by]} for {name(representative)}"

    unknown = np.flatnonzero(picker < 0)
    faults.add(
        unknown,
        lambda n: (
            f"{name(int(listing.picks[n]))}: {VOTES} lists {listing.table.column('picker')[n]}, "
            "which is not a picker"
        ),
    )
    found = listing.picks * pickers + picker
    right = tally.representative * pickers + tally.picker
    twice = np.zeros(found.size, dtype=bool)
    twice[1:] = found[1:] <= found[:-1]
    extra = (~np.isin(found, right) | twice) & (picker >= 0)
    missing = np.flatnonzero(~np.isin(right, found))
    faults.add(
        missing,
        lambda n: f"{VOTES} lacks {vote(int(tally.representative[n]), int(tally.picker[n]))}",
    )
    faults.add(
        np.flatnonzero(extra),
        lambda n: (
            f"{VOTES} lists {vote(int(listing.picks[n]), int(picker[n]))}, which "
            + ("is out of place" if twice[n] else "was not cast")
        ),
    )
    rows = np.flatnonzero(~extra & (picker >= 0))
    of_row = pa.array(np.searchsorted(right, found).clip(max=max(right.size - 1, 0)))
    if rows.size:
        columns = {column: expected.column(column).take(of_row) for column in expected.column_names}
        columns |= dict(zip(listing.stored.column_names, listing.stored.columns, strict=True))
        faults.compare(
            VOTES,
            listing.table,
            columns,
            rows,
            lambda n: vote(int(listing.picks[n]), int(picker[n])),
        )

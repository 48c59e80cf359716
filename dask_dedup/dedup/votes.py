"""Votes: each pick votes for the nearest particle that remains, in the name of its picker.

The particles that greedy suppression keeps are the representatives. A representative votes for itself. Any other
particle votes for the nearest representative that it is a duplicate of, if that is within the vote distance. If
several are equally near, it votes for the best-ranked of them. The number of votes of a representative is the number
of pickers that voted for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from dask_dedup.dedup.arrays import begins_run, constant_column, dtypes_of, repeat_each
from dask_dedup.dedup.coincident import best_of_runs
from dask_dedup.dedup.pairs import PairSearch, Points
from dask_dedup.dedup.picks import RowTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.dedup.greedy import Suppression
    from dask_dedup.dedup.pairs import Floats, Indices, Keys, Pairs
    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks
    from dask_dedup.dedup.voting import Voting


@dataclass(frozen=True, slots=True)
class Votes(RowTable):
    """Table with a row for each representative and each picker that voted for it.

    Attributes
    ----------
    row_id : (n,) uint64
        Row id of the representative, as in `Picks`. The same applies to micrograph, uid and source. Fields with
        ``voter_`` describe the nearest particle of the picker that voted for the representative.
    kept : (n,) bool
        Whether the representative is kept.
    votes, pickers_here : (n,) uint16
        Number of pickers that voted for the representative, and of pickers with comparable particles on the
        micrograph.
    picker : (n,) uint16
        Number of the picker.
    picks : (n,) int32
        Number of particles of this picker that voted for the representative.
    coincident : (n,) uint16
        Source of another picker's voter for the same representative at exactly the same position, else
        `voter_source`.
    distance : (n,) float64
        Distance between the representative and the voter, angstrom.
    """

    row_id: NDArray[np.uint64]
    micrograph: NDArray[np.uint64]
    uid: NDArray[np.uint64]
    source: NDArray[np.uint16]
    kept: NDArray[np.bool_]
    votes: NDArray[np.uint16]
    pickers_here: NDArray[np.uint16]
    picker: NDArray[np.uint16]
    picks: NDArray[np.int32]
    voter_row_id: NDArray[np.uint64]
    voter_uid: NDArray[np.uint64]
    voter_source: NDArray[np.uint16]
    voter_score: NDArray[np.float64]
    coincident: NDArray[np.uint16]
    distance: NDArray[np.float64]

    @property
    def first(self) -> NDArray[np.bool_]:
        """Mask of the first row of each representative, (n,). Rows of a representative must be adjacent."""
        return begins_run(self.row_id)

    def in_order(self) -> Self:
        """Return the table sorted by the row id of the representatives, then by picker."""
        # The rows of each representative are already sorted by picker.
        return self.take(np.argsort(self.row_id, kind="stable"))


Votes.dtypes = dtypes_of(
    *(Votes, "u8", "u8", "u8", "u2", "?", "u2", "u2", "u2"),
    *("i4", "u8", "u8", "u2", "f8", "u2", "f8"),
)


def assign_votes(
    points: Points,
    keys: Keys,
    result: Suppression,
    distance: float,
    filaments: NDArray[np.int64] | None = None,
) -> Pairs:
    """Find the votes of all rejected particles. Return the rows of voters and of representatives, and their distances.

    Parameters
    ----------
    points : Points
    keys : sequence of (n,) uint64
        Rank keys (see `rank`).
    result : Suppression
        Decision of the greedy rule. The kept particles are the representatives.
    distance : float
        The vote distance, angstrom.
    filaments : (n,) int64, optional
        Filament of each particle; -1 if it has none. If the nearest representative is on a filament, a particle
        votes for all representatives on that filament within the vote distance.
    """
    voter, voted, apart = _pairs_to_representatives(points, result, distance)
    order = np.argsort(voter)
    voter, voted, apart = voter[order], voted[order], apart[order]
    starts = np.flatnonzero(begins_run(voter))
    nearest, least = _nearest_of_runs(voted, apart, starts, keys)
    if filaments is None:
        return voter[starts], nearest, least
    nearest = np.repeat(nearest, np.diff(starts, append=voter.size))
    filament = filaments[nearest]
    votes = (voted == nearest) | ((filament >= 0) & (filaments[voted] == filament))
    return voter[votes], voted[votes], apart[votes]


def _pairs_to_representatives(points: Points, result: Suppression, distance: float) -> Pairs:
    """Return all pairs of a rejected particle and a representative that are duplicates within the vote distance."""
    rejected = result.rejected
    if result.pairs is not None:
        return _pairs_of_groups(result, result.pairs, distance)
    none = np.empty(0, np.intp)
    found: list[Pairs] = [(none, none, np.empty(0))]
    if rejected.any():
        representatives = np.flatnonzero(~rejected)
        for k, row in PairSearch.over(points, distance).candidates(representatives):
            k, row = k[rejected[row]], row[rejected[row]]
            close, apart = points.measure(representatives[k], row, distance)
            found.append((row[close], representatives[k[close]], apart[close]))
    voter, voted, apart = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return voter, voted, apart


def _pairs_of_groups(result: Suppression, pairs: Pairs, distance: float) -> Pairs:
    """Select the pairs of a rejected and a kept row, and replace the numbers of coincident groups by rows."""
    i, j, apart = pairs
    groups, rejected = result.groups, result.rejected
    rejected_rows = rejected if groups is None else rejected[groups.best]
    near = (rejected_rows[i] != rejected_rows[j]) & (apart <= distance)
    i, j, apart = i[near], j[near], apart[near]
    voter, voted = np.where(rejected_rows[i], i, j), np.where(rejected_rows[i], j, i)
    if groups is None:
        return voter, voted, apart
    members, starts = groups.members, np.cumsum(groups.rows) - groups.rows
    # Only one row of a kept group is kept, unless a label forbids that its rows are duplicates of each other.
    kept = np.where(groups.mutual, 1, groups.rows)
    members_kept = members.copy()
    members_kept[starts[groups.mutual]] = groups.best[groups.mutual]
    pair, nth = repeat_each(groups.rows[voter])
    voter = members[starts[voter[pair]] + nth]
    voted, apart = voted[pair], apart[pair]
    pair, nth = repeat_each(kept[voted])
    voter, apart = voter[pair], apart[pair]
    voted = members_kept[starts[voted[pair]] + nth]
    copies = np.flatnonzero(groups.mutual[groups.group] & ~rejected_rows[groups.group])
    copies = copies[rejected[copies]]
    return (
        np.append(voter, copies),
        np.append(voted, groups.best[groups.group[copies]]),
        np.append(apart, np.zeros(copies.size)),
    )


def _nearest_of_runs(
    rows: Indices, distance: Floats, starts: Indices, keys: Keys
) -> tuple[Indices, Floats]:
    """Split `rows` at `starts`. Return the nearest row of each part, and its distance.

    If several rows are equally near, return the best-ranked of them.
    """
    if not starts.size:
        return rows, distance
    least = np.minimum.reduceat(distance, starts)
    part = np.repeat(np.arange(starts.size), np.diff(starts, append=rows.size))
    leading = distance == least[part]
    starts = np.searchsorted(part[leading], np.arange(starts.size))
    return best_of_runs(rows[leading], starts, keys), least


@dataclass(frozen=True, slots=True)
class CountedVotes:
    """The table of votes, and the result for each particle.

    Attributes
    ----------
    table : Votes
    votes : (n,) uint16
        Number of votes of each particle; 0 if the particle is no representative.
    outvoted : (n,) bool
        Whether a particle is a representative that is rejected for its votes.
    """

    table: Votes
    votes: NDArray[np.uint16]
    outvoted: NDArray[np.bool_]

    @classmethod
    def none(cls, n: int) -> Self:
        """Return the result for `n` particles without a count of votes."""
        return cls(
            Votes.concatenate([]),
            votes=constant_column(np.uint16(0), n),
            outvoted=constant_column(np.False_, n),
        )


def count_votes(
    picks: Picks,
    micrographs: Indices,
    keys: Keys,
    result: Suppression,
    params: DedupParams,
    voting: Voting,
) -> CountedVotes:
    """Count the votes of each representative, and choose the representatives that are kept.

    Parameters
    ----------
    picks : Picks
        Valid picks of whole micrographs.
    micrographs : (n,) intp
        Number of the micrograph of each pick, from 0.
    keys : sequence of (n,) uint64
        Rank keys of the picks.
    result : Suppression
        Decisions of the greedy rule about the picks.
    params : DedupParams
    voting : Voting
    """
    centres, reach = picks.points(params)
    distance = reach if params.vote_distance is None else params.vote_distance
    filaments = picks.label if params.ignore_within_filament else None
    points = Points(centres, micrographs, picks.exclusions(params))
    voter, voted, apart = assign_votes(points, keys, result, distance, filaments)

    picker = np.array(voting.picker_of, dtype=np.intp)[picks.source]
    pickers, own = len(voting.pickers), np.flatnonzero(~result.rejected)
    # A slot for each representative and picker. Distance -1 puts a representative before other particles at 0.
    voter = np.append(own, voter)
    slot = np.append(own, voted) * pickers + picker[voter]
    apart = np.append(np.full(own.size, -1.0), apart)
    order = np.argsort(slot)
    slot = slot[order]
    starts = np.flatnonzero(begins_run(slot))
    nearest, least = _nearest_of_runs(voter[order], apart[order], starts, keys)
    least = np.maximum(least, 0.0)
    voted, by = np.divmod(slot[starts], pickers)
    same = _find_coincident_voters(picks, voted, nearest, least)

    seen = np.zeros((int(micrographs.max(initial=-1)) + 1, pickers), dtype=bool)
    seen[micrographs, picker] = True
    votes = np.bincount(voted, minlength=len(picks))

    def found_by(number: int) -> NDArray[np.bool_]:
        found = np.zeros(len(picks), dtype=bool)
        found[voted[by == number]] = True
        return found[own]

    outvoted = np.zeros(len(picks), dtype=bool)
    outvoted[own] = ~voting.keeps(votes[own], micrographs[own], seen, found_by)
    table = Votes(
        row_id=picks.row_id[voted],
        micrograph=picks.micrograph[voted],
        uid=picks.uid[voted],
        source=picks.source[voted],
        kept=~outvoted[voted],
        votes=votes[voted].astype(np.uint16),
        pickers_here=seen.sum(axis=1)[micrographs[voted]].astype(np.uint16),
        picker=by.astype(np.uint16),
        picks=np.diff(starts, append=slot.size).astype(np.int32),
        voter_row_id=picks.row_id[nearest],
        voter_uid=picks.uid[nearest],
        voter_source=picks.source[nearest],
        voter_score=picks.score[nearest],
        coincident=picks.source[nearest[same]],
        distance=least,
    )
    return CountedVotes(table, votes.astype(np.uint16), outvoted)


def _find_coincident_voters(
    picks: Picks, voted: Indices, voter: Indices, distance: Floats
) -> Indices:
    """Return, for each row, an earlier row with the same representative and a voter at exactly the same position, (n,).

    Return the row itself if there is no such row. `voted` must be sorted.
    """
    same = np.arange(voted.size)
    rows = same
    for apart in range(1, voted.size):
        rows = rows[rows >= apart]
        rows = rows[voted[rows] == voted[rows - apart]]
        if not rows.size:
            break
        found = np.flatnonzero(distance[rows] == distance[rows - apart])
        one, other = voter[rows[found]], voter[rows[found] - apart]
        for column in (picks.x, picks.y, picks.z):
            alike = column[one] == column[other]
            found, one, other = found[alike], one[alike], other[alike]
        same[rows[found]] -= apart
        rows = np.delete(rows, found)
    return same

"""Find the rejected particles among picks, with their winners and votes, and count them by micrograph."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dask_dedup.dedup.arrays import constant_column, dtypes_of, unique_inverse
from dask_dedup.dedup.greedy import NO_WINNER, Suppression, reject_all_close, suppress
from dask_dedup.dedup.pairs import Points
from dask_dedup.dedup.picks import LOW_SCORE, NO_HALF, RowTable, fragment_of
from dask_dedup.dedup.rank import rank_keys, standings
from dask_dedup.dedup.votes import CountedVotes, Votes, count_votes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks
    from dask_dedup.dedup.voting import Voting

#: Row id of the winner if a particle has no winner.
NO_ROW_ID = np.uint64(0xFFFFFFFFFFFFFFFF)
#: Number of equal bins for the fraction of rejected picks of a micrograph.
FRACTION_BINS = 20
#: Number of micrographs in the list of micrographs with the most picks.
DENSEST = 10


@dataclass(frozen=True, slots=True)
class Rejections(RowTable):
    """Table of the rejected particles and their winners. Particles not in the table are kept.

    Attributes
    ----------
    row_id : (n,) uint64
        Row id, as in `Picks`. The same applies to micrograph, uid, score, source and half. Fields with ``winner_``
        describe the winner.
    standing : (n,) float64
        Rank of the particle by score within its input and micrograph (`rank.standings`). NaN if the particle has no
        score, or if `score_scale` is not ``standing``.
    votes : (n,) uint16
        Number of votes, if the particle is rejected because its votes do not meet the conditions; otherwise 0.
    winner_row_id : (n,) uint64
        `NO_ROW_ID` if there is no winner: if the row was not compared, or is rejected because of its votes. With
        `remove_entirely`, no row has a winner.
    winner_votes : (n,) uint16
        Votes of the winner; 0 if votes are not counted.
    distance : (n,) float64
        Distance to the winner in angstrom. If the separation is 0, in the stored unit. NaN for rows that are not
        duplicates.
    invalid : (n,) uint16
        `Reason` flags; 0 for duplicates.
    """

    row_id: NDArray[np.uint64]
    micrograph: NDArray[np.uint64]
    uid: NDArray[np.uint64]
    score: NDArray[np.float64]
    source: NDArray[np.uint16]
    half: NDArray[np.int8]
    standing: NDArray[np.float64]
    votes: NDArray[np.uint16]
    winner_row_id: NDArray[np.uint64]
    winner_uid: NDArray[np.uint64]
    winner_score: NDArray[np.float64]
    winner_source: NDArray[np.uint16]
    winner_half: NDArray[np.int8]
    winner_standing: NDArray[np.float64]
    winner_votes: NDArray[np.uint16]
    distance: NDArray[np.float64]
    invalid: NDArray[np.uint16]

    @property
    def winner_fragment(self) -> NDArray[np.int64]:
        """Number of the fragment that contains the winner of each particle, (n,); meaningless without a winner."""
        return fragment_of(self.winner_row_id)

    @property
    def has_winner(self) -> NDArray[np.bool_]:
        """Mask of the rejected particles that have a winner, (n,) bool."""
        return np.asarray(self.winner_row_id != NO_ROW_ID)

    def in_order(self) -> Self:
        """Return the table sorted by the row id of the rejected particles."""
        if (self.row_id[1:] > self.row_id[:-1]).all():  # the usual case
            return self
        return self.take(np.argsort(self.row_id))


Rejections.dtypes = dtypes_of(
    *(Rejections, "u8", "u8", "u8", "f8", "u2", "i1", "f8", "u2"),
    *("u8", "u8", "f8", "u2", "i1", "f8", "u2", "f8", "u2"),
)


@dataclass(frozen=True, slots=True)
class DecisionCounts:
    """Numbers of micrographs, picks and rejected picks, in total and for the densest micrographs.

    Attributes
    ----------
    micrographs, picks, rejected : int
    by_fraction : tuple of int
        Histogram of the micrographs by the fraction of picks rejected, in `FRACTION_BINS` equal
        bins from 0 to 1.
    densest : tuple of (int, int, int)
        The `DENSEST` micrographs with the most picks: key, number of picks and number of rejected picks.
    """

    micrographs: int = 0
    picks: int = 0
    rejected: int = 0
    by_fraction: tuple[int, ...] = (0,) * FRACTION_BINS
    densest: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of(
        cls, keys: NDArray[np.uint64], picks: NDArray[np.int64], rejected: NDArray[np.int64]
    ) -> DecisionCounts:
        """Summarise decisions, given the key, picks and rejected picks of each micrograph. Each array is (m,)."""
        bins = np.minimum(rejected * FRACTION_BINS // np.maximum(picks, 1), FRACTION_BINS - 1)
        most = np.lexsort((keys, -picks))[:DENSEST]
        rows = zip(keys[most].tolist(), picks[most].tolist(), rejected[most].tolist(), strict=True)
        return cls(
            micrographs=keys.size,
            picks=int(picks.sum()),
            rejected=int(rejected.sum()),
            by_fraction=tuple(np.bincount(bins, minlength=FRACTION_BINS).tolist()),
            densest=tuple(rows),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as a dict for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Decisions:
    """The rejected particles among picks, and the votes of the representatives."""

    rejections: Rejections
    #: Empty if votes are not counted.
    votes: Votes

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join decisions about different picks."""
        return cls(
            Rejections.concatenate([part.rejections for part in parts]),
            Votes.concatenate([part.votes for part in parts]),
        )

    def of_fragment(self, number: int) -> Self:
        """Return the decisions about the picks of one fragment."""
        rejections, votes = self.rejections, self.votes
        return type(self)(
            rejections.take(rejections.fragment == number), votes.take(votes.fragment == number)
        )

    def in_order(self) -> Self:
        """Return the decisions sorted by row id."""
        return type(self)(self.rejections.in_order(), self.votes.in_order())


def decide(
    picks: Picks,
    params: DedupParams,
    higher_is_better: Sequence[bool] = (True,),
    voting: Voting | None = None,
) -> tuple[Decisions, DecisionCounts]:
    """Find the duplicates among picks, and count votes. All picks of a micrograph must be passed together.

    Parameters
    ----------
    picks : Picks
        All picks of each micrograph that occurs, in any order.
    params : DedupParams
    higher_is_better : sequence of bool
        Direction of the score of each input.
    voting : Voting, optional
        Pickers, and the rule by which votes decide. Needed if votes are counted.

    Returns
    -------
    decisions : Decisions
        In the order of `picks`. Rows with a low score and, if rejected, invalid rows come last.
    counts : DecisionCounts
        Counts of the valid picks.
    """
    invalid = picks.invalid != 0
    if invalid.any():
        found, counts = decide(picks.take(~invalid), params, higher_is_better, voting)
        rejected = rejected_uncompared(picks, params)
        if rejected.any():
            found = Decisions.concatenate([found, _set_aside(picks.take(np.flatnonzero(rejected)))])
        return found, counts
    centres, separation = picks.points(params)
    keys, number = unique_inverse(picks.micrograph)
    ranks = rank_keys(picks, params, higher_is_better)
    method = reject_all_close if params.remove_entirely else suppress
    result = method(Points(centres, number, picks.exclusions(params)), ranks, separation)
    if voting is None:
        counted = CountedVotes.none(len(picks))
    else:
        counted = count_votes(picks, number, ranks, result, params, voting)
    rows = np.flatnonzero(result.rejected | counted.outvoted)
    counts = DecisionCounts.of(
        keys,
        np.bincount(number, minlength=keys.size),
        np.bincount(number[rows], minlength=keys.size),
    )
    standing = standings(ranks, params)
    return Decisions(_rejections(picks, rows, result, counted, standing), counted.table), counts


def rejected_uncompared(picks: Picks, params: DedupParams) -> NDArray[np.bool_]:
    """Return an (n,) mask of the picks that are rejected without a comparison.

    These are picks with a low score, and invalid rows if the parameter `invalid` is ``reject``.
    """
    reasons = ~np.uint16(0) if params.invalid == "reject" else np.uint16(LOW_SCORE)
    return np.asarray((picks.invalid & reasons) != 0)


def _set_aside(picks: Picks) -> Decisions:
    """Reject particles that were not compared."""
    n = len(picks)
    result, counted = Suppression.keep_all(n), CountedVotes.none(n)
    standing = constant_column(np.nan, n)
    return Decisions(_rejections(picks, np.arange(n), result, counted, standing), counted.table)


def _rejections(
    picks: Picks,
    rows: NDArray[np.intp],
    result: Suppression,
    counted: CountedVotes,
    standing: NDArray[np.float64],
) -> Rejections:
    """Make the table of the rejected particles with the row numbers `rows`."""
    winners = result.winner[rows]
    none = np.flatnonzero(winners == NO_WINNER)

    def of_winner(column: NDArray[Any], missing: Any) -> NDArray[Any]:
        values = column[winners]
        values[none] = missing
        return values

    return Rejections(
        row_id=picks.row_id[rows],
        micrograph=picks.micrograph[rows],
        uid=picks.uid[rows],
        score=picks.score[rows],
        source=picks.source[rows],
        half=picks.half[rows],
        standing=standing[rows],
        votes=np.where(counted.outvoted[rows], counted.votes[rows], np.uint16(0)),
        winner_row_id=of_winner(picks.row_id, NO_ROW_ID),
        winner_uid=of_winner(picks.uid, 0),
        winner_score=of_winner(picks.score, np.nan),
        winner_source=of_winner(picks.source, 0),
        winner_half=of_winner(picks.half, NO_HALF),
        winner_standing=of_winner(standing, np.nan),
        winner_votes=of_winner(counted.votes, 0),
        distance=result.distance[rows],
        invalid=picks.invalid[rows],
    )

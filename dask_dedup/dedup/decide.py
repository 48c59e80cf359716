"""From picks to decisions: which particles are rejected, in favour of which, and how many on each micrograph."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dask_dedup.arrow import unique_inverse
from dask_dedup.dedup.greedy import NOBODY, reject_crowded, suppress
from dask_dedup.dedup.picks import NO_HALF, all_of, fragment_of, row_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks

#: The place of a winner that does not exist, where duplicates are removed entirely.
NO_ROW_ID = np.uint64(0xFFFFFFFFFFFFFFFF)
#: Micrographs are counted by the fraction rejected in so many equal bins, and so many are listed.
FRACTION_BINS = 20
DENSEST = 10


@dataclass(frozen=True, slots=True)
class Rejections:
    """One row a rejected particle; all others are kept.

    Attributes
    ----------
    place : (n,) uint64
        As in `Picks`; so are uid, score, source and half, of the row and of its winner.
    distance : (n,) float64
        Angstrom (in stored units at separation 0); NaN for invalid rows.
    invalid : (n,) uint16
        `Reason` flags; 0 for rows that lost to another.
    """

    row_id: NDArray[np.uint64]
    uid: NDArray[np.uint64]
    score: NDArray[np.float64]
    source: NDArray[np.uint16]
    half: NDArray[np.int8]
    winner_row_id: NDArray[np.uint64]
    winner_uid: NDArray[np.uint64]
    winner_score: NDArray[np.float64]
    winner_source: NDArray[np.uint16]
    winner_half: NDArray[np.int8]
    distance: NDArray[np.float64]
    invalid: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.row_id)

    @property
    def fragment(self) -> NDArray[np.int64]:
        """Number of the fragment each row lives in."""
        return fragment_of(self.row_id)

    @property
    def row(self) -> NDArray[np.int64]:
        """Row number in that fragment."""
        return row_of(self.row_id)

    @property
    def has_winner(self) -> NDArray[np.bool_]:
        """Whether there is a kept particle in whose favour the row was rejected."""
        return np.asarray(self.winner_row_id != NO_ROW_ID)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """Select rows by number or by mask."""
        return replace(self, **{name: getattr(self, name)[rows] for name in REJECTIONS_DTYPES})

    def in_order(self) -> Self:
        """Sort by place."""
        return self.take(np.argsort(self.row_id))

    @classmethod
    def concatenate(cls, parts: Sequence[Rejections]) -> Self:
        """Join rejections end to end; none give empty ones."""
        empty = {name: np.empty(0, dtype) for name, dtype in REJECTIONS_DTYPES.items()}
        return cls.from_columns(
            {
                name: np.concatenate([empty[name], *(getattr(part, name) for part in parts)])
                for name in REJECTIONS_DTYPES
            }
        )

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[np.generic]]) -> Self:
        """Make rejections of arrays by name; further columns are left out."""
        return cls(**{name: np.asarray(columns[name]) for name in REJECTIONS_DTYPES})

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Give the arrays by name."""
        return {name: getattr(self, name) for name in REJECTIONS_DTYPES}


REJECTIONS_DTYPES: dict[str, np.dtype[np.generic]] = dict(
    zip(
        [field.name for field in fields(Rejections)],
        map(np.dtype, ("u8", "u8", "f8", "u2", "i1", "u8", "u8", "f8", "u2", "i1", "f8", "u2")),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class DecisionCounts:
    """What some decisions came to, in numbers that do not grow with them.

    Attributes
    ----------
    micrographs, picks, rejected : int
    by_fraction : tuple of int
        Micrographs by the fraction of their picks that is rejected, in `FRACTION_BINS` equal bins over
        0 to 1.
    densest : tuple of (int, int, int)
        Key, picks and rejected of the micrographs with the most picks.
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
        """Count by micrograph: all arrays (m,), each key once."""
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
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the counts that `to_dict` wrote, also after JSON."""
        densest = tuple((key, picks, rejected) for key, picks, rejected in values["densest"])
        by_fraction = tuple(values["by_fraction"])
        return cls(**{**values, "by_fraction": by_fraction, "densest": densest})


def decide(picks: Picks, params: DedupParams) -> tuple[Rejections, DecisionCounts]:
    """Find the duplicates among whole micrographs.

    Parameters
    ----------
    picks : Picks
        All picks of each micrograph that occurs, in any order. Invalid ones take no part.
    params : DedupParams

    Returns
    -------
    rejections : Rejections
        In the order of the picks; invalid ones last, if they are to be rejected.
    counts : DecisionCounts
        Of those that can be compared.
    """
    invalid = picks.invalid != 0
    if invalid.any():
        rejections, counts = decide(picks.take(~invalid), params)
        if params.invalid == "reject":
            set_aside = _set_aside(picks.take(invalid))
            rejections = Rejections.concatenate([rejections, set_aside])
        return rejections, counts
    points, separation = picks.points(params)
    method = reject_crowded if params.remove_entirely else suppress
    keys, number = unique_inverse(picks.micrograph)
    outcome = method(points, number, picks.rank_keys(params), separation, picks.exclusions(params))
    losers = np.flatnonzero(outcome.rejected)
    loser, winners = picks.take(losers), outcome.winner[losers]
    winner = picks.take(winners)
    nobody = winners == NOBODY
    counts = DecisionCounts.of(
        keys,
        np.bincount(number, minlength=keys.size),
        np.bincount(number[losers], minlength=keys.size),
    )
    rejections = Rejections(
        row_id=loser.row_id,
        uid=loser.uid,
        score=loser.score,
        source=loser.source,
        half=loser.half,
        winner_row_id=np.where(nobody, NO_ROW_ID, winner.row_id),
        winner_uid=np.where(nobody, np.uint64(0), winner.uid),
        winner_score=np.where(nobody, np.nan, winner.score),
        winner_source=np.where(nobody, np.uint16(0), winner.source),
        winner_half=np.where(nobody, np.int8(NO_HALF), winner.half),
        distance=outcome.distance[losers],
        invalid=loser.invalid,
    )
    return rejections, counts


def _set_aside(picks: Picks) -> Rejections:
    """Reject invalid picks, in favour of nobody."""
    rows = len(picks)
    return Rejections(
        row_id=picks.row_id,
        uid=picks.uid,
        score=picks.score,
        source=picks.source,
        half=picks.half,
        winner_row_id=all_of(NO_ROW_ID, rows),
        winner_uid=all_of(np.uint64(0), rows),
        winner_score=all_of(np.nan, rows),
        winner_source=all_of(np.uint16(0), rows),
        winner_half=all_of(np.int8(NO_HALF), rows),
        distance=all_of(np.nan, rows),
        invalid=picks.invalid,
    )

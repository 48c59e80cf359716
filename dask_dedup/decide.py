"""From picks to decisions: which particles are rejected, in favour of which."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from dask_dedup.kernel import NOBODY, reject_crowded, suppress
from dask_dedup.picks import NO_HALF, fragment_of, row_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from dask_dedup.params import DedupParams
    from dask_dedup.picks import Picks

#: The place of a winner that does not exist, where duplicates are removed entirely.
NO_PLACE = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Rejections:
    """One row a rejected particle; all others are kept.

    Attributes
    ----------
    place : (n,) uint64
        As in `Picks`; so are uid, score, source and half, of the row and of its winner.
    distance : (n,) float64
        Angstrom (in stored units at separation 0).
    """

    place: NDArray[np.uint64]
    uid: NDArray[np.uint64]
    score: NDArray[np.float64]
    source: NDArray[np.uint16]
    half: NDArray[np.int8]
    winner_place: NDArray[np.uint64]
    winner_uid: NDArray[np.uint64]
    winner_score: NDArray[np.float64]
    winner_source: NDArray[np.uint16]
    winner_half: NDArray[np.int8]
    distance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.place)

    @property
    def fragment(self) -> NDArray[np.int64]:
        """Number of the fragment each row lives in."""
        return fragment_of(self.place)

    @property
    def row(self) -> NDArray[np.int64]:
        """Row number in that fragment."""
        return row_of(self.place)

    @property
    def has_winner(self) -> NDArray[np.bool_]:
        """Whether there is a kept particle in whose favour the row was rejected."""
        return np.asarray(self.winner_place != NO_PLACE)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """Select rows by number or by mask."""
        return replace(self, **{name: getattr(self, name)[rows] for name in REJECTIONS_DTYPES})

    def in_order(self) -> Self:
        """Sort by place."""
        return self.take(np.argsort(self.place))

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
        map(np.dtype, ("u8", "u8", "f8", "u2", "i1", "u8", "u8", "f8", "u2", "i1", "f8")),
        strict=True,
    )
)


def decide(picks: Picks, params: DedupParams) -> Rejections:
    """Find the duplicates among whole micrographs.

    Parameters
    ----------
    picks : Picks
        All picks of each micrograph that occurs, in any order.
    params : DedupParams

    Returns
    -------
    Rejections
        In the order of the picks.
    """
    points, separation = picks.points(params)
    method = reject_crowded if params.remove_entirely else suppress
    outcome = method(
        points,
        _dense(picks.micrograph),
        picks.rank_keys(params),
        separation,
        picks.exclusions(params),
    )
    losers = np.flatnonzero(outcome.rejected)
    loser, winners = picks.take(losers), outcome.winner[losers]
    winner = picks.take(winners)
    nobody = winners == NOBODY
    return Rejections(
        place=loser.place,
        uid=loser.uid,
        score=loser.score,
        source=loser.source,
        half=loser.half,
        winner_place=np.where(nobody, NO_PLACE, winner.place),
        winner_uid=np.where(nobody, np.uint64(0), winner.uid),
        winner_score=np.where(nobody, np.nan, winner.score),
        winner_source=np.where(nobody, np.uint16(0), winner.source),
        winner_half=np.where(nobody, np.int8(NO_HALF), winner.half),
        distance=outcome.distance[losers],
    )


def _dense(keys: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Number the distinct keys 0, 1, ...; picks of a micrograph mostly come in one run."""
    if not keys.size:
        return np.empty(0, dtype=np.intp)
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    _, number_of_run = np.unique(keys[starts], return_inverse=True)
    lengths = np.diff(starts, append=keys.size)
    return np.repeat(number_of_run.astype(np.intp), lengths)

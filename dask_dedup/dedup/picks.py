"""The narrow table: what has to be known of a particle to decide about it, as numbers only."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dask_dedup.dedup.rank import score_key, splitmix64

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams

NO_HALF = -1

_ROW_BITS = np.uint64(32)
_ROW_MASK = np.uint64(0xFFFFFFFF)


def row_ids(fragment: int, rows: int) -> NDArray[np.uint64]:
    """Pack a fragment's number (high half) with each of its row numbers (low half)."""
    return (np.uint64(fragment) << _ROW_BITS) + np.arange(rows, dtype=np.uint64)


def fragment_of(row_id: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Give the fragment's number of each place."""
    return (row_id >> _ROW_BITS).astype(np.int64)


def row_of(row_id: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Give the row number in its fragment of each place."""
    return (row_id & _ROW_MASK).astype(np.int64)


def all_of(value: Any, rows: int) -> NDArray[Any]:
    """Give a read-only column of one value that takes no memory."""
    return np.broadcast_to(value, rows)


@dataclass(frozen=True, slots=True)
class Picks:
    """One row a particle; about 60 bytes each.

    Attributes
    ----------
    micrograph : (n,) uint64
        Micrograph key: its uid, or a hash of its name.
    x, y, z : (n,) float64
        Centre in angstrom (or as stored, at separation 0); z is 0 for micrographs.
    score : (n,) float64
        As stored; NaN where there is none.
    uid : (n,) uint64
        Or source and row number, packed, where the table has no uid.
    place : (n,) uint64
        Fragment and row; rises with (source, row number).
    source : (n,) uint16
        Ordinal of the input.
    half : (n,) int8
        Half-set as stored; -1 where there is none.
    label : (n,) int64
        Filament, or the uid of the particle that a symmetry copy was made from; -1 where neither
        matters.
    invalid : (n,) uint16
        `Reason` flags; 0 for rows that can be compared.
    """

    micrograph: NDArray[np.uint64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    score: NDArray[np.float64]
    uid: NDArray[np.uint64]
    row_id: NDArray[np.uint64]
    source: NDArray[np.uint16]
    half: NDArray[np.int8]
    label: NDArray[np.int64]
    invalid: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.row_id)

    @property
    def nbytes(self) -> int:
        """Memory taken; columns of one value take none."""
        arrays = [getattr(self, name) for name in PICKS_DTYPES]
        return sum(array.nbytes for array in arrays if any(array.strides))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """Select rows by number or by mask."""
        number = int(np.count_nonzero(rows)) if rows.dtype == bool else rows.size
        return replace(
            self, **{name: _take(getattr(self, name), rows, number) for name in PICKS_DTYPES}
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Picks]) -> Self:
        """Join picks end to end; none give empty picks."""
        if not parts:
            return cls.from_columns(
                {name: np.empty(0, dtype) for name, dtype in PICKS_DTYPES.items()}
            )
        return cls.from_columns(
            {name: np.concatenate([getattr(part, name) for part in parts]) for name in PICKS_DTYPES}
        )

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[np.generic]]) -> Self:
        """Make picks of arrays by name; further columns are left out."""
        return cls(**{name: np.asarray(columns[name]) for name in PICKS_DTYPES})

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Give the arrays by name."""
        return {name: getattr(self, name) for name in PICKS_DTYPES}

    def points(self, params: DedupParams) -> tuple[NDArray[np.float64], float]:
        """Give what is compared, and the largest distance at which two are duplicates.

        Returns
        -------
        points : (n, 2) or, if any z is not 0, (n, 3) float64
            Centres. Symmetry copies are the same where their source's uid is: its two halves, exact
            as floats, stand in for a position.
        separation : float
        """
        if params.undo_symmetry_expansion:
            uid = self.label.view(np.uint64)
            halves = (uid >> np.uint64(32), uid & np.uint64(0xFFFFFFFF))
            return np.column_stack(halves).astype(np.float64), 0.0
        axes = (self.x, self.y, self.z) if self.z.any() else (self.x, self.y)
        return np.column_stack(axes), params.min_separation

    def exclusions(self, params: DedupParams) -> list[NDArray[np.int64]]:
        """Give the labels that keep two particles from being duplicates where they share one."""
        labels = [self.source.astype(np.int64)] if params.between_inputs_only else []
        return [*labels, self.label] if params.ignore_within_filament else labels

    def rank_keys(self, params: DedupParams) -> list[NDArray[np.uint64]]:
        """Give the total order of the design: priority, score, seeded hash, uid, place."""
        keys = [splitmix64(self.uid ^ np.uint64(params.seed)), self.uid, self.row_id]
        if params.score is not None:
            higher = params.score.higher_is_better
            keys.insert(0, score_key(self.score, higher_is_better=higher))
        if params.prefer_input_order:
            keys.insert(0, self.source.astype(np.uint64))
        return keys


def _take(column: NDArray[Any], rows: NDArray[Any], number: int) -> NDArray[Any]:
    """Select rows; a column of one value stays one that takes no memory."""
    if column.size and not any(column.strides):
        return all_of(column[0], number)
    return np.asarray(column[rows])


PICKS_DTYPES: dict[str, np.dtype[np.generic]] = dict(
    zip(
        [field.name for field in fields(Picks)],
        map(np.dtype, ("u8", "f8", "f8", "f8", "f8", "u8", "u8", "u2", "i1", "i8", "u2")),
        strict=True,
    )
)

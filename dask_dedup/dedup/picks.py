"""`Picks`, a table of the particle columns needed to find duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.arrays import ArrayTable, dtypes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams

#: Value of `Picks.half` for a particle without a half-set.
NO_HALF = -1
#: Flag in `Picks.invalid` for a score that is worse than the parameter `min_score`.
LOW_SCORE = 1

_ROW_BITS = np.uint64(32)
_ROW_MASK = np.uint64(0xFFFFFFFF)


def row_ids(fragment: int, rows: int) -> NDArray[np.uint64]:
    """Return the ids of all rows of a fragment: ``fragment * 2**32 + row``."""
    return (np.uint64(fragment) << _ROW_BITS) + np.arange(rows, dtype=np.uint64)


def fragment_of(row_id: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the fragment number in each row id."""
    return (row_id >> _ROW_BITS).astype(np.int64)


def row_of(row_id: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the row number in each row id, counted within the fragment."""
    return (row_id & _ROW_MASK).astype(np.int64)


class RowTable(ArrayTable):
    """Base class of tables about particles, with the ids of their rows in the column `row_id`."""

    __slots__ = ()
    row_id: NDArray[np.uint64]

    @property
    def fragment(self) -> NDArray[np.int64]:
        """Number of the fragment that contains each particle, (n,)."""
        return fragment_of(self.row_id)

    @property
    def row(self) -> NDArray[np.int64]:
        """Row number of each particle within its fragment, (n,)."""
        return row_of(self.row_id)


@dataclass(frozen=True, slots=True)
class Picks(RowTable):
    """Table of the particle columns needed to find duplicates, about 60 bytes per particle.

    Attributes
    ----------
    micrograph : (n,) uint64
        Micrograph key: its uid, or a hash of its name.
    x, y, z : (n,) float64
        Centre in angstrom (as stored, at separation 0); z is 0 for micrographs.
    score : (n,) float64
        Score as stored; NaN if there is none.
    uid : (n,) uint64
        Uid as stored, or the content hash if the table has no uid.
    row_id : (n,) uint64
        Fragment and row number, packed by `row_ids`. The ids increase with source and row number.
    source : (n,) uint16
        Ordinal of the input.
    half : (n,) int8
        Half-set as stored; -1 if there is none.
    label : (n,) int64
        Filament number, or the uid of the original particle of a symmetry copy; -1 if neither is used.
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

    def points(self, params: DedupParams) -> tuple[NDArray[np.float64], float]:
        """Return the position of each pick, and the largest distance at which two picks are duplicates.

        Returns
        -------
        points : (n, 2) or, if any z is not 0, (n, 3) float64
            Centres. If symmetry expansion is undone, the upper and lower 32 bits of the uid of the source particle
            replace the position. Both numbers are exact in float64.
        separation : float
        """
        if params.undo_symmetry_expansion:
            uid = self.label.view(np.uint64)
            halves = (uid >> np.uint64(32), uid & np.uint64(0xFFFFFFFF))
            return np.column_stack(halves).astype(np.float64), 0.0
        axes = (self.x, self.y, self.z) if self.z.any() else (self.x, self.y)
        return np.column_stack(axes), params.min_separation

    def exclusions(self, params: DedupParams) -> list[NDArray[np.int64]]:
        """Return label columns, each (n,). Two picks with an equal label (except -1) in a column are not duplicates."""
        labels = [self.source.astype(np.int64)] if params.between_inputs_only else []
        return [*labels, self.label] if params.ignore_within_filament else labels


Picks.dtypes = dtypes_of(Picks, "u8", "f8", "f8", "f8", "f8", "u8", "u8", "u2", "i1", "i8", "u2")
#: Memory of a pick.
PICK_BYTES = sum(dtype.itemsize for dtype in Picks.dtypes.values())

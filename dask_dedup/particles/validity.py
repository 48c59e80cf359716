"""Problems of rows: which rows, what is wrong with them, and in which column."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.params import LARGEST_PIXEL_SIZE, LEAST_PIXEL_SIZE
from dask_dedup.particles.invalid import Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: So many offending rows are named in a message.
NAMED_ROWS = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """Rows that cannot be compared, or are odd.

    Attributes
    ----------
    what : str
        What is wrong with each, for a message: "have no finite position".
    column : str
    rows : int
        How many.
    first : tuple of int
        Row numbers in the fragment of the first few.
    held : tuple of float, optional
        Least and greatest value of the column in these rows, where they tell what is wrong.
    """

    what: str
    column: str
    rows: int
    first: tuple[int, ...]
    held: tuple[float, float] | None = None

    @classmethod
    def of(
        cls, bad: NDArray[np.bool_], what: str, column: str, values: Floats | None = None
    ) -> list[Problem]:
        """Give the problem of some rows; none if there are no such rows."""
        rows = np.flatnonzero(bad)
        if not rows.size:
            return []
        first = tuple(int(row) for row in rows[:NAMED_ROWS])
        held = None if values is None else (float(values[rows].min()), float(values[rows].max()))
        return [cls(what, column, rows.size, first, held)]

    def __add__(self, other: Problem) -> Problem:
        held = self.held
        if held and other.held:
            held = (min(held[0], other.held[0]), max(held[1], other.held[1]))
        return replace(self, rows=self.rows + other.rows, held=held)


@dataclass(slots=True)
class Problems:
    """The problems of some rows, gathered; `invalid` has the `Reason` flags of each."""

    invalid: NDArray[np.uint16]
    found: list[Problem] = field(default_factory=list)

    def note(
        self,
        bad: NDArray[np.bool_],
        reason: Reason,
        what: str,
        column: str,
        values: Floats | None = None,
    ) -> None:
        """Note that some rows are bad."""
        found = Problem.of(bad, what, column, values)
        if found:
            self.found += found
            self.invalid = self.invalid | np.where(bad, np.uint16(reason), np.uint16(0))

    def note_pixel_sizes(self, psize: Floats, column: str) -> None:
        """Note the rows whose pixel size is none, or absurd."""
        missing = not_positive(psize)
        self.note(missing, Reason.PIXEL_SIZE, "have no pixel size above 0", column)
        absurd = ((psize < LEAST_PIXEL_SIZE) | (psize > LARGEST_PIXEL_SIZE)) & ~missing
        beyond = f"have a pixel size beyond {LEAST_PIXEL_SIZE:g} to {LARGEST_PIXEL_SIZE:g} A"
        self.note(absurd, Reason.PIXEL_SIZE, beyond, column, psize)


def not_finite(values: Floats) -> NDArray[np.bool_]:
    """Tell which rows have a NaN or an infinity."""
    return rows_with_any(~np.isfinite(values))


def not_positive(values: Floats) -> NDArray[np.bool_]:
    """Tell which rows have a number that is not finite and above 0."""
    return rows_with_any(~((values > 0) & (values < np.inf)))


def rows_with_any(bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which rows of (n,) or (n, d) have any; mostly none has, which is quick to see."""
    if not bad.any():
        return np.zeros(len(bad), dtype=bool)
    return bad if bad.ndim == 1 else np.asarray(bad.any(axis=1))

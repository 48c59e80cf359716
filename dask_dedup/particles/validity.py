"""Reasons why rows cannot be compared, and records of the rows and columns affected.

`extract` finds the rows. `results.verify.validity` finds them independently, so add a new reason to both.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntFlag, auto
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.limits import LARGEST_PIXEL_SIZE, LEAST_PIXEL_SIZE
from dask_dedup.dedup.picks import LOW_SCORE
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

#: Largest number of rows or uids in a message.
NAMED_ROWS = 3


class Reason(IntFlag):
    """Reason why a row is not compared. A row with several reasons counts under the first.

    Rows with a low score are rejected. The parameter `invalid` decides about rows with other reasons.
    """

    SCORE = LOW_SCORE
    MICROGRAPH = auto()
    UNKNOWN_MICROGRAPH = auto()
    POSITION = auto()
    SHIFT = auto()
    ANGLE = auto()
    PIXEL_SIZE = auto()
    SHAPE = auto()
    TOO_FAR = auto()
    UID = auto()
    SOURCE = auto()


def count_reasons(invalid: NDArray[np.uint16]) -> dict[str, int]:
    """Count invalid rows by their first reason. Return a dict of lower-case reason name to count.

    Examples
    --------
    >>> count_reasons(np.array([0, 2, 8, 8 + 512], np.uint16))
    {'micrograph': 1, 'position': 2}
    """
    bits, counts = np.unique(first_reasons(invalid), return_counts=True)
    return {
        reason_name(bit): count
        for bit, count in zip(bits.tolist(), counts.tolist(), strict=True)
        if bit
    }


def first_reasons(invalid: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the first `Reason` of each row, 0 for rows that are compared: (n,) uint16."""
    return invalid & (~invalid + np.uint16(1))


def reason_name(reason: int) -> str:
    """Return the name of a `Reason` in lower case, as in ``duplicates`` and the manifest."""
    return (Reason(reason).name or "").lower()


@dataclass(frozen=True, slots=True)
class Problem:
    """Defect of one kind in a column of a fragment, with the number of rows that have the defect."""

    #: Text for a message, such as "have no finite position".
    what: str
    column: str
    rows: int
    #: Row numbers in the fragment, only the first few.
    first: tuple[int, ...]
    #: Minimum and maximum of the column in these rows, if this explains the problem.
    value_range: tuple[float, float] | None = None

    @classmethod
    def of(cls, bad: Mask, what: str, column: str, values: Floats | None = None) -> list[Problem]:
        """Make a list of one problem for the rows where the mask `bad` is True. Return [] if there are none."""
        rows = np.flatnonzero(bad)
        if not rows.size:
            return []
        first = tuple(rows[:NAMED_ROWS].tolist())
        value_range = None
        if values is not None:
            value_range = (float(values[rows].min()), float(values[rows].max()))
        return [cls(what, column, rows.size, first, value_range)]

    def __add__(self, other: Problem) -> Problem:
        value_range = self.value_range
        if value_range and other.value_range:
            (low, high), (other_low, other_high) = value_range, other.value_range
            value_range = (min(low, other_low), max(high, other_high))
        return replace(self, rows=self.rows + other.rows, value_range=value_range)


@dataclass(slots=True)
class Problems:
    """Collector of the problems of a fragment. `invalid` holds the `Reason` flags of each row."""

    invalid: NDArray[np.uint16]
    found: list[Problem] = field(default_factory=list)

    def note(
        self, bad: Mask, reason: Reason, what: str, column: str, values: Floats | None = None
    ) -> None:
        """Mark the rows where the mask `bad` is True as invalid for `reason`, and record the problem."""
        found = Problem.of(bad, what, column, values)
        if found:
            self.found += found
            self.set_aside(bad, reason)

    def set_aside(self, rows: Mask, reason: Reason) -> None:
        """Mark the rows where the mask `rows` is True as not compared for `reason`."""
        if rows.any():
            self.invalid = self.invalid | np.where(rows, np.uint16(reason), np.uint16(0))

    def note_pixel_sizes(
        self, psize: Floats, column: str, checked: Mask | None = None, option: str = ""
    ) -> None:
        """Mark rows as invalid if their pixel size (angstrom) is missing, not positive or out of range.

        `checked` is an (n,) mask of the rows to check. `option` is the parameter that can give the pixel size.
        """
        missing = not_positive(psize)
        absurd = ((psize < LEAST_PIXEL_SIZE) | (psize > LARGEST_PIXEL_SIZE)) & ~missing
        if checked is not None:
            missing, absurd = missing & checked, absurd & checked
        what = "have no pixel size above 0"
        if option:
            what += f", which {parameter(option)} can give"
        self.note(missing, Reason.PIXEL_SIZE, what, column)
        beyond = f"have a pixel size beyond {LEAST_PIXEL_SIZE:g} to {LARGEST_PIXEL_SIZE:g} A"
        self.note(absurd, Reason.PIXEL_SIZE, beyond, column, psize)


def not_finite(values: Floats) -> Mask:
    """Return an (n,) mask of the rows of `values` that contain NaN or infinity."""
    return rows_with_any(~np.isfinite(values))


def not_positive(values: Floats) -> Mask:
    """Return an (n,) mask of the rows of `values` that contain NaN, infinity, zero or a negative number."""
    return rows_with_any(~((values > 0) & (values < np.inf)))


def rows_with_any(bad: Mask) -> Mask:
    """Return an (n,) mask of the rows that contain True in `bad`, an (n,) or (n, d) mask."""
    if not bad.any():  # the usual case, and a fast test
        return np.zeros(len(bad), dtype=bool)
    return bad if bad.ndim == 1 else np.asarray(bad.any(axis=1))

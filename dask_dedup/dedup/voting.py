"""The pickers that vote, and the rule by which votes decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.per_input import named_twice_error
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Counts = NDArray[np.signedinteger]

#: Largest number of pickers for which sets and pairs of pickers are listed.
MOST_LISTED = 16


@dataclass(frozen=True, slots=True)
class Voting:
    """The pickers of a run, and the rule by which votes decide.

    Attributes
    ----------
    pickers : tuple of str
        Name of each picker.
    picker_of : tuple of int
        For each input, the number of its picker.
    min_votes : int
    found_by, not_found_by : tuple of int
        Numbers of pickers.
    relax_unseen : bool
    """

    pickers: tuple[str, ...]
    picker_of: tuple[int, ...]
    min_votes: int = 1
    found_by: tuple[int, ...] = ()
    not_found_by: tuple[int, ...] = ()
    relax_unseen: bool = False

    def __post_init__(self) -> None:
        if self.min_votes > len(self.pickers):
            raise InputError(
                f"{parameter('min_votes')} is {self.min_votes}, but there are only "
                f"{len(self.pickers)} pickers. Use a smaller number."
            )
        both = [number for number in self.found_by if number in self.not_found_by]
        if both:
            raise named_twice_error(self.pickers[both[0]])

    @property
    def lists_sets(self) -> bool:
        """Whether particles are counted by the set of pickers that found them, not only by the number of pickers."""
        return len(self.pickers) <= MOST_LISTED

    def keeps(
        self, votes: Counts, micrograph: Counts, seen: Bools, found_by: Callable[[int], Bools]
    ) -> Bools:
        """Return whether each representative is kept, (n,) bool.

        Parameters
        ----------
        votes : (n,) int
            Number of pickers that voted for each representative.
        micrograph : (n,) int
            Number of the micrograph of each representative.
        seen : (m, p) bool
            Whether each of p pickers has comparable particles on each micrograph.
        found_by : callable
            Takes the number of a picker. Returns an (n,) mask of the representatives that it voted for.
        """
        needed = np.full(votes.size, self.min_votes)
        if self.relax_unseen:
            needed = np.minimum(needed, seen.sum(axis=1)[micrograph])
        kept = votes >= needed
        for picker in self.found_by:
            kept &= found_by(picker) | (self.relax_unseen & ~seen[micrograph, picker])
        for picker in self.not_found_by:
            kept &= ~found_by(picker)
        return np.asarray(kept)

"""Who votes, how far a vote reaches, and which particles are kept for their votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams

    Bools = NDArray[np.bool_]
    Counts = NDArray[np.signedinteger]

#: Parameters that name pickers.
NAMED_PICKERS = ("found_by", "not_found_by")
#: Any other value of one of these parameters than this one means that votes are counted.
_DEFAULTS = {
    "min_votes": 1,
    **dict.fromkeys(NAMED_PICKERS, ()),
    "vote_distance": None,
    "relax_unseen": False,
    "votes": False,
}


def votes_parameter(params: DedupParams) -> str:
    """Return the first parameter that requires votes to be counted, or an empty text."""
    return next((name for name, value in _DEFAULTS.items() if getattr(params, name) != value), "")


def check_votes(params: DedupParams) -> None:
    """Raise InputError if the parameters of votes contradict each other or other parameters."""
    name = votes_parameter(params)
    if name and params.remove_entirely:
        raise InputError(
            f"{parameter(name)} has no effect together with {parameter('remove_entirely')}, which "
            "keeps no particle that a second picker found. Drop one of them."
        )
    both = [picker for picker in params.found_by if picker in params.not_found_by]
    if both:
        raise _named_twice(both[0])
    distance = params.vote_distance
    if distance is None:
        return
    if not params.measures:
        undone = params.undo_symmetry_expansion
        other = parameter(*(["undo_symmetry_expansion"] if undone else ["min_separation", "0"]))
        raise InputError(
            f"{parameter('vote_distance')} has no effect together with {other}, which measures no "
            "distances. Drop one of them."
        )
    if distance <= 0:
        raise InputError(f"{parameter('vote_distance')} is 0; it must be above 0 (angstrom).")
    if not params.chooses_separation and distance > params.min_separation:
        limit = parameter("min_separation", f"{params.min_separation:g}")
        raise InputError(
            f"{parameter('vote_distance')} is {distance:g}; it must be at most {limit}."
        )


def _named_twice(picker: str) -> InputError:
    found, not_found = map(parameter, NAMED_PICKERS)
    return InputError(f"{found} and {not_found} both name {picker}. Drop one of them.")


@dataclass(frozen=True, slots=True)
class Voting:
    """The pickers of a run, and the rule by which votes decide.

    Attributes
    ----------
    pickers : tuple of str
        Name of each picker.
    picker_of : tuple of int
        Number of the picker of each input.
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
            raise _named_twice(self.pickers[both[0]])

    def keeps(
        self, votes: Counts, micrograph: Counts, seen: Bools, found_by: Callable[[int], Bools]
    ) -> Bools:
        """Return whether each representative is kept, (n,) bool.

        Parameters
        ----------
        votes : (n,) int
            Number of pickers that voted for each.
        micrograph : (n,) int
            Number of its micrograph.
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

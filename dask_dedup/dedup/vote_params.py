"""The parameters about votes: when votes are counted, and which parameters contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.dedup.limits import NUMBERS
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from dask_dedup.dedup.params import DedupParams

#: Parameters that name pickers.
NAMED_PICKERS = ("found_by", "not_found_by")
#: Any other value of one of these parameters than this one means that votes are counted.
_DEFAULTS = {
    "min_votes": 1,
    **dict.fromkeys(NAMED_PICKERS, ()),
    "vote_distance": None,
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
    if params.relax_unseen and params.min_votes == 1 and not params.found_by:
        asked = f"{parameter('min_votes')} of at least 2 or {parameter('found_by')}"
        raise InputError(
            f"{parameter('relax_unseen')} has no effect without {asked}. Add one of them, or drop it."
        )
    both = [picker for picker in params.found_by if picker in params.not_found_by]
    if both:
        raise named_twice_error(both[0])
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
        limits = NUMBERS["vote_distance"][-1]
        raise InputError(f"{parameter('vote_distance')} is 0; it must be {limits}.")
    if not params.chooses_separation and distance > params.min_separation:
        limit = parameter("min_separation", f"{params.min_separation:g}")
        raise InputError(
            f"{parameter('vote_distance')} is {distance:g}; it must be at most {limit}."
        )


def named_twice_error(picker: str) -> InputError:
    """Return the error that a picker is in both parameters that name pickers."""
    found, not_found = map(parameter, NAMED_PICKERS)
    return InputError(f"{found} and {not_found} both name {picker}. Drop one of them.")

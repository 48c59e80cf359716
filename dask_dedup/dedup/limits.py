"""The parameters that are numbers, and their limits."""

from __future__ import annotations

from math import inf
from numbers import Integral, Real
from typing import Any

from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

#: Largest coordinate and largest separation, angstrom: 10,000 times the size of a large micrograph.
FARTHEST = 1e9
#: Range of pixel sizes, angstrom. A pixel size outside is in another unit or in the wrong column.
LEAST_PIXEL_SIZE, LARGEST_PIXEL_SIZE = 0.1, 100.0
PIXEL_SIZES = ("micrograph_pixel_size", "coordinate_pixel_size", "particle_pixel_size")
_PSIZE = (
    *(Real, LEAST_PIXEL_SIZE, LARGEST_PIXEL_SIZE),
    f"between {LEAST_PIXEL_SIZE:g} and {LARGEST_PIXEL_SIZE:g} (angstrom)",
)
#: For each parameter: type, smallest and largest value, and the limits as text for messages.
NUMBERS: dict[str, tuple[Any, float, float, str]] = {
    "min_separation": (Real, 0, FARTHEST, "between 0 and 1e9 (angstrom)"),
    **dict.fromkeys(PIXEL_SIZES, _PSIZE),
    "seed": (Integral, 0, 2**64 - 1, "between 0 and 2**64 - 1"),
    "micrograph_height": (Integral, 1, inf, "at least 1 (pixel)"),
    "min_score": (Real, -FARTHEST, FARTHEST, "between -1e9 and 1e9"),
    "min_votes": (Integral, 1, inf, "at least 1"),
    "vote_distance": (Real, 0, FARTHEST, "above 0 and at most 1e9 (angstrom)"),
}
OPTIONAL = ("micrograph_height", "vote_distance")
#: Value of `min_separation` that selects the recommended separation.
AUTO = "auto"


def as_number(name: str, value: Any, path: str = "") -> Any:
    """Return the value of the parameter `name`, as a float if it may have decimals.

    Raise InputError unless the value is a number in its range. `path` is the input that the value applies to, or empty.
    """
    if (name, value) == ("min_separation", AUTO):
        return value
    kind, least, largest, limits = NUMBERS[name]
    context = f"{path}: " if path else ""
    if isinstance(value, bool) or not isinstance(value, kind):
        whole = " whole" if kind is Integral else ""
        raise InputError(f"{context}{parameter(name)} is {value!r}; it must be a{whole} number.")
    if not least <= value <= largest:
        shown = f"{value:g}" if isinstance(value, float) else value
        raise InputError(f"{context}{parameter(name)} is {shown}; it must be {limits}.")
    # 100 and 100.0 must give the same run id.
    return float(value) if kind is Real else value

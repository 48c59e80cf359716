"""What an inspection found, as plain records."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dask_dedup.inspection import text as words

if TYPE_CHECKING:
    from dask_dedup.inspection.matching import Match, ShiftTest
    from dask_dedup.inspection.neighbours import Neighbourhood


@dataclass(frozen=True, slots=True)
class Score:
    """A column that a user may rank by.

    Attributes
    ----------
    field : str
        The ``--score-field`` that ranks by it.
    column : str
    used : bool
        Whether the parameters ask for it.
    least, greatest : float
        Without what stands for no score; infinite where no row has one.
    warnings : tuple of str
    """

    field: str
    column: str
    used: bool
    least: float
    greatest: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InspectedInput:
    """What one input holds.

    Attributes
    ----------
    path, format, convention : str
    rows, files, bytes, micrographs : int
    per_micrograph : tuple of float
        Least, median and greatest number of particles; empty where there are none.
    fields : dict of str to tuple of str
        Columns by the part they play; empty where the part has no column.
    position_unit : {"fraction", "pixel", "angstrom"}
        Of the stored positions.
    pixel_size : tuple of float
        Least and greatest micrograph pixel size, angstrom; empty where it is not known.
    pixel_size_source : str
    unit : {"A", "px"}
        Of all distances.
    scores : tuple of Score
    half_sets : dict of int to int
        Rows of each; -1 for none.
    neighbourhood : Neighbourhood or None
        None where no two particles could be measured.
    shift : ShiftTest or None
        None where there is no shift.
    """

    path: str
    format: str
    convention: str
    rows: int
    files: int
    bytes: int
    micrographs: int
    per_micrograph: tuple[float, ...]
    fields: dict[str, tuple[str, ...]]
    position_unit: str
    pixel_size: tuple[float, ...]
    pixel_size_source: str
    unit: str
    scores: tuple[Score, ...]
    half_sets: dict[int, int]
    neighbourhood: Neighbourhood | None
    shift: ShiftTest | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two inputs, by ordinal, and how they match; None where they share no measured micrograph."""

    one: int
    other: int
    match: Match | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found.

    Attributes
    ----------
    inputs : tuple of InspectedInput
    pairs : tuple of Pair
        Empty where the inputs cannot be compared.
    together : Neighbourhood or None
        Of all inputs as one, after the flips advised.
    flips : tuple of int
        Ordinals of the inputs to be flipped, since their y runs the other way.
    measured : dict of str to int
        ``picks`` and ``micrographs`` that distances were measured on, and ``of_micrographs``.
    problems : tuple of str
        What a run with the same parameters would refuse.
    warnings : tuple of str
    advice : tuple of str
    """

    inputs: tuple[InspectedInput, ...]
    pairs: tuple[Pair, ...]
    together: Neighbourhood | None
    flips: tuple[int, ...]
    measured: dict[str, int]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The findings as plain values, for JSON; a number that is not known is None."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def lines(self) -> list[str]:
        """The findings in words, for a terminal of 100 columns."""
        return words.describe(self)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            f"{key:g}" if isinstance(key, float) else str(key): _plain(part)
            for key, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

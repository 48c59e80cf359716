"""Dataclasses for the results of an inspection: inputs, pairs of inputs, and particle distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_dedup.dedup.recommended_separation import Spacing


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Statistics of the distances between particles, in one input or in all inputs together.

    Attributes
    ----------
    picks, coincident : int
        Number of all picks, and of picks at exactly the position of another pick.
    pairs : dict of float to int
        Number of pairs within each radius.
    nearest : dict of float to float
        Percentiles of the distance to the nearest neighbour.
    edges, histogram : tuple
        Bin edges of the distance to the nearest neighbour, and counts. The last count is for picks without a
        neighbour within the bins.
    spacing : Spacing or None
        Gap between the distances of duplicates and of real neighbours. None without a gap.
    """

    picks: int
    coincident: int
    pairs: dict[float, int]
    nearest: dict[float, float]
    edges: tuple[float, ...]
    histogram: tuple[int, ...]
    spacing: Spacing | None


@dataclass(frozen=True, slots=True)
class FlipTest:
    """Result of testing whether y runs the same way in two inputs.

    Attributes
    ----------
    verdict : {"same", "opposite", "unclear"}
    height : float or None
        Micrograph height for flipping one input. None if the height is not known and cannot be estimated.
    estimated : bool
        Whether the height was estimated from the picks.
    as_is, flipped, chance : (float, float)
        Fraction of each input's picks with a partner in the other input: unchanged, flipped, and by chance.
    """

    verdict: str
    height: float | None
    estimated: bool
    as_is: tuple[float, float]
    flipped: tuple[float, float] | None
    chance: tuple[float, float]


@dataclass(frozen=True, slots=True)
class OffsetTest:
    """A constant offset between the picks of two inputs.

    Attributes
    ----------
    offset : tuple of float
        Positions in the second input minus positions in the first input: x, y and, for tomograms, z.
    as_is, matched : (float, float)
        Fraction of each input's picks with a partner in the other input: unchanged, and without the offset.
    """

    offset: tuple[float, ...]
    as_is: tuple[float, float]
    matched: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ShiftTest:
    """Result of testing whether shifts must be subtracted (the convention), left out or added.

    Attributes
    ----------
    verdict : {"minus", "none", "plus", "unclear"}
        Sign with the smallest distances of duplicates.
    radius, picks
        Largest distance between partners, and number of picks measured.
    minus, none, plus : float
        For two inputs, the median distance of partners, NaN with too few partners. For one input, the number of close
        pairs.
    """

    verdict: str
    radius: float
    picks: int
    minus: float
    none: float
    plus: float


@dataclass(frozen=True, slots=True)
class Match:
    """Result of matching the picks of two inputs on their common micrographs.

    Attributes
    ----------
    radius, median : float
        Largest and median distance between partners. The median is None without partners.
    micrographs : int
        Number of common micrographs.
    picks, matched : (int, int)
        Number of picks of each input on these micrographs, and of picks with a partner.
    flip, shift : FlipTest, ShiftTest
        Results of the tests of y axes and shifts. `shift` is None if neither input has shifts.
    offset : OffsetTest or None
        Constant offset between the picks. None if there is no offset.
    """

    radius: float
    micrographs: int
    picks: tuple[int, int]
    matched: tuple[int, int]
    median: float | None
    flip: FlipTest
    shift: ShiftTest | None
    offset: OffsetTest | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A column that can rank particles.

    Attributes
    ----------
    field : str
        Value of the parameter ``score_field`` that selects this column.
    label : str
        Name of the score in pick files. For other tables, the column.
    used : bool
        Whether the parameters select this column.
    least, greatest : float
        Range of the values; infinite if there are none.
    """

    field: str
    column: str
    label: str
    used: bool
    least: float
    greatest: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InspectedInput:
    """Results for one input: columns, counts and distances.

    Attributes
    ----------
    picker : str
        Name of the picker, empty if the user gave no name.
    description : str
        For pick files: format, number of micrographs, meaning of positions and range of scores. Empty for other
        tables.
    per_micrograph : tuple of float
        Minimum, median and maximum number of particles. Empty if there are no micrographs.
    fields : dict of str to tuple of str
        Columns by role. A role without columns has an empty tuple.
    position_unit : {"fraction", "pixel", "volume", "angstrom"}
        Unit of the stored positions.
    pixel_size : tuple of float
        Minimum and maximum micrograph pixel size, angstrom. Empty if unknown.
    unit : {"A", "px"}
        Unit of all distances.
    half_sets : dict of int to int
        Number of rows of each half-set. -1 means no half-set.
    matched : str
        Number of micrographs with a match by name in another input, and the parts removed from names. Empty if
        micrographs are not matched by name.
    neighbourhood : Neighbourhood or None
        Distances of the sampled particles. None with fewer than two particles.
    shift : ShiftTest or None
        Result of the test of shifts. None without shifts.
    """

    path: str
    picker: str
    format: str
    description: str
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
    matched: str
    neighbourhood: Neighbourhood | None
    shift: ShiftTest | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two inputs (by number) and the match of their picks. `match` is None if they share no measured micrograph."""

    one: int
    other: int
    match: Match | None

"""Dataclasses for the results of an inspection: inputs, pairs of inputs, and particle distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_dedup.dedup.spacing import Spacing


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Statistics of the distances between particles, in one input or in all inputs together.

    Attributes
    ----------
    picks, coincident : int
        Number of all picks, and of picks at exactly the position of another.
    pairs : dict of float to int
        Number of pairs within each radius.
    nearest : dict of float to float
        Percentiles of the distance to the nearest neighbour.
    edges, histogram : tuple
        Bin edges of the same distance, and counts. The last counts picks beyond the bins or alone.
    spacing : Spacing or None
        None without a gap.
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
        Micrograph height for flipping one input; None if it cannot be estimated.
    estimated : bool
        Whether the height was estimated from the picks.
    as_is, flipped, chance : (float, float)
        Fraction of each input's picks that have a partner: unchanged, flipped, and by chance.
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
        Positions in the second input minus those in the first, x, y and, for tomograms, z.
    as_is, matched : (float, float)
        Fraction of each input's picks that have a partner: unchanged, and with the offset removed.
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
        Sign that brings duplicates closest.
    radius, picks
        Largest distance between partners, and number of picks measured.
    minus, none, plus : float
        Two inputs: median distance of partners, NaN with too few. One input: number of close pairs.
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
        Largest and median distance between partners; the median is None without any.
    micrographs : int
        Shared micrographs.
    picks, matched : (int, int)
        Picks of each input on these micrographs, and picks with a partner.
    flip, shift : FlipTest, ShiftTest
        `shift` is None if neither input has shifts.
    offset : OffsetTest or None
        None if there is no offset.
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
        Name of the score in the files of picks; else the column.
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
        Name of the picker, if the user gave one.
    description : str
        Format, number of micrographs, meaning of the positions and range of the scores of picks; empty for others.
    per_micrograph : tuple of float
        Least, median and greatest number of particles; empty if there are no micrographs.
    fields : dict of str to tuple of str
        Columns by role; empty if the table has no column for the role.
    position_unit : {"fraction", "pixel", "volume", "angstrom"}
        Unit of the stored positions.
    pixel_size : tuple of float
        Least and greatest micrograph pixel size, angstrom; empty if unknown.
    unit : {"A", "px"}
        Unit of all distances.
    half_sets : dict of int to int
        Rows of each half-set; -1 means none.
    matched : str
        How many micrographs have the name of one of another input, and what was taken off the names; empty if
        micrographs are not matched by name.
    neighbourhood : Neighbourhood or None
        None with fewer than two particles to measure.
    shift : ShiftTest or None
        None without shifts.
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
    """Numbers of two inputs, and the match of their picks: None if no measured micrograph is in both."""

    one: int
    other: int
    match: Match | None

"""The parameters of a run: frozen, checked when made, no input or output."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any, Self

from dask_dedup.errors import InputError

SHIFT_KEYS: tuple[str, ...] = ("auto", "none", "alignments2D", "alignments3D")
#: Angstrom; far beyond any micrograph.
LARGEST_SEPARATION = 1e9
#: Angstrom; a micrograph or particle pixel beyond these is a mistake (of unit, of column).
LEAST_PIXEL_SIZE, LARGEST_PIXEL_SIZE = 0.1, 100.0
MATCHES: tuple[str, ...] = ("auto", "uid", "path", "name")
INVALID: tuple[str, ...] = ("error", "reject", "keep")
_NUMBERS: dict[str, type] = {
    "min_separation": Real,
    "micrograph_pixel_size": Real,
    "seed": Integral,
    "micrograph_height": Integral,
}
_OPTIONAL = ("micrograph_pixel_size", "micrograph_height")

#: Which way is better, for the score fields whose meaning is known.
SCORE_DIRECTIONS: dict[str, str] = {"ncc_score": "higher", "error": "lower", "error_min": "lower"}


@dataclass(frozen=True, slots=True)
class ScoreField:
    """A score and its direction.

    Attributes
    ----------
    name : str
        One of the named fields (``ncc_score``, ``error``, ``error_min``) or a column of the table.
    higher_is_better : bool
    custom : bool
        Whether `name` is a column name as it stands rather than a named field.
    """

    name: str
    higher_is_better: bool
    custom: bool

    def __str__(self) -> str:
        return f"{self.name} ({'higher' if self.higher_is_better else 'lower'} is better)"


@dataclass(frozen=True, slots=True)
class DedupParams:
    """What counts as a duplicate and which one stays.

    Parameters
    ----------
    min_separation : float
        Least allowed distance between two particle centres, centre to centre, in angstrom.
        Two particles at exactly this distance are duplicates; 0 means precisely equal coordinates.
    micrograph_pixel_size : float, optional
        Micrograph pixel size in angstrom, for tables that do not carry it themselves.
    shift_key : {"auto", "none", "alignments2D", "alignments3D"}
        Which alignment shift moves the centres. ``auto``: alignments3D if present, else
        alignments2D, else none.
    score_field : str
        ``ncc_score``, ``error``, ``error_min``, ``none`` (a seeded random choice), or a column with
        its direction as ``NAME:higher`` or ``NAME:lower``.
    remove_entirely : bool
        Reject every particle that has another one within the separation, instead of keeping the best.
    seed : int
        Seeds the choice between equal scores; 0 to 2**64 - 1.
    prefer_input_order : bool
        A particle of an earlier input wins over one of a later input, whatever their scores.
    between_inputs_only : bool
        Two particles of the same input are never duplicates of each other.
    ignore_within_filament : bool
        Two particles of the same filament (helical tube) are never duplicates of each other.
    undo_symmetry_expansion : bool
        Copies of one particle (``sym_expand/src_uid``) are the duplicates, whatever their distance.
    match_micrographs : {"auto", "uid", "path", "name"}
        How the inputs' micrographs are told to be the same; ``name`` leaves out folders,
        CryoSPARC's number and what motion correction appends. ``auto``: by uid if all inputs have
        it, else by path, and by name where CryoSPARC and RELION tables meet.
    flip_y : tuple of int
        Ordinals of the inputs whose y axis runs the other way, from 0.
    micrograph_height : int, optional
        Pixels along y, to flip coordinates in pixels where no micrograph table tells it.
    invalid : {"error", "reject", "keep"}
        What becomes of rows that cannot be compared (no finite position, no micrograph, ...): an
        error, or they take no part and are rejected or kept.

    Raises
    ------
    InputError
        If a value is out of its range; the message names the option.
    """

    min_separation: float = 20.0
    micrograph_pixel_size: float | None = None
    shift_key: str = "auto"
    score_field: str = "ncc_score"
    remove_entirely: bool = False
    seed: int = 0
    prefer_input_order: bool = False
    between_inputs_only: bool = False
    ignore_within_filament: bool = False
    undo_symmetry_expansion: bool = False
    match_micrographs: str = "auto"
    flip_y: tuple[int, ...] = ()
    micrograph_height: int | None = None
    invalid: str = "error"

    def __post_init__(self) -> None:
        for name, kind in _NUMBERS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) and (value is not None or name not in _OPTIONAL):
                raise InputError(
                    f"{name} is {value!r}; it must be a{' whole' if kind is Integral else ''} number"
                )
        if not 0 <= self.min_separation <= LARGEST_SEPARATION:
            raise InputError(
                f"--min-separation is {self.min_separation}; it must lie between 0 and "
                f"{LARGEST_SEPARATION:.0e}, in angstrom"
            )
        size = self.micrograph_pixel_size
        if size is not None and not (math.isfinite(size) and size > 0):
            raise InputError(f"--micrograph-pixel-size is {size}; it must be above 0, in angstrom")
        if size is not None and not LEAST_PIXEL_SIZE <= size <= LARGEST_PIXEL_SIZE:
            raise InputError(
                f"--micrograph-pixel-size is {size:g}; it must lie between {LEAST_PIXEL_SIZE:g} and "
                f"{LARGEST_PIXEL_SIZE:g}, in angstrom"
            )
        if self.shift_key not in SHIFT_KEYS:
            raise InputError(
                f"--shift-key is {self.shift_key!r}; it must be one of {', '.join(SHIFT_KEYS)}"
            )
        if self.match_micrographs not in MATCHES:
            raise InputError(
                f"--match-micrographs is {self.match_micrographs!r}; "
                f"it must be one of {', '.join(MATCHES)}"
            )
        if self.invalid not in INVALID:
            raise InputError(
                f"--invalid is {self.invalid!r}; it must be one of {', '.join(INVALID)}"
            )
        if self.micrograph_height is not None and self.micrograph_height <= 0:
            raise InputError(
                f"--micrograph-height is {self.micrograph_height}; it must be above 0, in pixels"
            )
        if self.undo_symmetry_expansion and self.ignore_within_filament:
            raise InputError(
                "--undo-symmetry-expansion looks at no neighbours, so --ignore-within-filament "
                "has no meaning beside it; drop one of the two"
            )
        if not 0 <= self.seed < 2**64:
            raise InputError(f"--seed is {self.seed}; it must lie between 0 and 2**64 - 1")
        parse_score_field(self.score_field)

    @property
    def score(self) -> ScoreField | None:
        """The parsed score field; None where all scores tie."""
        return parse_score_field(self.score_field)

    @property
    def measures(self) -> bool:
        """Whether distances in angstrom are measured, rather than equality found."""
        return self.min_separation > 0 and not self.undo_symmetry_expansion

    @classmethod
    def given(cls, params: Self | None) -> Self:
        """Take what a caller gave: parameters, or None for the defaults."""
        if params is None:
            return cls()
        if not isinstance(params, cls):
            raise InputError(f"params is a {type(params).__name__}; give a DedupParams")
        return params

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make parameters of what `to_dict` gave, also by way of JSON."""
        return cls(**{**values, "flip_y": tuple(values["flip_y"])})

    def to_dict(self) -> dict[str, Any]:
        """The parameters as plain values, for the manifest and the run id."""
        return {**asdict(self), "flip_y": list(self.flip_y)}


def parse_score_field(text: str) -> ScoreField | None:
    """Read a ``--score-field`` value.

    Examples
    --------
    >>> parse_score_field("error")
    ScoreField(name='error', higher_is_better=False, custom=False)
    >>> parse_score_field("rlnLogLikeliContribution:higher").name
    'rlnLogLikeliContribution'
    >>> parse_score_field("none") is None
    True
    """
    if text == "none":
        return None
    if text in SCORE_DIRECTIONS:
        return ScoreField(text, SCORE_DIRECTIONS[text] == "higher", custom=False)
    name, _, direction = text.rpartition(":")
    if name and direction in ("higher", "lower"):
        return ScoreField(name, direction == "higher", custom=True)
    if name:
        raise InputError(
            f"--score-field {text!r}: the direction is {direction!r}; say {name}:higher or {name}:lower"
        )
    named = ", ".join(SCORE_DIRECTIONS)
    raise InputError(
        f"--score-field {text!r}: say which way is better, {text}:higher or {text}:lower "
        f"(without a direction: {named} or none)"
    )

"""The score that ranks the particles of an input, and its direction."""

from __future__ import annotations

from dataclasses import dataclass

from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

#: Direction of each known score field.
# The columns that hold these scores are in `particles.column_names`.
SCORE_DIRECTIONS: dict[str, str] = {"ncc_score": "higher", "error": "lower", "error_min": "lower"}
DEFAULT_SCORE = "ncc_score"


@dataclass(frozen=True, slots=True)
class ScoreField:
    """Name of a score, and whether higher or lower values are better.

    Attributes
    ----------
    name : str
        A known field (``ncc_score``, ``error``, ``error_min``) or a column of the table.
    higher_is_better : bool
    custom : bool
        Whether `name` is a column of the table.
    """

    name: str
    higher_is_better: bool
    custom: bool

    def __str__(self) -> str:
        return f"{self.name} ({'higher' if self.higher_is_better else 'lower'} is better)"


def parse_score_field(text: str) -> ScoreField | None:
    """Parse the text of the parameter `score_field`. Return None for ``none``.

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
            f"{parameter('score_field')} {text!r}: unknown direction {direction!r}; "
            f"write {name}:higher or {name}:lower."
        )
    raise InputError(
        f"{parameter('score_field')} {text!r} has no direction; write {text}:higher or {text}:lower. "
        f"Only {', '.join(SCORE_DIRECTIONS)} and none need no direction."
    )

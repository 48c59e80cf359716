"""What a run would keep at other separations, and the separation that the picks suggest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The largest number of separations that are tried: one bit each.
MOST_SEPARATIONS = 32


@dataclass(frozen=True, slots=True)
class SeparationAnalysis:
    """The decisions about some whole micrographs at several separations.

    Attributes
    ----------
    separations : (s,) float64
        Angstrom, rising; at most `MOST_SEPARATIONS`. The run's own separation is among them.
    bits : (n,) uint32
        For each pick, bit k is set if it is kept at ``separations[k]`` before any vote.
    kept : (s, i) int64
        Kept picks by separation and input.
    duplicates_end, neighbours_begin : float or None
        The gap between picks of one particle and neighbours, angstrom. Both are None without a gap;
        `duplicates_end` is 0 if there are few duplicates.
    recommended : float or None
        The recommended separation, angstrom.
    reason : str
        Why that number, or why none, in one sentence.
    """

    separations: NDArray[np.float64]
    bits: NDArray[np.uint32]
    kept: NDArray[np.int64]
    duplicates_end: float | None
    neighbours_begin: float | None
    recommended: float | None
    reason: str

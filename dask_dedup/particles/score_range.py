"""The range of scores: what they look like, added up over fragments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.rank import SCORE_SENTINEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """What the scores of some rows look like."""

    rows: int
    missing: int
    sentinel: int
    zero: int
    low: float
    high: float

    @classmethod
    def of(cls, score: Floats) -> ScoreRange:
        """Look at the scores of one fragment."""
        sentinel = score == SCORE_SENTINEL
        usable = score[~(np.isnan(score) | sentinel)]
        return cls(
            rows=score.size,
            missing=int(np.isnan(score).sum()),
            sentinel=int(sentinel.sum()),
            zero=int((score == 0).sum()),
            low=float(usable.min()) if usable.size else np.inf,
            high=float(usable.max()) if usable.size else -np.inf,
        )

    def __add__(self, other: ScoreRange) -> ScoreRange:
        return ScoreRange(
            self.rows + other.rows,
            self.missing + other.missing,
            self.sentinel + other.sentinel,
            self.zero + other.zero,
            min(self.low, other.low),
            max(self.high, other.high),
        )

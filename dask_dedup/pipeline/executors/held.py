"""Picks that stay in memory between the scan and later stages, so that fragments are read only once more."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.pipeline.plan import Plan


@dataclass(frozen=True, slots=True)
class HeldPicks:
    """Picks of a scanned fragment: all picks, or the picks on the micrographs of the first and the last row.

    In a table sorted by micrograph, only these two micrographs can also have rows in other fragments.
    """

    picks: Picks
    #: The micrographs of the fragment; None if `picks` are all its picks.
    micrographs: NDArray[np.uint64] | None = None

    @classmethod
    def at_boundary(cls, picks: Picks, micrographs: NDArray[np.uint64]) -> HeldPicks:
        """Hold the picks on boundary micrographs. `picks` are all picks of the fragment."""
        keys = picks.micrograph
        return cls(picks.take((keys == keys[:1]) | (keys == keys[-1:])), micrographs)

    def __sizeof__(self) -> int:
        micrographs = 0 if self.micrographs is None else self.micrographs.nbytes
        return sys.getsizeof(self.picks) + micrographs

    @property
    def complete(self) -> Picks | None:
        """All picks of the fragment, if they are held."""
        return self.picks if self.micrographs is None else None

    def moving(self, plan: Plan) -> Picks | None:
        """Return the held picks if they include all picks to shuffle, else None."""
        if self.micrographs is None:
            return self.picks
        moving = self.micrographs[plan.partition_of(self.micrographs) >= 0]
        return self.picks if np.isin(moving, self.picks.micrograph).all() else None

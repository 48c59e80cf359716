"""Which fragments one task of a cluster takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

#: Small fragments are taken together up to about the work of so many particles, or their tasks would cost more than
#: they; to open and write a fragment is the work of so many particles besides its own.
TASK_ROWS, FRAGMENT_ROWS = 100_000, 10_000
#: Fragments that get decisions back are written by at most so many tasks: Dask's graph grows with the square of a
#: shuffle's partitions.
MOST_WRITERS = 1_000


@dataclass(frozen=True, slots=True)
class Groups:
    """Fragments, neighbours together.

    Attributes
    ----------
    fragments : (n,) int64
        Their numbers, ascending.
    group : (n,) int64
        The group each is in: 0, 1, 2 ...
    """

    fragments: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def make(cls, fragments: Sequence[int], rows: Sequence[int], most: int | None = None) -> Groups:
        """Put fragments together.

        Parameters
        ----------
        fragments : sequence of int
            Numbers, ascending.
        rows : sequence of int
            Particles of each.
        most : int, optional
            So many groups at most.
        """
        work = np.array(rows, dtype=np.int64) + FRAGMENT_ROWS
        window = max(TASK_ROWS, -(-int(work.sum()) // most) if most else 0)
        begins_in = (np.cumsum(work) - work) // window
        _, group = np.unique(begins_in, return_inverse=True)
        return cls(np.array(fragments, dtype=np.int64), group)

    def __len__(self) -> int:
        return int(self.group.max(initial=-1)) + 1

    def __iter__(self) -> Iterator[list[int]]:
        """Give the fragments of each group."""
        starts = np.flatnonzero(np.diff(self.group)) + 1
        return (part.tolist() for part in np.split(self.fragments, starts) if part.size)

    def find(self, fragments: NDArray[np.integer]) -> NDArray[np.int64]:
        """Give the group of each of these; -1 for those in none."""
        if not self.fragments.size:
            return np.full(fragments.size, -1, dtype=np.int64)
        at = np.searchsorted(self.fragments, fragments).clip(max=self.fragments.size - 1)
        return np.where(self.fragments[at] == fragments, self.group[at], -1)

"""Group small fragments into tasks of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

#: Work of a task, in particles: tasks on small fragments would cost more than their work.
TASK_ROWS = 100_000
#: Work to open and write a fragment, in particles.
FRAGMENT_ROWS = 10_000
#: Tasks that write fragments with moved decisions, at most: a shuffle has tasks for every pair of
#: partitions.
MOST_WRITERS = 1_000


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of consecutive fragments.

    Attributes
    ----------
    fragments : (n,) int64
        Fragment numbers, ascending.
    group : (n,) int64
        The group of each: 0, 1, 2 ...
    """

    fragments: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def make(cls, fragments: Sequence[int], rows: Sequence[int], most: int | None = None) -> Groups:
        """Return groups of about equal work.

        Parameters
        ----------
        fragments : sequence of int
            Fragment numbers, ascending.
        rows : sequence of int
            Particles of each.
        most : int, optional
            Largest number of groups.
        """
        work = np.array(rows, dtype=np.int64) + FRAGMENT_ROWS
        window = max(TASK_ROWS, -(-int(work.sum()) // most) if most else 0)
        starts_in = (np.cumsum(work) - work) // window
        _, group = np.unique(starts_in, return_inverse=True)
        return cls(np.array(fragments, dtype=np.int64), group)

    def __len__(self) -> int:
        return int(self.group.max(initial=-1)) + 1

    def __iter__(self) -> Iterator[list[int]]:
        starts = np.flatnonzero(np.diff(self.group)) + 1
        return (part.tolist() for part in np.split(self.fragments, starts) if part.size)

    def find(self, fragments: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the group of each fragment; -1 for fragments in no group."""
        if not self.fragments.size:
            return np.full(fragments.size, -1, dtype=np.int64)
        at = np.searchsorted(self.fragments, fragments).clip(max=self.fragments.size - 1)
        return np.where(self.fragments[at] == fragments, self.group[at], -1)

"""Group small fragments so that each task on a cluster has enough work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.pipeline.job import Job

#: Work of a task, in particles: tasks on small fragments would cost more than their work.
TASK_ROWS = 100_000
#: Work to open and write a fragment, in particles.
FRAGMENT_ROWS = 10_000
#: Tasks that write fragments with moved decisions, at most: a shuffle has tasks for every pair of
#: partitions.
MOST_WRITERS = 1_000


def group_fragments(job: Job, fragments: Sequence[int], most: int | None = None) -> list[list[int]]:
    """Split the list `fragments` into at most `most` sublists of about equal work."""
    rows = [job.inputs.fragments[number].rows for number in fragments]
    work = np.array(rows, dtype=np.int64) + FRAGMENT_ROWS
    window = max(TASK_ROWS, -(-int(work.sum()) // most) if most else 0)
    starts = np.flatnonzero(np.diff((np.cumsum(work) - work) // window)) + 1
    parts = np.split(np.array(fragments, dtype=np.int64), starts)
    return [part.tolist() for part in parts if part.size]


def groups_of(groups: Sequence[Sequence[int]], fragments: int) -> NDArray[np.int64]:
    """Return the group number of each fragment, an array. Fragments in no group have -1."""
    numbers = np.full(fragments, -1, dtype=np.int64)
    for number, group in enumerate(groups):
        numbers[list(group)] = number
    return numbers

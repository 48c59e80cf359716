"""Group fragments so that each task on a cluster has enough work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.pipeline.executors.tasks import piece

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distributed import Client, Future
    from numpy.typing import NDArray

    from dask_dedup.pipeline.job import Job

#: Least and most work of a task, in particles: tasks with less cost more than their work, and what a worker reads
#: of a group of fragments stays in its memory.
TASK_ROWS, MOST_TASK_ROWS = 100_000, 1_000_000
#: Work to open and write a fragment, in particles.
FRAGMENT_ROWS = 10_000
#: Tasks for each thread, if they have enough work: the last ones keep all threads busy.
TASKS_PER_THREAD = 8
#: Tasks that write fragments with moved decisions, at most: a shuffle has tasks for every pair of
#: partitions.
MOST_WRITERS = 1_000


def group_fragments(
    job: Job, fragments: Sequence[int], threads: int, most: int | None = None
) -> list[list[int]]:
    """Split the list `fragments` into sublists of about equal work, at most `most`, for a number of threads."""
    rows = [job.inputs.fragments[number].rows for number in fragments]
    work = np.array(rows, dtype=np.int64) + FRAGMENT_ROWS
    share = int(work.sum()) // (threads * TASKS_PER_THREAD)
    window = max(TASK_ROWS, min(share, MOST_TASK_ROWS))
    if most:
        window = max(window, -(-int(work.sum()) // most))
    starts = np.flatnonzero(np.diff((np.cumsum(work) - work) // window)) + 1
    parts = np.split(np.array(fragments, dtype=np.int64), starts)
    return [part.tolist() for part in parts if part.size]


def groups_of(groups: Mapping[int, Sequence[int]], fragments: int) -> NDArray[np.int64]:
    """Return the group number of each fragment, an array. Fragments in no group have -1."""
    numbers = np.full(fragments, -1, dtype=np.int64)
    for number, group in groups.items():
        numbers[list(group)] = number
    return numbers


def describe_groups(verb: str, job: Job, groups: Sequence[Sequence[int]]) -> list[str]:
    """Return what a task on each group of fragments does, for messages. `verb` is such as ``writing``."""
    descriptions = []
    for group in groups:
        first = job.inputs.fragments[group[0]]
        several = f"one of {len(group)} fragments, starting with " if len(group) > 1 else ""
        descriptions.append(f"{verb} {several}{first}")
    return descriptions


def task_name(task: Any) -> str:
    """Return the name of a task for messages, from its key."""
    name, number = task if isinstance(task, tuple) else (task, "")
    return f"the task {str(name).rpartition('-')[0].strip('_')} {number}".strip()


def pieces_of(
    client: Client, parts: list[Future], numbers: Sequence[int]
) -> dict[int, list[Future]]:
    """Return the futures that have the pieces with each number, of all parts."""
    if len(numbers) == 1 or len(parts) == 1:
        return dict.fromkeys(numbers, parts)
    which = [number for number in numbers for _ in parts]
    pieces = client.map(piece, parts * len(numbers), which, pure=False)
    size = len(parts)
    return {number: pieces[at * size : (at + 1) * size] for at, number in enumerate(numbers)}

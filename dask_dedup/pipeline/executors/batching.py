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

#: Least and most work of a task, in particles. Smaller tasks cost more time than their work. Larger tasks need too
#: much memory, because a worker keeps the data of all fragments of a task.
TASK_ROWS, MOST_TASK_ROWS = 100_000, 1_000_000
#: Work to open and write a fragment, in particles.
FRAGMENT_ROWS = 10_000
#: Number of tasks per thread, if there is enough work. With several tasks, all threads are busy until the end.
TASKS_PER_THREAD = 8
#: Largest number of tasks that write fragments with shuffled picks. A shuffle has tasks for every pair of partitions.
MOST_WRITERS = 1_000


def group_fragments(
    job: Job, fragments: Sequence[int], threads: int, most: int | None = None
) -> list[list[int]]:
    """Split `fragments` into groups of about equal work for a number of threads. Make at most `most` groups."""
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
    """Return an array with the group number of each fragment. Fragments in no group have -1."""
    numbers = np.full(fragments, -1, dtype=np.int64)
    for number, group in groups.items():
        numbers[list(group)] = number
    return numbers


def describe_groups(verb: str, job: Job, groups: Sequence[Sequence[int]]) -> list[str]:
    """Return a description of the task on each group of fragments, for messages. Example of `verb`: ``writing``."""
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
    """Map each number to the futures of the pieces with this number, from all parts."""
    if len(numbers) == 1 or len(parts) == 1:
        return dict.fromkeys(numbers, parts)
    which = [number for number in numbers for _ in parts]
    pieces = client.map(piece, parts * len(numbers), which, pure=False)
    size = len(parts)
    return {number: pieces[at * size : (at + 1) * size] for at, number in enumerate(numbers)}

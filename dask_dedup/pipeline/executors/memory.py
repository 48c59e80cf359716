"""Limit the memory for fragments that are being written, and for picks that are kept between the stages."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager, nullcontext, suppress
from itertools import accumulate
from threading import Condition
from typing import TYPE_CHECKING, Any

from dask_dedup.dedup.picks import PICK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from dask_dedup.formats import Fragment
    from dask_dedup.pipeline.job import Job

#: Memory to write a fragment, as a multiple of its uncompressed size. This memory holds the rows, a copy of the kept
#: rows, and the new files. Measured with tables of 41 columns and fragments of 24 to 250 MiB.
WRITING_FACTOR = 4
#: Share of the memory limit at which Dask pauses a worker, and memory of a worker without fragments.
_WORKER_SHARE, _IDLE_BYTES = 0.8, 260_000_000
#: Share of the machine's memory that the threads of a process may use. A run that needs fewer bytes than the second
#: number is not checked.
_MACHINE_SHARE, _UNCHECKED_BYTES = 0.5, 2**30

#: Largest size of the picks that a worker holds or shuffles in memory: per thread, and as a share of its memory limit.
_PICKS_BYTES, _PICKS_SHARE = 2**28, 0.08
#: Largest number of scratch folders in a message.
_SHOWN_FOLDERS = 4


def memory_for_picks(workers: Iterable[Mapping[str, Any]]) -> float:
    """Return the bytes of picks that all workers together may hold. `workers` are descriptions by Dask's scheduler."""
    return float(
        sum(
            min(
                _PICKS_BYTES * worker["nthreads"],
                _PICKS_SHARE * (worker["memory_limit"] or float("inf")),
            )
            for worker in workers
        )
    )


def choose_held(fragments: Sequence[Fragment], memory: float) -> list[bool]:
    """Return, for each fragment, whether its picks stay in memory. The picks that stay take at most `memory` bytes."""
    rows = accumulate(fragment.rows for fragment in fragments)
    return [each * PICK_BYTES <= memory for each in rows]


def return_freed_memory() -> None:
    """Return freed memory to the system. glibc would keep most of it: a gigabyte for 100 million uids."""
    with suppress(OSError, AttributeError):  # other C libraries lack the function
        ctypes.CDLL(None).malloc_trim(0)


def scratch_full(workers: Iterable[Mapping[str, Any]]) -> str:
    """Return the message for a full disk of one of these workers, if it is not known which worker."""
    folders = sorted({worker["local_directory"] for worker in workers})
    return (
        "the disk of a worker's scratch folder is full (one of "
        f"{', '.join(folders[:_SHOWN_FOLDERS])}). Free space there, or choose another folder "
        "(DASK_TEMPORARY_DIRECTORY), and run the same command again."
    )


class WritingMemory:
    """Memory for fragments that are written at the same time in a single process. Without limit if `limit` is None.

    A fragment that needs more than the limit is written alone.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._used = 0
        self._changed = Condition()

    @classmethod
    def of_worker(cls, limit: int | None) -> WritingMemory:
        """Return the memory of a Dask worker with this memory limit in bytes."""
        return cls(max(_WORKER_SHARE * limit - _IDLE_BYTES, 0) if limit else None)

    @classmethod
    def of_machine(cls, fragments: Sequence[Fragment], threads: int) -> WritingMemory:
        """Return the memory of this machine for some threads that write fragments."""
        largest = sorted((each.bytes for each in fragments), reverse=True)[:threads]
        if WRITING_FACTOR * sum(largest) <= _UNCHECKED_BYTES:
            return cls(None)
        from distributed.system import MEMORY_LIMIT

        return cls(_MACHINE_SHARE * MEMORY_LIMIT)

    def reserved_by(self, job: Job, number: int) -> AbstractContextManager[None]:
        """Reserve the memory for writing a fragment. A job that writes only lists of duplicates reserves nothing."""
        if not job.writes_particles:
            return nullcontext()
        return self.reserved(job.inputs.fragments[number])

    @contextmanager
    def reserved(self, fragment: Fragment) -> Iterator[None]:
        """Wait until there is memory to write a fragment, and reserve it."""
        size = WRITING_FACTOR * fragment.bytes
        with self._changed:
            self._changed.wait_for(
                lambda: self._limit is None or not self._used or self._used + size <= self._limit
            )
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()

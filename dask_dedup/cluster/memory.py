"""Check the memory limit of local workers."""

from __future__ import annotations

from contextlib import suppress

from dask_dedup.errors import InputError
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter

#: Bytes that a worker needs: for its libraries, and for each thread. Measured with tables of 41 columns and
#: 250,000 rows a file. With less, Dask pauses or restarts the worker again and again.
WORKER_BYTES, THREAD_BYTES = 350_000_000, 150_000_000


def least_memory(threads: int) -> int:
    """Return the bytes that a worker with this number of threads needs.

    Examples
    --------
    >>> least_memory(1), least_memory(4)
    (500000000, 950000000)
    """
    return WORKER_BYTES + threads * THREAD_BYTES


def most_workers(threads: int) -> int:
    """Return the number of workers with this number of threads that fit into memory, at least 1."""
    from distributed.system import MEMORY_LIMIT

    return max(1, int(MEMORY_LIMIT) // least_memory(threads))


def worker_memory(limit: str, workers: int, threads: int) -> str | int:
    """Return the memory limit of each worker, after a check: ``auto`` becomes an equal share of the memory, in bytes.

    Any other limit stays as it is. Dask accepts a size, a fraction of the machine's memory, or 0 for no limit.

    Raises
    ------
    InputError
        If the limit is not a size, or less than a worker needs.
    """
    from dask.utils import parse_bytes
    from distributed.system import MEMORY_LIMIT

    least = least_memory(threads)
    needs = f"a worker with {counted(threads, 'thread')} needs {least / 1e6:.0f} MB"
    if limit == "auto":
        share = int(MEMORY_LIMIT // workers)
        if share < least and workers > 1:
            raise InputError(
                f"{parameter('workers', workers)}: each worker would have {share / 1e6:.0f} MB of memory, but {needs}. "
                f"Use {parameter('workers', most_workers(threads))}."
            )
        return share
    try:
        size = parse_bytes(limit)
    except ValueError as error:
        raise InputError(
            f"{parameter('memory_limit', limit)}: not a size. Use 4GiB, 500MB or auto."
        ) from error
    with suppress(ValueError):
        size = int(float(limit) * MEMORY_LIMIT) if float(limit) <= 1 else size
    if size < least and size != 0:
        raise InputError(
            f"{parameter('memory_limit', limit)}: too little, {needs}. Use "
            f"{parameter('memory_limit', f'{least / 1e6:.0f}MB')} or more, or auto."
        )
    return limit

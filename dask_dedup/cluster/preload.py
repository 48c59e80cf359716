"""Dask preload: set the memory settings of nannies, and make workers silent after Ctrl-C.

``--preload-nanny dask_dedup.cluster.preload`` lets workers reuse freed memory, as a single process does.
By default Dask and Arrow return memory to the system at once, which makes a run a third slower.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Nanny, Worker

TRIM = "MALLOC_TRIM_THRESHOLD_"
#: Dask's default. Other values are set by the user and are not changed.
DASK_TRIM = "65536"
#: Highest values to which glibc raises its limits by itself. Larger blocks are returned to the system.
GLIBC_LIMITS = {"MALLOC_MMAP_THRESHOLD_": str(2**25), TRIM: str(2**26)}
POOL = "ARROW_DEFAULT_MEMORY_POOL"


def dask_setup(server: Nanny | Worker) -> None:
    """Apply memory settings to a nanny, or Ctrl-C handling to a worker. Dask calls this when the process starts."""
    from distributed import Nanny

    if isinstance(server, Nanny):
        _reuse_freed_memory(server)
    else:
        signal.signal(signal.SIGINT, _disable_logging)


def _reuse_freed_memory(nanny: Nanny) -> None:
    environ = nanny.pre_spawn_env
    if environ.get(TRIM) == DASK_TRIM:
        environ |= GLIBC_LIMITS
    if POOL not in os.environ:
        environ.setdefault(POOL, "system")
    # The worker applies `env` again after it has started.
    nanny.env |= environ


def _disable_logging(*_: object) -> None:
    # Ctrl-C reaches all processes of a terminal. The main process closes the cluster, and the scheduler ends before
    # the workers. Workers would print tracebacks about the lost scheduler.
    logging.disable()

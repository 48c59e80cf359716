"""Nanny preload (``--preload-nanny dask_dedup.cluster.preload``): workers keep freed memory, as a single process does.

Dask tells the C library to give freed memory back to the system at once, and Arrow's own allocator does so, too. Each
fragment then gets its memory anew, page by page, which takes a third of the time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Nanny

TRIM = "MALLOC_TRIM_THRESHOLD_"
#: Dask's default for it; anybody who sets another means it.
DASKS_TRIM = "65536"
#: Where glibc's own adaptation ends: what is larger goes back at once, and what is more at the top of a heap.
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**25), TRIM: str(2**26)}
POOL = "ARROW_DEFAULT_MEMORY_POOL"


def dask_setup(nanny: Nanny) -> None:
    """Called by Dask before the nanny starts its worker."""
    environ = nanny.pre_spawn_env
    if environ.get(TRIM) == DASKS_TRIM:
        environ |= KEPT
    if POOL not in os.environ:
        environ.setdefault(POOL, "system")
    # The worker takes these once more when it has started.
    nanny.env |= environ

"""Waiting for the first workers of a cluster that is starting."""

from __future__ import annotations

import logging
import time
from typing import Protocol

#: Once there is a worker, the others are waited for so long: a shuffle deals its work to those that are there.
GATHER_SECONDS = 10.0
POLL_SECONDS = 0.1

log = logging.getLogger("dask_dedup")


class Kept(Protocol):
    """A cluster that looks after its workers."""

    @property
    def workers_here(self) -> int:
        """Worker processes that have come and not left."""

    @property
    def workers_wanted(self) -> int:
        """Worker processes there are to be."""

    def keep(self) -> None:
        """Look after them; to be called now and then."""


def gather(cluster: Kept) -> None:
    """Wait for the first worker as long as it takes, and for the others a little.

    Raises
    ------
    RunError
        If the cluster finds that none will come.
    """
    first: float | None = None
    while True:
        cluster.keep()
        here = cluster.workers_here
        if here and first is None:
            first = time.monotonic()
        if here >= cluster.workers_wanted:
            break
        if first is not None and time.monotonic() - first > GATHER_SECONDS:
            log.info("beginning with %d of %d workers", here, cluster.workers_wanted)
            break
        time.sleep(POLL_SECONDS)

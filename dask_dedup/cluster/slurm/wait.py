"""Waiting for the first workers of a cluster that is starting."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

#: Seconds to wait for more workers after the first: a shuffle uses only the workers present when it starts.
MORE_WORKERS_SECONDS = 10.0
POLL_SECONDS = 0.1

log = logging.getLogger("dask_dedup")


def wait_for_workers(client: Client, number: int, check: Callable[[], None]) -> None:
    """Wait for the first worker without a limit, then a few seconds for the others.

    Parameters
    ----------
    client : distributed.Client
    number : int
        Number of worker processes when all have come.
    check : callable
        Called now and then; raises an error if no worker will come.
    """
    first: float | None = None
    while True:
        check()
        connected = len(client.nthreads())
        if connected and first is None:
            first = time.monotonic()
        if connected >= number:
            break
        if first is not None and time.monotonic() - first > MORE_WORKERS_SECONDS:
            log.info("starting with %d of %d workers", connected, number)
            break
        time.sleep(POLL_SECONDS)

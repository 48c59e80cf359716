"""Choose whether a run uses threads of this process or a Dask cluster."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dask_dedup.cluster.connect import (
    available_cores,
    configured_address,
    connect,
    start_local,
)
from dask_dedup.cluster.live_page_link import live_page_link
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter
from dask_dedup.pipeline.executors.threads import MOST_THREADS, ThreadExecutor

if TYPE_CHECKING:
    from contextlib import ExitStack

    from distributed import Client

    from dask_dedup.monitoring.progress import EventHandler
    from dask_dedup.pipeline.executors import Executor
    from dask_dedup.pipeline.executors.distributed import DistributedExecutor

#: Runs with at most this number of particles use threads on any machine. To start a cluster would take longer.
THREADS_ROWS = 10_000_000
#: Bytes per pick that is shuffled between threads, and the share of the machine's memory for all these picks.
MOVING_BYTES, MOVING_SHARE = 100, 0.5

log = logging.getLogger("dask_dedup")


def choose_executor(
    stack: ExitStack,
    client: Client | None,
    rows: int,
    on_event: EventHandler | None = None,
    *,
    threads: int | None = None,
) -> ThreadExecutor | DistributedExecutor:
    """Return the executor for a run: the given or configured cluster if any, else threads or a local cluster.

    `stack` closes new clusters and connections. `rows` is the number of particles in all inputs.
    If `threads` is passed without `client`, the run uses threads.
    """
    if threads is not None and client is None:
        if threads < 1:
            raise InputError(f"{parameter('threads')} is {threads}; it must be at least 1.")
        return ThreadExecutor(on_event, threads)
    if client is not None:
        check_synchronous(client)
    elif configured_address():
        client = connect(stack)
    if client is None and (rows <= THREADS_ROWS or available_cores() <= MOST_THREADS):
        return ThreadExecutor(on_event)
    return _use(stack, client or start_local(stack), on_event)


def choose_for_moving(
    stack: ExitStack, executor: Executor, moving_rows: int, on_event: EventHandler | None = None
) -> Executor:
    """Return an executor on a local cluster if the picks to shuffle do not fit in memory, else `executor`."""
    if moving_rows <= THREADS_ROWS or not isinstance(executor, ThreadExecutor):
        return executor
    from distributed.system import MEMORY_LIMIT

    if moving_rows * MOVING_BYTES <= MEMORY_LIMIT * MOVING_SHARE:
        return executor
    log.debug("shuffling %s picks may not fit in memory: starting a cluster", f"{moving_rows:,}")
    return _use(stack, start_local(stack), on_event)


def check_synchronous(client: Client) -> None:
    """Raise InputError if a Dask client is asynchronous."""
    if getattr(client, "asynchronous", False):
        raise InputError("the Dask client is asynchronous. Use one made with asynchronous=False.")


def _use(stack: ExitStack, client: Client, on_event: EventHandler | None) -> DistributedExecutor:
    from dask_dedup.pipeline.executors.distributed import DistributedExecutor

    # The shuffle uses Dask's current client, so make this client the current client.
    stack.enter_context(client.as_current())
    link = live_page_link(client)
    if link:
        log.info("live page: %s", link)
    return DistributedExecutor(client, on_event)

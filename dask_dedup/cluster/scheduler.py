"""Functions shared by local and SLURM clusters: Dask settings, waiting for workers, and closing."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dask_dedup.cluster.live_page_link import wait_for_visitors
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from distributed import Client, Security
    from distributed.deploy import Cluster

#: A worker counts as lost after this time without a message. The stages release the GIL, so busy workers answer.
WORKER_TTL = "60s"
#: By default Dask closes a nanny or cancels a job if its worker is missing for 15 s. A restart may take longer.
LOST_WORKER_TIMEOUT = "365 days"
#: At WARNING, the scheduler would log the start and the end of every shuffle.
LOG_LEVEL = logging.ERROR
#: Seconds to wait for more workers after the first worker. A shuffle uses only workers that are there at its start.
MORE_WORKERS_SECONDS = 10.0
POLL_SECONDS = 0.1
#: Seconds without a worker before a log line about it.
NOTICE_SECONDS = 5.0
HIGHEST_PORT = 65535

_EXTRA = "pip install 'dask-dedup[dashboard]'"

log = logging.getLogger("dask_dedup")


@contextmanager
def scheduler_settings(security: Security | None = None) -> Iterator[None]:
    """Set the Dask configuration for a scheduler that is started within the context."""
    import dask

    from dask_dedup.cluster.tls import dashboard_certificate
    from dask_dedup.monitoring import dashboard

    changes = {
        "distributed.scheduler.preload": preloads("scheduler", dashboard.__name__),
        "distributed.scheduler.worker-ttl": WORKER_TTL,
        "distributed.deploy.lost-worker-timeout": LOST_WORKER_TIMEOUT,
        **dashboard_certificate(security),
    }
    with dask.config.set(changes):
        for library, missing in dashboard.LIBRARIES.items():
            if not dashboard.installed(library):
                log.info("%s is not installed: %s (%s)", library, missing, _EXTRA)
        yield


@contextmanager
def closing_quietly(cluster: Cluster) -> Iterator[None]:
    """Close a cluster when the context ends, without Dask's log lines about lost connections."""
    logger = logging.getLogger("distributed")
    level = logger.level
    try:
        with cluster:
            try:
                yield
            finally:
                logger.setLevel(logging.CRITICAL)
    finally:
        logger.setLevel(level)


def client_of(stack: ExitStack, cluster: Cluster) -> Client:
    """Return a client of a started cluster. The stack closes both after open live pages show the end of the run."""
    from distributed import Client

    stack.enter_context(closing_quietly(cluster))
    client = stack.enter_context(Client(cluster))
    stack.callback(wait_for_visitors, client)
    return client


def wait_for_workers(client: Client, number: int, check: Callable[[], None]) -> None:
    """Wait for the first worker without a time limit, then `MORE_WORKERS_SECONDS` at most for all `number` workers.

    `check` is called repeatedly and raises an error if no worker can connect.
    """
    first: float | None = None
    began, noticed = time.monotonic(), False
    while True:
        check()
        connected = len(client.nthreads())
        if not (connected or noticed) and time.monotonic() - began > NOTICE_SECONDS:
            log.info("no worker has connected yet; the run starts when the first worker connects")
            noticed = True
        if connected and first is None:
            first = time.monotonic()
        if connected >= number:
            break
        if first is not None and time.monotonic() - first > MORE_WORKERS_SECONDS:
            log.info("starting with %d of %d workers", connected, number)
            break
        time.sleep(POLL_SECONDS)


def preloads(kind: str, module: str) -> list[str]:
    """Return the configured preload modules of a scheduler, nanny or worker (`kind`), followed by `module`."""
    import dask

    configured = dask.config.get(f"distributed.{kind}.preload")
    return [*([configured] if isinstance(configured, str) else configured), module]


def complete_dashboard_address(address: str | None) -> str:
    """Complete a dashboard address. The default host is 127.0.0.1, the default port any free port.

    Examples
    --------
    >>> complete_dashboard_address(None), complete_dashboard_address("0.0.0.0:8787")
    ('127.0.0.1:0', '0.0.0.0:8787')
    """
    host, colon, port = (address or ":0").rpartition(":")
    if not colon or not port.isdecimal() or int(port) > HIGHEST_PORT:
        raise InputError(
            f"{parameter('dashboard_address', address)}: not an address. Use [HOST]:PORT, such as :8787."
        )
    return f"{host or '127.0.0.1'}:{port}"

"""How every scheduler that this program starts is set up: the live page, lost workers, who may look at it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Security
    from distributed.deploy import Cluster

#: A worker that is silent for so long is given up and its work done elsewhere. The stages leave the interpreter's
#: lock, so that a worker can say that it lives however long a KD-tree takes.
WORKER_TTL = "60s"
#: The scheduler notes the start and the end of every shuffle as if they were warnings.
LOG_LEVEL = logging.ERROR
LARGEST_PORT = 65535

_EXTRA = "pip install 'dask-dedup[dashboard]'"
_WITHOUT = {
    "bokeh": f"there is no live page ({_EXTRA})",
    "prometheus_client": f"there are no metrics ({_EXTRA})",
}

log = logging.getLogger("dask_dedup")


@contextmanager
def set_up(security: Security | None = None) -> Iterator[None]:
    """Set what a scheduler takes from Dask's configuration when it starts; keep it while the scheduler is used.

    Parameters
    ----------
    security : distributed.Security, optional
        Its certificates are the dashboard's, too.
    """
    import dask

    from dask_dedup.cluster.tls import dashboard_with
    from dask_dedup.monitoring import dashboard

    changes = {
        "distributed.scheduler.preload": preloads("scheduler", dashboard.__name__),
        "distributed.scheduler.worker-ttl": WORKER_TTL,
    }
    with dask.config.set(changes), dashboard_with(security):
        yield


@contextmanager
def closing_quietly(cluster: Cluster) -> Iterator[None]:
    """Use a cluster, and close it without a word: its parts may miss each other while they end.

    Parameters
    ----------
    cluster : distributed.deploy.Cluster
    """
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


def preloads(kind: str, ours: str) -> list[str]:
    """Give what Dask's configuration has a scheduler or a worker preload, one module or several, and one of ours."""
    import dask

    theirs = dask.config.get(f"distributed.{kind}.preload")
    return [*([theirs] if isinstance(theirs, str) else theirs), ours]


def dashboard_at(address: str | None) -> str:
    """Give the place of a dashboard: on this machine only, unless the address names a host.

    Raises
    ------
    InputError
        If it is no address.

    Examples
    --------
    >>> dashboard_at(None), dashboard_at(":8787"), dashboard_at("0.0.0.0:8787")
    ('127.0.0.1:0', '127.0.0.1:8787', '0.0.0.0:8787')
    """
    address = address or ":0"
    port = address.rpartition(":")[2]
    if ":" not in address or not port.isdecimal() or int(port) > LARGEST_PORT:
        raise InputError(f"--dashboard-address {address}: is no [HOST]:PORT; say :8787")
    return f"127.0.0.1{address}" if address.startswith(":") else address


def tell_missing() -> None:
    """Tell which optional libraries the dashboard has to do without."""
    from dask_dedup.monitoring import dashboard

    for library in dashboard.missing():
        log.info("%s is not installed: %s", library, _WITHOUT[library])

"""Connect to a Dask cluster, or start one on this machine."""

from __future__ import annotations

import logging
import os
import re
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.cluster.memory import most_workers, worker_memory
from dask_dedup.errors import RunError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from distributed import Client, Security

#: Largest number of threads in a worker process of a local cluster.
THREADS_PER_WORKER = 4
_SCHEDULER_ADDRESS = re.compile(r"scheduler[-_]address")

log = logging.getLogger("dask_dedup")


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def configured_address() -> str | None:
    """Return the scheduler address in Dask's configuration, or None if it is not set."""
    if not _may_be_configured():
        return None
    import dask

    address: str | None = dask.config.get("scheduler-address", None)
    return address


def _may_be_configured() -> bool:
    """Check, without importing Dask, whether Dask's configuration may have the address of a scheduler."""
    if "dask" in sys.modules or any(name.startswith("DASK_") for name in os.environ):
        return True
    folders = [Path(root, "etc", "dask") for root in ("/", sys.prefix, *site.PREFIXES)]
    files = [
        file for folder in [*folders, Path.home() / ".config/dask"] for file in folder.glob("*.*")
    ]
    return any(
        _SCHEDULER_ADDRESS.search(file.read_text(errors="replace"))
        for file in files
        if file.is_file() and os.access(file, os.R_OK)
    )


def connect(
    stack: ExitStack,
    address: str | None = None,
    scheduler_file: str | Path | None = None,
    security: Security | None = None,
) -> Client:
    """Connect to a running Dask cluster. Return a client, which the exit stack closes.

    Pass `address` or `scheduler_file`. By default, the address and the certificates are read from Dask's configuration.
    """
    from distributed import Client, Security

    from dask_dedup.cluster import handshake

    found = handshake.read_scheduler_file(Path(scheduler_file)) if scheduler_file else address
    target = str(found or configured_address())
    handshake.check_scheduler(target, security or Security())
    try:
        client = Client(target, timeout=handshake.CONNECT_SECONDS, security=security)
        stack.enter_context(client)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise handshake.cannot_connect(target, error) from error
    try:
        with handshake.waiting_notice(f"the first worker of the scheduler at {target}"):
            client.wait_for_workers(1, timeout=handshake.CONNECT_SECONDS)
    except TimeoutError as error:
        raise RunError(
            f"the scheduler at {target} has no workers. Start some: dask worker {client.scheduler.address}"
        ) from error
    return client


def start_local(
    stack: ExitStack,
    workers: int | None = None,
    threads_per_worker: int | None = None,
    memory_limit: str = "auto",
    dashboard_address: str | None = None,
    security: Security | None = None,
) -> Client:
    """Start a cluster on this machine and return its client.

    The stack closes the cluster. By default the cluster uses all cores, most of the memory, and the certificates of
    Dask's configuration. A single worker runs in this process. Scheduler, workers and dashboard listen only on this
    machine, unless the dashboard's address has a host.
    """
    from distributed import LocalCluster

    from dask_dedup.cluster import scheduler
    from dask_dedup.cluster.tls import configured_security

    threads = threads_per_worker or max(
        1, min(available_cores() // (workers or 1), THREADS_PER_WORKER)
    )
    number = workers or max(1, min(available_cores() // threads, most_workers(threads)))
    memory = worker_memory(memory_limit, number, threads)
    preloads = {}
    if number > 1:
        for option, kind in (("preload", "worker"), ("preload_nanny", "nanny")):
            preloads[option] = scheduler.preloads(kind, "dask_dedup.cluster.preload")
    security = security or configured_security()
    stack.enter_context(scheduler.scheduler_settings(security))
    cluster = LocalCluster(
        n_workers=number,
        threads_per_worker=threads,
        processes=number > 1,
        memory_limit=memory,
        host="127.0.0.1" if number > 1 or security else None,
        security=security,
        dashboard_address=scheduler.complete_dashboard_address(dashboard_address),
        worker_dashboard_address="127.0.0.1:0",
        silence_logs=scheduler.LOG_LEVEL,
        **preloads,
    )
    return scheduler.client_of(stack, cluster)

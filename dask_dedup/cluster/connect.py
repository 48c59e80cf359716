"""Where a run takes place: this process, a cluster started for it, or one that is there already."""

from __future__ import annotations

import logging
import os
import re
import site
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dask_dedup.errors import InputError, RunError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from distributed import Client, Security

#: A worker process of the embedded cluster has so many threads; all stages leave the interpreter's lock.
THREADS_PER_WORKER = 4
CONNECT_SECONDS = 30
_NAMES_SCHEDULER = re.compile(r"scheduler[-_]address")

log = logging.getLogger("dask_dedup")


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0))


def configured_address() -> str | None:
    """Give the scheduler that the usual Dask configuration names, if any."""
    if not _may_be_configured():
        return None
    import dask

    address: str | None = dask.config.get("scheduler-address", None)
    return address


def _may_be_configured() -> bool:
    """Tell whether it is worth a look at Dask's configuration: to import it takes as long as a small run."""
    if "dask" in sys.modules or any(name.startswith("DASK_") for name in os.environ):
        return True
    folders = [Path(root, "etc", "dask") for root in ("/", sys.prefix, *site.PREFIXES)]
    files = [
        file for folder in [*folders, Path.home() / ".config/dask"] for file in folder.glob("*.*")
    ]
    return any(
        _NAMES_SCHEDULER.search(file.read_text(errors="replace"))
        for file in files
        if file.is_file() and os.access(file, os.R_OK)
    )


def connect(
    stack: ExitStack,
    address: str | None = None,
    scheduler_file: str | Path | None = None,
    security: Security | None = None,
) -> Client:
    """Connect to a running cluster.

    Parameters
    ----------
    stack : ExitStack
        Closes the connection.
    address, scheduler_file : str, optional
        Where the scheduler is; by default what Dask's configuration says.
    security : distributed.Security, optional
        Certificates; by default those of Dask's configuration.

    Raises
    ------
    InputError
        If there is no scheduler file, and none comes.
    RunError
        If there is no scheduler, it refuses, or it has no workers.
    """
    from distributed import Client

    from dask_dedup.cluster.tls import why_refused

    if scheduler_file:
        _await_file(Path(scheduler_file))
    target = str(address or scheduler_file or configured_address())
    try:
        if scheduler_file:
            client = Client(
                scheduler_file=str(scheduler_file), timeout=CONNECT_SECONDS, security=security
            )
        else:
            client = Client(address, timeout=CONNECT_SECONDS, security=security)
        stack.enter_context(client)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = why_refused(target, error)
        raise RunError(reason or f"no Dask scheduler answers at {target}: {error}") from error
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as error:
        raise RunError(
            f"the scheduler at {target} has no workers; start some with: dask worker {target}"
        ) from error
    return client


def _await_file(file: Path) -> None:
    """Wait for what a scheduler writes when it starts, which may have been just now."""
    if not file.parent.is_dir():
        raise InputError(f"--scheduler-file {file}: there is no folder {file.parent}")
    end = time.monotonic() + CONNECT_SECONDS
    if not file.exists():
        log.info("waiting for %s, at most %d s", file, CONNECT_SECONDS)
    while not file.exists():
        if time.monotonic() > end:
            raise InputError(
                f"--scheduler-file {file}: no such file; a scheduler writes it: dask scheduler --scheduler-file {file}"
            )
        time.sleep(0.1)


def start_local(
    stack: ExitStack,
    workers: int | None = None,
    threads_per_worker: int | None = None,
    memory_limit: str = "auto",
    dashboard_address: str | None = None,
    security: Security | None = None,
) -> Client:
    """Start a cluster on this machine; by default it uses all cores and most of the memory.

    A single worker lives in this process: it is there at once and shares its memory. All of it
    listens on this machine only, but for a dashboard whose address names a host. Certificates, if
    there are any here or in Dask's configuration, are asked of everybody who connects.
    """
    from distributed import Client, LocalCluster

    from dask_dedup.cluster import scheduler
    from dask_dedup.cluster.tls import configured

    _check_memory(memory_limit)
    threads = threads_per_worker or max(
        1, min(available_cores() // (workers or 1), THREADS_PER_WORKER)
    )
    number = workers or max(1, available_cores() // threads)
    preloads = {}
    if number > 1:
        # Ctrl-C is sent to all processes of a terminal; this one sees to the end of the others.
        preloads["preload"] = scheduler.preloads("worker", "dask_dedup.cluster.quiet")
        preloads["preload_nanny"] = scheduler.preloads("nanny", "dask_dedup.cluster.preload")
    security = security or configured()
    stack.enter_context(scheduler.set_up(security))
    cluster = LocalCluster(
        n_workers=number,
        threads_per_worker=threads,
        processes=number > 1,
        memory_limit=memory_limit,
        host="127.0.0.1" if number > 1 or security else None,
        security=security,
        dashboard_address=scheduler.dashboard_at(dashboard_address),
        worker_dashboard_address="127.0.0.1:0",
        silence_logs=scheduler.LOG_LEVEL,
        **preloads,
    )
    stack.enter_context(scheduler.closing_quietly(cluster))
    scheduler.tell_missing()
    return stack.enter_context(Client(cluster))


def _check_memory(limit: str) -> None:
    from dask.utils import parse_bytes

    try:
        if limit != "auto":
            parse_bytes(limit)
    except ValueError as error:
        raise InputError(f"--memory-limit {limit}: is no size; say 4GiB, 500MB or auto") from error


def watch_link(client: Client) -> str | None:
    """Give the address of the live page, if the scheduler has it; see `dask_dedup.monitoring.dashboard`."""
    from dask_dedup.monitoring.dashboard import HTTPS, METADATA

    page: str | None = client.get_metadata([METADATA], None)
    link: str = client.dashboard_link or ""
    if not (page and link):
        return None
    if client.scheduler.address.startswith("inproc://"):
        # Such an address names the machine's network, on which the page may not be.
        options = getattr(client.cluster, "scheduler_spec", {}).get("options", {})
        given = str(options.get("dashboard_address", "")).rpartition(":")[0]
        host = "127.0.0.1" if given in ("0.0.0.0", "") else given
        link = urlsplit(link)._replace(netloc=f"{host}:{urlsplit(link).port}").geturl()
    if client.get_metadata([HTTPS], default=False):
        link = link.replace("http://", "https://", 1)
    return link.removesuffix("/status") + page

"""Options that choose the Dask cluster of a run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dask_dedup.cli.types import PATH, together
from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from distributed import Client, Security

_POSITIVE = click.IntRange(1)
_PEM = click.Path(path_type=Path)

log = logging.getLogger("dask_dedup")

cluster_options = together(
    [
        click.option("--scheduler", metavar="ADDRESS", help="Address of a running Dask scheduler."),
        click.option(
            "--scheduler-file",
            type=PATH,
            metavar="FILE",
            help="File with the address of a running Dask scheduler.",
        ),
        click.option(
            "--cluster",
            type=click.Choice(["slurm", "slurm-allocation"]),
            help="Start workers on SLURM: in new jobs, or in the current allocation.",
        ),
        click.option(
            "--jobs", type=_POSITIVE, metavar="N", help="Number of jobs for --cluster slurm."
        ),
        click.option(
            "--interface",
            metavar="INTERFACE",
            help="Network interface for --cluster, such as ib0.  [default: jobqueue.slurm.interface of Dask's "
            "configuration; on one node: loopback]",
        ),
        click.option(
            "--workers", type=_POSITIVE, metavar="N", help="Start a local cluster of N workers."
        ),
        click.option(
            "--threads-per-worker",
            type=_POSITIVE,
            metavar="N",
            help="Threads per local worker.",
        ),
        click.option(
            "--memory-limit",
            metavar="SIZE",
            help="Memory limit of each local worker, such as 4GiB. Minimum: 350MB plus 150MB per thread.  "
            "[default: an equal share of the memory]",
        ),
        click.option(
            "--dashboard",
            is_flag=True,
            help="Serve a live page of the run on this machine until the command ends. Without another "
            "option for a cluster, the run uses a Dask cluster in this process, with all cores.",
        ),
        click.option(
            "--dashboard-address",
            metavar="[HOST]:PORT",
            help="Address of the live page, such as :8787, if this command starts the cluster.",
        ),
        click.option(
            "--tls-ca-file", type=_PEM, metavar="PEM", help="Certificate authority of the cluster."
        ),
        click.option("--tls-cert", type=_PEM, metavar="PEM", help="Certificate for the cluster."),
        click.option(
            "--tls-key",
            type=_PEM,
            metavar="PEM",
            help="Key of the certificate.  [default: in the file of --tls-cert]",
        ),
    ]
)


def open_client(
    stack: ExitStack,
    *,
    scheduler: str | None,
    scheduler_file: Path | None,
    cluster: str | None,
    jobs: int | None,
    interface: str | None,
    workers: int | None,
    threads_per_worker: int | None,
    memory_limit: str | None,
    dashboard: bool,
    dashboard_address: str | None,
    tls_ca_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> Client | None:
    """Connect to or start the cluster that the options select. Return its client, or None if no option is set.

    Raises
    ------
    click.UsageError
        If options exclude each other.
    InputError
        If a library or a setting of the cluster is missing.
    RunError
        If the cluster does not answer or does not start.
    """
    connects = bool(scheduler or scheduler_file)
    local = bool(workers or threads_per_worker or memory_limit)
    mistakes = {
        "--scheduler, --scheduler-file and the options that start a cluster exclude each other": (
            (scheduler and scheduler_file) or (connects and (cluster or local or dashboard_address))
        ),
        "--workers, --threads-per-worker and --memory-limit are for a local cluster; "
        "set the size of a SLURM job in Dask's configuration or in the batch script": (
            cluster and local
        ),
        "--cluster slurm and --jobs N go together": (cluster == "slurm") != bool(jobs),
        "--interface is for --cluster": interface and not cluster,
        "--tls-ca-file and --tls-cert go together (and --tls-key)": (
            bool(tls_ca_file) != bool(tls_cert) or (tls_key and not tls_cert)
        ),
    }
    for message, made in mistakes.items():
        if made:
            raise click.UsageError(message)
    security = None
    if tls_ca_file and tls_cert:
        from dask_dedup.cluster.tls import load_security

        security = load_security(tls_ca_file, tls_cert, tls_key)
    if dashboard:
        _check_bokeh()
    if cluster:
        return _start_on_slurm(stack, jobs, interface, dashboard_address, security)
    from dask_dedup.cluster.connect import (
        available_cores,
        configured_address,
        connect,
        start_local,
    )

    client: Client | None = None
    if connects or (configured_address() and not (local or dashboard_address)):
        client = connect(stack, scheduler, scheduler_file, security)
    elif dashboard and not local:
        address = dashboard_address
        client = start_local(stack, 1, available_cores(), "auto", address, security)
    elif local or dashboard_address:
        limit = memory_limit or "auto"
        client = start_local(stack, workers, threads_per_worker, limit, dashboard_address, security)
    elif security:
        raise click.UsageError(
            "--tls-ca-file and --tls-cert need a cluster: add --scheduler, --cluster or --workers"
        )
    if dashboard and client:
        _warn_without_page(client)
    return client


def _check_bokeh() -> None:
    from dask_dedup.monitoring import dashboard

    if not dashboard.installed("bokeh"):
        raise InputError("--dashboard needs a library: pip install 'dask-dedup[dashboard]'")


def _warn_without_page(client: Client) -> None:
    from dask_dedup.cluster.live_page_link import live_page_link

    if not live_page_link(client):
        log.warning(
            "the scheduler at %s has no live page. Start it with: "
            "dask scheduler --preload dask_dedup.monitoring.dashboard",
            client.scheduler.address,
        )


def _start_on_slurm(
    stack: ExitStack,
    jobs: int | None,
    interface: str | None,
    dashboard_address: str | None,
    security: Security | None,
) -> Client:
    from dask_dedup.cluster.slurm.walltime import stop_on_sigterm
    from dask_dedup.cluster.tls import configured_security

    stack.enter_context(stop_on_sigterm())
    security = security or configured_security()
    if jobs is None:
        from dask_dedup.cluster.slurm.allocation import start_in_allocation

        return start_in_allocation(stack, interface, dashboard_address, security)
    try:
        from dask_dedup.cluster.slurm.jobs import start_jobs
    except ImportError as error:
        needed = "pip install 'dask-dedup[slurm]'"
        raise InputError(f"--cluster slurm needs a library: {needed} ({error})") from error
    return start_jobs(stack, jobs, interface, dashboard_address, security)

"""Options that choose the Dask cluster of a run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.cli.types import PATH
from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from distributed import Client, Security

CLUSTERS = ("slurm", "slurm-allocation")
_EXTRA = "pip install 'dask-dedup[slurm]'"
_POSITIVE = click.IntRange(1)
_PEM = click.Path(path_type=Path)

_OPTIONS = (
    click.option("--scheduler", metavar="ADDRESS", help="Address of a running Dask scheduler."),
    click.option(
        "--scheduler-file",
        type=PATH,
        metavar="FILE",
        help="File with the address of a running Dask scheduler.",
    ),
    click.option(
        "--cluster",
        type=click.Choice(CLUSTERS),
        help="Start workers on SLURM: in new jobs, or in the current allocation.",
    ),
    click.option("--jobs", type=_POSITIVE, metavar="N", help="Number of jobs for --cluster slurm."),
    click.option(
        "--interface",
        metavar="NAME",
        help="Network interface of the started cluster, such as ib0.  [default on one node: loopback]",
    ),
    click.option(
        "--workers", type=_POSITIVE, metavar="N", help="Start a local cluster of N workers."
    ),
    click.option(
        "--threads-per-worker", type=_POSITIVE, metavar="N", help="Threads of each local worker."
    ),
    click.option(
        "--memory-limit",
        metavar="SIZE",
        help="Memory of each local worker, such as 4GiB.  [default: an equal share]",
    ),
    click.option(
        "--dashboard-address",
        metavar="[HOST]:PORT",
        help="Address of the started cluster's dashboard, such as :8787.",
    ),
    click.option(
        "--tls-ca-file", type=_PEM, metavar="PEM", help="Certificate authority of the cluster."
    ),
    click.option("--tls-cert", type=_PEM, metavar="PEM", help="Certificate for the cluster."),
    click.option(
        "--tls-key",
        type=_PEM,
        metavar="PEM",
        help="Key of the certificate.  [default: in the same file]",
    ),
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a cluster to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class ClusterOptions:
    """Values of the options that choose a cluster; None where an option is not given."""

    scheduler: str | None = None
    scheduler_file: Path | None = None
    cluster: str | None = None
    jobs: int | None = None
    interface: str | None = None
    workers: int | None = None
    threads_per_worker: int | None = None
    memory_limit: str | None = None
    dashboard_address: str | None = None
    tls_ca_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @classmethod
    def take(cls, parameters: dict[str, Any]) -> ClusterOptions:
        """Remove these options from the parameters of a command and return them."""
        return cls(**{field.name: parameters.pop(field.name) for field in fields(cls)})

    def client(self, stack: ExitStack) -> Client | None:
        """Return a client of the chosen cluster, connected or started; None if no option chooses one.

        Raises
        ------
        click.UsageError
            If options exclude each other.
        InputError
            If a library or a setting of the cluster is missing.
        RunError
            If the cluster does not answer or does not start.
        """
        local = (self.workers, self.threads_per_worker, self.memory_limit)
        self._check(starts_local=any(local))
        security = self._security()
        if self.cluster:
            return self._start_on_slurm(stack, security)
        from dask_dedup.cluster.connect import configured_address, connect, start_local

        if self.scheduler or self.scheduler_file:
            return connect(stack, self.scheduler, self.scheduler_file, security)
        if any(local) or self.dashboard_address:
            return start_local(
                stack,
                self.workers,
                self.threads_per_worker,
                self.memory_limit or "auto",
                self.dashboard_address,
                security,
            )
        if security and not configured_address():
            raise click.UsageError(
                "--tls-ca-file and --tls-cert need a cluster: add --scheduler, --cluster or --workers"
            )
        return connect(stack, security=security) if security else None

    def _check(self, *, starts_local: bool) -> None:
        connects = bool(self.scheduler or self.scheduler_file)
        starts = bool(self.cluster or starts_local or self.dashboard_address)
        if (self.scheduler and self.scheduler_file) or (connects and starts):
            raise click.UsageError(
                "--scheduler, --scheduler-file and the options that start a cluster exclude each other"
            )
        if self.cluster and starts_local:
            raise click.UsageError(
                "--workers, --threads-per-worker and --memory-limit are for a local cluster; "
                "set the size of a SLURM job in Dask's configuration or in the batch script"
            )
        if (self.cluster == "slurm") != bool(self.jobs):
            raise click.UsageError("--cluster slurm and --jobs N go together")
        if self.interface and not self.cluster:
            raise click.UsageError("--interface is for --cluster")
        if bool(self.tls_ca_file) != bool(self.tls_cert) or (self.tls_key and not self.tls_cert):
            raise click.UsageError("--tls-ca-file and --tls-cert go together (and --tls-key)")

    def _security(self) -> Security | None:
        if not (self.tls_ca_file and self.tls_cert):
            return None
        from dask_dedup.cluster.tls import load_security

        return load_security(self.tls_ca_file, self.tls_cert, self.tls_key)

    def _start_on_slurm(self, stack: ExitStack, security: Security | None) -> Client:
        from dask_dedup.cluster.slurm.walltime import stop_on_sigterm
        from dask_dedup.cluster.tls import configured_security

        stack.enter_context(stop_on_sigterm())
        security = security or configured_security()
        settings = (self.interface, self.dashboard_address, security)
        if self.jobs is None:
            from dask_dedup.cluster.slurm.allocation import start_in_allocation

            return start_in_allocation(stack, *settings)
        try:
            from dask_dedup.cluster.slurm.jobs import start_jobs
        except ImportError as error:
            raise InputError(f"--cluster slurm needs a library: {_EXTRA} ({error})") from error
        return start_jobs(stack, self.jobs, *settings)

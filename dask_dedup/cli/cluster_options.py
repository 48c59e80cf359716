"""Where a run takes place: the options that say it, and the client they come to."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.cli.types import PATH
from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path

    from distributed import Client, Security

CLUSTERS = ("slurm", "slurm-allocation")
_EXTRA = "pip install 'dask-dedup[slurm]'"

_OPTIONS = (
    click.option(
        "--scheduler", metavar="ADDRESS", help="Run on the Dask cluster with this scheduler."
    ),
    click.option(
        "--scheduler-file", type=PATH, metavar="FILE", help="The same, by scheduler file."
    ),
    click.option(
        "--cluster",
        type=click.Choice(CLUSTERS),
        help="Start a cluster: of workers in jobs of SLURM, or inside the job of SLURM this is.",
    ),
    click.option(
        "--jobs", type=click.IntRange(1), metavar="N", help="Jobs of workers, for --cluster slurm."
    ),
    click.option(
        "--interface",
        metavar="NAME",
        help="Network on which the started cluster listens, such as ib0.  [one node: its own]",
    ),
    click.option(
        "--workers", type=click.IntRange(1), metavar="N", help="Start a local cluster of N workers."
    ),
    click.option(
        "--threads-per-worker",
        type=click.IntRange(1),
        metavar="N",
        help="Threads of each local worker.",
    ),
    click.option(
        "--memory-limit",
        metavar="SIZE",
        help="Memory of each local worker, such as 4GiB.  [default: its share]",
    ),
    click.option(
        "--dashboard-address",
        metavar="[HOST]:PORT",
        help="Serve the started cluster's dashboard, such as :8787.",
    ),
    click.option(
        "--tls-ca-file",
        type=click.Path(),
        metavar="PEM",
        help="Authority whose certificates all of the cluster must have.",
    ),
    click.option(
        "--tls-cert", type=click.Path(), metavar="PEM", help="Certificate to show the cluster."
    ),
    click.option(
        "--tls-key", type=click.Path(), metavar="PEM", help="Its key.  [default: in the same file]"
    ),
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that say where it takes place."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class ClusterOptions:
    """What those options say."""

    scheduler: str | None = None
    scheduler_file: Path | None = None
    cluster: str | None = None
    jobs: int | None = None
    interface: str | None = None
    workers: int | None = None
    threads_per_worker: int | None = None
    memory_limit: str | None = None
    dashboard_address: str | None = None
    tls_ca_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    @classmethod
    def take(cls, parameters: dict[str, Any]) -> ClusterOptions:
        """Take what belongs here out of the parameters of a verb."""
        return cls(**{field.name: parameters.pop(field.name) for field in fields(cls)})

    def client(self, stack: ExitStack) -> Client | None:
        """Connect to the cluster, or start it; None where the size of the work decides.

        Raises
        ------
        click.UsageError
            If options exclude each other.
        InputError
            If a library is missing, or what a cluster must know.
        RunError
            If there is no such cluster, or it does not start.
        """
        local = (self.workers, self.threads_per_worker, self.memory_limit)
        self._check(starts_local=any(local))
        security = self._security()
        if self.cluster:
            return self._start(stack, security)
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
                "--tls-... are for a cluster: add --scheduler, --cluster or --workers"
            )
        return connect(stack, security=security) if security else None

    def _check(self, *, starts_local: bool) -> None:
        there = bool(self.scheduler or self.scheduler_file)
        starts = bool(self.cluster or starts_local or self.dashboard_address)
        if (self.scheduler and self.scheduler_file) or (there and starts):
            raise click.UsageError(
                "--scheduler, --scheduler-file and the options of a cluster to be started exclude each other"
            )
        if self.cluster and starts_local:
            raise click.UsageError(
                "--workers, --threads-per-worker and --memory-limit are for a local cluster; "
                "what a job of SLURM is to have, Dask's configuration or the batch script says"
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
        from pathlib import Path

        from dask_dedup.cluster.tls import Credentials

        key = Path(self.tls_key) if self.tls_key else None
        return Credentials(Path(self.tls_ca_file), Path(self.tls_cert), key).security()

    def _start(self, stack: ExitStack, security: Security | None) -> Client:
        from dask_dedup.cluster.slurm.walltime import stopping_in_time
        from dask_dedup.cluster.tls import configured

        security = security or configured()
        stack.enter_context(stopping_in_time())
        if self.jobs is None:
            from dask_dedup.cluster.slurm.allocation import start_in_allocation

            return start_in_allocation(
                stack,
                interface=self.interface,
                dashboard_address=self.dashboard_address,
                security=security,
            )
        try:
            from dask_dedup.cluster.slurm.jobs import start_jobs
        except ImportError as error:
            raise InputError(f"--cluster slurm needs a library: {_EXTRA} ({error})") from error
        return start_jobs(
            stack,
            self.jobs,
            interface=self.interface,
            dashboard_address=self.dashboard_address,
            security=security,
        )

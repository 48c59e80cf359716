"""Dask's configuration under ``jobqueue.slurm``, with defaults for missing values."""

from __future__ import annotations

from typing import Any

from dask_dedup.cluster.scheduler import complete_dashboard_address
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

#: Threads of each worker process.
THREADS_PER_PROCESS = 4
#: Default options of `dask worker`. The options of the configuration follow and override these.
WORKER_OPTIONS = (
    *("--preload-nanny", "dask_dedup.cluster.preload"),
    *("--dashboard-address", "127.0.0.1:0"),
)


def setting(name: str, default: Any = None) -> Any:
    """Return a setting of ``jobqueue.slurm``, or `default` if the setting is missing or null."""
    import dask

    value = dask.config.get(f"jobqueue.slurm.{name}", None)
    return default if value is None else value


def choose_interface(name: str | None, *, one_node: bool = False) -> str:
    """Return the name of the network interface on which scheduler and workers listen.

    The default is ``jobqueue.slurm.interface``, then the loopback interface if all are on this node.
    """
    from distributed.utils import get_ip_interface

    interface: str | None = name or setting("interface") or ("lo" if one_node else None)
    if interface is None:
        raise InputError(
            f"no network interface is named for scheduler and workers. Pass {parameter('interface')}, or set "
            "jobqueue.slurm.interface in Dask's configuration. `ip -brief address` lists the interfaces."
        )
    try:
        get_ip_interface(interface)
    except ValueError as error:
        raise InputError(f"{parameter('interface', interface)}: {error}") from error
    return interface


def count_processes(cores: int) -> int:
    """Return the configured number of worker processes per job or task. The default is one per four cores.

    Examples
    --------
    >>> count_processes(1), count_processes(8), count_processes(30)
    (1, 2, 7)
    """
    return int(setting("processes", max(1, cores // THREADS_PER_PROCESS)))


def worker_options() -> list[str]:
    """Return command-line options of ``dask worker``: the defaults, then the configured options."""
    return [*WORKER_OPTIONS, *map(str, setting("worker-extra-args", []))]


def scheduler_options(dashboard_address: str | None) -> dict[str, Any]:
    """Return keyword arguments for Dask's `Scheduler`: the dashboard address and the configured options."""
    address = complete_dashboard_address(dashboard_address)
    options = {"dashboard_address": address, **setting("scheduler-options", {})}
    return {name: value for name, value in options.items() if value is not None}

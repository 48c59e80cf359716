"""What Dask's configuration says under ``jobqueue.slurm``, and what it may leave open."""

from __future__ import annotations

import socket
from typing import Any

from dask_dedup.errors import InputError

#: A process of workers gets so many threads; all stages leave the interpreter's lock.
THREADS_PER_PROCESS = 4
#: Pages of workers are for those on their node.
PAGES = ("--dashboard-address", "127.0.0.1:0")
MALLOC = ("--preload-nanny", "dask_dedup.cluster.preload")


def setting(name: str, otherwise: Any = None) -> Any:
    """Give a setting of ``jobqueue.slurm``; what is absent or null counts as not set."""
    import dask

    value = dask.config.get(f"jobqueue.slurm.{name}", None)
    return otherwise if value is None else value


def choose_interface(named: str | None, *, one_node: bool = False) -> str:
    """Choose the network on which scheduler and workers listen: no other than one that was named, or this machine.

    Parameters
    ----------
    named : str or None
        By the user; else ``jobqueue.slurm.interface``.
    one_node : bool
        Whether all takes place on this node.

    Raises
    ------
    InputError
        If none is named, or it is none of this machine's.
    """
    here = _addresses()
    interface: str | None = named or setting("interface")
    if interface is None and one_node:
        interface = next((name for name, address in here.items() if address == "127.0.0.1"), None)
    known = ", ".join(f"{name} ({address})" for name, address in here.items())
    if interface is None:
        raise InputError(
            "say which network scheduler and workers talk on: --interface, or jobqueue.slurm.interface in Dask's "
            f"configuration; this machine has {known}"
        )
    if interface not in here:
        raise InputError(
            f"--interface {interface}: this machine has no such network, or it has no IPv4 address; it has {known}"
        )
    return interface


def _addresses() -> dict[str, str]:
    import psutil

    return {
        name: address.address
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family == socket.AF_INET
    }


def processes_of(cores: int) -> int:
    """Give into how many processes so many cores are cut, unless the configuration says it.

    Examples
    --------
    >>> processes_of(1), processes_of(8), processes_of(30)
    (1, 2, 7)
    """
    return int(setting("processes", max(1, cores // THREADS_PER_PROCESS)))


def worker_options() -> list[str]:
    """Give further options of `dask worker`: those of the configuration, and what they leave open."""
    options = [str(option) for option in setting("worker-extra-args", [])]
    pages = [] if _has(options, PAGES[0]) else PAGES
    return [*MALLOC, *pages, *options]


def says_lifetime(options: list[str]) -> bool:
    """Tell whether options of `dask worker` say when it leaves."""
    import dask

    duration = dask.config.get("distributed.worker.lifetime.duration", None)
    return duration is not None or _has(options, "--lifetime")


def _has(options: list[str], name: str) -> bool:
    words = " ".join(options).replace("=", " ").split()
    return name in words

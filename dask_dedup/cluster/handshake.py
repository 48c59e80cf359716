"""Check that a Dask scheduler answers at an address, before a client connects.

A Dask client waits without end for a port that accepts connections and sends nothing, such as a dashboard.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError, RunError, causes
from dask_dedup.formatting import clock
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from distributed import Security

#: Seconds to wait for a scheduler, for its file and for its first worker.
CONNECT_SECONDS = 25
#: Seconds of waiting before a log line about it.
NOTICE_SECONDS = 3.0
#: Additional seconds, so that Dask can report an error before the time is over.
_GRACE_SECONDS = 1.0

log = logging.getLogger("dask_dedup")


@contextmanager
def waiting_notice(what: str) -> Iterator[None]:
    """Log the reason of waiting and the end of the waiting time, if the block takes over `NOTICE_SECONDS`."""
    words = (
        "waiting for %s; the run stops at %s without it",
        what,
        clock(time.time() + CONNECT_SECONDS),
    )
    notice = threading.Timer(NOTICE_SECONDS, log.info, words)
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()


def read_scheduler_file(file: Path) -> str:
    """Wait until the scheduler has written its scheduler file, and return its address.

    Raises
    ------
    InputError
        If there is no such file after `CONNECT_SECONDS`, or the file has no address.
    """
    name = parameter("scheduler_file", file)
    if not file.parent.is_dir():
        raise InputError(f"{name}: there is no folder {file.parent}")
    end = time.monotonic() + CONNECT_SECONDS
    reason = "no such file"
    with waiting_notice(str(file)):
        while True:
            try:
                return str(json.loads(file.read_text())["address"])
            except FileNotFoundError:
                pass
            except (OSError, ValueError, KeyError, TypeError):  # also while it is being written
                reason = "has no scheduler address"
            if time.monotonic() > end:
                raise InputError(
                    f"{name}: {reason}. A scheduler writes it: dask scheduler --scheduler-file {file}"
                )
            time.sleep(0.1)


def check_scheduler(address: str, security: Security) -> None:
    """Raise RunError unless a Dask scheduler answers at the address within `CONNECT_SECONDS`."""
    try:
        with waiting_notice(f"the Dask scheduler at {address}"):
            identity = _run(address, security)
    except TimeoutError as error:
        raise RunError(
            f"cannot connect to the Dask scheduler at {address}: a program listens there, but it does not answer as a "
            "scheduler. Check the port: schedulers usually use 8786, and dashboards 8787. "
            f"{_tls_advice()}"
        ) from error
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise cannot_connect(address, error) from error
    if identity.get("type") != "Scheduler":
        scheduler = identity.get("scheduler", "the address that its workers connect to")
        raise RunError(
            f"cannot connect to the Dask scheduler at {address}: this is the address of a {identity.get('type')}. "
            f"Pass the scheduler's address: {scheduler}."
        )


def cannot_connect(address: str, error: BaseException) -> RunError:
    """Return an error with the address, the message of Dask, and advice."""
    reason = [str(each) for each in causes(error, contexts=True) if str(each)][-1]
    advice = f"Check the address, such as tcp://node1:8786. {_tls_advice()}"
    if any(isinstance(each, ConnectionRefusedError) for each in causes(error, contexts=True)):
        advice = "Check the address, and that the scheduler runs."
    return RunError(f"cannot connect to the Dask scheduler at {address}: {reason}. {advice}")


def _tls_advice() -> str:
    """Return a sentence about the options for a scheduler with TLS."""
    return (
        "A scheduler with TLS needs tls:// and certificates of its authority: "
        f"{parameter('tls_ca_file')}, {parameter('tls_cert')} and {parameter('tls_key')}."
    )


def _run(address: str, security: Security) -> dict[str, Any]:
    if not _in_event_loop():
        return asyncio.run(_identify(address, security))
    with ThreadPoolExecutor(1) as pool:  # such as in a notebook
        return pool.submit(asyncio.run, _identify(address, security)).result()


def _in_event_loop() -> bool:
    with suppress(RuntimeError):
        return asyncio.get_running_loop() is not None
    return False


async def _identify(address: str, security: Security) -> dict[str, Any]:
    """Return the identity of a Dask server, with its ``type``: Scheduler, Worker or Nanny."""
    from distributed import rpc

    settings = security.get_connection_args("client")

    async def ask() -> dict[str, Any]:
        async with rpc(address, timeout=CONNECT_SECONDS, connection_args=settings) as server:
            return dict(await server.identity())

    return await asyncio.wait_for(ask(), CONNECT_SECONDS + _GRACE_SECONDS)

"""Run a job in another process and supervise it, so that the host always receives the outcome.

This module imports only the standard library, so it works even if the job's process cannot import anything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from dask_dedup.integrations.interruption import ending_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUCCEEDED, FAILED, ABORTED = "succeeded", "failed", "aborted"
#: Seconds between two checks for a request to abort.
POLL_SECONDS = 0.5
#: Seconds between SIGTERM and SIGKILL.
GRACE_SECONDS = 5.0


class Ending(NamedTuple):
    """Outcome of a process (`SUCCEEDED`, `FAILED` or `ABORTED`), and the exit code to pass on."""

    outcome: str
    code: int


def supervise(command: Sequence[str], is_aborted: Callable[[], bool] = lambda: False) -> Ending:
    """Run a command until it ends. Return its outcome and exit code.

    If `is_aborted` returns True or this process is asked to end, the command gets SIGTERM, and SIGKILL after
    `GRACE_SECONDS`. A signal counts as a failure, unless it is ignored. If the command was killed, the signal is
    printed to standard error. Standard input of the command is a pipe that is closed when this process has ended.
    """
    received: list[int] = []
    before = {
        each: signal.signal(each, lambda n, _: received.append(n)) for each in ending_signals()
    }
    aborted = False
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
                    break
                aborted = is_aborted()
                if aborted or received:
                    _end(process)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    code = process.returncode
    if code < 0:
        name = signal.Signals(received[0] if received else -code).name
        if received:
            sys.stderr.write(f"dask-dedup: the job was interrupted by {name}.\n")
        elif not aborted:
            cause = ", probably because memory ran out" if name == "SIGKILL" else ""
            sys.stderr.write(f"dask-dedup: the job was killed by {name}{cause}.\n")
        code = 128 - code  # as shells do
    if aborted:
        return Ending(ABORTED, code)
    return Ending(FAILED if code else SUCCEEDED, code)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_without_supervisor(write_status: Callable[[], None]) -> None:
    """Start a thread that waits for the end of the supervisor. If the supervisor ends first, end this process.

    The thread calls `write_status`, and sends SIGTERM to this process. The process ends after `GRACE_SECONDS` in any
    case.
    """

    def wait() -> None:
        while os.read(0, 1):  # the pipe is closed when the other process has ended
            pass
        with suppress(OSError):
            sys.stderr.write("dask-dedup: the process that supervises the job was killed.\n")
        with suppress(OSError):
            write_status()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()

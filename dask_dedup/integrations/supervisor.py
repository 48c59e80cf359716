"""Run a job in a process and watch it, so that the host learns how it ends, however it ends.

This module imports only the standard library: it works even if the job's process cannot import anything.
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

from dask_dedup.integrations.interruption import watched_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUCCEEDED, FAILED, ABORTED = "succeeded", "failed", "aborted"
#: Seconds between two looks for a request to abort.
POLL_SECONDS = 0.5
#: Seconds until a process that was asked to end is killed.
GRACE_SECONDS = 5.0


class Ending(NamedTuple):
    """How a process ended: `SUCCEEDED`, `FAILED` or `ABORTED`, and the exit code to pass on."""

    outcome: str
    code: int


def supervise(command: Sequence[str], is_aborted: Callable[[], bool] = lambda: False) -> Ending:
    """Run a command to its end. Return how it ended.

    If `is_aborted` returns True or this process is asked to end, the command gets SIGTERM, and SIGKILL after
    `GRACE_SECONDS`. A signal counts as a failure, unless it is ignored. If the command was killed, a line on standard
    error names the signal. Standard input of the command is a pipe that is closed when this process has ended.
    """
    received: list[int] = []
    before = {
        each: signal.signal(each, lambda n, _: received.append(n)) for each in watched_signals()
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
        code = 128 - code  # as a shell has it
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


def end_without_supervisor(write_mark: Callable[[], None]) -> None:
    """Watch, in a thread, the process that supervises this one. If it ends first, write the mark and end.

    This process gets SIGTERM, and ends after `GRACE_SECONDS` in any case.
    """

    def watch() -> None:
        while os.read(0, 1):  # the pipe is closed when the other process has ended
            pass
        with suppress(OSError):
            sys.stderr.write("dask-dedup: the process that watches the job was killed.\n")
        with suppress(OSError):
            write_mark()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="supervisor", daemon=True).start()

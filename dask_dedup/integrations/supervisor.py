"""Run a job in a process and watch it, so that the host learns how it ends, however it ends.

This module imports only the standard library: it works even if the job's process cannot import anything.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUCCEEDED, FAILED, ABORTED = "succeeded", "failed", "aborted"
#: Seconds between two looks for a request to abort.
POLL_SECONDS = 0.5
#: Seconds until a process that was asked to end is killed.
GRACE_SECONDS = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Ending(NamedTuple):
    """How a process ended: `SUCCEEDED`, `FAILED` or `ABORTED`, and the exit code to pass on."""

    outcome: str
    code: int


def supervise(command: Sequence[str], is_aborted: Callable[[], bool] = lambda: False) -> Ending:
    """Run a command to its end. Return how it ended.

    If `is_aborted` returns True or this process is asked to end, the command gets SIGTERM, and SIGKILL after
    `GRACE_SECONDS`. A signal counts as a failure. If the command was killed, a line on standard error names the
    signal.
    """
    received: list[int] = []
    before = {each: signal.signal(each, lambda n, _: received.append(n)) for each in _SIGNALS}
    aborted = False
    try:
        process = subprocess.Popen(command)
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
        if not (aborted or received):
            name = signal.Signals(-code).name
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

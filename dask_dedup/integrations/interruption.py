"""Handle the signals that end a job. This module imports only the standard library."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: SIGHUP comes when the terminal is closed.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Seconds after a signal in which further signals are ignored. They would interrupt the removal of unfinished files.
QUIET_SECONDS = 5.0
#: Seconds until an interruption that Python has dropped is raised again.
_REPEAT_SECONDS = 0.1


def ending_signals() -> list[signal.Signals]:
    """Return the signals that end a job. Ignored signals, such as SIGHUP with ``nohup``, are not included."""
    return [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP, as on SIGINT, so that a run removes its unfinished files.

    Python drops an exception that is raised inside a finalizer or a callback from C. The exception is raised again
    then. Outside the main thread, this context has no effect, because only the main thread can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    quiet_until = 0.0

    def interrupt(*_: object) -> None:
        nonlocal quiet_until
        if time.monotonic() >= quiet_until:
            quiet_until = time.monotonic() + QUIET_SECONDS
            raise KeyboardInterrupt

    def repeat(dropped: sys.UnraisableHookArgs) -> None:
        nonlocal quiet_until
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            hook(dropped)
            return
        quiet_until = 0.0
        before.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, interrupt))
        signal.setitimer(signal.ITIMER_REAL, _REPEAT_SECONDS)

    before = {each: signal.signal(each, interrupt) for each in ending_signals()}
    hook, sys.unraisablehook = sys.unraisablehook, repeat
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if signal.SIGALRM in before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for each, handler in before.items():
            signal.signal(each, handler)

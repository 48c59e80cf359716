"""Terminal output: log, progress, run summary, and Python parameters shown as command-line flags."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from dask_dedup.hints import Hint, Message, spell
from dask_dedup.monitoring.log import LineLog, log_to, progress_lines
from dask_dedup.monitoring.progress_bar import SharedProgress
from dask_dedup.results.command import spell_flag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dask_dedup.monitoring.progress import EventHandler
    from dask_dedup.results.publish import Publication
    from dask_dedup.results.status import Status
    from dask_dedup.results.verify import Verification


def spelled(message: str, spelling: Callable[[Hint], str] = spell_flag) -> str:
    """Replace the Python parameters in a message by command-line flags."""
    return spell(message.raw, spelling) if isinstance(message, Message) else message


class TerminalLog(LineLog):
    """Log handler that prints to standard error and shows Python parameters as command-line flags."""

    def __init__(self) -> None:
        super().__init__(partial(click.echo, err=True), spell_flag)


@contextmanager
def terminal_log(*, quiet: bool = False, verbose: bool = False) -> Iterator[TerminalLog]:
    """Print the log to the terminal: only warnings if `quiet`, also DEBUG lines if `verbose`."""
    log = TerminalLog()
    log_to(log, logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    try:
        yield log
    finally:
        log.write_warnings()


@contextmanager
def silencing_dask_on_interrupt() -> Iterator[None]:
    """On Ctrl-C, silence Dask, which would print tracebacks about cancelled work. The program ends then."""

    def interrupt(*_: object) -> None:
        for name in ("distributed", "tornado.application"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    # Only the main thread can handle signals.
    in_main_thread = threading.current_thread() is threading.main_thread()
    ours = in_main_thread and before is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


@contextmanager
def showing_progress(log: TerminalLog, *, quiet: bool = False) -> Iterator[EventHandler | None]:
    """Show the progress of a run: a live bar in a terminal, otherwise a log line every `LINE_SECONDS`.

    Yield a function to call with each event of the run, or None if `quiet`.
    """
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        with progress_lines() as note:
            yield note
        return
    progress = SharedProgress()
    with _live_bar(progress, log):
        yield progress.note


@contextmanager
def _live_bar(progress: SharedProgress, log: TerminalLog) -> Iterator[None]:
    """Show a progress bar at the bottom of the terminal. Print the log above the bar."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    before = log.write
    log.write = lambda line: console.print(Text(line), soft_wrap=True)
    try:
        with Live(
            get_renderable=progress.bar, console=console, refresh_per_second=5, transient=True
        ):
            yield
    finally:
        log.write = before


def print_result(result: Publication | Status | Verification, *, as_json: bool) -> None:
    """Print the result of ``publish``, ``status`` or ``verify`` as text or as JSON."""
    for line in [json.dumps(result.to_dict(), indent=2)] if as_json else result.lines():
        click.echo(spelled(line))

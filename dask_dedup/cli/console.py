"""What a person sees of a run in a terminal: its log, how far it is, and what came out."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.formatting import counted, printable
from dask_dedup.messages import Hint, Message, spell
from dask_dedup.monitoring.progress import Progress, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, RenderResult

    from dask_dedup.pipeline.events import Event, EventHandler
    from dask_dedup.pipeline.result import RunResult

#: Seconds between two lines where there is no terminal to draw in.
LINE_SECONDS = 10.0


def log_to_terminal(*, quiet: bool) -> None:
    """Print the log to standard error: all of it, or warnings only."""
    logger = logging.getLogger("dask_dedup")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    # What a lost scheduler means to a run is said in one line of our own. (Dask sets the level of its loggers itself.)
    logging.getLogger("distributed.client").addFilter(lambda _: False)
    _print_log_with(logging.StreamHandler())


def as_flag(hint: Hint) -> str:
    """Return a parameter as the command line spells it.

    Examples
    --------
    >>> as_flag(Hint("invalid", "reject")), as_flag(Hint("min_separation"))
    ('--invalid reject', '--min-separation')
    """
    flag = f"--{hint.parameter.replace('_', '-')}"
    return flag if hint.value is None else f"{flag} {hint.value}"


def spelled(message: str) -> str:
    """Return a message with its parameters spelled as flags."""
    return spell(message.raw, as_flag) if isinstance(message, Message) else message


class _Printable(logging.Formatter):
    """Spells parameters as flags and escapes control characters, which names from files may hold."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        if isinstance(record.args, tuple) and record.args:
            arguments = tuple(
                spelled(each) if isinstance(each, str) else each for each in record.args
            )
            return printable(spelled(record.msg) % arguments)
        return printable(spelled(record.getMessage() if record.args else record.msg))


def _print_log_with(handler: logging.Handler) -> None:
    handler.setFormatter(_Printable())
    logging.getLogger("dask_dedup").handlers = [handler]


@contextmanager
def showing_progress(*, quiet: bool) -> Iterator[EventHandler | None]:
    """Show how far a run is: a live line in a terminal, else a plain line now and then.

    Yields
    ------
    callable or None
        To be called with each event of the run; None if nothing is to be shown.
    """
    if quiet:
        yield None
        return
    watched = _Watched()
    with _live(watched) if sys.stderr.isatty() else _in_lines(watched):
        yield watched.note


class _Watched:
    """A progress that is told from one thread and shown by another."""

    def __init__(self) -> None:
        self._progress = Progress()
        self._lock = threading.Lock()

    def note(self, event: Event) -> None:
        with self._lock:
            self._progress.note(event)

    @property
    def running(self) -> bool:
        return self._progress.status == "running"

    @property
    def fraction(self) -> float:
        with self._lock:
            return self._progress.fraction

    def words(self) -> str:
        with self._lock:
            return describe(self._progress)


@contextmanager
def _in_lines(watched: _Watched) -> Iterator[None]:
    """Log a line at intervals, so that a batch job's log shows that it lives."""
    over = threading.Event()

    def print_lines() -> None:
        while not over.wait(LINE_SECONDS):
            if watched.running:
                logging.getLogger("dask_dedup").info("%s", watched.words())

    printer = threading.Thread(target=print_lines, name="progress", daemon=True)
    printer.start()
    try:
        yield
    finally:
        over.set()
        printer.join()


@contextmanager
def _live(watched: _Watched) -> Iterator[None]:
    """Keep a bar and a line in words at the foot of the terminal, and print the log above it."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True)

    class Foot:
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            if watched.running:
                foot = Table.grid()
                foot.add_row(ProgressBar(total=1.0, completed=watched.fraction))
                foot.add_row(Text(watched.words(), overflow="ellipsis", no_wrap=True))
                yield foot

    class Above(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print(Text(self.format(record)), soft_wrap=True)

    before = logging.getLogger("dask_dedup").handlers
    _print_log_with(Above())
    try:
        with Live(Foot(), console=console, refresh_per_second=5, transient=True):
            yield
    finally:
        logging.getLogger("dask_dedup").handlers = before


def result_lines(result: RunResult) -> list[str]:
    """Say what came out, as a table by input, and where it is."""
    entries = [*result.by_input]
    if len(entries) > 1:
        total = {"path": "all", "rows": result.rows, "kept": result.kept}
        entries.append(total | {"rejected": result.rejected})
    width = max(5, *(len(entry["path"]) for entry in entries))
    lines = [f"{'input':<{width}} {'particles':>13} {'kept':>13} {'rejected':>13}"]
    for entry in entries:
        share = f"{entry['rejected'] / entry['rows']:.1%}" if entry["rows"] else "-"
        lines.append(
            f"{entry['path']:<{width}} {entry['rows']:>13,} {entry['kept']:>13,} "
            f"{entry['rejected']:>13,}  {share}"
        )
    if result.invalid:
        outcome = "kept" if result.manifest["parameters"]["invalid"] == "keep" else "rejected"
        reasons = result.manifest["totals"]["invalid_by_reason"].items()
        told = ", ".join(f"{reason.replace('_', ' ')}: {rows:,}" for reason, rows in reasons)
        lines.append(f"{outcome} without being compared: {counted(result.invalid, 'row')} ({told})")
    halves = result.manifest["totals"]["across_half_sets"]
    if halves:
        lines.append(f"duplicate pairs across the two half-sets: {halves:,}")
    lines += [f"kept: {result.output / path}" for path in _native_files(result)]
    return [printable(line) for line in (*lines, f"the result is in {result.output}")]


def _native_files(result: RunResult) -> list[str]:
    """Name the kept file of each input that was written in its own format."""
    paths = [entry["path"] for entry in result.by_input]
    return [
        entry["path"]
        for entry in result.manifest["outputs"]
        if "fragment" not in entry
        and entry["path"].startswith("particles_kept/")
        and Path(entry["path"]).name == Path(paths[entry["input"]]).name
    ]

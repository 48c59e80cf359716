"""Terminal output: log, progress, run summary, and Python parameters shown as command-line flags."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.formatting import counted, printable
from dask_dedup.hints import Hint, Message, spell
from dask_dedup.monitoring.progress_bar import SharedProgress
from dask_dedup.results.command import spell_flag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dask_dedup.monitoring.progress import EventHandler
    from dask_dedup.pipeline.result import RunResult
    from dask_dedup.results.publish import Publication
    from dask_dedup.results.status import Status
    from dask_dedup.results.verify import Verification

#: Seconds between two lines of progress without a terminal.
LINE_SECONDS = 10.0


def spelled(message: str, spelling: Callable[[Hint], str] = spell_flag) -> str:
    """Replace the Python parameters in a message by command-line flags."""
    return spell(message.raw, spelling) if isinstance(message, Message) else message


class TerminalLog(logging.Handler):
    """Log handler that prints to standard error and shows Python parameters as command-line flags.

    Warnings about the data, from the logger ``dask_dedup.warnings``, are kept for the end and
    printed once each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.write: Callable[[str], None] = partial(click.echo, err=True)
        self._warnings: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Print a log record. Keep warnings about the data for `print_warnings`."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        shown = tuple(spelled(each) if isinstance(each, str) else each for each in arguments)
        text = spelled(record.msg) if isinstance(record.msg, str) else str(record.msg)
        line = printable(text % shown if shown else text)
        if record.levelno >= logging.WARNING:
            line = f"warning: {line.removeprefix('warning: ')}"
        if record.exc_info:
            line += "\n" + logging.Formatter().formatException(record.exc_info)
        if record.name == "dask_dedup.warnings":
            self._warnings[line] = None
        else:
            self._print(line)

    def print_warnings(self) -> None:
        """Print the warnings that `emit` has kept, then clear them."""
        for line in self._warnings:
            self._print(line)
        self._warnings.clear()

    def _print(self, line: str) -> None:
        # A run must not fail because its terminal or log file does.
        with suppress(OSError):
            self.write(line)


@contextmanager
def terminal_log(*, quiet: bool = False, verbose: bool = False) -> Iterator[TerminalLog]:
    """Print the log to the terminal: only warnings if `quiet`, also DEBUG lines if `verbose`."""
    handler = TerminalLog()
    logger = logging.getLogger("dask_dedup")
    logger.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    logger.handlers = [handler]
    # A lost scheduler is reported in one line of our own. (Dask sets the level of its loggers itself.)
    logging.getLogger("distributed.client").addFilter(lambda _: False)
    try:
        yield handler
    finally:
        handler.print_warnings()


@contextmanager
def silencing_dask_on_interrupt() -> Iterator[None]:
    """On Ctrl-C, silence Dask, which prints tracebacks about the work it drops. The program ends then."""

    def interrupt(*_: object) -> None:
        for name in ("distributed", "tornado.application"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    ours = before is signal.default_int_handler and in_main_thread()
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def in_main_thread() -> bool:
    """Return whether this is the main thread, which alone can handle signals."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def showing_progress(log: TerminalLog, *, quiet: bool = False) -> Iterator[EventHandler | None]:
    """Show the progress of a run: a live bar in a terminal, otherwise a log line every `LINE_SECONDS`.

    Yield a function to call with each event of the run, or None if `quiet`.
    """
    if quiet:
        yield None
        return
    progress = SharedProgress()
    with _live_bar(progress, log) if sys.stderr.isatty() else _plain_lines(progress):
        yield progress.note


@contextmanager
def _plain_lines(progress: SharedProgress) -> Iterator[None]:
    """Log the progress every `LINE_SECONDS`, for the log file of a batch job."""
    over = threading.Event()

    def print_lines() -> None:
        while not over.wait(LINE_SECONDS):
            if shown := progress.shown():
                logging.getLogger("dask_dedup").info("%s", shown[1])

    printer = threading.Thread(target=print_lines, name="progress", daemon=True)
    printer.start()
    try:
        yield
    finally:
        over.set()
        printer.join()


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


def report_line(page: Path) -> str:
    """Return the line that names the report."""
    return printable(f"report: {page}")


#: Extensions of pick files that are read, but not written.
_READ_ONLY = {".em", ".json", ".mod", ".ndjson"}


def summary_lines(result: RunResult) -> list[str]:
    """Return the lines of a run's summary: counts by input, and the paths of the result."""
    names = result.manifest["names"]
    entries = [
        entry | {"path": f"{names[entry['path']]}={entry['path']}"}
        if entry["path"] in names
        else entry
        for entry in result.by_input
    ]
    if len(entries) > 1:
        total = {"path": "all", "rows": result.rows, "kept": result.kept}
        entries.append(total | {"rejected": result.rejected})
    totals = result.manifest["totals"]
    found = _found_by(totals["votes"]) if totals["votes"] else {}
    width = max(5, *(len(name) for name in [*(entry["path"] for entry in entries), *found]))
    lines = [f"{'input':<{width}} {'particles':>13} {'kept':>13} {'rejected':>13}"]
    for entry in entries:
        share = f"{entry['rejected'] / entry['rows']:.1%}" if entry["rows"] else "-"
        lines.append(
            f"{entry['path']:<{width}} {entry['rows']:>13,} {entry['kept']:>13,} "
            f"{entry['rejected']:>13,}  {share}"
        )
    if found:
        lines.append(f"{'found by':<{width}} {'particles':>13} {'kept':>13} {'rejected':>13}")
    for who, (number, kept) in found.items():
        lines.append(f"{who:<{width}} {number:>13,} {kept:>13,} {number - kept:>13,}")
    if result.invalid:
        outcome = "kept" if result.manifest["parameters"]["invalid"] == "keep" else "rejected"
        rows = totals["invalid_by_reason"].items()
        reasons = ", ".join(f"{reason.replace('_', ' ')}: {count:,}" for reason, count in rows)
        invalid = counted(result.invalid, "row")
        lines.append(f"{outcome} without being compared: {invalid} ({reasons})")
    if result.low_score:
        lines.append(f"rejected for their scores: {counted(result.low_score, 'row')}")
    if totals["across_half_sets"]:
        lines.append(f"duplicate pairs across the two half-sets: {totals['across_half_sets']:,}")
    lines += [f"kept: {result.output / path}" for path in _native_files(result)]
    lines.append(f"result: {result.output}")
    return [printable(line) for line in lines]


#: Above this number of pickers their combinations are not listed.
_COMBINED = 3


def _found_by(votes: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Map each combination of pickers, or of many pickers each number, to the particles found and those kept."""
    many = len(votes["pickers"]) > _COMBINED
    return {
        counted(entry["votes"], "picker") if many else " + ".join(entry["pickers"]): (
            entry["representatives"],
            entry["kept"],
        )
        for entry in votes["by_votes" if many else "by_pickers"]
    }


def _native_files(result: RunResult) -> list[str]:
    """Return the paths of kept STAR and CryoSPARC tables and folders of picks, relative to the output folder.

    If all inputs are in one table, or in the coordinate files of one list, return the path of that.
    """
    from dask_dedup.output.layout import KEPT

    inputs, token = result.manifest["inputs"], result.manifest["run_token"]
    folder = f"{KEPT}/{token}" if token else KEPT
    if any(entry["input"] is None for entry in result.manifest["outputs"]):
        listed = result.manifest["output_format"] == "relion-coordinates"
        return [f"{folder}/{'autopick.star' if listed else 'particles.star'}"]
    trees = [f"{folder}/{entry['output']}" for entry in inputs if entry.get("output")]
    written = trees + [
        entry["path"]
        for entry in result.manifest["outputs"]
        if "fragment" not in entry
        and entry["path"].startswith(f"{KEPT}/")
        and not inputs[entry["input"]].get("output")
        and Path(entry["path"]).name == Path(inputs[entry["input"]]["path"]).name
    ]
    read_only = {Path(file["path"]).suffix for entry in inputs for file in entry["files"]}
    return written + [
        f"{folder} (Parquet, as {suffix} files are read only)"
        for suffix in sorted(read_only & _READ_ONLY)[:1]
    ]

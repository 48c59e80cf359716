"""Log lines of a run: messages, progress, and warnings at the end."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dask_dedup.formatting import printable
from dask_dedup.hints import Message, as_keyword, spell
from dask_dedup.monitoring.progress_bar import SharedProgress, repeating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dask_dedup.hints import Hint
    from dask_dedup.monitoring.progress import EventHandler

#: Seconds between two lines of progress.
LINE_SECONDS = 10.0


class LineLog(logging.Handler):
    """Log handler that passes each message as a line to `write`. `spelling` formats the parameters in messages.

    Warnings about the data, from the logger ``dask_dedup.warnings``, are kept until the end. Each warning is
    written once.
    """

    def __init__(
        self, write: Callable[[str], None], spelling: Callable[[Hint], str] = as_keyword
    ) -> None:
        super().__init__()
        self.write = write
        self._spelling = spelling
        self._warnings: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a log record. Keep warnings about the data for `write_warnings`."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        shown = tuple(self._spelled(each) if isinstance(each, str) else each for each in arguments)
        text = self._spelled(record.msg) if isinstance(record.msg, str) else str(record.msg)
        line = printable(text % shown if shown else text)
        if record.levelno >= logging.WARNING:
            line = f"warning: {line.removeprefix('warning: ')}"
        if record.exc_info:
            line += "\n" + logging.Formatter().formatException(record.exc_info)
        if record.name == "dask_dedup.warnings":
            self._warnings[line] = None
        else:
            self._write(line)

    def write_warnings(self) -> None:
        """Write the warnings that `emit` has kept, then clear them."""
        for line in self._warnings:
            self._write(line)
        self._warnings.clear()

    def _spelled(self, message: str) -> str:
        return spell(message.raw, self._spelling) if isinstance(message, Message) else message

    def _write(self, line: str) -> None:
        # If the terminal or the log file fails, the run must continue.
        with suppress(OSError):
            self.write(line)


#: Loggers of Dask that report a lost scheduler.
_DASK_LOGGERS = ("distributed.client", "distributed.batched")


def log_to(log: LineLog, level: int = logging.INFO) -> None:
    """Write the messages of the package to `log` until the program ends."""
    logger = logging.getLogger("dask_dedup")
    logger.setLevel(level)
    logger.handlers = [log]
    for name in _DASK_LOGGERS:
        logging.getLogger(name).addFilter(_silent)


@contextmanager
def logging_to(log: LineLog) -> Iterator[LineLog]:
    """Write the messages of the package to `log`, and the warnings at the end. Then restore the loggers."""
    logger = logging.getLogger("dask_dedup")
    handlers, before = logger.handlers, logger.level
    dask_loggers = [logging.getLogger(name) for name in _DASK_LOGGERS]
    filters = [[*each.filters] for each in dask_loggers]
    log_to(log)
    try:
        yield log
    finally:
        log.write_warnings()
        logger.handlers = handlers
        for each, earlier in zip(dask_loggers, filters, strict=True):
            each.filters = earlier
        logger.setLevel(before)


def _silent(_: logging.LogRecord) -> bool:
    """Drop a record of Dask about a lost scheduler. This package reports it, and Dask would reset a level."""
    return False


@contextmanager
def progress_lines() -> Iterator[EventHandler]:
    """Log the progress every `LINE_SECONDS`. Yield a function to call with each event of the run."""
    progress = SharedProgress()

    def log_line() -> None:
        if shown := progress.shown():
            logging.getLogger("dask_dedup").info("%s", shown[1])

    with repeating(log_line, LINE_SECONDS):
        yield progress.note

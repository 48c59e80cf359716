"""End a failed command with one line on standard error and an exit code."""

from __future__ import annotations

import errno
import logging
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dask_dedup.errors import DedupError, InputError
from dask_dedup.formatting import printable
from dask_dedup.results.command import spell_flag

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def exiting_on_errors(ctx: click.Context) -> Iterator[None]:
    """Print an error raised within the context on one line, and exit with the code of its type."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except DedupError as error:
        _fail(ctx, error.spelled(spell_flag), 2 if isinstance(error, InputError) else 1)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # click ends quietly if the reader of a pipe has ended
        _fail(ctx, printable(str(error)), 1)
    except KeyboardInterrupt:
        _fail(ctx, "interrupted", 130)
    except Exception as error:
        logging.getLogger("dask_dedup").debug("traceback", exc_info=error)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name} line {frame.lineno}"
        reason = printable(f"{type(error).__name__}: {error}")
        _fail(ctx, f"unexpected error in {where}, please report it ({reason})", 1)


def _fail(ctx: click.Context, line: str, code: int) -> None:
    click.echo(f"dask-dedup: {line}", err=True)
    ctx.exit(code)

"""Time limits of jobs: reading them, and leaving before they are over."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dask_dedup.cluster.slurm import queue
from dask_dedup.errors import InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Key in Dask's configuration: so long before the end of its job's time a run stops by itself; such as 60s, or never.
STOP_BEFORE = "dask-dedup.stop-before"
#: By default this, but no more than a tenth of what is left.
MARGIN_SECONDS = 60.0
#: Workers leave that long before the end of theirs, two thirds of it at random, so that they do not all leave at once.
LEAVE_SECONDS = 300.0

log = logging.getLogger("dask_dedup")


def seconds_of(limit: str | int) -> float | None:
    """Read a time limit as SLURM writes it; None if there is none.

    Examples
    --------
    >>> seconds_of("30"), seconds_of("01:30"), seconds_of("2:00:00"), seconds_of("1-12"), seconds_of("UNLIMITED")
    (1800.0, 90.0, 7200.0, 129600.0, None)
    """
    days, dash, rest = str(limit).strip().rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in (*parts, days or "0")):
        return None
    numbers = [int(part) for part in parts]
    if dash:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 1:
        hours, minutes, seconds = 0, numbers[0], 0
    else:
        hours, minutes, seconds = [0, *numbers][-3:]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60.0 + seconds


def lifetime(limit: str | int | None) -> list[str]:
    """Give options of `dask worker` with which it leaves before its job's time is over.

    Examples
    --------
    >>> lifetime("01:00:00")
    ['--lifetime', '3400s', '--lifetime-stagger', '100s']
    """
    seconds = seconds_of(limit) if limit else None
    if seconds is None:
        return []
    stagger = min(LEAVE_SECONDS, seconds / 6) / 3
    return ["--lifetime", f"{seconds - 2 * stagger:.0f}s", "--lifetime-stagger", f"{stagger:.0f}s"]


@contextmanager
def stopping_in_time() -> Iterator[None]:
    """Stop the run in order when SLURM says that it will end it, and shortly before this job's time is over.

    Must be entered in the main thread.

    Raises
    ------
    RunError
        In the midst of the run, when it is to stop.
    """

    def stop(*_: object) -> None:
        # Who says it twice means it.
        signal.signal(signal.SIGTERM, before)
        raise RunError(
            "the run was told to stop (SIGTERM: the job's time is over, or scancel); "
            "run the same command again"
        )

    before = signal.signal(signal.SIGTERM, stop)
    timer = _timer()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
        signal.signal(signal.SIGTERM, before)


def _timer() -> threading.Timer | None:
    job = os.environ.get("SLURM_JOB_ID")
    left = seconds_of(queue.time_left(job) or "") if job else None
    if left is None:
        return None
    import dask
    from dask.utils import parse_timedelta

    told = dask.config.get(STOP_BEFORE, None)
    if told == "never":
        return None
    try:
        margin = min(MARGIN_SECONDS, left / 10) if told is None else float(parse_timedelta(told))
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{STOP_BEFORE} in Dask's configuration is {told!r}, and no time such as 60s, nor never"
        ) from error
    log.info("job %s has %.0f s left: the run stops by itself %.0f s before", job, left, margin)
    timer = threading.Timer(max(0.0, left - margin), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    return timer

"""Time limits of SLURM jobs: workers stop before the limit, and SIGTERM stops a run cleanly."""

from __future__ import annotations

import re
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dask_dedup.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Workers stop at most this number of seconds before their time limit.
LEAVE_SECONDS = 300.0
_LIMIT = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def walltime_seconds(limit: str | int | None) -> float | None:
    """Convert a SLURM time limit to seconds. Return None if there is no limit.

    Examples
    --------
    >>> walltime_seconds("30"), walltime_seconds("01:30"), walltime_seconds("2:00:00"), walltime_seconds("1-12")
    (1800.0, 90.0, 7200.0, 129600.0)
    """
    match = _LIMIT.fullmatch(str(limit).strip())
    if match is None:
        return None
    days, *fields = match.groups()
    numbers = [int(field) for field in fields if field]
    # Without days, one number is minutes and two are minutes and seconds.
    units = (60, 1) if days is None and len(numbers) < 3 else (3600, 60, 1)
    seconds = sum(number * unit for number, unit in zip(numbers, units, strict=False))
    return float(seconds + 86400 * int(days or 0))


def lifetime_options(limit: str | int | None) -> list[str]:
    """Return ``dask worker`` options that stop workers one by one before the time limit of a SLURM job.

    Examples
    --------
    >>> lifetime_options("01:00:00")
    ['--lifetime', '3400s', '--lifetime-stagger', '100s']
    """
    import dask

    seconds = walltime_seconds(limit)
    if seconds is None or dask.config.get("distributed.worker.lifetime.duration", None):
        return []
    stagger = min(LEAVE_SECONDS, seconds / 6) / 3
    return ["--lifetime", f"{seconds - 2 * stagger:.0f}s", "--lifetime-stagger", f"{stagger:.0f}s"]


@contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Raise RunError in the main thread on SIGTERM, which SLURM sends before it kills a job."""

    def stop(*_: object) -> None:
        # A second signal ends the process at once.
        signal.signal(signal.SIGTERM, before)
        raise RunError(
            "stopped by SIGTERM (the job's time limit, or scancel). Run the same command again to resume."
        )

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

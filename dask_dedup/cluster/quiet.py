"""Preload of worker processes that leave Ctrl-C to the process that started them."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Worker


def dask_setup(worker: Worker) -> None:  # noqa: ARG001
    """Called by Dask when the worker starts."""
    signal.signal(signal.SIGINT, _fall_silent)


def _fall_silent(*_: object) -> None:
    # The scheduler will be gone soon, and a worker would tell at length that it misses it.
    logging.disable()

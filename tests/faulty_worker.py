"""A preload of `dask worker` that makes its tasks slow, or deadly for the worker; for tests of faults.

``FAULT=slow`` lets every fragment take half a second, ``FAULT=deadly`` ends the worker that writes fragment 3.
``FAULT=hungry`` lets fragment 3 take memory until the worker is ended for it; ``FAULT=hungry-once`` only the first
time, of which a file in the working folder tells.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from dask_dedup.pipeline import stages

#: A piece of memory, and the most that is taken of it where nobody ends the worker.
PIECE, MOST = 20_000_000, 2_000_000_000
EATEN = "eaten"


def dask_setup(worker):
    real = stages.write_fragment

    def write_fragment(job, plan, number, *rest):
        fault = os.environ["FAULT"]
        if fault == "deadly" and number == 3:
            os._exit(1)
        if number == 3 and (fault == "hungry" or (fault == "hungry-once" and first())):
            eat()
        time.sleep(0.5)
        return real(job, plan, number, *rest)

    stages.write_fragment = write_fragment


def first():
    try:
        Path(EATEN).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def eat():
    """Take memory and touch it, so that it is really there."""
    taken = []
    for _ in range(MOST // PIECE):
        taken.append(b"x" * PIECE)
        time.sleep(0.02)
    raise AssertionError(f"took {MOST} bytes and lives")

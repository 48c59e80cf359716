"""A preload of `dask worker` that makes its tasks slow, or kills the worker; for tests of faults.

- ``FAULT=slow``: every fragment takes half a second.
- ``FAULT=kill``: writing fragment 3 kills the worker.
- ``FAULT=memory``: writing fragment 3 uses memory until the worker is killed.
- ``FAULT=memory-once``: the same, but only the first time (a file in the working folder marks it).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from dask_dedup.pipeline import stages

#: Bytes allocated at a time, and in total if the worker is not killed.
STEP, MOST = 20_000_000, 2_000_000_000
MARKER = "memory-used"


def dask_setup(worker):
    real = stages.write_fragment

    def write_fragment(job, plan, number, *rest):
        fault = os.environ["FAULT"]
        if fault == "kill" and number == 3:
            os._exit(1)
        if number == 3 and (fault == "memory" or (fault == "memory-once" and first())):
            use_memory()
        time.sleep(0.5)
        return real(job, plan, number, *rest)

    stages.write_fragment = write_fragment


def first():
    try:
        Path(MARKER).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def use_memory():
    """Allocate memory and write to it, so that it counts."""
    blocks = []
    for _ in range(MOST // STEP):
        blocks.append(b"x" * STEP)
        time.sleep(0.02)
    raise AssertionError(f"used {MOST} bytes and was not killed")

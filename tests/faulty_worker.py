"""A preload of `dask worker` that makes its tasks slow, or deadly for the worker; for tests of faults.

``FAULT=slow`` lets every fragment take half a second, ``FAULT=deadly`` ends the worker that writes fragment 3.
"""

from __future__ import annotations

import os
import time

from dask_dedup import stages


def dask_setup(worker):
    real = stages.write_fragment

    def write_fragment(job, plan, number, *rest):
        if os.environ["FAULT"] == "deadly" and number == 3:
            os._exit(1)
        time.sleep(0.5)
        return real(job, plan, number, *rest)

    stages.write_fragment = write_fragment

"""A preload of `dask worker`: writing a fragment takes SECONDS_A_FRAGMENT longer."""

from __future__ import annotations

import os
import time

from dask_dedup.pipeline import stages


def dask_setup(worker):
    real = stages.write_fragment

    def write_fragment(*arguments):
        time.sleep(float(os.environ["SECONDS_A_FRAGMENT"]))
        return real(*arguments)

    stages.write_fragment = write_fragment

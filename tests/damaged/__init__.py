"""Broken inputs of every format, each made by a small function; messages.txt has the error message of each.

A function takes an empty folder and returns the arguments of ``dask-dedup run``; ``--output`` is added.
"""

from damaged import (  # noqa: F401 - each registers its cases
    anything,
    columns,
    cs,
    groups,
    identity,
    inputs,
    options,
    outputs,
    parquet,
    pick_files,
    programs,
    star,
    values,
)
from damaged.case import CASES

__all__ = ["CASES"]

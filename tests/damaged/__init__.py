"""Broken inputs of every format, each made by a small function: what a run says to them is in messages.txt.

A function is given an empty folder, and gives the arguments of ``dask-dedup run``; ``--output`` is added.
"""

from damaged import anything, cs, groups, options, parquet, star  # noqa: F401 - they register their cases
from damaged.case import CASES

__all__ = ["CASES"]

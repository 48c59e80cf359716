"""Inspect particle tables before a run."""

from dask_dedup.inspection.inspect import inspect
from dask_dedup.inspection.report import Inspection

__all__ = ["Inspection", "inspect"]

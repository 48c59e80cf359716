"""Remove duplicate particle picks from cryo-EM particle tables.

`inspect` tells what is in tables, `run` takes files to files, `remove_duplicates` a frame to frames, `verify`
proves a finished run, `report` pictures it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.errors import DedupError, InputError, RunError
    from dask_dedup.frames import remove_duplicates
    from dask_dedup.inspection import inspect
    from dask_dedup.pipeline.result import RunResult
    from dask_dedup.pipeline.run import run
    from dask_dedup.results.report import report
    from dask_dedup.results.verify import verify

__version__ = "0.1.0"

__all__ = [
    "DedupError",
    "DedupParams",
    "InputError",
    "RunError",
    "RunResult",
    "inspect",
    "remove_duplicates",
    "report",
    "run",
    "verify",
]

_HOME = {
    "DedupError": "errors",
    "DedupParams": "dedup.params",
    "InputError": "errors",
    "RunError": "errors",
    "RunResult": "pipeline.result",
    "inspect": "inspection",
    "remove_duplicates": "frames",
    "report": "results.report",
    "run": "pipeline.run",
    "verify": "results.verify",
}


def __getattr__(name: str) -> Any:
    # Loaded when first used: pyarrow and SciPy take longer to import than --help should.
    if name in _HOME:
        return getattr(importlib.import_module(f"dask_dedup.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

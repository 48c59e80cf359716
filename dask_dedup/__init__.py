"""Remove duplicate particle picks from cryo-EM particle tables.

`inspect` tells what is in tables, `run` takes files to files, `remove_duplicates` a frame to frames, `verify`
proves a finished run, `report` pictures it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_dedup.errors import DedupError, InputError, RunError
    from dask_dedup.frame import remove_duplicates
    from dask_dedup.inspection import inspect
    from dask_dedup.params import DedupParams
    from dask_dedup.pipeline import run
    from dask_dedup.reporting import report
    from dask_dedup.result import RunResult
    from dask_dedup.verification import verify

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
    "DedupParams": "params",
    "InputError": "errors",
    "RunError": "errors",
    "RunResult": "result",
    "inspect": "inspection",
    "remove_duplicates": "frame",
    "report": "reporting",
    "run": "pipeline",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    # Loaded when first used: pyarrow and SciPy take longer to import than --help should.
    if name in _HOME:
        return getattr(importlib.import_module(f"dask_dedup.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

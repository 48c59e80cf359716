"""Remove duplicate particle picks from cryo-EM particle tables.

- `inspect` reads tables and shows what they hold.
- `run` reads and writes files; `remove_duplicates` takes and returns frames.
- `verify`, `report`, `publish` and `status` work on a finished run; `clean` removes leftovers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.errors import DedupError, InputError, OutputExistsError, RunError
    from dask_dedup.frames import remove_duplicates
    from dask_dedup.inspection import Inspection, inspect
    from dask_dedup.pipeline.result import RunResult
    from dask_dedup.pipeline.run import run
    from dask_dedup.results.publish import Publication, publish
    from dask_dedup.results.report import report
    from dask_dedup.results.status import Status, clean, status
    from dask_dedup.results.verify import Verification, verify

__version__ = "0.1.0"

#: Where each public name is defined.
_MODULES = {
    "DedupError": "errors",
    "DedupParams": "dedup.params",
    "InputError": "errors",
    "Inspection": "inspection",
    "OutputExistsError": "errors",
    "Publication": "results.publish",
    "RunError": "errors",
    "RunResult": "pipeline.result",
    "Status": "results.status",
    "Verification": "results.verify",
    "clean": "results.status",
    "inspect": "inspection",
    "publish": "results.publish",
    "remove_duplicates": "frames",
    "report": "results.report",
    "run": "pipeline.run",
    "status": "results.status",
    "verify": "results.verify",
}

__all__ = [
    "DedupError",
    "DedupParams",
    "InputError",
    "Inspection",
    "OutputExistsError",
    "Publication",
    "RunError",
    "RunResult",
    "Status",
    "Verification",
    "clean",
    "inspect",
    "publish",
    "remove_duplicates",
    "report",
    "run",
    "status",
    "verify",
]


def __getattr__(name: str) -> Any:
    # pyarrow and SciPy are slow to import, so public names load when they are first used.
    if name in _MODULES:
        return getattr(importlib.import_module(f"dask_dedup.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Remove duplicate particle picks from cryo-EM particle tables.

- `inspect` reads tables and shows their contents.
- `run` reads and writes files. `remove_duplicates` takes and returns data frames.
- A run may write only a list of duplicates. `materialize` writes the particle tables of such a run. `read_kept` reads
  its kept particles without these tables.
- `verify`, `report`, `publish` and `status` work on a finished run.
- `clean` removes leftovers of interrupted runs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dask_dedup.version import __version__ as __version__

if TYPE_CHECKING:
    from dask_dedup.dedup.params import DedupParams as DedupParams
    from dask_dedup.errors import DedupError as DedupError
    from dask_dedup.errors import InputError as InputError
    from dask_dedup.errors import OutputExistsError as OutputExistsError
    from dask_dedup.errors import RunError as RunError
    from dask_dedup.frames import remove_duplicates as remove_duplicates
    from dask_dedup.inspection import Inspection as Inspection
    from dask_dedup.inspection import inspect as inspect
    from dask_dedup.particles.micrographs.name_map import read_micrograph_map as read_micrograph_map
    from dask_dedup.pipeline.result import RunResult as RunResult
    from dask_dedup.pipeline.run import run as run
    from dask_dedup.results.kept_frame import read_kept as read_kept
    from dask_dedup.results.materialize import materialize as materialize
    from dask_dedup.results.publish import Publication as Publication
    from dask_dedup.results.publish import publish as publish
    from dask_dedup.results.report import report as report
    from dask_dedup.results.status import Status as Status
    from dask_dedup.results.status import clean as clean
    from dask_dedup.results.status import status as status
    from dask_dedup.results.verify import Verification as Verification
    from dask_dedup.results.verify import verify as verify


#: Module that defines each public name.
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
    "materialize": "results.materialize",
    "publish": "results.publish",
    "read_kept": "results.kept_frame",
    "read_micrograph_map": "particles.micrographs.name_map",
    "remove_duplicates": "frames",
    "report": "results.report",
    "run": "pipeline.run",
    "status": "results.status",
    "verify": "results.verify",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    # pyarrow and SciPy are slow to import, so public names load when they are first used.
    if name in _MODULES:
        return getattr(importlib.import_module(f"dask_dedup.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""The stored outcome of a verification, so that a later report of the same run shows it, too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dask_dedup.output.layout import VERIFICATION
from dask_dedup.output.manifest import DUPLICATES_ONLY
from dask_dedup.results.verify.verification import Check, Verification
from dask_dedup.storage.files import read_bytes

if TYPE_CHECKING:
    from dask_dedup.results.finished_run import FinishedRun

#: What distinguishes a run from another one, a repetition, or one without particle tables, in the same folder.
_RUN = ("run_id", "created", DUPLICATES_ONLY)


def outcome_json(run: FinishedRun, found: Verification) -> str:
    """Return the text of the file ``verification.json`` of a run."""
    described = {name: run.manifest.get(name) for name in _RUN} | found.to_dict()
    return json.dumps(described, indent=2) + "\n"


def read_outcome(run: FinishedRun) -> Verification | None:
    """Read the outcome stored for a run. Return None if the file is of another run, or damaged."""
    try:
        stored = json.loads(read_bytes(run.output / VERIFICATION))
        if any(stored.get(name) != run.manifest.get(name) for name in _RUN):
            return None
        checks = tuple(
            Check(str(each["name"]), passed=each["passed"], detail=str(each["detail"]))
            for each in stored["checks"]
        )
        return Verification(run.output, checks, stored["closest_kept_A"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None

"""Events that report the progress of a run. Each event is a small dict of plain values.

Every event has a ``kind``. Events of a task have the number of its fragment or shuffle partition, so that a task that
runs twice counts once::

    started, planned, finished, failed      emitted by the run
    reported                                the report of a finished run is written
    scanned, collected, decided, written    emitted by a task
    stalled                                 the cluster has stopped working, or works again
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.picks import PICK_BYTES
from dask_dedup.monitoring.progress import STAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.dedup.decide import DecisionCounts
    from dask_dedup.monitoring.progress import Event
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan

#: Limits of an event: number of inputs and of micrograph names, number of shuffle partitions, characters of a name.
NAMED = 200
LISTED_PARTITIONS = 2_000
NAME_LENGTH = 200


def started(job: Job, output: str, executor: str, stages: Sequence[str] = tuple(STAGES)) -> Event:
    """Return the event for the start of a run, with the size of its inputs. `stages` are the stages of the run."""
    return {
        "kind": "started",
        "stages": list(stages),
        "output": output,
        "executor": executor,
        "inputs": [table.path[-NAME_LENGTH:] for table in job.inputs.tables[:NAMED]],
        "rows": sum(table.rows for table in job.inputs.tables),
        "bytes": sum(table.bytes for table in job.inputs.tables),
        "fragments": len(job.inputs.fragments),
    }


def planned(plan: Plan, summaries: Sequence[ScanSummary]) -> Event:
    """Return the event for a finished plan, with the names of the densest micrographs."""
    return {
        "kind": "planned",
        **plan.to_dict(),
        "partition_rows": np.sort(plan.partition_rows)[::-1][:LISTED_PARTITIONS].tolist(),
        "names": _name_densest(plan, summaries),
    }


def scanned(summary: ScanSummary, seconds: float) -> Event:
    """Return the event for a scanned fragment."""
    return _done("scanned", summary.fragment, summary.rows, seconds)


def collected(number: int, picks: int, seconds: float) -> Event:
    """Return the event for a fragment whose picks were collected for the shuffle."""
    return _done("collected", number, picks, seconds, bytes=picks * PICK_BYTES)


def decided(partition: int, counts: DecisionCounts, seconds: float) -> Event:
    """Return the event for a shuffle partition whose duplicates were found, with its counts."""
    return _done("decided", partition, counts.picks, seconds, counts=counts.to_dict())


def written(checkpoint: FragmentCheckpoint, seconds: float) -> Event:
    """Return the event for a written fragment, with the numbers of kept and rejected rows."""
    return _done(
        "written",
        checkpoint.fragment,
        checkpoint.rows,
        seconds,
        kept=checkpoint.kept,
        rejected=checkpoint.rejected,
        counts=checkpoint.counts.to_dict(),
    )


def _done(kind: str, number: int, rows: int, seconds: float, **more: Any) -> Event:
    return {"kind": kind, "number": number, "rows": rows, "seconds": round(seconds, 4), **more}


def finished(manifest: dict[str, Any]) -> Event:
    """Return the event for a finished run with a committed result."""
    return {
        "kind": "finished",
        "run_id": manifest["run_id"],
        **{key: manifest["totals"][key] for key in ("rows", "kept", "rejected")},
        "seconds": manifest["seconds"],
        "warnings": len(manifest["warnings"]),
    }


def reported(manifest: dict[str, Any], page: str) -> Event:
    """Return the event for the written report of a finished run. `page` is its absolute path or URI."""
    return {"kind": "reported", "run_id": manifest["run_id"], "page": page}


def stalled(reason: str, seconds_left: float) -> Event:
    """Return the event for a cluster that has stopped working, or works again (`reason` is "").

    The event is sent at every check while the cluster is stalled.
    """
    return {"kind": "stalled", "reason": reason, "seconds_left": round(seconds_left, 1)}


def failed(reason: str) -> Event:
    """Return the event for a failed run."""
    return {"kind": "failed", "reason": reason[:1_000]}


def _name_densest(plan: Plan, summaries: Sequence[ScanSummary]) -> list[tuple[int, str]]:
    """Return the keys and names of the micrographs with the most picks, overall and per shuffle partition."""
    keys, counts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for summary in summaries:
        most = np.argsort(-summary.counts, kind="stable")[:NAMED]
        keys.append(summary.micrographs[most])
        counts.append(summary.counts[most])
    distinct, number = np.unique(np.concatenate(keys), return_inverse=True)
    rows = np.bincount(number, weights=np.concatenate(counts), minlength=distinct.size)
    order = np.argsort(-rows, kind="stable")
    partition = plan.partition_of(distinct)[order]
    _, first_of_partition = np.unique(partition, return_index=True)
    chosen = np.concatenate([order[first_of_partition], order[:NAMED]])[:NAMED]
    wanted = set(distinct[chosen].tolist())
    names = (each for s in summaries for each in (*s.densest_paths, *s.names))
    return list({n.key: n.shown[-NAME_LENGTH:] for n in names if n.key in wanted}.items())

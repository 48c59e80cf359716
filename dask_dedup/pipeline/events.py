"""What happens in a run, told as it happens: a small dict an event, plain values only.

Every event has a ``kind``, and every one but those of the driver the number of the fragment or bucket
it is about, so that a listener counts a task that ran twice only once (see `progress`)::

    started, planned, finished, failed      by the driver
    scanned, collected, decided, written    by whoever did the work
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.picks import PICKS_DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.decide import DecisionCounts
    from dask_dedup.monitoring.progress import Event
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan

#: So many micrographs are named, so many buckets listed, and a name is cut after so many characters.
NAMED = 200
LISTED_PARTITIONS = 2_000
NAME_LENGTH = 200

_PICK_BYTES = sum(dtype.itemsize for dtype in PICKS_DTYPES.values())


def started(job: Job, output: str, where: str) -> Event:
    """Tell that a run begins, and how much there is to do."""
    return {
        "kind": "started",
        "output": output,
        "where": where,
        "inputs": [table.path[-NAME_LENGTH:] for table in job.tables[:NAMED]],
        "rows": sum(table.rows for table in job.tables),
        "bytes": sum(table.bytes for table in job.tables),
        "fragments": len(job.fragments),
    }


def planned(plan: Plan, summaries: Sequence[ScanSummary]) -> Event:
    """Tell what will move, and name the densest micrographs."""
    return {
        "kind": "planned",
        **plan.to_dict(),
        "partition_rows": np.sort(plan.partition_rows)[::-1][:LISTED_PARTITIONS].tolist(),
        "names": _name_densest(plan, summaries),
    }


def scanned(summary: ScanSummary, seconds: float) -> Event:
    """Tell that a fragment's rows are counted."""
    return {
        "kind": "scanned",
        "number": summary.fragment,
        "rows": summary.rows,
        "seconds": round(seconds, 4),
    }


def collected(number: int, picks: int, seconds: float) -> Event:
    """Tell that the picks of a fragment that move have left it."""
    return {
        "kind": "collected",
        "number": number,
        "rows": picks,
        "bytes": picks * _PICK_BYTES,
        "seconds": round(seconds, 4),
    }


def decided(partition: int, counts: DecisionCounts, seconds: float) -> Event:
    """Tell that a bucket is decided."""
    return {
        "kind": "decided",
        "number": partition,
        "rows": counts.picks,
        "counts": counts.to_dict(),
        "seconds": round(seconds, 4),
    }


def written(checkpoint: FragmentCheckpoint, seconds: float) -> Event:
    """Tell that a fragment is written, with the micrographs that were decided on the way."""
    return {
        "kind": "written",
        "number": checkpoint.fragment,
        "rows": checkpoint.rows,
        "kept": checkpoint.kept,
        "rejected": checkpoint.rejected,
        "counts": checkpoint.counts.to_dict(),
        "seconds": round(seconds, 4),
    }


def finished(manifest: dict[str, Any]) -> Event:
    """Tell that the result is committed."""
    totals = manifest["totals"]
    return {
        "kind": "finished",
        "run_id": manifest["run_id"],
        "rows": totals["rows"],
        "kept": totals["kept"],
        "rejected": totals["rejected"],
        "seconds": manifest["seconds"],
        "warnings": len(manifest["warnings"]),
    }


def failed(reason: str) -> Event:
    """Tell that there will be no result."""
    return {"kind": "failed", "reason": reason[:1_000]}


def _name_densest(plan: Plan, summaries: Sequence[ScanSummary]) -> list[tuple[int, str]]:
    """Name the micrographs with the most particles, over all and in each bucket."""
    keys: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
    counts: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
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
    names = {
        key: name[-NAME_LENGTH:]
        for summary in summaries
        for key, name in summary.names
        if key in wanted
    }
    return list(names.items())

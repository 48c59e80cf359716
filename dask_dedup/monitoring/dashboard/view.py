"""Numbers of the live page as plain values, which the page draws and ``/json/dedup.json`` returns."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dask_dedup.formatting import duration
from dask_dedup.monitoring.progress import DOING, STAGES, describe

if TYPE_CHECKING:
    from dask_dedup.monitoring.dashboard.plugin import DedupPlugin
    from dask_dedup.monitoring.progress import Progress


def make_view(plugin: DedupPlugin) -> dict[str, Any]:
    """Return the current numbers as JSON values."""
    scheduler, run = plugin.scheduler, plugin.current
    workers = list(scheduler.workers.values()) if scheduler else []
    view: dict[str, Any] = {
        "status": run.status if run else "waiting",
        "headline": _headline(run),
        "workers": len(workers),
        "threads": sum(worker.nthreads for worker in workers),
        "totals": dict(plugin.totals),
    }
    return view | (_run_view(run) if run else {})


def _headline(run: Progress | None) -> str:
    if run is None:
        return "No run yet."
    if run.status == "running":
        return describe(run).strip()
    if run.status == "failed":
        return f"Failed after {duration(run.elapsed())}: {run.reason}"
    return (
        f"Finished in {duration(run.elapsed())}: of {run.rows:,} particles {run.kept:,} kept, "
        f"{run.rejected:,} rejected."
    )


def _run_view(run: Progress) -> dict[str, Any]:
    now = time.monotonic()
    densest = sorted(run.densest.items(), key=lambda item: (-item[1][0], item[0]))
    return {
        "run": run.run,
        "output": run.output,
        "executor": run.executor,
        "inputs": run.inputs,
        "stage": run.stage,
        "fraction": run.fraction,
        "seconds": run.elapsed(now),
        "seconds_left": run.seconds_left(now),
        "particles_per_second": run.speed(now) if run.status == "running" else 0.0,
        "rows": run.rows,
        "kept": run.kept,
        "rejected": run.rejected,
        "fragments": run.fragments,
        "micrographs": run.micrographs,
        "decided_micrographs": run.decided_micrographs,
        "by_fraction": run.by_fraction,
        "partition_rows": run.partition_rows,
        "moved_bytes": run.moved_bytes,
        "payload_bytes": run.payload_bytes,
        "repeats": run.repeats,
        "lost_workers": run.lost_workers,
        "stages": [
            {
                "name": name,
                "doing": DOING[name],
                "rows": run.stages[name].rows,
                "total_rows": run.stages[name].total_rows,
                "task_seconds": run.stages[name].seconds,
            }
            for name in STAGES
        ],
        "densest": [
            {"name": run.name_of(key), "picks": picks, "rejected": rejected}
            for key, (picks, rejected) in densest
        ],
        "slowest": [
            {"doing": DOING[stage], "number": number, "seconds": seconds, "rows": rows}
            for seconds, stage, number, rows in sorted(run.slowest, reverse=True)
        ],
        "curve": [list(point) for point in run.curve],
        "result": run.result,
        "reason": run.reason,
    }

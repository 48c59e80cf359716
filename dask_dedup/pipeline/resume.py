"""Find the fragments that an interrupted run has written already."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dask_dedup.pipeline import events

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.output.store import ResultStore
    from dask_dedup.pipeline.executors import Executor
    from dask_dedup.pipeline.job import Job

log = logging.getLogger("dask_dedup")


def find_written(
    job: Job, store: ResultStore, staging: Path, executor: Executor
) -> list[FragmentCheckpoint]:
    """Return the checkpoints of the fragments that are already written. Log their number, and send their events."""
    fragments = job.inputs.fragments
    done = store.find_checkpoints(staging, fragments)
    if done:
        log.info(
            "resuming: %s of %s fragments are already written",
            f"{len(done):,}",
            f"{len(fragments):,}",
        )
    for checkpoint in done:
        executor.emit({"run": job.attempt, **events.written(checkpoint, 0.0)})
    return done

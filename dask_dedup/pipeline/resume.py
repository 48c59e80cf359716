"""Resume a run: find the fragments that are already written, and keep the written fragments of a failed run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError
from dask_dedup.pipeline import events
from dask_dedup.pipeline.job import find_changed

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.output.store import ResultStore
    from dask_dedup.particles.inputs import Inputs
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


def close_failed(
    store: ResultStore, staging: Path, inputs: Inputs, error: BaseException
) -> dict[str, Any] | None:
    """Keep the written fragments of a failed run if the same command can resume the run.

    Return the manifest if a concurrent run with the same token has finished. The error does not matter then.
    """
    reusable = not isinstance(error, InputError)
    rows = [fragment.rows for fragment in inputs.fragments]
    finished = store.close_failed(staging, rows, lambda: reusable and not find_changed(inputs))
    return finished if isinstance(error, Exception) else None

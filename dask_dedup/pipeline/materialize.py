"""Write the particle tables of a result that lists its duplicates only."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dask_dedup.conversion import CONVERSIONS, make_conversion
from dask_dedup.errors import InputError, RunError
from dask_dedup.formats import by_source
from dask_dedup.monitoring.progress import INTERRUPTED
from dask_dedup.monitoring.progress_bar import in_notebook, notebook_bar
from dask_dedup.output.layout import PARTICLES
from dask_dedup.output.manifest import (
    CHECKSUM,
    DUPLICATES_ONLY,
    MATERIALIZED,
    digest_of,
    lacks_particles,
    read_manifest,
    same_result,
    with_checksum,
)
from dask_dedup.particles.scanned_sample import limit_picks
from dask_dedup.pipeline import events
from dask_dedup.pipeline.executors.select import choose_executor
from dask_dedup.pipeline.failure import translate_errors
from dask_dedup.pipeline.job import check_unchanged
from dask_dedup.pipeline.manifest_content import list_outputs, versions
from dask_dedup.pipeline.rejected_rows import find_rejected_rows
from dask_dedup.pipeline.resume import close_failed, find_written

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from distributed import Client

    from dask_dedup.formats import ParticleTable
    from dask_dedup.monitoring.progress import EventHandler
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.output.store import ResultStore
    from dask_dedup.pipeline.executors import Executor
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.rejected_rows import RejectedRows


def materialize_result(
    job: Job,
    store: ResultStore,
    manifest: dict[str, Any],
    client: Client | None,
    exposures: ParticleTable | None,
    *,
    folder: str = "",
    threads: int | None = None,
    on_event: EventHandler | None = None,
) -> dict[str, Any]:
    """Write the particle tables of a finished result. Return its new manifest.

    Parameters
    ----------
    job : Job
        Job with the inputs and the output settings of the result.
    store : ResultStore
    manifest : dict
        Manifest of the result, which has no particle tables yet.
    client, threads, on_event
        As in `run`.
    exposures : ParticleTable or None
        The micrograph table.
    folder : str
        Folder of the relative paths of input files in the result; "" for the current folder.
    """
    with translate_errors(), ExitStack() as stack:
        if on_event is None and in_notebook():
            on_event = stack.enter_context(notebook_bar())
        rows = sum(fragment.rows for fragment in job.inputs.fragments)
        executor = choose_executor(stack, client, rows, on_event, threads=threads)
        stack.enter_context(executor.listening(job.attempt))
        try:
            stages = ("scanned", "written") if job.output_format in CONVERSIONS else ("written",)
            started = events.started(job, str(store.output), str(executor), stages)
            executor.emit({"run": job.attempt, **started})
            with store.lock():
                found = read_manifest(store.output)
                if not same_result(found, manifest):
                    raise InputError(f"{store.output}: another run has replaced this result.")
                if lacks_particles(found):
                    found = add_particles(job, store, found, executor, exposures, folder=folder)
            executor.emit({"run": job.attempt, **events.finished(found)})
        except BaseException as error:
            executor.emit({"run": job.attempt, **events.failed(str(error) or INTERRUPTED)})
            raise
    return found


def finish_commit(store: ResultStore, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Finish an interrupted commit of particle tables. Return the new manifest, or None without such a commit.

    The store is locked. `manifest` is the current manifest of the result.
    """
    for staging in store.find_staging().values():
        complete = store.staged_manifest(staging)
        if complete and MATERIALIZED in complete:
            return store.add_tables(staging, complete, manifest)
    return None


def add_particles(
    job: Job,
    store: ResultStore,
    manifest: dict[str, Any],
    executor: Executor,
    exposures: ParticleTable | None,
    *,
    folder: str = "",
) -> dict[str, Any]:
    """Write the particle tables of the result in `store`, which is locked. Return the new manifest.

    For the parameters see `materialize_result`.
    """
    finished = finish_commit(store, manifest)
    if finished is not None:
        return finished
    began, inputs = time.perf_counter(), job.inputs
    rejected = [
        each
        for table in inputs.tables
        for each in find_rejected_rows(store.output, manifest, table, folder)
    ]
    rows = [fragment.rows for fragment in inputs.fragments]
    # Everything that determines the content of the tables and of their folders.
    parts = [MATERIALIZED, manifest["run_id"], manifest["created"], versions(), rows]
    token = digest_of(parts)[:12]
    request = {
        "run_id": manifest["run_id"],
        "created": manifest["created"],
        MATERIALIZED: True,
        "fragment_rows": rows,
        "versions": versions(),
    }
    job = replace(job, tables=PARTICLES, run_token=store.choose_run_token(parts, None))
    staging = store.stage(request, token, job.tables)
    try:
        store.check_free(job.tables)
        job = replace(_with_conversion(job, executor, exposures), staging=str(staging))
        checkpoints = _write(job, store, staging, rejected, executor)
        check_unchanged(inputs)
        complete = _complete(job, manifest, checkpoints, token, began)
        return store.add_tables(staging, complete, manifest)
    except BaseException as error:
        finished = close_failed(store, staging, inputs, error)
        if finished is None:
            raise
        return finished


def _with_conversion(job: Job, executor: Executor, exposures: ParticleTable | None) -> Job:
    """Scan the inputs and add the conversion to the job, if the output format is a conversion."""
    if job.output_format not in CONVERSIONS:
        return job
    summaries = sorted(limit_picks(executor.scan(job)), key=lambda each: each.fragment)
    conversion, _ = make_conversion(job.output_format, job.inputs, summaries, exposures)
    return replace(job, conversion=conversion)


def _write(
    job: Job,
    store: ResultStore,
    staging: Path,
    rejected: Sequence[RejectedRows],
    executor: Executor,
) -> list[FragmentCheckpoint]:
    """Write the fragments that have no checkpoint. Return all checkpoints, sorted by fragment."""
    done = find_written(job, store, staging, executor)
    missing = {fragment.number for fragment in job.inputs.fragments}
    missing -= {checkpoint.fragment for checkpoint in done}
    written = executor.split(job, rejected, sorted(missing))
    return sorted([*done, *written], key=lambda checkpoint: checkpoint.fragment)


def _complete(
    job: Job,
    manifest: dict[str, Any],
    checkpoints: Sequence[FragmentCheckpoint],
    token: str,
    began: float,
) -> dict[str, Any]:
    """Check the row counts, assemble the output files, and return the manifest with the particle tables."""
    totals, of_input = manifest["totals"], by_source(checkpoints)
    for source, entry in enumerate(totals["by_input"]):
        for name in ("kept", "rejected"):
            found = sum(getattr(checkpoint, name) for checkpoint in of_input[source])
            if found != entry[name]:
                raise RunError(
                    f"{entry['path']}: {found:,} rows are {name}, but {entry[name]:,} according to the manifest. "
                    "Nothing was committed. Verify the result."
                )
    outputs = list_outputs(job, checkpoints, totals, manifest["outputs"])
    added = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - began, 3),
        "token": token,
        "versions": versions(),
    }
    complete = {key: value for key, value in manifest.items() if key != CHECKSUM}
    changes = {DUPLICATES_ONLY: False, MATERIALIZED: added, "run_token": job.run_token}
    return with_checksum({**complete, **changes, "outputs": outputs})

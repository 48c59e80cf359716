"""Write the particle tables of a run with `duplicates_only`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.output import open_store
from dask_dedup.output.layout import MANIFEST
from dask_dedup.output.manifest import checksum_ok, lacks_particles
from dask_dedup.particles.inputs import make_inputs
from dask_dedup.pipeline.job import ALGORITHM, make_job
from dask_dedup.pipeline.materialize import finish_commit, materialize_result
from dask_dedup.pipeline.output_settings import OutputSettings
from dask_dedup.pipeline.result import RunResult
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.recorded_inputs import find_run_id, open_unchanged_inputs

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client

    from dask_dedup.monitoring.progress import EventHandler

log = logging.getLogger("dask_dedup")


def materialize(
    output: str | Path,
    client: Client | None = None,
    *,
    threads: int | None = None,
    on_event: EventHandler | None = None,
) -> RunResult:
    """Write the particle tables of a run with `duplicates_only`.

    The tables have the same bytes as the tables that the run would have written. The kept and rejected rows are read
    from the inputs, which must not have changed. If the call is interrupted, the result is unchanged. Repeat the call.

    Parameters
    ----------
    output : path
        Folder of the run.
    client : distributed.Client, optional
        Client of the cluster to use, as for `run`.
    threads : int, optional
        As for `run`.
    on_event : callable, optional
        As for `run`.

    Returns
    -------
    RunResult
        `RunResult.already_done` is True if the result had its particle tables before.

    Raises
    ------
    InputError
        If there is no finished run, or an input is missing or has changed. Nothing is written.
    RunError
        If the tables cannot be written. The result is unchanged.
    """
    run = open_finished_run(output)
    manifest, store = run.manifest, open_store(run.output)
    store.check_idle()
    store.tidy(manifest)
    if not lacks_particles(manifest):
        log.info("%s already has its particle tables; nothing to do", run.output)
        return RunResult.of(run.output, manifest, already_done=True)
    if store.find_staging():
        with store.lock():
            finished = finish_commit(store, manifest)
        if finished is not None:
            return RunResult.of(run.output, finished, already_done=False)
    if not checksum_ok(manifest):
        raise InputError(
            f"{run.output / MANIFEST}: changed since the run, as its checksum differs. Restore it, or run again into "
            "another folder."
        )
    made = manifest["versions"]
    if made["algorithm"] != str(ALGORITHM):
        raise InputError(
            f"{run.output}: made by version {made['dask-dedup']}, with another algorithm. Use that version."
        )
    if run.folder and run.is_conversion:
        # Names in the converted files can depend on the folders of the inputs.
        raise InputError(
            f"{run.output}: its inputs have paths relative to {run.folder}. Run the same command there."
        )
    tables, exposures = open_unchanged_inputs(run)
    if find_run_id(run, tables, exposures) != manifest["run_id"]:
        raise InputError(
            f"{run.output}: the micrograph table has changed since the run. Restore it, or run again into another "
            "folder."
        )
    inputs = make_inputs(tables, exposures, run.params, manifest["left_out"])
    job = make_job(inputs, OutputSettings.recorded(manifest))
    store.check_writable()
    written = materialize_result(
        *(job, store, manifest, client, exposures),
        folder=run.folder,
        threads=threads,
        on_event=on_event,
    )
    return RunResult.of(run.output, written, already_done=False)

"""The run: scan, plan, decide, write, commit, in this order and nothing else."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import DedupError, InputError, RunError
from dask_dedup.formats import open_table
from dask_dedup.output import local as place
from dask_dedup.output.checkpoints import count_checkpoints, find_checkpoints
from dask_dedup.output.checksum import with_checksum
from dask_dedup.output.lock import locked
from dask_dedup.particles.checks import (
    check_names,
    check_rows,
    check_uids,
    find_warnings,
)
from dask_dedup.particles.inputs import make_inputs
from dask_dedup.pipeline import events
from dask_dedup.pipeline.executors.select import choose_executor, choose_for_moving
from dask_dedup.pipeline.job import check_unchanged, find_changed, make_job, make_run_id
from dask_dedup.pipeline.manifest import make_manifest, make_request, versions
from dask_dedup.pipeline.outcome_checks import find_doubts
from dask_dedup.pipeline.plan import make_plan
from dask_dedup.pipeline.result import RunResult
from dask_dedup.storage.access import check_answers, in_words
from dask_dedup.storage.capacity import disk_full_errors
from dask_dedup.storage.paths import at, check_once, is_remote, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from distributed import Client

    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.events import Event, EventHandler
    from dask_dedup.pipeline.executors.base import Executor
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan

log = logging.getLogger("dask_dedup")
#: Warnings about the data; the command line prints them last.
data_warnings = logging.getLogger("dask_dedup.warnings")


def run(
    inputs: Sequence[str | Path] | str | Path,
    output: str | Path,
    params: DedupParams | None = None,
    client: Client | None = None,
    *,
    micrographs: str | Path | None = None,
    output_format: str = "native",
    allow_outside: bool = False,
    overwrite: bool = False,
    on_event: EventHandler | None = None,
) -> RunResult:
    """Remove the duplicates of particle tables: files in, files out.

    Parameters
    ----------
    inputs : path or sequence of paths
        Parquet files or folders, ``.star``, ``.cs`` or ``.csg`` files; their order matters for
        `DedupParams.prefer_input_order`.
    output : path
        Folder for the result; made, or empty, or holding this very run (then nothing is done).
    params : DedupParams, optional
    client : distributed.Client, optional
        Of the cluster to run on; its workers must see the inputs and the output under the same
        paths. Without one, the work is done inside this process, and on a cluster started for it
        on this machine if what moves would not fit in memory or there are more cores than one
        process can use.
    micrographs : path, optional
        Table that gives each micrograph its pixel size and shape.
    output_format : {"native", "parquet"}
        Write each table in its own format (one file for each ``.star``, ``.cs`` or ``.csg``; one
        dataset for all Parquet), or all of them as one Parquet dataset.
    allow_outside : bool
        Let a ``.csg`` point to files outside its folder.
    overwrite : bool
        Replace an earlier run's result.
    watch : callable, optional
        Called with each event of the run, a dict (see `dask_dedup.pipeline.events`), from any thread.

    Returns
    -------
    RunResult

    Raises
    ------
    InputError
        If the tables or parameters are wrong; nothing is written then.
    RunError
        If the run fails; no result is committed then.
    """
    with in_words(InputError):
        return _run(
            listed(inputs),
            at(output),
            DedupParams.given(params),
            client,
            micrographs=micrographs,
            output_format=output_format,
            allow_outside=allow_outside,
            overwrite=overwrite,
            on_event=on_event,
        )


def _run(
    paths: list[str | Path],
    target: Path,
    params: DedupParams,
    client: Client | None,
    *,
    micrographs: str | Path | None,
    output_format: str,
    allow_outside: bool,
    overwrite: bool,
    on_event: EventHandler | None,
) -> RunResult:
    began = time.perf_counter()
    if not paths:
        raise InputError("no input: name at least one particle table")
    given = [*paths, *([micrographs] if micrographs else [])]
    check_answers([*given, target])
    place.check_apart(target, given)
    check_once(paths)
    tables = [
        open_table(path, source, allow_outside=allow_outside) for source, path in enumerate(paths)
    ]
    exposures = open_table(micrographs, allow_outside=allow_outside) if micrographs else None
    run_id = make_run_id(tables, exposures, params, output_format)
    finished = place.find_finished(target, run_id, overwrite=overwrite)
    if finished:
        return _nothing_to_do(target, finished)

    before = place.find_manifest(target) if overwrite and is_remote(target) else None
    rows = [[fragment.rows for fragment in table.fragments] for table in tables]
    run_token = place.choose_run_token(target, [run_id, versions(), rows], before)
    job = make_job(make_inputs(tables, exposures, params), output_format, run_token)
    with _in_one_line(), in_words(RunError), ExitStack() as stack:
        executor: Executor = choose_executor(
            stack, client, sum(table.rows for table in tables), on_event
        )
        stack.enter_context(executor.listening(job.attempt))

        def emit(event: Event) -> None:
            executor.emit({"run": job.attempt, **event})

        with _emitting_failure(emit):
            emit(events.started(job, str(target), str(executor)))
            survey = _survey(job, executor, emit)
            chosen = choose_for_moving(stack, executor, survey.plan.moving_rows, on_event)
            if chosen is not executor:
                executor = chosen
                # Whoever watches from here knows this already, and so listens only from now on.
                for event in survey.retell(job, str(target), str(executor)):
                    emit(event)
                stack.enter_context(executor.listening(job.attempt))
            # In words first: asking a cluster from within the log handler would hold up its own log lines.
            where = str(executor)
            log.info("running %s", where)
            with disk_full_errors(target), locked(target):
                finished = place.find_result(target, run_id, overwrite=overwrite)
                if finished:
                    emit(events.finished(finished))
                    return _nothing_to_do(target, finished)
                request = make_request(job, run_id, allow_outside=allow_outside)
                staging = place.stage(target, request, run_token)
                manifest = place.staged_manifest(staging)
                try:
                    if manifest is None:
                        job = replace(job, staging=str(staging))
                        with _keeping_what_is_done(job, staging):
                            checkpoints = _write(job, survey, executor, emit)
                            check_unchanged(job.inputs)
                            doubts = find_doubts(job, survey.plan, checkpoints)
                            for line in doubts:
                                data_warnings.warning("%s", line)
                            warnings = [*survey.warnings, *doubts]
                            manifest = make_manifest(job, survey.plan, checkpoints, warnings)
                            manifest |= {
                                "run_id": run_id,
                                "overwrite": overwrite,
                                "run_token": run_token,
                            }
                            manifest["allow_outside"] = allow_outside
                            manifest["seconds"] = round(time.perf_counter() - began, 3)
                            manifest = with_checksum(manifest)
                    committed = place.commit(staging, target, manifest, before)
                except Exception:
                    concurrent = _find_concurrent_run(target, run_token)
                    if concurrent is None:
                        raise
                    # It has put away what the two had in common.
                    place.tidy(target, concurrent)
                    emit(events.finished(concurrent))
                    return _nothing_to_do(target, concurrent)
            emit(events.finished(committed))
    return RunResult.of(target, committed, already_done=committed != manifest)


def _nothing_to_do(target: Path, manifest: dict[str, Any]) -> RunResult:
    log.info("%s already holds this very run; nothing to do", target)
    return RunResult.of(target, manifest, already_done=True)


@dataclass(frozen=True, slots=True)
class _Survey:
    summaries: list[ScanSummary]
    plan: Plan
    planned: Event
    warnings: list[str]

    def retell(self, job: Job, output: str, where: str) -> Iterator[Event]:
        """Tell so far to a cluster that was not there yet."""
        yield events.started(job, output, where)
        yield from (events.scanned(summary, 0.0) for summary in self.summaries)
        yield self.planned


def _survey(job: Job, executor: Executor, emit: EventHandler) -> _Survey:
    """Look at all rows, refuse what cannot be used, and plan."""
    summaries = sorted(executor.scan(job), key=lambda summary: summary.fragment)
    check_rows(job.inputs, summaries)
    check_uids(job.inputs, summaries)
    check_names(job.inputs, summaries)
    plan = make_plan(summaries)
    planned = events.planned(plan, summaries)
    emit(planned)
    warnings = find_warnings(job.inputs, summaries)
    for line in (*_describe(job), *plan.describe()):
        log.info(line)
    for line in warnings:
        data_warnings.warning("%s", line)
    # The uids are 8 bytes a particle, and of no more use.
    lean = [replace(summary, uids=np.empty(0, np.uint64), names=[]) for summary in summaries]
    return _Survey(lean, plan, planned, warnings)


def _write(
    job: Job, survey: _Survey, executor: Executor, emit: EventHandler
) -> list[FragmentCheckpoint]:
    """Write what no earlier attempt has written; give the receipts of all fragments, in their order."""
    checkpoints = find_checkpoints(at(job.staging), job.fragments)
    plan = survey.plan
    if checkpoints:
        log.info(
            "going on: %s of %s fragments were written before",
            f"{len(checkpoints):,}",
            f"{len(job.fragments):,}",
        )
        plan = make_plan(survey.summaries, [checkpoint.fragment for checkpoint in checkpoints])
        for checkpoint in checkpoints:
            emit(events.written(checkpoint, 0.0))
    checkpoints += executor.write(job, plan)
    return sorted(checkpoints, key=lambda checkpoint: checkpoint.fragment)


@contextmanager
def _keeping_what_is_done(job: Job, staging: Path) -> Iterator[None]:
    """If the run fails or is interrupted, keep the fragments that are written, if they can still be of use."""
    try:
        yield
    except BaseException as error:
        if not _answers(staging) or _find_concurrent_run(staging.parent, job.run_token):
            raise
        done = count_checkpoints(staging)
        if done and not isinstance(error, InputError) and not find_changed(job.inputs):
            log.warning(
                "%s of %s fragments are written: the same command goes on from there; "
                "dask-dedup clean %s drops them",
                f"{done:,}",
                f"{len(job.fragments):,}",
                staging.parent,
            )
        else:
            place.discard(staging)
        raise


def _answers(staging: Path) -> bool:
    """Tell whether it can be asked what is done; if its server is lost, that would take minutes."""
    try:
        check_answers([staging])
    except DedupError:
        log.warning("what is written stays in %s: the same command goes on from there", staging)
        return False
    return True


def _find_concurrent_run(target: Path, run_token: str) -> dict[str, Any] | None:
    """Give the manifest if the same run, started twice into an object store, has been finished by the other."""
    if not run_token:
        return None
    try:
        check_answers([target])
        manifest = place.find_manifest(target)
    except DedupError:
        return None
    return manifest if manifest and manifest.get("run_token") == run_token else None


@contextmanager
def _emitting_failure(emit: EventHandler) -> Iterator[None]:
    """Tell whoever watches that the run has failed."""
    try:
        yield
    except BaseException as error:
        emit(events.failed(str(error) or "interrupted"))
        raise


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Turn what goes wrong outside this program into an error that says so in one line."""
    try:
        yield
    except DedupError:
        raise
    except OSError as error:
        if type(error).__module__.startswith("distributed"):
            raise RunError(
                f"the connection to the cluster was lost ({error}); run the same command again"
            ) from error
        raise RunError(f"{error}; mend that and run the same command again") from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise RunError(
            f"the run failed, nothing was committed ({type(error).__name__}: {reason})"
        ) from error


def _describe(job: Job) -> list[str]:
    """Say what is compared and what decides."""
    params = job.params
    if params.undo_symmetry_expansion:
        duplicates = "symmetry copies of one particle (sym_expand/src_uid)"
    elif params.min_separation == 0:
        duplicates = "particles at precisely equal stored coordinates"
    else:
        duplicates = f"particles at most {params.min_separation:g} A apart"
    shifts = dict.fromkeys(roles.shift_name for roles in job.roles)
    score = "none, a seeded choice"
    if params.score:
        columns = dict.fromkeys(str(roles.score) for roles in job.roles)
        better = "higher" if params.score.higher_is_better else "lower"
        score = f"{', '.join(columns)} ({better} is better)"
    fate = "the best of them stays"
    if params.remove_entirely:
        fate = "all of them are rejected"
    elif params.prefer_input_order and len(job.tables) > 1:
        fate = "one of the earliest input stays"
    elif params.score is None:
        fate = "one of them stays"
    return [
        f"duplicates: {duplicates}, on one micrograph (by {job.roles[0].match}); {fate}",
        f"shift: {', '.join(shifts)}; score: {score}",
    ]

"""The function `run`, which removes duplicates from particle tables in files."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dask_dedup.conversion import make_conversion
from dask_dedup.dedup.params import DedupParams
from dask_dedup.formats import find_notes
from dask_dedup.formats.star.lines import scanning_with
from dask_dedup.hints import Message
from dask_dedup.monitoring.progress import INTERRUPTED
from dask_dedup.monitoring.progress_bar import in_notebook, notebook_bar
from dask_dedup.output import open_store
from dask_dedup.output.manifest import DUPLICATES_ONLY, find_manifest, lacks_particles
from dask_dedup.particles.checks.scales import InputScale, describe_scales, find_scales
from dask_dedup.particles.checks.scanned_inputs import check_scanned, find_warnings
from dask_dedup.particles.grouped_inputs import group_inputs
from dask_dedup.particles.inputs import make_inputs
from dask_dedup.particles.job_pixel_sizes import pixel_sizes_of_jobs
from dask_dedup.particles.pickers import check_names
from dask_dedup.particles.scanned_sample import limit_picks
from dask_dedup.particles.voters import find_voters
from dask_dedup.pipeline import events
from dask_dedup.pipeline.executors.select import choose_executor, choose_for_moving
from dask_dedup.pipeline.failure import translate_errors
from dask_dedup.pipeline.job import check_unchanged, make_job, make_run_id
from dask_dedup.pipeline.manifest_content import (
    make_manifest,
    make_request,
    result_warnings,
    versions,
)
from dask_dedup.pipeline.materialize import add_particles, materialize_result
from dask_dedup.pipeline.open_inputs import open_inputs
from dask_dedup.pipeline.output_settings import OutputSettings
from dask_dedup.pipeline.plan import count_micrographs, make_plan
from dask_dedup.pipeline.report_draft import draft_report
from dask_dedup.pipeline.result import RunResult
from dask_dedup.pipeline.resume import close_failed, find_written
from dask_dedup.pipeline.rule import describe_rule
from dask_dedup.pipeline.separation import (
    FoundSpacing,
    choose_separation,
    with_recorded_separation,
)
from dask_dedup.pipeline.vote_totals import vote_warnings
from dask_dedup.storage.paths import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from distributed import Client

    from dask_dedup.formats import ParticleTable
    from dask_dedup.monitoring.progress import Event, EventHandler
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.output.store import ResultStore
    from dask_dedup.particles.report_contents import ReportContents
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.particles.voters import Voters
    from dask_dedup.pipeline.executors import Executor
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan
    from dask_dedup.pipeline.report_draft import ReportDraft

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
    compression: str = "auto",
    partition_by: Sequence[str] | str = (),
    duplicates_only: bool = False,
    allow_outside: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    on_event: EventHandler | None = None,
    names: Mapping[str, str] | None = None,
    plot_micrographs: Sequence[str] = (),
    command_options: Mapping[str, Any] | None = None,
    **keywords: Any,
) -> RunResult:
    """Remove duplicates from particle tables in files, and write the result to a folder.

    Parameters
    ----------
    inputs : path or sequence of paths
        Parquet files or folders, Delta tables (``FOLDER?version=N`` for an older version), ``.star``,
        ``.cs`` or ``.csg`` files. Pick files, or folders and lists of pick files. The order of the inputs matters
        for `DedupParams.prefer_input_order`. ``.star`` files without a table are left out, with a warning.
    output : path
        Folder for the result: new, empty, or used by this run before. An interrupted run is resumed;
        a finished run is not repeated.
    params : DedupParams, optional
    client : distributed.Client, optional
        Client of the cluster to use. Its workers must see the inputs and the output under the same
        paths. By default the run uses the threads of this process. If there is not enough memory, or
        there are more cores than a single process can use, the run starts a cluster on this machine.
    micrographs : path, optional
        Table with the pixel size and shape of each micrograph.
    output_format : {"native", "parquet", "star", "relion-coordinates"}
        ``native``: write each table in its input's format, and Parquet inputs as one dataset. Otherwise write all
        tables as one Parquet dataset, as one STAR file of RELION, or as coordinate files for RELION's Extract.
    compression : {"auto", "zstd", "lz4", "snappy", "none"}
        Compression of the Parquet files. ``auto`` chooses the compression of each column, and splits the bytes
        of floats (byte-stream-split encoding). The other values use only encodings that every reader supports.
    partition_by : str or sequence of str
        Columns that become partition folders of the Parquet output, and are not in its files. By default, the
        partition columns of the inputs.
    duplicates_only : bool
        Write no particle tables, only the lists of duplicates and votes. To write the tables later, use
        `materialize`, or run again without this option.
    allow_outside : bool
        Whether a ``.csg`` may point to files outside its folder.
    overwrite : bool
        Replace the result of an earlier run.
    threads : int, optional
        Run in this process, with at most this number of threads. By default there is one thread per core, at most 12.
    on_event : callable, optional
        Called with each event of the run, from any thread (see `dask_dedup.pipeline.events`).
        By default, a notebook shows a progress bar.
    names : mapping, optional
        Names of the pickers of inputs, {input: name}. By default the names are taken from folders.
    plot_micrographs : sequence of str
        Micrographs that the report shows in addition to its own choice. `report` accepts the same names.
    command_options : mapping, optional
        Further options of the command line, such as ``{"workers": 4}``, for the command that `status` shows. These
        options have no other effect.
    **keywords
        Parameters by name, such as ``min_separation=100``, instead of `params`.

    Returns
    -------
    RunResult

    Raises
    ------
    InputError
        If the tables or parameters are wrong. In this case, nothing is written.
    RunError
        If the run fails. In this case, no result is committed.
    """
    began = time.perf_counter()
    params = DedupParams.given(params, keywords)
    store = open_store(output)
    names = check_names(listed(inputs), names)
    paths, params = group_inputs(listed(inputs), names, params)
    with scanning_with(threads):
        tables, empty, exposures = open_inputs(
            paths, params, names, micrographs, store, allow_outside=allow_outside
        )
    params = params.without_inputs(list(map(str, paths)), empty)
    params, psize_sources = pixel_sizes_of_jobs(tables, params, exposures)
    left_out = {path: names.get(path, "") for path in (str(paths[number]) for number in empty)}
    settings = OutputSettings.of(output_format, compression, partition_by)
    make_id = partial(make_run_id, tables, exposures, settings=settings)
    store.check_idle()
    manifest = find_manifest(store.output)
    finished = None
    # With an automatic separation and no result, the run id is known only after the scan.
    if manifest is not None or not params.chooses_separation:
        recorded = with_recorded_separation(params, manifest)
        finished = store.find_finished(make_id(params=recorded), overwrite=overwrite)
        if finished:
            params = recorded
            if duplicates_only or not lacks_particles(finished):
                return _finished(store, finished, already_done=True)
    store.check_writable()

    replaced = find_manifest(store.output) if overwrite else None
    rows = [[fragment.rows for fragment in table.fragments] for table in tables]
    opened = make_inputs(tables, exposures, params, left_out, psize_sources)
    job = make_job(opened, settings, plot_micrographs, duplicates_only=duplicates_only)
    if finished:
        log.info("%s lists the duplicates of this run; writing its particle tables", store.output)
        manifest = materialize_result(
            job, store, finished, client, exposures, threads=threads, on_event=on_event
        )
        return _finished(store, manifest, already_done=False)

    def identify(job: Job) -> tuple[Job, dict[str, Any]]:
        """Return the job with its run token, and the request."""
        run_id = make_id(params=job.inputs.params)
        # Checkpoints of a run with `duplicates_only` list no particle files, so other runs cannot use them.
        parts = [run_id, versions(), rows, *([DUPLICATES_ONLY] if duplicates_only else [])]
        job = replace(job, run_token=store.choose_run_token(parts, replaced))
        options = command_options or {}
        return job, make_request(job, run_id, allow_outside=allow_outside, options=options)

    with translate_errors(), ExitStack() as stack:
        if on_event is None and in_notebook():
            on_event = stack.enter_context(notebook_bar())
        executor = choose_executor(stack, client, sum(map(sum, rows)), on_event, threads=threads)
        stack.enter_context(executor.listening(job.attempt))
        current = _Run(job, store, identify, overwrite, replaced, began, executor, exposures)
        try:
            manifest, already_done = current.execute(stack, on_event)
        except BaseException as error:
            current.emit(events.failed(str(error) or INTERRUPTED))
            raise
    contents = None if already_done else current.contents
    return _finished(store, manifest, already_done=already_done, contents=contents)


def _finished(
    store: ResultStore,
    manifest: dict[str, Any],
    *,
    already_done: bool,
    contents: ReportContents | None = None,
) -> RunResult:
    if already_done:
        log.info("%s already holds this run; nothing to do", store.output)
    return RunResult.of(store.output, manifest, already_done=already_done, contents=contents)


@dataclass(frozen=True, slots=True)
class _Scan:
    """Result of the scan of all fragments: summaries, plan and warnings."""

    summaries: list[ScanSummary]
    plan: Plan
    planned: Event
    scales: list[InputScale]
    warnings: list[str]
    draft: ReportDraft
    #: None if the run measures no distances.
    spacing: FoundSpacing | None
    #: None if votes are not counted.
    voters: Voters | None


@dataclass(slots=True)
class _Run:
    """Run with opened inputs, which is scanned, written and committed."""

    job: Job
    store: ResultStore
    identify: Callable[[Job], tuple[Job, dict[str, Any]]]
    overwrite: bool
    replaced: dict[str, Any] | None
    began: float
    executor: Executor
    exposures: ParticleTable | None
    contents: ReportContents | None = None

    def emit(self, event: Event) -> None:
        self.executor.emit({"run": self.job.attempt, **event})

    def execute(
        self, stack: ExitStack, on_event: EventHandler | None
    ) -> tuple[dict[str, Any], bool]:
        """Scan the inputs, write and commit. Return the manifest, and whether another run wrote the result."""
        self.emit_start()
        scan = self.scan()
        executor = choose_for_moving(stack, self.executor, scan.plan.moving_rows, on_event)
        if executor is not self.executor:
            self.executor = executor
            # `on_event` has received these events already, so it listens to the new cluster only afterwards.
            self.emit_start()
            for summary in scan.summaries:
                self.emit(events.scanned(summary, 0.0))
            self.emit(scan.planned)
            stack.enter_context(executor.listening(self.job.attempt))
        # Convert to text first: if the log handler queried the cluster, log lines of the cluster would be blocked.
        where = str(executor)
        log.log(executor.log_level, "running %s", where)
        self.job, request = self.identify(self.job)
        with self.store.lock():
            manifest = self.store.find_finished(request["run_id"], overwrite=self.overwrite)
            already_done = manifest is not None
            if manifest is None:
                manifest, already_done = self.write_and_commit(scan, request)
            if self.job.writes_particles and lacks_particles(manifest):
                # The manifest is of a run for duplicates only, which ran concurrently or had an interrupted commit.
                manifest = add_particles(
                    self.job, self.store, manifest, self.executor, self.exposures
                )
                already_done = False
        self.emit(events.finished(manifest))
        return manifest, already_done

    def emit_start(self) -> None:
        self.emit(events.started(self.job, str(self.store.output), str(self.executor)))

    def scan(self) -> _Scan:
        """Scan and check all rows of the inputs, then plan the shuffle."""
        inputs = self.job.inputs
        summaries = limit_picks(self.executor.scan(self.job))
        summaries.sort(key=lambda summary: summary.fragment)
        repeated = self.executor.find_repeated_uids(self.job)
        check_scanned(inputs, summaries, repeated)
        counts = count_micrographs(summaries)
        draft = draft_report(summaries, counts, self.job.plot_micrographs)
        plan = make_plan(summaries, counts=counts, sample=draft.choice)
        self.emit(planned := events.planned(plan, summaries))
        self.job, spacing, separation_warnings = choose_separation(
            self.executor, self.job, summaries, draft.measured
        )
        inputs = self.job.inputs
        log.info(describe_rule(inputs))
        scales = find_scales(inputs, summaries)
        log.info(describe_scales(inputs, scales))
        if inputs.names and inputs.names.inputs:
            log.info("%s", inputs.names)
        for line in plan.describe():
            log.debug(line)
        conversion, warnings = make_conversion(
            self.job.output_format, inputs, summaries, self.exposures
        )
        self.job = replace(self.job, conversion=conversion)
        warnings += find_warnings(inputs, summaries, repeated)
        for table in inputs.tables:
            notes, more = find_notes(table)
            for note in notes:
                log.info("%s", note)
            # With `min_score`, the user has already decided about low scores.
            warnings += map(Message, more) if inputs.roles[table.source].min_score is None else []
        warnings += separation_warnings
        voters = find_voters(inputs, summaries)
        if voters and inputs.voting:
            warnings += voters.warnings(inputs.voting)
        _log_warnings(warnings)
        lean = [summary.lean() for summary in summaries]
        return _Scan(lean, plan, planned, scales, warnings, draft, spacing, voters)

    def write_and_commit(self, scan: _Scan, request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Write and commit the result. Return the manifest, and whether another run wrote the result."""
        store, inputs = self.store, self.job.inputs
        token = self.job.run_token or request["run_id"]
        staging = store.stage(request, token, self.job.tables)
        try:
            manifest = store.staged_manifest(staging)
            if manifest is None:
                job = replace(self.job, staging=str(staging))
                done = find_written(job, store, staging, self.executor)
                checkpoints = self.write(job, scan, done)
                self.contents = scan.draft.complete(inputs, staging, checkpoints)
                check_unchanged(inputs)
                warnings = result_warnings(job, scan.plan, checkpoints)
                warnings += vote_warnings(inputs, scan.voters, checkpoints) if scan.voters else []
                _log_warnings(warnings)
                manifest = make_manifest(
                    job,
                    request,
                    scan.plan,
                    checkpoints,
                    scales=scan.scales,
                    spacing=scan.spacing,
                    voters=scan.voters,
                    warnings=[*scan.warnings, *warnings],
                    overwrite=self.overwrite,
                    began=self.began,
                )
            committed = store.commit(staging, manifest, self.replaced)
        except BaseException as error:
            finished = close_failed(store, staging, inputs, error)
            if finished is None:
                raise
            return finished, True
        return committed, committed != manifest

    def write(
        self, job: Job, scan: _Scan, done: list[FragmentCheckpoint]
    ) -> list[FragmentCheckpoint]:
        """Write all fragments that have no checkpoint in `done`. Return all checkpoints, sorted by fragment."""
        plan = scan.plan
        if done:
            written = [checkpoint.fragment for checkpoint in done]
            plan = make_plan(scan.summaries, written, sample=plan.sample)
        checkpoints = [*done, *self.executor.write(job, plan)]
        return sorted(checkpoints, key=lambda checkpoint: checkpoint.fragment)


def _log_warnings(warnings: Sequence[str]) -> None:
    for line in warnings:
        data_warnings.warning("%s", line)

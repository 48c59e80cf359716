"""The external job: its inputs, the run, and the particles that it saves."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.params import PER_INPUT, RENAMES, DedupParams
from dask_dedup.dedup.per_input import NAMED_PICKERS
from dask_dedup.errors import InputError, RunError
from dask_dedup.formatting import counted
from dask_dedup.integrations import FOLDER
from dask_dedup.integrations.cryosparc.client_job import ExternalJob
from dask_dedup.integrations.cryosparc.input_results import (
    Result,
    ResultName,
    find_difference,
    find_result,
)
from dask_dedup.integrations.cryosparc.session import client_errors, log_in
from dask_dedup.integrations.host import run_in_job
from dask_dedup.integrations.interruption import interrupted_by_signals
from dask_dedup.output.layout import KEPT, MANIFEST, PAGE, REJECTED
from dask_dedup.results.report.picture import save_pictures
from dask_dedup.results.summary import outcome_lines
from dask_dedup.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dask_dedup.pipeline.result import RunResult

TITLE = "Remove duplicate particles"
#: Inputs and outputs of the job.
_PARTICLES, _EXPOSURES = "particles", "exposures"
_OUTPUTS = {KEPT: "Particles kept", REJECTED: "Particles rejected"}
#: The slot that the job saves for an output. The other slots pass through.
_LOCATION = "location"
_BLOB = "micrograph_blob"


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """External job that has removed duplicates.

    Attributes
    ----------
    uid : str
        Number of the job, such as J12. The job has the outputs ``particles_kept`` and ``particles_rejected``.
    result : RunResult
    """

    uid: str
    result: RunResult


def run_external_job(
    particles: Sequence[str | ResultName],
    params: DedupParams | None = None,
    *,
    project: str,
    workspace: str,
    exposures: str | ResultName | None = None,
    micrographs: str | Path | None = None,
    url: str | None = None,
    title: str = TITLE,
    description: str = "",
    folder: str | Path | None = None,
    names: Mapping[str, str] | None = None,
    echo: Callable[[str], None] = print,
    **options: Any,
) -> FinishedJob:
    """Create an external job, remove duplicates from results of other jobs, and save kept and rejected particles.

    The login is the login of cryosparc-tools: a saved login, or the login in environment variables.

    Parameters
    ----------
    particles : sequence of str
        Results such as ``J10:particles``, in the order that `DedupParams.prefer_input_order` needs.
    params : DedupParams, optional
        In parameters of single inputs, use the names in `particles`.
    project, workspace : str
        Project and workspace of the job, such as P1 and W1.
    exposures : str, optional
        Result with the pixel sizes and shapes of micrographs, such as ``J5:exposures``.
    micrographs : path, optional
        File with the same data, instead of `exposures`.
    url : str, optional
        Address of the instance; see `session.log_in`.
    title, description : str
        Title and description of the job. By default the description lists the inputs.
    folder : path, optional
        Folder to keep the tables and the result in. By default they are in a temporary folder.
    names : mapping, optional
        Names of pickers, {result: name}.
    echo : callable
        Also called with each line of the job's log.
    **options
        Further keywords of `dask_dedup.run`, such as ``threads=4``.

    Returns
    -------
    FinishedJob

    Raises
    ------
    InputError
        If the login, the project, a result or a parameter is wrong.
    RunError
        If the job failed. Its log has the reason.
    """
    session = log_in(url)
    with client_errors(f"{project}: there is no such project, or no access to it.", InputError):
        session.find_project(project)
    with client_errors(f"{project} {workspace}: there is no such workspace.", InputError):
        session.find_workspace(project, workspace)
    inputs = _find(session, project, particles, "particle", _LOCATION)
    extra = _find(session, project, [exposures] if exposures else [], "exposure", _BLOB)
    with ExitStack() as stack:
        stack.enter_context(interrupted_by_signals())
        parent = Path(folder or stack.enter_context(tempfile.TemporaryDirectory())).absolute()
        tables = parent / "tables"
        tables.mkdir(parents=True, exist_ok=True)
        paths = {str(each.name): str(each.path_in(tables)) for each in (*inputs, *extra)}
        listed = ", ".join(str(each.name) for each in inputs)
        description = description or f"Duplicates of {listed}. dask-dedup {__version__}."
        job = ExternalJob.create(session, project, workspace, title, description, echo)
        job.replaced = {path: name for name, path in paths.items()}
        job.replaced[str(parent / FOLDER)] = job.uid
        with job.running() as start:
            job.write(f"{project} {job.uid}: {title}")
            job.connect(_PARTICLES, inputs, _LOCATION)
            if extra:
                job.connect(_EXPOSURES, extra, _BLOB)
                extra[0].load().save(paths[str(extra[0].name)])
            slots, passthrough = _load(job, inputs, paths)
            for name, shown in _OUTPUTS.items():
                job.add_output(name, shown, slots, passthrough)
            start()
            result = run_in_job(
                parent,
                [paths[str(each.name)] for each in inputs],
                _with_paths(params or DedupParams(), paths),
                job.write,
                summary=lambda result: ["\n".join(outcome_lines(result, job.replaced))],
                micrographs=paths[str(extra[0].name)] if extra else micrographs,
                names={paths[name]: picker for name, picker in (names or {}).items()},
                **options,
            )
            _save(job, result, slots)
        _check(job, result)
        if folder:
            echo(f"result: {result.output}")
    return FinishedJob(job.uid, result)


def _find(
    session: Any, project: str, given: Sequence[str | ResultName], kind: str, slot: str
) -> list[Result]:
    names = [ResultName.parse(str(each)) for each in given]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(f"{name}: passed twice. Pass each result once.")
    return [find_result(session, project, name, kind, slot) for name in names]


def _with_paths(params: DedupParams, paths: Mapping[str, str]) -> DedupParams:
    """Return the parameters with the paths of tables instead of the names of results."""
    changes: dict[str, Any] = {
        name: tuple((paths.get(key, key), value) for key, value in getattr(params, name))
        for name in (*PER_INPUT, RENAMES)
    }
    for name in NAMED_PICKERS:
        changes[name] = tuple(paths.get(each, each) for each in getattr(params, name))
    return replace(params, **changes)


def _load(
    job: ExternalJob, inputs: Sequence[Result], paths: Mapping[str, str]
) -> tuple[dict[str, str], str | None]:
    """Load the inputs to files. Return the slots to save, and the input that passes through its other slots."""
    uids, prefixes = [], []
    for each in inputs:
        dataset = each.load()
        dataset.save(paths[str(each.name)])
        uids.append(np.array(dataset["uid"]))
        prefixes.append(dataset.prefixes())
        job.write(f"{each.name}: {counted(len(dataset), 'particle')}")
    shared = [slot for slot in prefixes[0] if all(slot in some for some in prefixes)]
    others = {slot for some in prefixes for slot in some} - {*shared}
    if others:
        job.write(
            f"warning: not all inputs have the slots {', '.join(sorted(others))}, so the outputs do not have them."
        )
    repeated = sum(map(len, uids)) - len(np.unique(np.concatenate(uids)))
    if not repeated:
        return {_LOCATION: _LOCATION}, _PARTICLES
    # Slots that pass through are found by uid, so they could come from the wrong input.
    job.write(
        f"{counted(repeated, 'particle')} with the uid of another particle: the job saves all slots, and no slot "
        "passes through."
    )
    return {slot: inputs[0].slots.get(slot, slot) for slot in shared}, None


def _outcome(result: RunResult, name: str) -> Any:
    """Return the rows of all inputs that were kept or rejected, with the fields that all inputs have."""
    from cryosparc.dataset import Dataset

    parts = [
        (entry["input"], result.output / entry["path"])
        for entry in result.manifest["outputs"]
        if entry["path"].startswith(f"{name}/")
    ]
    datasets = [Dataset.load(str(path)) for _, path in sorted(parts)]
    return Dataset.append_many(*datasets, repeat_allowed=True)


def _save(job: ExternalJob, result: RunResult, slots: Mapping[str, str]) -> None:
    """Save the outputs, and show the pictures and the report."""
    pictures = None
    try:
        pictures = save_pictures(result, result.output.parent)
    except RunError as error:
        job.write(f"warning: {error}")
    for name in _OUTPUTS:
        dataset = _outcome(result, name)
        job.save(name, dataset, slots, pictures.tile if pictures else None)
        job.write(f"{job.uid}:{name}: {counted(len(dataset), 'particle')}")
    if pictures:
        job.show(pictures.whole, pictures.tile, pictures.caption)
    for file in (PAGE, MANIFEST):
        if (result.output / file).exists():
            job.upload(result.output / file)


def _check(job: ExternalJob, result: RunResult) -> None:
    """Load the outputs as a following job does, and compare them with the inputs' rows.

    Raises
    ------
    RunError
        If values differ. The job is marked as failed.
    """
    for name in _OUTPUTS:
        expected, found = _outcome(result, name), job.load(name)
        lost = [slot for slot in expected.prefixes() if slot not in found.prefixes()]
        if lost and len(expected):
            job.write(f"warning: {job.uid}:{name} has no {', '.join(lost)}, but the inputs do.")
        difference = find_difference(expected, found)
        if difference:
            reason = f"{job.uid}:{name} differs from the inputs: {difference}. Do not use it; please report this."
            job.fail(reason)
            raise RunError(reason)

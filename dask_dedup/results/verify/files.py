"""Check that the files of the result and of the inputs are unchanged since the run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dask_dedup.formats.parquet import footer as parquet_footer
from dask_dedup.formatting import counted
from dask_dedup.output import open_store
from dask_dedup.output.layout import MANIFEST, PARTICLES, TABLES
from dask_dedup.output.manifest import checksum_ok
from dask_dedup.particles.inputs import make_inputs
from dask_dedup.pipeline.job import ALGORITHM
from dask_dedup.results.recorded_inputs import (
    TIME,
    find_changes,
    find_run_id,
    open_inputs,
)
from dask_dedup.results.verify.outcome import FAULTS, Check, MismatchError
from dask_dedup.storage.files import list_files, sha256_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from dask_dedup.formats import ParticleTable
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.result_file import ResultFile

#: Suffixes of files that a reader of a dataset folder might read, too.
_TABLE_SUFFIXES = (*parquet_footer.SUFFIXES, ".star", ".cs", ".csg")


def check_files(run: FinishedRun, pool: Executor) -> str:
    """Check that the manifest's files are unchanged, and that the result has no other tables."""
    there = {path: n for name in TABLES for path, n in list_files(run.output / name).items()}

    def fault(file: ResultFile) -> str:
        if file.path not in there:
            return f"{file.path} is missing"
        if there[file.path] != file.bytes:
            return f"{file.path} has {there[file.path]} bytes, not {file.bytes}"
        if sha256_of(file.path) != file.sha256:
            return f"{file.path} has changed (its SHA-256 differs)"
        return ""

    counts = Counter(file.path for file in run.files)
    faults = [f"{path} is listed twice" for path, count in counts.items() if count > 1]
    faults += filter(None, pool.map(fault, run.files))
    if not checksum_ok(run.manifest):
        faults.insert(0, f"{run.output / MANIFEST} has changed (its checksum differs)")
    known = {file.path for file in run.files}
    # Unfinished runs on an object store write into the dataset folders; `status` shows them.
    store = open_store(run.output)
    staging = store.find_staging()
    unfinished = {run.output / name / token for token in staging for name in TABLES}
    if run.lacks_particles and any(map(store.staged_manifest, staging.values())):
        unfinished |= {run.output / name for name in PARTICLES}
    faults += [
        f"{path} is not a file of this run"
        for path in sorted(there.keys() - known)
        if path.suffix in _TABLE_SUFFIXES and not unfinished.intersection(path.parents)
    ]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise MismatchError(f"{faults[0]}{more}")
    return f"{counted(len(known), 'file')}, unchanged since the run"


def check_inputs(run: FinishedRun) -> tuple[Check, Inputs | None]:
    """Open the inputs and check that they are unchanged. Return None as inputs if they are missing or changed."""
    try:
        tables, exposures = open_inputs(run)
        touched = []
        for path, change in find_changes(run, tables):
            if change != TIME:
                raise MismatchError(f"{path} has changed since the run: {change}")
            touched.append(path)
        inputs = make_inputs(tables, exposures, run.params, run.manifest["left_out"])
    except FAULTS as error:
        return Check.failed("inputs", error), None
    try:
        _check_run_id(run, tables, exposures)
    except FAULTS as error:
        return Check.failed("inputs", error), inputs
    detail = f"{sum(table.rows for table in tables):,} particles, unchanged since the run"
    if touched:
        detail += f" except for the modification time of {touched[0]}"
        detail += f" and {len(touched) - 1:,} more" * (len(touched) > 1)
    return Check("inputs", passed=True, detail=detail), inputs


def _check_run_id(
    run: FinishedRun, tables: list[ParticleTable], exposures: ParticleTable | None
) -> None:
    """Recompute the run id from parameters and inputs, and check that it equals the manifest's."""
    if run.manifest["versions"]["algorithm"] != str(ALGORITHM):
        return
    if find_run_id(run, tables, exposures) != run.manifest["run_id"]:
        what = "the parameters or the micrograph table" if exposures else "the parameters"
        raise MismatchError(
            f"{what} in the manifest differ from the run (its run id is another one)"
        )

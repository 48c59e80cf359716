"""Check that the files of the result and of the inputs are unchanged since the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.formats import open_table
from dask_dedup.formats.base import InputFile
from dask_dedup.formats.coordinates.detection import is_pattern
from dask_dedup.formats.parquet import footer as parquet_footer
from dask_dedup.output import open_store
from dask_dedup.output.layout import MANIFEST, TABLES
from dask_dedup.output.manifest import checksum_ok
from dask_dedup.particles.inputs import make_inputs
from dask_dedup.pipeline.job import ALGORITHM, make_run_id
from dask_dedup.results.verify.verification import (
    FAULTS,
    Check,
    MismatchError,
    UncheckedError,
)
from dask_dedup.storage.files import exists, list_files, sha256_of
from dask_dedup.storage.paths import at, under
from dask_dedup.storage.table_version import split_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

    from dask_dedup.formats import ParticleTable
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.finished_run import FinishedRun, ResultFile

#: A reader of a dataset folder might read a file with one of these suffixes.
_TABLE_SUFFIXES = (*parquet_footer.SUFFIXES, ".star", ".cs", ".csg")
_TIME = "its modification time"
_ATTRIBUTES = {
    "rows": "its number of rows",
    "bytes": "its size",
    "fingerprint": "its footer",
    "modified_ns": _TIME,
}


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

    faults = list(filter(None, pool.map(fault, run.files)))
    if not checksum_ok(run.manifest):
        faults.insert(0, f"{run.output / MANIFEST} has changed (its checksum differs)")
    known = {file.path for file in run.files}
    # Unfinished runs on an object store write into the dataset folders; `status` shows them.
    unfinished = {
        run.output / name / token
        for token in open_store(run.output).find_staging()
        for name in TABLES
    }
    faults += [
        f"{path} is not a file of this run"
        for path in sorted(there.keys() - known)
        if path.suffix in _TABLE_SUFFIXES and not unfinished.intersection(path.parents)
    ]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise MismatchError(f"{faults[0]}{more}")
    return f"{len(known):,} files, unchanged since the run"


def check_inputs(run: FinishedRun) -> tuple[Check, Inputs | None]:
    """Open the inputs and check that they are unchanged. Return None as inputs if they are missing or changed."""
    try:
        tables, exposures = _open_tables(run)
        touched = []
        for path, change in _changes(run, tables):
            if change != _TIME:
                raise MismatchError(f"{path} has changed since the run: {change}")
            touched.append(path)
        inputs = make_inputs(tables, exposures, run.params, run.manifest["left_out"])
    except FAULTS as error:
        return Check.failed("inputs", error), None
    try:
        _check_run_id(run, tables, exposures)
    except FAULTS as error:
        return Check.failed("inputs", error), inputs
    finding = f"{sum(table.rows for table in tables):,} particles, unchanged since the run"
    if touched:
        finding += f" except for the modification time of {touched[0]}"
        finding += f" and {len(touched) - 1:,} more" * (len(touched) > 1)
    return Check("inputs", passed=True, detail=finding), inputs


def _open_tables(run: FinishedRun) -> tuple[list[ParticleTable], ParticleTable | None]:
    """Open the inputs and the micrograph table at the paths in the manifest."""
    entries = run.manifest["inputs"]
    micrographs = run.manifest["micrographs"]
    for path in [*(entry["path"] for entry in entries), *([micrographs] if micrographs else [])]:
        location = split_version(under(run.folder, path))[0]
        if not exists(location) and not is_pattern(location):
            folder = "" if at(path).is_absolute() else f" in {run.folder or Path.cwd()}"
            raise UncheckedError(
                f"the input {path} is missing{folder}; "
                f"the run was started in {run.manifest.get('directory', '?')}"
            )
    outside = run.manifest["allow_outside"]
    tables = []
    for number, entry in enumerate(entries):
        path = run.locate(entry)
        columns = run.params.columns_of(entry["path"])
        shifts = run.params.adds_shifts
        table = open_table(*(path, number), allow_outside=outside, columns=columns, shifts=shifts)
        tables.append(
            replace(table, path=entry["path"], picker=run.given_names.get(entry["path"], ""))
        )
    if not micrographs:
        return tables, None
    exposures = open_table(under(run.folder, micrographs), allow_outside=outside)
    return tables, replace(exposures, path=micrographs)


def _files_then(run: FinishedRun) -> list[tuple[InputFile, ...]]:
    """Return the files of each input as the manifest recorded them at the time of the run."""
    return [tuple(InputFile(**file) for file in entry["files"]) for entry in run.manifest["inputs"]]


def _changes(run: FinishedRun, tables: list[ParticleTable]) -> Iterator[tuple[str, str]]:
    """Yield the path and the changed attribute of each input file that changed since the run."""
    for table, then in zip(tables, _files_then(run), strict=True):
        if [under(run.folder, file.path) for file in then] != [file.path for file in table.files]:
            yield table.path, "its list of files"
            continue
        for old, new in zip(then, table.files, strict=True):
            for attribute, name in _ATTRIBUTES.items():
                if getattr(old, attribute) != getattr(new, attribute):
                    yield new.path, name


def _check_run_id(
    run: FinishedRun, tables: list[ParticleTable], exposures: ParticleTable | None
) -> None:
    """Recompute the run id from parameters and inputs, and check that it equals the manifest's."""
    if run.manifest["versions"]["algorithm"] != str(ALGORITHM):
        return
    then = [
        replace(table, files=files) for table, files in zip(tables, _files_then(run), strict=True)
    ]
    run_id = make_run_id(
        then, exposures, run.params, run.manifest["output_format"], run.manifest["compression"]
    )
    if run_id != run.manifest["run_id"]:
        what = "the parameters or the micrograph table" if exposures else "the parameters"
        raise MismatchError(f"{what} in the manifest are not those of the run (the run id differs)")

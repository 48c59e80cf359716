"""Open the inputs of a finished run at the paths in its manifest, and find changes in these inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats import open_table
from dask_dedup.formats.base import InputFile
from dask_dedup.formats.coordinates.detection import is_pattern
from dask_dedup.formats.parquet.keys import with_common_types
from dask_dedup.pipeline.job import make_run_id
from dask_dedup.pipeline.output_settings import OutputSettings
from dask_dedup.storage.files import exists
from dask_dedup.storage.paths import at, is_uri, under
from dask_dedup.storage.table_version import split_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_dedup.formats import ParticleTable
    from dask_dedup.results.finished_run import FinishedRun

#: The attribute that `find_changes` yields if only the modification time has changed.
TIME = "its modification time"
_ATTRIBUTES = {
    "rows": "its number of rows",
    "bytes": "its size",
    "fingerprint": "its footer",
    "modified_ns": TIME,
}


class MissingInputError(InputError):
    """An input of a finished run does not exist."""


def open_inputs(run: FinishedRun) -> tuple[list[ParticleTable], ParticleTable | None]:
    """Open the inputs and the micrograph table at the paths in the manifest.

    A table has the path and the picker's name from the manifest. The path may be relative to a folder other than the
    current one. The files of the table have the paths at which they are now.

    Raise `MissingInputError` if an input or the micrograph table does not exist.
    """
    entries = run.manifest["inputs"]
    micrographs = run.manifest["micrographs"]
    for path in [*(entry["path"] for entry in entries), *([micrographs] if micrographs else [])]:
        location = split_version(under(run.folder, path))[0]
        if not exists(location) and not is_pattern(location):
            folder = "" if at(path).is_absolute() else f" in {run.folder or Path.cwd()}"
            raise MissingInputError(
                f"the input {path} is missing{folder}; "
                f"the run was started in {run.manifest.get('directory', '?')}"
            )
    tables = [
        replace(run.open_input(source), path=entry["path"], picker=entry["picker"])
        for source, entry in enumerate(entries)
    ]
    tables = with_common_types(tables)
    if not micrographs:
        return tables, None
    outside = run.manifest["allow_outside"]
    exposures = open_table(under(run.folder, micrographs), allow_outside=outside)
    return tables, replace(exposures, path=micrographs)


def open_unchanged_inputs(
    run: FinishedRun,
) -> tuple[list[ParticleTable], ParticleTable | None]:
    """Open the inputs and the micrograph table. Raise InputError if a file of an input changed since the run."""
    tables, exposures = open_inputs(run)
    for path, change in find_changes(run, tables):
        advice = "Restore it, or run again into another folder."
        if change == TIME and not is_uri(path):
            files = (file for files in recorded_files(run) for file in files)
            then = next(f.modified_ns for f in files if under(run.folder, f.path) == path)
            time = f"@{then // 10**9}.{then % 10**9:09}"
            advice = f"If its content is the same, set the time back: touch -d {time} {quote(path)}"
        raise InputError(f"{path} has changed since the run: {change}. {advice}")
    return tables, exposures


def recorded_files(run: FinishedRun) -> list[tuple[InputFile, ...]]:
    """Return the files of each input as the manifest recorded them at the time of the run."""
    return [tuple(InputFile(**file) for file in entry["files"]) for entry in run.manifest["inputs"]]


def find_run_id(
    run: FinishedRun, tables: list[ParticleTable], exposures: ParticleTable | None
) -> str:
    """Compute the run id again, with the micrograph table as it is now.

    The parameters, the files of the inputs and the names of pickers are taken from the manifest.
    """
    recorded = [
        replace(table, files=files, picker=run.given_names.get(table.path, ""))
        for table, files in zip(tables, recorded_files(run), strict=True)
    ]
    if exposures and run.folder and not at(exposures.path).is_absolute():
        folder = f"{run.folder}/"
        files = [replace(file, path=file.path.removeprefix(folder)) for file in exposures.files]
        exposures = replace(exposures, files=tuple(files))
    return make_run_id(recorded, exposures, run.params, OutputSettings.recorded(run.manifest))


def find_changes(run: FinishedRun, tables: list[ParticleTable]) -> Iterator[tuple[str, str]]:
    """Yield the path and the changed attribute of each input file that changed since the run."""
    for table, then in zip(tables, recorded_files(run), strict=True):
        if [under(run.folder, file.path) for file in then] != [file.path for file in table.files]:
            yield table.path, "its list of files"
            continue
        for old, new in zip(then, table.files, strict=True):
            for attribute, name in _ATTRIBUTES.items():
                if getattr(old, attribute) != getattr(new, attribute):
                    yield new.path, name

"""Find the micrograph table of a RELION job. Its path is in the ``job.star`` or in the list of the job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from dask_dedup.errors import InputError
from dask_dedup.formats.base import opening
from dask_dedup.formats.coordinates.lines import star_loops
from dask_dedup.storage.files import is_file, read_bytes
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.formats.base import ParticleTable

#: Options with the micrograph table in the jobs AutoPick, ManualPick, Extract and External.
_OPTIONS = ("fn_input_autopick", "fn_in", "star_mics", "in_mic")
#: Name of a job folder, such as ``job010``.
JOB = re.compile(r"job\d{3,}")
#: Beginning of a path below a job folder, such as ``AutoPick/job010/``.
JOB_FOLDER = re.compile(r"^(?:\./)?[^/]+/job\d+/")
_OPTION = re.compile(r"^[ \t]*(\w+)[ \t]+(\"[^\"]*\"|'[^']*'|\S+)", re.MULTILINE)
_NAMES = {"rlnJobOptionVariable", "rlnJobOptionValue"}


class JobMicrographs(NamedTuple):
    """Path of a micrograph table, and the file in which this path was found."""

    path: str
    named_by: str

    def __str__(self) -> str:
        return f"{self.path}, named by {self.named_by.rpartition('/')[2]}"


def micrographs_of_job(table: ParticleTable) -> JobMicrographs | None:
    """Return the micrograph table of the job that wrote the pick files.

    Return None if the pick files are not in a job folder, or if the micrograph table does not exist.
    """
    if table.format != "coordinates" or table.detail.tomograms:
        return None
    for picks in table.detail.lists:
        if picks.suffix:
            path = at(picks.project) / picks.rows[0][2]
            return JobMicrographs(str(path), picks.info.path) if is_file(path) else None
    return micrographs_of_job_folder(at(table.path))


def micrographs_of_job_folder(path: Path) -> JobMicrographs | None:
    """Return the micrograph table of the job folder that contains `path`, or None."""
    start = path.absolute()
    job = next((each for each in (start, *start.parents) if JOB.fullmatch(each.name)), None)
    if job is None or not (job / "job.star").is_file():
        return None
    for target in _read_options(job / "job.star"):
        for folder in job.parents:
            if target.endswith(".star") and is_file(folder / target):
                return JobMicrographs(str(folder / target), str(job / "job.star"))
    return None


def _read_options(path: Path) -> list[str]:
    """Return the values of the job options that can be the path of the micrograph table."""
    try:
        with opening(path):
            text = read_bytes(path) + b"\n"
    except InputError:
        return []
    for _, labels, start in star_loops(text):
        if set(labels) == _NAMES:
            rows = _OPTION.findall(text[start:].decode(errors="replace"))
            values = {name: value.strip("'\"") for name, value in rows}
            return [values[name] for name in _OPTIONS if values.get(name)]
    return []

"""Results of jobs in a CryoSPARC project: named J10:particles, found, and loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError
from dask_dedup.integrations.cryosparc.session import client_errors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: States of a job whose outputs may still change.
_UNFINISHED = ("building", "queued", "launched", "started", "running", "waiting")
_TEXT = re.compile(r"(J[1-9]\d*):([A-Za-z]\w*)")


@dataclass(frozen=True, slots=True)
class ResultName:
    """Name of a result: the job and its output."""

    job: str
    output: str

    @classmethod
    def parse(cls, text: str) -> ResultName:
        """Split ``J10:particles``.

        Examples
        --------
        >>> ResultName.parse("J10:particles")
        ResultName(job='J10', output='particles')
        """
        found = _TEXT.fullmatch(text)
        if not found:
            raise InputError(
                f"{text}: not the result of a job. Write the job and its output, such as J10:particles."
            )
        return cls(*found.groups())

    def __str__(self) -> str:
        return f"{self.job}:{self.output}"


@dataclass(frozen=True, slots=True)
class Result:
    """Result of a job.

    Attributes
    ----------
    name : ResultName
    type : str
        ``particle``, ``exposure`` or another type of CryoSPARC.
    slots : dict of str to str
        Type of each slot, such as ``{"location": "location", "alignments_class_0": "alignments3D"}``.
    job : object
        Job of the client.
    """

    name: ResultName
    type: str
    slots: dict[str, str]
    job: Any

    def load(self) -> Any:
        """Return all slots, including slots that pass through the job, as a ``cryosparc.dataset.Dataset``."""
        with client_errors(f"{self.name} cannot be loaded."):
            return self.job.load_output(self.name.output)

    def path_in(self, folder: Path) -> Path:
        """Return the path of the table in a folder."""
        return folder / f"{self.name.job}_{self.name.output}.cs"


def find_result(session: Any, project: str, name: ResultName, kind: str, slot: str) -> Result:
    """Find a result of the type `kind` that has the slot `slot`.

    Raises
    ------
    InputError
        If there is no such job or result, or the job is not finished.
    """
    where = f"{project} {name}"
    with client_errors(f"{where}: there is no job {name.job} in {project}.", InputError):
        job = session.find_job(project, name.job)
    if job.status in _UNFINISHED:
        raise InputError(f"{where}: {name.job} is {job.status}. Wait until it is completed.")
    results = _results_of(job, name)
    if name.output not in results:
        listed = ", ".join(f"{name.job}:{each}" for each in results) or "none"
        raise InputError(f"{where}: there is no such output. The job's outputs are: {listed}.")
    found = results[name.output]
    if found.type != kind:
        raise InputError(
            f"{where}: this is an output of type {found.type}, not {kind}. Choose another output of the job."
        )
    if slot not in found.slots:
        raise InputError(
            f"{where}: the output has no slot {slot}. It has: {', '.join(found.slots)}."
        )
    return found


def _results_of(job: Any, name: ResultName) -> dict[str, Result]:
    """Return the outputs of a job by name, as the client of version 5 or 4.7 describes them."""
    found = {}
    if hasattr(job, "model"):
        for output, each in job.outputs.items():
            slots = {result.name: result.dtype for result in each.results or each.slots}
            found[output] = Result(name, each.type, slots, job)
        return found
    for group in job.doc["output_result_groups"]:
        slots = {
            result["name"]: result["type"].rpartition(".")[2]
            for result in job.doc["output_results"]
            if result["group_name"] == group["name"]
        }
        found[group["name"]] = Result(name, group["type"], slots, job)
    return found


def find_difference(expected: Any, found: Any) -> str:
    """Compare the common fields of two datasets by uid. Return a text about the first difference, or "".

    The order of the rows does not matter.
    """
    if len(expected) != len(found):
        return f"{len(found):,} rows instead of {len(expected):,}"
    rows, others = (data["uid"].argsort(kind="stable") for data in (expected, found))
    for field in expected.fields():
        if field in found and not _is_same(expected[field][rows], found[field][others]):
            return f"other values of {field}"
    return ""


def _is_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Return whether two arrays are equal, bit for bit."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return (
        one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()
    )

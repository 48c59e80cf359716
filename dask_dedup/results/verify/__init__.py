"""The proof of a finished run, from its files and its inputs alone.

None of the run's decisions is believed, and none of the code that made them is used. What is taken
on trust: the reader of the inputs (`formats`), and what is made of them as centres, labels and
micrograph keys (`scan`) and as rank (`picks`). Which rows can be compared is found anew.

Two of the checks prove together that the kept particles are *the* greedy answer, not just a
possible one. Separation: no two kept particles are within the separation. Maximality: every
rejected one has a kept one within the separation that ranks above it. Take the particles from the
best rank down, and let all before one agree with the greedy walk. If it is kept here, no better
kept one is within the separation, so the walk keeps it; if it is rejected here, a better kept one
is, so the walk rejects it. Hence it agrees too, and so do all.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import DedupError, RunError
from dask_dedup.formats import open_table
from dask_dedup.formats.base import InputFile
from dask_dedup.formats.parquet import footer as parquet_footer
from dask_dedup.output.checksum import checksum_ok
from dask_dedup.output.local import MANIFEST, TABLES, find_staging, read_manifest
from dask_dedup.particles.inputs import make_inputs
from dask_dedup.pipeline.job import ALGORITHM, make_job, make_run_id
from dask_dedup.pipeline.stages import DUPLICATES
from dask_dedup.results.verify.decisions import LOOK_AHEAD, try_again
from dask_dedup.results.verify.rows import (
    FindingError,
    UncheckedError,
    compare_rows,
    compare_totals,
    find_parts,
)
from dask_dedup.results.verify.validity import compare_counts
from dask_dedup.storage.access import check_answers, in_words
from dask_dedup.storage.files import list_files, open_to_read
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dask_dedup.formats import ParticleTable
    from dask_dedup.pipeline.job import Job
    from dask_dedup.results.verify.decisions import Findings

#: Fragments looked at side by side, at most.
MOST_THREADS = 8

#: What reading a damaged file or manifest may raise.
_DAMAGE = (DedupError, pa.ArrowException, OSError, ValueError, LookupError, TypeError)
_DECISIONS = ("validity", "separation", "maximality", "winners")
#: A reader of a folder might take files of these names for a part of the result.
_TABLES = (*parquet_footer.SUFFIXES, ".star", ".cs", ".csg")
_TOUCHED = "its time of modification"
_ATTRIBUTES = {
    "rows": "its number of rows",
    "bytes": "its size",
    "fingerprint": "its footer",
    "modified_ns": _TOUCHED,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes
    ----------
    name : str
    passed : bool or None
        None if it could not be checked, because the inputs are gone for instance.
    detail : str
        One line: what was found, or what is wrong.
    """

    name: str
    passed: bool | None
    detail: str

    def __str__(self) -> str:
        run_token = {True: "ok", False: "FAIL", None: "-"}[self.passed]
        return f"{run_token:<6}{self.name}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What the proof of a finished run came to.

    Attributes
    ----------
    output : Path
    checks : tuple of Check
        checksums, inputs, conservation, validity, separation, maximality, winners, totals.
    closest_kept_A : float or None
        Smallest distance in angstrom between two kept particles of a micrograph that would be
        duplicates if they were close enough. Exact; None if no two are within twice the separation,
        or the inputs could not be read.
    """

    output: Path
    checks: tuple[Check, ...]
    closest_kept_A: float | None  # noqa: N815

    @property
    def passed(self) -> bool:
        """Whether no check failed; some may not have been possible."""
        return all(check.passed is not False for check in self.checks)

    @property
    def verified(self) -> bool:
        """Whether every check was possible and passed."""
        return all(check.passed for check in self.checks)

    def lines(self) -> list[str]:
        """Give a report for a terminal: a line a check, and the verdict."""
        failed = sum(check.passed is False for check in self.checks)
        unchecked = sum(check.passed is None for check in self.checks)
        verdict = (
            "is verified"
            if not unchecked
            else f"is not verified: {unchecked} of {len(self.checks)} checks could not be made"
        )
        if failed:
            verdict = f"is NOT right: {failed} of {len(self.checks)} checks failed"
        return [*map(str, self.checks), f"{self.output} {verdict}"]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON."""
        return {
            "output": str(self.output),
            "passed": self.passed,
            "verified": self.verified,
            "closest_kept_A": self.closest_kept_A,
            "checks": [asdict(check) for check in self.checks],
        }


@in_words(RunError)
def verify(output: str | Path) -> Verification:
    """Prove a finished run with an independent algorithm.

    Reads the result and, from the paths in its manifest, the inputs; holds a few fragments, or the
    picks of `retrial.PASS_ROWS` rows, at once.

    Parameters
    ----------
    output : str or Path
        Folder of the run.

    Returns
    -------
    Verification

    Raises
    ------
    InputError
        If there is no finished run.
    """
    place = at(output)
    check_answers([place])
    manifest = read_manifest(place)
    threads = min(len(os.sched_getaffinity(0)), MOST_THREADS)
    findings = None
    with ThreadPoolExecutor(threads) as pool:
        checks = [_check("checksums", lambda: _compare_files(place, manifest, pool))]
        inputs, job = _reopen(manifest)
        checks.append(inputs)
        if job is None:
            open_ = Check("conservation", passed=None, detail=f"not checked: {inputs.detail}")
            checks += [open_, *(replace(open_, name=name) for name in _DECISIONS)]
        else:
            conserved = _check("conservation", lambda: compare_rows(place, manifest, job, pool))
            checks.append(conserved)
            findings, decisions = _try_decisions(place, manifest, job, pool)
            checks += decisions
        checks.append(_check("totals", lambda: compare_totals(place, manifest, job)))
    near = findings is not None and np.isfinite(findings.closest)
    return Verification(place, tuple(checks), findings.closest if findings and near else None)


def _check(name: str, examine: Callable[[], str]) -> Check:
    """Run a check that gives what it found, or raises what is wrong."""
    try:
        return Check(name, passed=True, detail=examine())
    except UncheckedError as error:
        return Check(name, passed=None, detail=str(error))
    except _DAMAGE as error:
        return Check(name, passed=False, detail=_one_line(error))


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    ours = isinstance(error, DedupError)
    return text if ours else f"cannot be read ({type(error).__name__}: {text})"


def _compare_files(place: Path, manifest: dict[str, Any], pool: Executor) -> str:
    """Compare the output files with the manifest, byte for byte."""
    there = {path: n for name in TABLES for path, n in list_files(place / name).items()}

    def trouble(entry: dict[str, Any]) -> str:
        path = place / entry["path"]
        if path not in there:
            return f"{path} is missing"
        if there[path] != entry["bytes"]:
            return f"{path} has {there[path]} bytes, not {entry['bytes']}"
        with open_to_read(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return "" if digest == entry["sha256"] else f"{path} has changed (its sha256 differs)"

    troubles = list(filter(None, pool.map(trouble, manifest["outputs"])))
    if not checksum_ok(manifest):
        troubles.insert(0, f"{place / MANIFEST} has changed (its seal is broken)")
    known = {place / entry["path"] for entry in manifest["outputs"]}
    # In an object store the parts of runs that are not finished lie where they will stay; `status` tells of them.
    unfinished = {place / name / run_token for run_token in find_staging(place) for name in TABLES}
    strangers = sorted(
        path
        for path in there.keys() - known
        if path.suffix in _TABLES and not unfinished.intersection(path.parents)
    )
    troubles += [f"{path} is not of this run" for path in strangers]
    if troubles:
        more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
        raise FindingError(f"{troubles[0]}{more}")
    return f"{len(known):,} files are as the run left them"


def _reopen(manifest: dict[str, Any]) -> tuple[Check, Job | None]:
    """Open the inputs again; there is no job if they are gone or hold something else."""
    try:
        job, complaint, touched = _open_job(manifest)
    except UncheckedError as error:
        return Check("inputs", passed=None, detail=str(error)), None
    except _DAMAGE as error:
        return Check("inputs", passed=False, detail=_one_line(error)), None
    rows = sum(table.rows for table in job.tables)
    unchanged = f"{rows:,} particles, unchanged since the run"
    if touched:
        unchanged += f" but for the time of modification of {touched[0]}"
        unchanged += f" and {len(touched) - 1:,} more" * (len(touched) > 1)
    return Check("inputs", passed=not complaint, detail=complaint or unchanged), job


def _open_job(manifest: dict[str, Any]) -> tuple[Job, str, list[str]]:
    """Give the job, what else has changed, and which files have another time: their rows will be compared."""
    entries, micrographs = manifest["inputs"], manifest["micrographs"]
    for path in [entry["path"] for entry in entries] + [micrographs] * bool(micrographs):
        if not at(path).exists():
            where = "" if at(path).is_absolute() else f" in {Path.cwd()}"
            started = manifest.get("directory", "?")
            raise UncheckedError(
                f"the input {path} is not there{where}; the run was started in {started}"
            )
    allow = manifest["allow_outside"]
    tables = [
        open_table(entry["path"], source, allow_outside=allow)
        for source, entry in enumerate(entries)
    ]
    complaint, touched = "", []
    for table, entry in zip(tables, entries, strict=True):
        for path, change in _changes(table, entry):
            if change != _TOUCHED:
                raise FindingError(f"{path} has changed since the run: {change}")
            touched.append(path)
    exposures = open_table(micrographs, allow_outside=allow) if micrographs else None
    params = DedupParams.from_dict(manifest["parameters"])
    # The run id holds what else went into the run: the parameters, the micrograph table's state.
    then = [
        replace(table, files=tuple(InputFile(**file) for file in entry["files"]))
        for table, entry in zip(tables, entries, strict=True)
    ]
    if (
        manifest["versions"]["algorithm"] == str(ALGORITHM)
        and make_run_id(then, exposures, params, manifest["output_format"]) != manifest["run_id"]
    ):
        what = "the parameters or the micrograph table" if exposures else "the parameters"
        complaint = f"{what} in the manifest are not those of the run (its run_id says so)"
    run_token = manifest.get("run_token", "")
    return (
        make_job(make_inputs(tables, exposures, params), manifest["output_format"], run_token),
        complaint,
        touched,
    )


def _changes(table: ParticleTable, entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name the files of an input that differ from the run's, and in what."""
    then = [InputFile(**file) for file in entry["files"]]
    if [file.path for file in then] != [file.path for file in table.files]:
        yield table.path, "its list of files"
        return
    for old, new in zip(then, table.files, strict=True):
        for attribute, name in _ATTRIBUTES.items():
            if getattr(old, attribute) != getattr(new, attribute):
                yield new.path, name


def _try_decisions(
    place: Path, manifest: dict[str, Any], job: Job, pool: Executor
) -> tuple[Findings | None, list[Check]]:
    """Derive the decisions anew; a check each for separation, maximality and winners."""
    found: list[Findings] = []

    def derive() -> str:
        found.append(try_again(job, find_parts(place, manifest, job)[DUPLICATES], pool))
        return ""

    derived = _check("", derive)
    if not found:
        return None, [replace(derived, name=name) for name in _DECISIONS]
    findings, params = found[0], job.params
    kept, limit = "kept particles", params.min_separation
    if params.between_inputs_only:
        kept += " of different inputs"
    if params.ignore_within_filament:
        kept += " of different filaments"
    if np.isfinite(findings.closest):
        apart = f"the closest two {kept} are {findings.closest:.6g} A apart (limit {limit:g} A)"
    elif params.measures:
        apart = f"no two {kept} are within {LOOK_AHEAD * limit:g} A (limit {limit:g} A)"
    elif params.undo_symmetry_expansion:
        apart = f"no two {kept} are copies of one"
    else:
        apart = f"no two {kept} have the same coordinates"
    seen = findings.maximality.seen
    number = f"each of {seen:,} rejected particles" if seen != 1 else "the one rejected particle"

    def compare_validity() -> str:
        findings.validity.verdict("")
        return compare_counts(job, manifest["totals"], findings.invalid)

    reason = "a better one was kept" if not params.remove_entirely else "it has a duplicate"
    return findings, [
        _check("validity", compare_validity),
        *(
            _check(name, partial(tally.verdict, good))
            for name, tally, good in (
                ("separation", findings.separation, apart),
                ("maximality", findings.maximality, f"{number} is rejected because {reason}"),
                (
                    "winners",
                    findings.winners,
                    f"{number} is told of as it should be in {DUPLICATES}",
                ),
            )
        ),
    ]

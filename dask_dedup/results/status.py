"""Show whether an output folder is finished, running or interrupted, and remove leftovers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError
from dask_dedup.formatting import shell_command
from dask_dedup.hints import Message, parameter
from dask_dedup.output import open_store
from dask_dedup.output.layout import CHECKPOINTS
from dask_dedup.output.manifest import MATERIALIZED, find_manifest, lacks_particles, same_result
from dask_dedup.pipeline.job import ALGORITHM
from dask_dedup.results.command import resume_command
from dask_dedup.storage.access import check_access
from dask_dedup.storage.files import is_folder

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.output.store import ResultStore


_SAME_COMMAND = "run the same command again"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An unfinished run: running or interrupted.

    Attributes
    ----------
    folder : str
        Staging folder of the run.
    fragments, fragments_done, rows, rows_done : int
        All 0 if the run was interrupted before it stored its request.
    bytes : int
        Size of all files written so far.
    command : str
        Command that resumes the run; empty if unknown.
    complete : bool
        Whether only the commit was interrupted.
    made_by : str
        Version of dask-dedup that made the run, if this version cannot resume it; else empty.
    """

    folder: str
    fragments: int
    fragments_done: int
    rows: int
    rows_done: int
    bytes: int
    command: str
    complete: bool
    made_by: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """Status of an output folder and its runs.

    Attributes
    ----------
    output : str
    totals : dict or None
        Totals of the finished run.
    created : str
        End of the finished run.
    damaged : list of str
        Result files that are missing or have another size.
    holder : str or None
        The current run, such as "process 123 on node7, since 12:30".
    attempts : list of Attempt
        Runs that are not finished.
    duplicates_only : bool
        Whether the finished run has no particle tables.
    materialized : str
        When `materialize` wrote the particle tables; else empty.
    """

    output: str
    totals: dict[str, Any] | None
    created: str
    damaged: list[str]
    holder: str | None
    attempts: list[Attempt]
    duplicates_only: bool = False
    materialized: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the status as lines of text."""
        totals = self.totals
        found = "no finished run"
        if totals is not None:
            found = (
                f"finished {self.created}: {totals['rows']:,} particles, "
                f"{totals['kept']:,} kept, {totals['rejected']:,} rejected"
            )
        lines = [f"{self.output}: {found}"]
        if self.duplicates_only:
            command = shell_command("materialize", self.output)
            lines.append(f"without particle tables. To write them: {command}")
        if self.materialized:
            lines.append(f"particle tables written {self.materialized}")
        lines += [
            Message(
                f"damaged: {path} is missing or has another size. "
                f"Run again with {parameter('overwrite')}."
            )
            for path in self.damaged
        ]
        if self.holder:
            lines.append(f"running ({self.holder})")
        for attempt in self.attempts:
            lines += self._describe(attempt)
        return lines

    def _describe(self, attempt: Attempt) -> list[str]:
        share = attempt.rows_done / attempt.rows if attempt.rows else 0.0
        done = (
            f"{attempt.fragments_done:,} of {attempt.fragments:,} fragments written "
            f"({share:.0%} of {attempt.rows:,} particles, {attempt.bytes / 1e6:,.1f} MB)"
        )
        command = f"    {attempt.command or _SAME_COMMAND}"
        if self.holder:
            return [f"so far {done}. Its command:", command]
        if attempt.complete:
            return ["interrupted during the commit. To finish:", command]
        remove = f"To remove it: {shell_command('clean', self.output)}"
        if not attempt.command and attempt.fragments:
            return [f"interrupted: {done} of a result that was replaced.", remove]
        if attempt.made_by:
            return [
                f"interrupted: {done}. This version cannot resume it: it was made by version "
                f"{attempt.made_by}, with another algorithm.",
                remove,
            ]
        return [f"interrupted: {done}. To resume:", command, remove]


def status(output: str | Path) -> Status:
    """Return the status of an output folder.

    Raises
    ------
    InputError
        If there is no run in the folder.
    """
    check_access([output])
    store = open_store(output)
    manifest = find_manifest(store.output)
    attempts = [
        _attempt(store, folder, overwrite=manifest is not None)
        for folder in store.find_staging().values()
    ]
    holder = store.holder()
    if manifest is None and not attempts and holder is None:
        raise InputError(f"{output}: no run found, finished or interrupted.")
    return Status(
        output=str(output),
        totals=manifest["totals"] if manifest else None,
        created=manifest["created"] if manifest else "",
        damaged=store.find_damaged(manifest) if manifest else [],
        holder=holder,
        attempts=attempts,
        duplicates_only=manifest is not None and lacks_particles(manifest),
        materialized=((manifest or {}).get(MATERIALIZED) or {}).get("created", ""),
    )


def clean(output: str | Path) -> list[str]:
    """Remove leftovers of interrupted runs from an output folder.

    Returns
    -------
    list of str
        The folders removed.

    Raises
    ------
    OutputExistsError
        If a run has locked the folder.
    InputError
        If there is no such folder, or an interrupted commit must be finished first.
    """
    check_access([output])
    store = open_store(output)
    if not is_folder(store.output):
        raise InputError(f"{output}: no such folder.")
    # A folder without leftovers may be read-only, so that it cannot be locked.
    if not store.leftovers():
        return []
    removed = []
    with store.lock():
        for folder in store.leftovers():
            if store.staged_manifest(folder) is not None:
                command = _attempt(store, folder, overwrite=False).command
                raise InputError(
                    f"{folder}: contains files of an interrupted commit. "
                    f"Finish it first: {command or _SAME_COMMAND}"
                )
            store.discard(folder)
            removed.append(str(folder))
    return removed


def _attempt(store: ResultStore, staging: Path, *, overwrite: bool) -> Attempt:
    request = store.read_request(staging)
    rows = request["fragment_rows"] if request else []
    made = request.get("versions", {}) if request else {}
    outdated = request is not None and made.get("algorithm") != str(ALGORITHM)
    files = store.staged_files(staging)
    command = ""
    if request and MATERIALIZED in request:
        # Only tables of the current result can be finished.
        result = find_manifest(store.output)
        if result and same_result(request, result):
            command = shell_command("materialize", store.output)
    elif request:
        command = resume_command(request, str(store.output), overwrite=overwrite)
    done = [int(file.stem) for file in files if file.parent == staging / CHECKPOINTS]
    return Attempt(
        folder=str(staging),
        fragments=len(rows),
        fragments_done=len(done),
        rows=sum(rows),
        rows_done=sum(rows[number] for number in done if number < len(rows)),
        bytes=sum(files.values()),
        command=command,
        complete=store.staged_manifest(staging) is not None,
        made_by=made.get("dask-dedup", "unknown") if outdated else "",
    )

"""What is in an output place: a finished run, a running one, what dead ones left, and how to be rid of that."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import InputError
from dask_dedup.output import local as place
from dask_dedup.output.checkpoints import CHECKPOINTS
from dask_dedup.output.lock import holder, locked
from dask_dedup.storage.access import check_answers, in_words
from dask_dedup.storage.files import list_files
from dask_dedup.storage.paths import at, endpoint, is_remote, is_s3

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run that is not finished.

    Attributes
    ----------
    folder : str
        Its staging folder.
    fragments, fragments_done, rows, rows_done : int
        0 where the run died before it could say what it was asked for.
    bytes : int
        Of all that it has written.
    command : str
        What goes on with it; empty where that is not known.
    complete : bool
        Whether all is written, and only the putting into place was cut short.
    """

    folder: str
    fragments: int
    fragments_done: int
    rows: int
    rows_done: int
    bytes: int
    command: str
    complete: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What is in an output place.

    Attributes
    ----------
    output : str
    totals : dict or None
        Of the finished run.
    created : str
        When that was finished.
    damaged : list of str
        Its files that are gone or have another size.
    holder : str or None
        Who is at work there now.
    attempts : list of Attempt
        Runs that are not finished.
    """

    output: str
    totals: dict[str, Any] | None
    created: str
    damaged: list[str]
    holder: str | None
    attempts: list[Attempt]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Say it in words."""
        lines = []
        if self.totals is None:
            lines.append(f"{self.output}: no finished run")
        else:
            lines.append(
                f"{self.output}: a finished run of {self.created}, {self.totals['rows']:,} particles, "
                f"{self.totals['kept']:,} kept, {self.totals['rejected']:,} rejected"
            )
        lines += [
            f"damaged: {path} is not as the run left it; make it again with --overwrite"
            for path in self.damaged
        ]
        if self.holder:
            lines.append(f"a run is at work ({self.holder})")
        for attempt in self.attempts:
            lines += list(self._describe(attempt))
        return lines

    def _describe(self, attempt: Attempt) -> Iterator[str]:
        share = attempt.rows_done / attempt.rows if attempt.rows else 0.0
        done = (
            f"{attempt.fragments_done:,} of {attempt.fragments:,} fragments are written "
            f"({share:.0%} of {attempt.rows:,} particles, {attempt.bytes / 1e6:,.1f} MB)"
        )
        if self.holder:
            yield f"so far {done}"
            return
        if attempt.complete:
            yield "a run that was cut short while its result was put into place; to finish it:"
        else:
            yield f"a run that was cut short: {done}; to go on:"
        yield f"    {attempt.command or 'the same command again'}"
        if not attempt.complete:
            yield f"to drop it: dask-dedup clean {shlex.quote(self.output)}"


@in_words(InputError)
def status(output: str | Path) -> Status:
    """Look at what an output place holds.

    Raises
    ------
    InputError
        If there is nothing of this program's.
    """
    target = at(output)
    check_answers([target])
    manifest = place.find_manifest(target)
    attempts = [_look(target, folder, manifest) for folder in place.find_staging(target).values()]
    who = holder(target)
    if manifest is None and not attempts and who is None:
        raise InputError(f"{output}: no run here, neither finished nor begun")
    return Status(
        output=str(output),
        totals=manifest["totals"] if manifest else None,
        created=manifest["created"] if manifest else "",
        damaged=place.find_damaged(target, manifest) if manifest else [],
        holder=who,
        attempts=attempts,
    )


@in_words(InputError)
def clean(output: str | Path) -> list[str]:
    """Remove what dead runs left in an output place, and nothing else.

    A run that was cut short while its result was put into place is left alone: a part of the result is in
    its folder.

    Returns
    -------
    list of str
        The folders removed.

    Raises
    ------
    OutputExistsError
        If a run is at work there.
    InputError
        If there is no such folder, or a part of a result would be lost.
    """
    target = at(output)
    check_answers([target])
    if not target.is_dir():
        raise InputError(f"{output}: no such folder")
    left = [*place.find_staging(target).values(), *_reports(target)]
    if not left and not is_remote(target):
        return []
    removed = []
    with locked(target):
        for folder in left:
            if place.staged_manifest(folder) is not None:
                command = _look(target, folder, None).command
                raise InputError(
                    f"{folder} holds a part of a result that was not put into place to its end; "
                    f"finish it first: {command or 'run the same command again'}"
                )
            place.discard(folder)
            removed.append(str(folder))
        if is_remote(target):
            removed += place.drop_leftovers(target)
    return removed


def _reports(output: Path) -> list[Path]:
    """Give the folders in which a report was being made."""
    if is_remote(output):
        return []
    return sorted(
        folder for folder in output.glob(f"{place.STAGING_PREFIX}report-*") if folder.is_dir()
    )


def _look(output: Path, folder: Path, finished: dict[str, Any] | None) -> Attempt:
    request = place.read_request(folder)
    rows = request["fragment_rows"] if request else []
    files = list_files(folder)
    done = [int(file.stem) for file in files if file.parent == folder / CHECKPOINTS]
    if is_remote(output):
        run_token = folder.name.removeprefix(place.STAGING_PREFIX)
        files |= {
            file: size
            for table in place.TABLES
            for file, size in list_files(output / table / run_token).items()
        }
    return Attempt(
        folder=str(folder),
        fragments=len(rows),
        fragments_done=len(done),
        rows=sum(rows),
        rows_done=sum(rows[number] for number in done if number < len(rows)),
        bytes=sum(files.values()),
        command=_command(request, output, overwrite=finished is not None) if request else "",
        complete=place.staged_manifest(folder) is not None,
    )


def _endpoint(output: Path, inputs: list[str]) -> list[str]:
    url = endpoint()
    return ["--endpoint-url", url] if url and (is_s3(output) or any(map(is_s3, inputs))) else []


def _command(request: dict[str, Any], output: Path, *, overwrite: bool) -> str:
    """Write the command that asks for the same run."""
    words = [
        "dask-dedup",
        *_endpoint(output, request["inputs"]),
        "run",
        *request["inputs"],
        "--output",
        str(output),
    ]
    params = DedupParams.from_dict(request["parameters"])
    for name, value in DedupParams().to_dict().items():
        given = getattr(params, name)
        option = f"--{name.replace('_', '-')}"
        if name == "flip_y":
            words += [word for number in given for word in (option, request["inputs"][number])]
        elif given is True:
            words.append(option)
        elif given != value:
            words += [option, str(given)]
    if request["micrographs"]:
        words += ["--micrographs", request["micrographs"]]
    if request["output_format"] != "native":
        words += ["--output-format", request["output_format"]]
    words += [
        option
        for option, given in (
            ("--allow-outside", request["allow_outside"]),
            ("--overwrite", overwrite),
        )
        if given
    ]
    command = shlex.join(words)
    elsewhere = request["directory"] != str(Path.cwd())
    return f"cd {shlex.quote(request['directory'])} && {command}" if elsewhere else command

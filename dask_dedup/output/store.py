"""The result store: an output folder in which a run stages its files and commits its result.

The commit ends with the manifest. A result without a manifest is not finished.

- `LocalStore`: files are written to a staging folder, and the commit renames the table folders.
- `ObjectStore`: objects are written to their final paths, and the manifest lists them.

Only this package and `storage` distinguish the two.
"""

from __future__ import annotations

import json
import logging
import re
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import DedupError, InputError, OutputExistsError
from dask_dedup.formatting import shell_command
from dask_dedup.hints import parameter
from dask_dedup.output.checkpoints import read_checkpoint
from dask_dedup.output.layout import (
    CHECKPOINTS,
    MANIFEST,
    REQUEST,
    STAGING_PREFIX,
    TABLES,
    checkpoint_name,
)
from dask_dedup.output.lock import held_error
from dask_dedup.output.manifest import find_manifest
from dask_dedup.storage.access import check_access
from dask_dedup.storage.files import exists, list_files, list_names, read_bytes, remove
from dask_dedup.storage.paths import resolve
from dask_dedup.storage.table_version import split_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from dask_dedup.formats import Fragment
    from dask_dedup.output.checkpoints import FragmentCheckpoint

#: Tokens in folder names: run tokens, or the first digits of run ids.
TOKEN = re.compile(r"[0-9a-f]{12}")
_STAGING = re.compile(re.escape(STAGING_PREFIX) + TOKEN.pattern)

log = logging.getLogger("dask_dedup")


class ResultStore(ABC):
    """An output folder, local or in an object store."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def staging(self, token: str) -> Path:
        """Return the path of the staging folder for a run token or a run id."""
        return self.output / f"{STAGING_PREFIX}{token[:12]}"

    # Before a run

    def check_separate(self, inputs: Iterable[str | Path]) -> None:
        """Raise `InputError` if the output is inside an input, or an input is inside a result."""
        target = resolve(self.output)
        for given in inputs:
            source = resolve(split_version(given)[0])
            if target == source or source in target.parents:
                raise InputError(
                    f"{self.output}: the output is inside the input {given}. Choose another folder."
                )
            if target in source.parents and exists(target / MANIFEST):
                raise InputError(
                    f"{given}: the input is inside the output {self.output}. Choose another folder."
                )

    def check_idle(self) -> None:
        """Raise `OutputExistsError` if another run has locked the folder."""
        holder = self.holder()
        if holder:
            raise held_error(self.output, holder)

    @abstractmethod
    def check_writable(self) -> None:
        """Raise an error if nothing can be written into the folder."""

    def check_free(self, tables: Sequence[str]) -> None:  # noqa: B027 (runs have subfolders in object stores)
        """Raise `OutputExistsError` if files that no run has written have the names of `tables`."""

    def find_finished(self, run_id: str, *, overwrite: bool) -> dict[str, Any] | None:
        """Return the manifest if this run is already finished. Return None if the folder is free.

        Raise `OutputExistsError` if the folder has other content, or a damaged result of this run.
        """
        manifest = find_manifest(self.output)
        if manifest is None:
            foreign = self.foreign_names(run_id)
            if foreign:
                raise OutputExistsError(
                    f"{self.output}: not empty, and holds no finished run (found {foreign[0]}). "
                    "Choose another folder."
                )
            return None
        if overwrite:
            return None
        if manifest["run_id"] != run_id:
            raise OutputExistsError(
                f"{self.output}: holds another run (its inputs or parameters differ). "
                f"Choose another folder, or pass {parameter('overwrite')}."
            )
        self.tidy(manifest)
        for path in self.find_damaged(manifest):
            raise OutputExistsError(
                f"{path}: missing or has another size than this run wrote. "
                f"Pass {parameter('overwrite')} to run again."
            )
        return manifest

    @abstractmethod
    def foreign_names(self, run_id: str) -> list[str]:
        """Return the names of files and folders in the output that no run of dask-dedup has written."""

    def find_damaged(self, manifest: dict[str, Any]) -> list[str]:
        """Return the files of a finished run that are missing or have the wrong size."""
        sizes = {p: size for table in TABLES for p, size in list_files(self.output / table).items()}
        paths = [(self.output / entry["path"], entry["bytes"]) for entry in manifest["outputs"]]
        return [str(path) for path, size in paths if sizes.get(path) != size]

    # During a run

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Lock the folder for one run. Raise `OutputExistsError` if another run has locked the folder."""

    def holder(self) -> str | None:
        """Return the run that has locked the folder, such as "process 123 on node7, since 12:30", or None."""
        return None

    def choose_run_token(self, parts: object, replaced: dict[str, Any] | None) -> str:  # noqa: ARG002
        """Return the name of a run's subfolder in each table folder, or "" if a run has no subfolder.

        `parts` determines the content of the files. `replaced` is the manifest of the result to be replaced.
        """
        return ""

    @abstractmethod
    def stage(self, request: dict[str, Any], token: str, tables: Sequence[str]) -> Path:
        """Create a staging folder for a run, or reuse the folder of an interrupted run with the same request.

        `token` is a run token or a run id. `tables` are the datasets that will be written.

        Raise `InputError` if nothing can be written there, `DiskFullError` if the disk is full.
        """

    @abstractmethod
    def draft(self, staging: Path) -> AbstractContextManager[Path]:
        """Yield a temporary local folder for new files. At the end, add the files to the run.

        The files have the paths of `layout`. A repeated task may write the same files again. Checkpoints are moved
        last.
        """

    def find_checkpoints(
        self, staging: Path, fragments: Sequence[Fragment]
    ) -> list[FragmentCheckpoint]:
        """Return the valid checkpoints of a staged run. Fragments with a checkpoint need not be written again."""
        is_intact = self.make_check(staging)

        def read(fragment: Fragment) -> FragmentCheckpoint | None:
            checkpoint = read_checkpoint(staging, fragment)
            return checkpoint if checkpoint and is_intact(checkpoint) else None

        names = {file.name for file in list_files(staging / CHECKPOINTS)}
        written = [part for part in fragments if Path(checkpoint_name(part.number)).name in names]
        with ThreadPoolExecutor() as pool:
            return [checkpoint for checkpoint in pool.map(read, written) if checkpoint]

    @abstractmethod
    def make_check(self, staging: Path) -> Callable[[FragmentCheckpoint], bool]:
        """Return a function that checks whether all files of a checkpoint exist and are intact."""

    @abstractmethod
    def commit(
        self, staging: Path, manifest: dict[str, Any], replaced: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Turn the staged files into the result. Can be repeated after an interruption.

        Return the manifest of the result: `manifest`, or the manifest of a concurrent run with the same id.
        Raise `OutputExistsError` if a different run has finished here meanwhile. `replaced` is the manifest
        of the result to be replaced.
        """

    @abstractmethod
    def add_tables(
        self, staging: Path, manifest: dict[str, Any], replaced: dict[str, Any]
    ) -> dict[str, Any]:
        """Add the staged tables to a finished result, and replace its manifest.

        Can be repeated after an interruption. Return the manifest of the result, as `commit` does. `replaced` is the
        current manifest.
        """

    def close_failed(
        self, staging: Path, rows: Sequence[int], is_reusable: Callable[[], bool]
    ) -> dict[str, Any] | None:
        """Keep the files of a failed run if the same command can resume the run. Otherwise remove the files.

        `rows` has the number of rows of each fragment. Return the manifest if a concurrent run with the same token
        has finished.
        """
        if self.staged_manifest(staging) is not None:
            log.warning("the result is complete but not committed. Run the same command to finish.")
            return None
        try:
            # If the store does not answer, every further request would take minutes to fail.
            check_access([staging])
            finished = self.find_concurrent(staging)
        except DedupError:
            log.warning("written fragments stay in %s. Run the same command to resume.", staging)
            return None
        if finished is not None:
            self.tidy(finished)
            return finished
        files = list_files(staging / CHECKPOINTS)
        done = [int(file.stem) for file in files if file.suffix == ".json"]
        if done and is_reusable():
            log.warning(
                "%s of %s particles are written so far. Run the same command to resume, "
                "or %s to remove them.",
                f"{sum(rows[number] for number in done):,}",
                f"{sum(rows):,}",
                shell_command("clean", self.output),
            )
        else:
            self.discard(staging)
        return None

    def find_concurrent(self, staging: Path) -> dict[str, Any] | None:
        """Return the manifest of a concurrent run with the same token, or None if no such run has finished."""
        manifest = find_manifest(self.output)
        return manifest if manifest and token_of(staging) in tokens_of(manifest) else None

    # Unfinished runs

    def find_staging(self) -> dict[str, Path]:
        """Map token to staging folder. The token is a run token or the first digits of a run id."""
        folders = [self.output / name for name in list_names(self.output)]
        return {token_of(each): each for each in folders if _STAGING.fullmatch(each.name)}

    def read_request(self, staging: Path) -> dict[str, Any] | None:
        """Return the request of a staged run, or None if the request is missing or unreadable."""
        try:
            request: dict[str, Any] = json.loads(read_bytes(staging / REQUEST))
        except (FileNotFoundError, ValueError):
            return None
        return request

    def staged_manifest(self, staging: Path) -> dict[str, Any] | None:  # noqa: ARG002
        """Return the manifest of an interrupted commit, or None if no commit was interrupted."""
        return None

    def staged_files(self, staging: Path) -> dict[Path, int]:
        """Map each file of an unfinished run to its size in bytes."""
        # The request in the staging folder comes last, because it shows that the other files belong to a run.
        folders = [*(self.output / table / token_of(staging) for table in TABLES), staging]
        return {file: size for folder in folders for file, size in list_files(folder).items()}

    @abstractmethod
    def leftovers(self) -> list[Path]:
        """Return the leftover folders of interrupted runs and reports."""

    def discard(self, folder: Path) -> None:
        """Remove a leftover folder and all other files of the same run. Never remove a finished result."""
        remove(folder)

    @abstractmethod
    def tidy(self, manifest: dict[str, Any]) -> None:
        """Remove files that a finished run no longer needs. Can be repeated after an interruption."""

    # After a run

    @abstractmethod
    def draft_report(self) -> AbstractContextManager[Path]:
        """Yield a temporary local folder for the report. At the end, replace the old page and plots."""

    def finished_meanwhile(self, staging: Path) -> OutputExistsError:
        """Remove the files of this run, because another run has finished first. Return the error to raise."""
        self.discard(staging)
        return OutputExistsError(
            f"{self.output}: another run has finished here meanwhile. Choose another folder."
        )


def token_of(folder: Path) -> str:
    """Return the token in a staging folder's name: a run token or the first digits of a run id."""
    return folder.name.removeprefix(STAGING_PREFIX)


def tokens_of(manifest: dict[str, Any]) -> set[str]:
    """Return the tokens of the runs that wrote the tables of a result: the last run, and runs for earlier tables."""
    if not manifest["run_token"]:
        return set()
    return {manifest["run_token"], *(entry["path"].split("/")[1] for entry in manifest["outputs"])}


def draft_files(folder: Path) -> list[Path]:
    """Return the files in a draft folder. Checkpoints are last."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return sorted(files, key=lambda file: file.parent.name == CHECKPOINTS)

"""Results on a local file system. Files are staged in a separate folder.

The commit renames the table folders into the output folder. Then it creates the manifest, and fails if another run has
created a manifest meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError, OutputExistsError
from dask_dedup.output.layout import (
    CHECKPOINTS,
    DRAFTS,
    MANIFEST,
    PAGE,
    PARTICLES,
    PIECES,
    PLOTS,
    REPORT_PREFIX,
    REQUEST,
    STAGING_PREFIX,
    TABLES,
    VERIFICATION,
    VOTES,
)
from dask_dedup.output.lock import find_holder, locked
from dask_dedup.output.manifest import (
    MATERIALIZED,
    find_manifest,
    lacks_particles,
    same_result,
    to_json,
)
from dask_dedup.output.store import ResultStore, draft_files
from dask_dedup.storage.capacity import DISK_FULL_ERRORS, disk_full_errors
from dask_dedup.storage.files import list_files, list_names, remove, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dask_dedup.output.checkpoints import FragmentCheckpoint

#: Subfolder of the staging folder for the replaced result, until the new result is complete.
_REPLACED = "replaced"


class LocalStore(ResultStore):
    """An output folder on a local file system."""

    def check_writable(self) -> None:
        """Raise an error if the output path is a file, or the folder is not writable."""
        output = self.output
        nearest = next(path for path in (output, *output.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise OutputExistsError(
                f"{output}: cannot be written, because {nearest} is a file. Choose another folder."
            )
        if not os.access(nearest, os.W_OK):
            raise InputError(
                f"{output}: cannot be written: {nearest} is read-only, or you have no permission in {nearest}."
            )

    def foreign_names(self, run_id: str) -> list[str]:
        """Return the names in the output except staging folders. Return [] if a commit of this run was interrupted."""
        if (self.staging(run_id) / MANIFEST).exists():
            return []
        return [name for name in list_names(self.output) if not name.startswith(STAGING_PREFIX)]

    def check_free(self, tables: Sequence[str]) -> None:
        """Raise `OutputExistsError` if a folder has the name of one of `tables`, but is not part of the result."""
        taken = next((self.output / name for name in tables if (self.output / name).exists()), None)
        if taken:
            raise OutputExistsError(
                f"{taken}: exists, but is not part of this result. Move it away."
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold a file lock on the output folder. The operating system releases the lock when the process ends."""
        with disk_full_errors(self.output), locked(self.output):
            yield

    def holder(self) -> str | None:
        """Return a description of the run that has locked the output folder, or None."""
        return find_holder(self.output)

    def stage(self, request: dict[str, Any], token: str, tables: Sequence[str]) -> Path:
        """Create or reuse a run's staging folder. Files staged for a different request are removed."""
        staging = self.staging(token)
        if self.staged_manifest(staging) is not None:
            return staging
        try:
            if staging.exists() and not _same_request(self.read_request(staging), request):
                self.discard(staging)
            remove(staging / DRAFTS)
            for name in (*tables, CHECKPOINTS, PIECES, DRAFTS):
                (staging / name).mkdir(parents=True, exist_ok=True)
            _write_json(staging / REQUEST, request)
        except BaseException as error:
            if not list_files(staging / CHECKPOINTS):
                self.discard(staging)
            if not isinstance(error, OSError) or error.errno in DISK_FULL_ERRORS:
                raise
            raise InputError(
                f"{self.output}: cannot be written: {error.strerror or error}"
            ) from error
        return staging

    @contextmanager
    def draft(self, staging: Path) -> Iterator[Path]:
        """Yield a temporary folder for new files. At the end, rename the files into `staging`."""
        with (
            disk_full_errors(self.output),
            tempfile.TemporaryDirectory(prefix="dask-dedup-", dir=staging / DRAFTS) as folder,
        ):
            yield Path(folder)
            made: set[str] = set()
            for file in map(str, draft_files(Path(folder))):
                target = f"{staging}{file.removeprefix(folder)}"
                parent = target.rpartition("/")[0]
                if parent not in made:
                    Path(parent).mkdir(parents=True, exist_ok=True)
                    made.add(parent)
                os.replace(file, target)  # noqa: PTH105 (thousands of pick files)

    def make_check(self, staging: Path) -> Callable[[FragmentCheckpoint], bool]:
        """Return a function that checks whether all files of a checkpoint exist with the recorded SHA-256."""

        def is_intact(checkpoint: FragmentCheckpoint) -> bool:
            files = {
                f"{table}/{file.path}": file.sha256
                for table, written in checkpoint.files.items()
                for file in written
            }
            return all(
                (staging / path).is_file() and sha256_of(staging / path) == digest
                for path, digest in (files | checkpoint.pieces).items()
            )

        return is_intact

    def commit(
        self,
        staging: Path,
        manifest: dict[str, Any],
        replaced: dict[str, Any] | None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Rename the staged tables into the output folder, then create the manifest."""
        output, final, overwrite = self.output, self.output / MANIFEST, manifest["overwrite"]
        found = find_manifest(output)
        same = found is not None and found["run_id"] == manifest["run_id"]
        if found and same and not overwrite:
            # A concurrent run with the same id has committed, or this run was interrupted right after its commit.
            remove(staging)
            return found
        if not (staging / MANIFEST).exists():
            _write_json(staging / MANIFEST, manifest)
        old = staging / _REPLACED
        if overwrite:
            old.mkdir(exist_ok=True)
            if final.exists() and _staged_tables(staging):
                for name in (MANIFEST, PAGE, PLOTS, VERIFICATION):
                    if (output / name).exists():
                        (output / name).rename(old / name)
        for name in TABLES if overwrite else ():
            if (output / name).exists() and name not in _tables_of(manifest):
                (output / name).rename(old / name)
        for name in _staged_tables(staging):
            if (output / name).exists():
                if not overwrite:
                    raise self.finished_meanwhile(staging)
                (output / name).rename(old / name)
            (staging / name).rename(output / name)
        if not final.exists():
            self._create_manifest(staging)
        elif not same:
            raise self.finished_meanwhile(staging)
        shutil.rmtree(staging)
        return manifest

    def add_tables(
        self, staging: Path, manifest: dict[str, Any], replaced: dict[str, Any]
    ) -> dict[str, Any]:
        """Rename the staged tables into the output folder, then replace the manifest."""
        found = find_manifest(self.output)
        if found != manifest:
            if found != replaced:
                raise self.finished_meanwhile(staging)
            if not (staging / MANIFEST).exists():
                _write_json(staging / MANIFEST, manifest)
            for name in _staged_tables(staging):
                (staging / name).rename(self.output / name)
            (staging / MANIFEST).replace(self.output / MANIFEST)
        remove(staging)
        return manifest

    def _create_manifest(self, staging: Path) -> None:
        """Create the manifest in the output folder. Raise an error if the folder has a manifest already."""
        source, final = staging / MANIFEST, self.output / MANIFEST
        try:
            os.link(source, final)
        except FileExistsError:
            raise self.finished_meanwhile(staging) from None
        except OSError:
            # Some file systems have no hard links.
            with final.open("x") as file:
                file.write(source.read_text())

    def staged_manifest(self, staging: Path) -> dict[str, Any] | None:
        """Return the manifest of an interrupted commit that can be continued, or None."""
        path = staging / MANIFEST
        if not path.exists():
            return None
        manifest: dict[str, Any] = json.loads(path.read_text())
        if MATERIALIZED in manifest:
            # Without its result, the commit of particle tables cannot be continued.
            result = find_manifest(self.output)
            return manifest if result and same_result(result, manifest) else None
        found = None if _staged_tables(staging) else find_manifest(self.output)
        return None if found and found["run_id"] != manifest["run_id"] else manifest

    def leftovers(self) -> list[Path]:
        """Return the staging folders of interrupted runs and the temporary folders of interrupted reports."""
        reports = [folder for folder in self.output.glob(f"{REPORT_PREFIX}*") if folder.is_dir()]
        return [*self.find_staging().values(), *sorted(reports)]

    def tidy(self, manifest: dict[str, Any]) -> None:
        """Remove the staging folders of a finished run."""
        remove(self.staging(manifest["run_id"]))
        if MATERIALIZED in manifest:
            remove(self.staging(manifest[MATERIALIZED]["token"]))

    @contextmanager
    def draft_report(self) -> Iterator[Path]:
        """Yield a temporary folder for the report. At the end, move the page and the plots to the output folder."""
        with tempfile.TemporaryDirectory(prefix=REPORT_PREFIX, dir=self.output) as folder:
            yield Path(folder)
            if (self.output / PLOTS).exists():
                (self.output / PLOTS).rename(Path(folder, _REPLACED))
            Path(folder, PLOTS).rename(self.output / PLOTS)
            for name in (VERIFICATION, PAGE):
                if Path(folder, name).exists():
                    Path(folder, name).replace(self.output / name)


def _same_request(one: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    """Return whether two requests are equal, apart from the working directory and the options of the cluster."""
    ignored: dict[str, Any] = {"directory": "", "options": {}}
    return one is not None and {**one, **ignored} == {**other, **ignored}


def _staged_tables(staging: Path) -> list[str]:
    return [name for name in TABLES if (staging / name).exists()]


def _tables_of(manifest: dict[str, Any]) -> set[str]:
    """Return the datasets of a result."""
    lacking = {*PARTICLES} if lacks_particles(manifest) else set()
    return {*TABLES} - lacking - (set() if manifest["totals"]["votes"] else {VOTES})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(to_json(content) + "\n")
    draft.rename(path)

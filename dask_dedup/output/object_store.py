"""Results in an object store. Files are written to their final paths.

::

    OUT/particles_kept/<run token>/ ...    files of finished and interrupted runs
    OUT/.dask-dedup-<run token>/           the request, checkpoints and pieces of an unfinished run
    OUT/manifest.json                      created last, if no other run has created it

The run token is a hash of everything that determines the content of the files: two runs share only identical
files. A run that replaces its own earlier result gets another token. Old files stay until the manifest is replaced.
"""

from __future__ import annotations

import json
import logging
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError, OutputExistsError, RunError
from dask_dedup.output.layout import (
    KEPT,
    MANIFEST,
    PAGE,
    PLOTS,
    REQUEST,
    STAGING_PREFIX,
    TABLES,
    VERIFICATION,
)
from dask_dedup.output.manifest import digest_of, find_manifest, read_manifest, same_result, to_json
from dask_dedup.output.store import (
    TOKEN,
    ResultStore,
    draft_files,
    token_of,
    tokens_of,
)
from dask_dedup.storage.capacity import disk_full_errors
from dask_dedup.storage.files import (
    create,
    exists,
    is_folder,
    list_files,
    list_names,
    read_bytes,
    remove,
    remove_files,
    replace,
    tag_of,
    upload,
    write_bytes,
)
from dask_dedup.storage.protocols import is_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dask_dedup.output.checkpoints import FragmentCheckpoint

#: File in the staging folder that lists the files of the replaced result.
_SUPERSEDED = "superseded.json"

log = logging.getLogger("dask_dedup")


class ObjectStore(ResultStore):
    """An output folder in an object store."""

    def check_writable(self) -> None:
        """Do nothing. `stage` raises an error if it cannot write the request."""

    def find_finished(self, run_id: str, *, overwrite: bool) -> dict[str, Any] | None:
        """Return the manifest if this run is finished. With `overwrite`, remove leftovers and return None."""
        manifest = find_manifest(self.output) if overwrite else None
        if manifest is not None:
            self.tidy(manifest)
            return None
        return super().find_finished(run_id, overwrite=overwrite)

    def foreign_names(self, run_id: str) -> list[str]:  # noqa: ARG002
        """Return the names in the output except staging folders and tables that contain only run folders."""
        if exists(self.output) and not is_folder(self.output):
            raise OutputExistsError(
                f"{self.output}: cannot be written, because it is a file. Choose another folder."
            )
        return [
            name
            for name in list_names(self.output)
            if not name.startswith(STAGING_PREFIX)
            and not (name in TABLES and all(map(TOKEN.fullmatch, self._run_folders(name))))
        ]

    def _run_folders(self, table: str) -> set[str]:
        """Return the names in a table's folder, in which each run has a subfolder."""
        folder = self.output / table
        return {file.relative_to(folder).parts[0] for file in list_files(folder)}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock nothing. Concurrent runs are safe, because only one of them can create the manifest."""
        with disk_full_errors(self.output):
            yield

    def choose_run_token(self, parts: object, replaced: dict[str, Any] | None) -> str:
        """Return the first 12 digits of a hash of `parts`, or the next 12 if the replaced result has that token."""
        digest = digest_of(parts)
        taken = replaced is not None and digest[:12] in tokens_of(replaced)
        return digest[12:24] if taken else digest[:12]

    def stage(self, request: dict[str, Any], token: str, tables: Sequence[str]) -> Path:  # noqa: ARG002
        """Write the run's request to its staging folder. Warn if the store ignores conditional writes."""
        staging = self.staging(token)
        content = (to_json(request) + "\n").encode()
        try:
            create(staging / REQUEST, content)
            # The store must refuse to create the same object again.
            create(staging / REQUEST, content)
        except FileExistsError:
            return staging
        except PermissionError as error:
            raise InputError(f"{self.output}: cannot be written: {error.strerror}") from error
        log.warning(
            "this store ignores conditional writes (If-None-Match). "
            "Make sure that no two runs write into %s at the same time.",
            self.output,
        )
        return staging

    @contextmanager
    def draft(self, staging: Path) -> Iterator[Path]:
        """Yield a temporary folder for new files. At the end, upload tables to the output, other files to `staging`."""
        with (
            disk_full_errors(self.output),
            tempfile.TemporaryDirectory(prefix="dask-dedup-") as folder,
        ):
            yield Path(folder)
            for file in draft_files(Path(folder)):
                path = file.relative_to(folder)
                root = self.output if path.parts[0] in TABLES else staging
                upload(file, root / path.as_posix())

    def make_check(self, staging: Path) -> Callable[[FragmentCheckpoint], bool]:
        """Return a function that checks the files of a checkpoint by size. Uploaded objects are never incomplete."""
        sizes, token = self.staged_files(staging), token_of(staging)

        def is_intact(checkpoint: FragmentCheckpoint) -> bool:
            tables = all(
                sizes.get(self.output / table / token / file.path) == file.bytes
                for table, files in checkpoint.files.items()
                for file in files
            )
            return tables and all(staging / path in sizes for path in checkpoint.pieces)

        return is_intact

    def commit(
        self, staging: Path, manifest: dict[str, Any], replaced: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Check the files of the run, then create the manifest or replace the old manifest."""
        for path in self.find_damaged(manifest):
            raise RunError(
                f"{path}: missing or has another size than it was written with; another process changed it. "
                "Nothing was committed, run the same command again."
            )
        if not self._put_manifest(staging, manifest, replaced):
            manifest = read_manifest(self.output)
            if token_of(staging) not in tokens_of(manifest):
                raise self.finished_meanwhile(staging)
        self.tidy(manifest)
        return manifest

    def add_tables(
        self, staging: Path, manifest: dict[str, Any], replaced: dict[str, Any]
    ) -> dict[str, Any]:
        """Check all files of the result, then replace the manifest."""
        found = find_manifest(self.output)
        if found is None or not same_result(found, replaced):
            raise self.finished_meanwhile(staging)
        return self.commit(staging, manifest, replaced)

    def _put_manifest(
        self, staging: Path, manifest: dict[str, Any], replaced: dict[str, Any] | None
    ) -> bool:
        """Write the manifest. Return False if another run has written a manifest meanwhile."""
        final = self.output / MANIFEST
        content = (to_json(manifest) + "\n").encode()
        if replaced is not None:
            tag = tag_of(final)
            if json.loads(read_bytes(final)) != replaced:
                return False
            old = _paths(replaced) - _paths(manifest)
            if old:
                write_bytes(staging / _SUPERSEDED, json.dumps(sorted(old)).encode())
            return replace(final, content, tag)
        try:
            create(final, content)
        except FileExistsError:
            return False
        return True

    def leftovers(self) -> list[Path]:
        """Return the staging folders, and one table folder of each unfinished run that has no staging folder."""
        staging = self.find_staging()
        finished = find_manifest(self.output)
        known = {*staging, *(tokens_of(finished) if finished else ())}
        tokens = set[str]().union(*map(self._run_folders, TABLES)) - known
        unknown = [self.output / KEPT / token for token in sorted(tokens) if TOKEN.fullmatch(token)]
        return [*staging.values(), *unknown]

    def discard(self, folder: Path) -> None:
        """Remove all files of the run that `folder` belongs to. Keep the files of a finished result."""
        finished = self.find_concurrent(folder)
        if finished:
            self.tidy(finished)
        listed = {self.output / path for path in _paths(finished)} if finished else set()
        remove_files(self.staged_files(folder).keys() - listed)
        self._abort_uploads(token_of(folder))

    def tidy(self, manifest: dict[str, Any]) -> None:
        """Remove the staging folder of a finished run, and the files of the result it replaced."""
        # A result copied here from a local folder has no token.
        staging = self.staging(manifest["run_token"] or manifest["run_id"])
        files = list_files(staging)
        if staging / _SUPERSEDED in files:
            old = set(json.loads(read_bytes(staging / _SUPERSEDED))) - _paths(manifest)
            old |= {PAGE, VERIFICATION}
            remove_files([self.output / path for path in old])
            remove(self.output / PLOTS)
        remove_files(files)
        self._abort_uploads(token_of(staging))

    def _abort_uploads(self, token: str) -> None:
        """Abort the multipart uploads of a killed run. Such uploads cost money, and file listings do not show them."""
        if not is_s3(self.output):
            return
        remote: Any = self.output
        bucket, _, prefix = remote.path.partition("/")
        try:
            # With the slash, the prefix does not match other folders with longer names.
            prefix = f"{prefix}/" if prefix else ""
            found = remote.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        except (OSError, NotImplementedError) as error:
            # Not every store or policy allows this, and the result does not depend on it.
            log.debug("%s: unfinished uploads cannot be listed: %s", self.output, error)
            return
        for upload_ in found.get("Uploads") or ():
            if f"{token}/" not in upload_["Key"]:
                continue
            named = {"Bucket": bucket, "Key": upload_["Key"], "UploadId": upload_["UploadId"]}
            try:
                remote.fs.call_s3("abort_multipart_upload", **named)
            except (OSError, NotImplementedError) as error:
                log.debug("%s: an unfinished upload cannot be aborted: %s", self.output, error)

    @contextmanager
    def draft_report(self) -> Iterator[Path]:
        """Yield a temporary folder for the report. At the end, upload the plots, then the page."""
        with tempfile.TemporaryDirectory(prefix="dask-dedup-") as folder:
            yield Path(folder)
            remove(self.output / PLOTS)
            for file in Path(folder, PLOTS).iterdir():
                upload(file, self.output / PLOTS / file.name)
            for name in (VERIFICATION, PAGE):
                if Path(folder, name).exists():
                    upload(Path(folder, name), self.output / name)


def _paths(manifest: dict[str, Any]) -> set[str]:
    return {entry["path"] for entry in manifest["outputs"]}

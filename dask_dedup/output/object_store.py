"""The output place in an object store: nothing can be renamed, parts lie where they stay, the manifest commits.

::

    OUT/.dask-dedup-<mark>/            the request, receipts, pieces of native files   (while the run lasts)
    OUT/particles_kept/<mark>/ ...     parts                                           (a dead run's are seen, too)
    OUT/manifest.json                  created last and exclusively: what it lists is the result

The mark is a hash of all that the bytes of the parts depend on, so two runs share files only if these are the same.
A result that is to be made again gets another mark, and stays whole until the manifest is replaced.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError, RunError
from dask_dedup.storage.files import (
    create,
    list_files,
    read_bytes,
    remove,
    remove_files,
    replace,
    tag_of,
    write_bytes,
)
from dask_dedup.storage.paths import is_s3

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: Lists, in the staging folder, what an overwritten result leaves to be removed.
SUPERSEDED = "superseded.json"

log = logging.getLogger("dask_dedup")


def choose_token(parts_of: object, taken: str | None) -> str:
    """Give the mark of a run.

    Parameters
    ----------
    parts_of : object
        All that the bytes of its parts depend on, as plain values.
    taken : str or None
        The mark of the result that is there.
    """
    digest = hashlib.sha256(json.dumps(parts_of, sort_keys=True).encode()).hexdigest()
    return digest[:12] if digest[:12] != taken else digest[12:24]


def begin(request_place: Path, request: dict[str, Any]) -> None:
    """Note what a run was asked for, and see whether the store heeds that a file is to be new.

    Raises
    ------
    InputError
        If nothing can be written there.
    """
    content = (json.dumps(request, indent=2) + "\n").encode()
    try:
        for _ in range(2):
            # The second one has to be refused.
            create(request_place, content)
    except FileExistsError:
        return
    except PermissionError as error:
        raise InputError(
            f"{request_place.parent.parent}: cannot be written: {error.strerror}"
        ) from error
    log.warning(
        "warning: this store writes over what is there though asked not to (If-None-Match), so see to it that no "
        "two runs write into %s at once",
        request_place.parent.parent,
    )


def put_manifest(
    staging: Path, final: Path, manifest: dict[str, Any], before: dict[str, Any] | None
) -> bool:
    """Put the manifest into place.

    Parameters
    ----------
    staging, final : Path
        The staging folder, and the manifest's place.
    manifest : dict
    before : dict or None
        The manifest that is to be replaced.

    Returns
    -------
    bool
        False if another one is there.

    Raises
    ------
    RunError
        If a file of the result is not there.
    """
    _check_there(staging, manifest)
    content = (json.dumps(manifest, indent=2) + "\n").encode()
    if before is not None:
        tag = tag_of(final)
        if json.loads(read_bytes(final)) != before:
            return False
        mine = {entry["path"] for entry in manifest["outputs"]}
        old = [entry["path"] for entry in before["outputs"] if entry["path"] not in mine]
        write_bytes(staging / SUPERSEDED, json.dumps(old).encode())
        return replace(final, content, tag)
    try:
        create(final, content)
    except FileExistsError:
        return False
    return True


def _check_there(staging: Path, manifest: dict[str, Any]) -> None:
    """Refuse a result of which somebody has removed a part."""
    output = staging.parent
    folders = {"/".join(entry["path"].split("/")[:2]) for entry in manifest["outputs"]}
    there: dict[Path, int] = {}
    for folder in folders:
        there |= list_files(output / folder)
    for entry in manifest["outputs"]:
        if there.get(output / entry["path"]) != entry["bytes"]:
            raise RunError(
                f"{output / entry['path']} is not there as it was written: somebody else is at work in this "
                "place; nothing was committed, run the same command again"
            )


def sweep(staging: Path, committed: dict[str, Any], extras: Iterable[str]) -> None:
    """Remove what a committed run has no more use for; may be called again after a crash.

    Parameters
    ----------
    staging : Path
        Its staging folder.
    committed : dict
        The manifest that is in place.
    extras : iterable of str
        What else an overwritten result had: files or folders of the output.
    """
    files = list_files(staging)
    if staging / SUPERSEDED in files:
        mine = {entry["path"] for entry in committed["outputs"]}
        old = json.loads(read_bytes(staging / SUPERSEDED))
        remove_files(staging.parent / path for path in old if path not in mine)
        for name in extras:
            remove(staging.parent / name)
            remove_files([staging.parent / name])
    # The request goes last: as long as it is there, it is known whose the rest is.
    remove_files(files)
    abort_uploads(staging.parent, staging.name.rpartition("-")[2])


def drop(output: Path, tables: Iterable[str], run_token: str) -> None:
    """Remove the parts of a run that will not be finished."""
    for table in tables:
        remove(output / table / run_token)
    abort_uploads(output, run_token)


def find_tokens(output: Path, tables: Iterable[str]) -> set[str]:
    """Give the names of the folders that hold parts."""
    return {
        file.relative_to(output / table).parts[0]
        for table in tables
        for file in list_files(output / table)
    }


def abort_uploads(output: Path, run_token: str) -> None:
    """Give up the uploads in several parts that a killed run has left, which nobody sees but who pays for them."""
    if not is_s3(output):
        return
    remote: Any = output
    bucket, _, prefix = remote.path.partition("/")
    try:
        answer = remote.fs.call_s3(
            "list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/" * bool(prefix)
        )
    except (OSError, NotImplementedError) as error:
        # Not every store or policy allows to ask, and the result does not hang on it.
        log.debug("%s: unfinished uploads cannot be listed: %s", output, error)
        return
    for upload in answer.get("Uploads") or ():
        if f"{run_token}/" not in upload["Key"]:
            continue
        try:
            remote.fs.call_s3(
                "abort_multipart_upload",
                Bucket=bucket,
                Key=upload["Key"],
                UploadId=upload["UploadId"],
            )
        except (OSError, NotImplementedError) as error:
            log.debug("%s: an unfinished upload cannot be given up: %s", output, error)

"""The output folder: staged aside, committed by rename, described by a manifest made last.

In an object store nothing can be renamed; what is done there instead is in `object_store`. On a file system::

    OUT/.dask-dedup-<run>/   the request, parts, receipts, the manifest-to-be   (while the run lasts)
    OUT/particles_kept/ ...  appear whole, by rename
    OUT/manifest.json        created last and exclusively: with it the result exists
"""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError, OutputExistsError, RunError
from dask_dedup.output import object_store
from dask_dedup.output.checkpoints import CHECKPOINTS, count_checkpoints
from dask_dedup.output.lock import busy, holder
from dask_dedup.pipeline.stages import DRAFTS, DUPLICATES, KEPT, PIECES, REJECTED
from dask_dedup.storage.capacity import DISK_FULL_ERRORS, disk_full_message
from dask_dedup.storage.files import list_files, read_bytes, remove
from dask_dedup.storage.paths import at, is_remote, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MANIFEST = "manifest.json"
TABLES = (KEPT, REJECTED, DUPLICATES)
#: What the report adds to a finished run.
PAGE, PLOTS = "report.html", "plots"
STAGING_PREFIX = ".dask-dedup-"
#: What a run was asked for: all that its parts depend on, and what it takes to ask for it again.
REQUEST = "request.json"
_TOKEN = re.compile(r"[0-9a-f]{12}")
_OURS = re.compile(re.escape(STAGING_PREFIX) + rf"({_TOKEN.pattern})")


def read_manifest(output: str | Path) -> dict[str, Any]:
    """Read the manifest of a finished run.

    Raises
    ------
    InputError
        If there is none, or it is not one of this program's.
    """
    path = at(output) / MANIFEST
    try:
        manifest = json.loads(read_bytes(path))
    except FileNotFoundError as error:
        raise InputError(f"{output}: no finished run here ({MANIFEST} is missing)") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a manifest: {error}") from error
    if not isinstance(manifest, dict) or "run_id" not in manifest:
        raise InputError(f"{path}: is not a manifest of dask-dedup")
    return manifest


def find_manifest(output: Path) -> dict[str, Any] | None:
    """Read the manifest of a finished run, if there is one."""
    return read_manifest(output) if (output / MANIFEST).exists() else None


def check_apart(output: Path, inputs: Iterable[str | Path]) -> None:
    """Refuse an output inside an input, which the next run would read, and the reverse."""
    target = resolve(output)
    for given in inputs:
        source = resolve(at(given))
        if target == source or source in target.parents:
            raise InputError(
                f"--output {output} lies inside the input {given}; choose another place"
            )
        if target in source.parents and (target / MANIFEST).exists():
            raise InputError(
                f"the input {given} lies inside --output {output}; choose another place"
            )


def find_finished(output: Path, run_id: str, *, overwrite: bool) -> dict[str, Any] | None:
    """Look at what the output place holds.

    Returns
    -------
    dict or None
        The manifest if this very run is finished there already; None if the place is free, or may
        be overwritten.

    Raises
    ------
    InputError
        If nothing can be written there.
    OutputExistsError
        If it holds anything else.
    """
    if is_remote(output):
        return find_result(output, run_id, overwrite=overwrite)
    nearest = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OutputExistsError(
            f"--output {output}: cannot be written, {nearest} is a file; name a folder"
        )
    if output.exists():
        who = holder(output)
        if who:
            raise busy(output, who)
        finished = find_result(output, run_id, overwrite=overwrite)
        if finished:
            return finished
    if os.statvfs(nearest).f_flag & os.ST_RDONLY:
        raise InputError(f"--output {output}: cannot be written, {nearest} may only be read")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"--output {output}: cannot be written, no permission in {nearest}")
    return None


def find_result(output: Path, run_id: str, *, overwrite: bool) -> dict[str, Any] | None:
    """Do as `find_finished` does in a folder that exists, whoever holds it."""
    manifest = find_manifest(output)
    if manifest is not None:
        if manifest["run_id"] == run_id and not overwrite:
            tidy(output, manifest)
            _check_whole(output, manifest)
            return manifest
        if not overwrite:
            raise OutputExistsError(
                f"--output {output} holds another run (its inputs or parameters differ); "
                "choose another place, or use --overwrite"
            )
        if is_remote(output):
            tidy(output, manifest)
        return None
    if is_remote(output) and output.is_file():
        raise OutputExistsError(
            f"--output {output}: cannot be written, it is a file; name a folder"
        )
    there = [entry.name for entry in output.iterdir()] if output.exists() else []
    others = [name for name in there if name and not name.startswith(STAGING_PREFIX)]
    if is_remote(output):
        # What a dead run has written lies where it would stay.
        others = [name for name in others if not _holds_parts_only(output, name)]
    if others and not (_staging(output, run_id) / MANIFEST).exists():
        raise OutputExistsError(
            f"--output {output} is not empty and holds no finished run (there is {others[0]}); "
            "choose another place"
        )
    return None


def _holds_parts_only(output: Path, name: str) -> bool:
    return name in TABLES and all(map(_TOKEN.fullmatch, object_store.find_tokens(output, (name,))))


def _check_whole(output: Path, manifest: dict[str, Any]) -> None:
    """Refuse to call a run finished whose files are gone or have other sizes."""
    for path in find_damaged(output, manifest):
        raise OutputExistsError(
            f"--output {output} holds this run, but {path} is not as the run left it; "
            "use --overwrite to make it again"
        )


def find_damaged(output: Path, manifest: dict[str, Any]) -> list[str]:
    """Name the files of a finished run that are gone or have other sizes."""
    there = {path: size for name in TABLES for path, size in list_files(output / name).items()}
    return [
        str(output / entry["path"])
        for entry in manifest["outputs"]
        if there.get(output / entry["path"]) != entry["bytes"]
    ]


def _staging(output: Path, name: str) -> Path:
    return output / f"{STAGING_PREFIX}{name[:12]}"


def choose_run_token(output: Path, parts_of: object, before: dict[str, Any] | None) -> str:
    """Give what names a run's folders in an object store; elsewhere nothing does.

    Parameters
    ----------
    output : Path
    parts_of : object
        All that the bytes of its parts depend on, as plain values.
    before : dict or None
        The manifest of the result that is there.
    """
    taken = before.get("run_token") if before else None
    return object_store.choose_token(parts_of, taken) if is_remote(output) else ""


def find_staging(output: Path) -> dict[str, Path]:
    """Give the staging folders there are, by the marks or the beginnings of ids in their names."""
    if not output.exists():
        return {}
    found = {_OURS.fullmatch(folder.name): folder for folder in output.iterdir()}
    return {
        match[1]: folder for match, folder in sorted(found.items(), key=str) if match is not None
    }


def stage(output: Path, request: dict[str, Any], run_token: str) -> Path:
    """Make the staging folder, or go on in the one that a dead run of the same id left.

    A run that died in its commit left a whole manifest behind: then nothing is changed.

    Parameters
    ----------
    output : Path
    request : dict
        See `manifest.make_request`; what was written for another is dropped.
    mark : str
        Of the run's files in an object store.

    Raises
    ------
    InputError
        If nothing can be written there.
    RunError
        If there is no room.
    """
    staging = _staging(output, run_token or request["run_id"])
    if staged_manifest(staging) is not None:
        return staging
    if is_remote(output):
        object_store.begin(staging / REQUEST, request)
        return staging
    try:
        if staging.exists() and not _asks_the_same(read_request(staging), request):
            discard(staging)
        remove(staging / DRAFTS)
        for name in (*TABLES, CHECKPOINTS, PIECES, DRAFTS):
            (staging / name).mkdir(parents=True, exist_ok=True)
        if not (staging / REQUEST).exists():
            _write_whole(staging / REQUEST, request)
    except OSError as error:
        if not count_checkpoints(staging):
            discard(staging)
        if error.errno in DISK_FULL_ERRORS:
            raise RunError(disk_full_message(output, error.errno)) from error
        raise InputError(
            f"--output {output}: cannot be written: {error.strerror or error}"
        ) from error
    return staging


def _asks_the_same(one: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    """Tell whether two requests are for the same bytes, wherever they were made."""
    return one is not None and {**one, "directory": ""} == {**other, "directory": ""}


def read_request(staging: Path) -> dict[str, Any] | None:
    """Give what the run of a staging folder was asked for; None if it died before it could say."""
    try:
        request: dict[str, Any] = json.loads(read_bytes(staging / REQUEST))
    except (FileNotFoundError, ValueError):
        return None
    return request


def _write_whole(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text)
    draft.rename(path)


def staged_manifest(staging: Path) -> dict[str, Any] | None:
    """Give the manifest of a run that died in its commit, unless another has replaced it since."""
    if is_remote(staging) or not (staging / MANIFEST).exists():
        return None
    manifest: dict[str, Any] = json.loads((staging / MANIFEST).read_text())
    output = staging.parent
    replaced = (
        not _left(staging)
        and (output / MANIFEST).exists()
        and read_manifest(output)["run_id"] != manifest["run_id"]
    )
    return None if replaced else manifest


def _left(staging: Path) -> list[str]:
    """Name the tables that are still to be put into place."""
    return [name for name in TABLES if (staging / name).exists()]


def commit(
    staging: Path, output: Path, manifest: dict[str, Any], before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Put the staged tables into place, then the manifest.

    May be called again after a crash at any point of it.

    Parameters
    ----------
    staging, output : Path
    manifest : dict
    before : dict, optional
        The manifest that is to be replaced in an object store.

    Returns
    -------
    dict
        The manifest that is in place now: this one, or that of the same run started twice.

    Raises
    ------
    OutputExistsError
        If another run has put its result here meanwhile.
    """
    final = output / MANIFEST
    if is_remote(output):
        if not object_store.put_manifest(staging, final, manifest, before):
            manifest = read_manifest(output)
            if manifest.get("run_token") != staging.name.removeprefix(STAGING_PREFIX):
                _give_way(staging, output)
        tidy(output, manifest)
        return manifest
    mine = final.exists() and read_manifest(output)["run_id"] == manifest["run_id"]
    if mine and not manifest["overwrite"]:
        # The same run, started twice, or a crash right after the end.
        remove(staging)
        return read_manifest(output)
    if not (staging / MANIFEST).exists():
        _write_whole(staging / MANIFEST, manifest)
    retired = staging / "retired"
    if manifest["overwrite"]:
        retired.mkdir(exist_ok=True)
        if final.exists() and _left(staging):
            final.rename(retired / MANIFEST)
            for name in (PAGE, PLOTS):
                if (output / name).exists():
                    (output / name).rename(retired / name)
    for name in _left(staging):
        if (output / name).exists():
            if not manifest["overwrite"]:
                _give_way(staging, output)
            (output / name).rename(retired / name)
        (staging / name).rename(output / name)
    if not final.exists():
        _create(staging / MANIFEST, final)
    elif not mine:
        _give_way(staging, output)
    shutil.rmtree(staging)
    return manifest


def tidy(output: Path, manifest: dict[str, Any]) -> None:
    """Remove what the finished run of a place has no more use for; may be called again after a crash."""
    staging = _staging(output, manifest.get("run_token") or manifest["run_id"])
    if is_remote(output):
        object_store.sweep(staging, manifest, (PAGE, PLOTS))
    else:
        remove(staging)


def _give_way(staging: Path, output: Path) -> None:
    discard(staging)
    raise OutputExistsError(
        f"--output {output}: another run has put its result there meanwhile; choose another place"
    )


def _create(source: Path, final: Path) -> None:
    """Create a file whole and only if there is none."""
    try:
        os.link(source, final)
    except FileExistsError:
        _give_way(source.parent, final.parent)
    except OSError:
        # Some file systems have no hard links.
        with final.open("x") as file:
            file.write(source.read_text())


def discard(staging: Path) -> None:
    """Remove a staging folder, and what its run has written elsewhere, unless that is the result."""
    if is_remote(staging):
        output, run_token = staging.parent, staging.name.removeprefix(STAGING_PREFIX)
        finished = find_manifest(output)
        if finished and finished.get("run_token") == run_token:
            tidy(output, finished)
            return
        object_store.drop(output, TABLES, run_token)
    remove(staging)


def drop_leftovers(output: Path) -> list[str]:
    """Remove parts in an object store that belong neither to the result nor to a run that may go on.

    Returns
    -------
    list of str
        The folders removed.
    """
    finished = find_manifest(output) or {}
    known = {finished.get("run_token"), *find_staging(output)}
    marks = object_store.find_tokens(output, TABLES) - known
    leftovers = sorted(run_token for run_token in marks if _TOKEN.fullmatch(run_token))
    for run_token in leftovers:
        object_store.drop(output, TABLES, run_token)
    return [str(output / KEPT / run_token) for run_token in leftovers]

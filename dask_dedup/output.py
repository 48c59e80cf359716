"""The output folder: staged aside, committed by rename, described by a manifest made last.

::

    OUT/.dask-dedup-<run>/   parts, receipts, the manifest-to-be   (while the run lasts)
    OUT/particles_kept/ ...  appear whole, by rename
    OUT/manifest.json        created last and exclusively: with it the result exists
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError, OutputExistsError
from dask_dedup.stages import DUPLICATES, KEPT, PIECES, RECEIPTS, REJECTED

if TYPE_CHECKING:
    from collections.abc import Iterable

MANIFEST = "manifest.json"
TABLES = (KEPT, REJECTED, DUPLICATES)
_STAGING_PREFIX = ".dask-dedup-"


def read_manifest(output: str | Path) -> dict[str, Any]:
    """Read the manifest of a finished run.

    Raises
    ------
    InputError
        If there is none, or it is not one of this program's.
    """
    path = Path(output) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{output}: no finished run here ({MANIFEST} is missing)") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a manifest: {error}") from error
    if not isinstance(manifest, dict) or "run_id" not in manifest:
        raise InputError(f"{path}: is not a manifest of dask-dedup")
    return manifest


def check_apart(output: Path, inputs: Iterable[str | Path]) -> None:
    """Refuse an output inside an input, which the next run would read, and the reverse."""
    target = output.resolve()
    for given in inputs:
        source = Path(given).resolve()
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
    OutputExistsError
        If it holds anything else.
    """
    if not output.exists():
        return None
    if not output.is_dir():
        raise OutputExistsError(f"--output {output} is a file; name a folder")
    if not os.access(output, os.W_OK):
        raise InputError(f"--output {output}: no permission to write there")
    if (output / MANIFEST).exists():
        manifest = read_manifest(output)
        if manifest["run_id"] == run_id and not overwrite:
            return manifest
        if not overwrite:
            raise OutputExistsError(
                f"--output {output} holds another run (its inputs or parameters differ); "
                "choose another place, or use --overwrite"
            )
        return None
    others = [
        entry.name for entry in output.iterdir() if not entry.name.startswith(_STAGING_PREFIX)
    ]
    staged = (output / f"{_STAGING_PREFIX}{run_id[:12]}" / MANIFEST).exists()
    if others and not staged:
        raise OutputExistsError(
            f"--output {output} is not empty and holds no finished run (there is {others[0]}); "
            "choose another place"
        )
    return None


def stage(output: Path, run_id: str) -> Path:
    """Make the staging folder, empty; what a dead run of the same id left in it is dropped.

    A run that died in its commit left a whole manifest behind: then nothing is dropped.
    """
    staging = output / f"{_STAGING_PREFIX}{run_id[:12]}"
    if (staging / MANIFEST).exists():
        return staging
    try:
        if staging.exists():
            shutil.rmtree(staging)
        for name in (*TABLES, RECEIPTS, PIECES):
            (staging / name).mkdir(parents=True)
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written: {error.strerror}") from error
    return staging


def staged_manifest(staging: Path) -> dict[str, Any] | None:
    """Give the manifest of a run that died in its commit."""
    path = staging / MANIFEST
    return json.loads(path.read_text()) if path.exists() else None


def commit(staging: Path, output: Path, manifest: dict[str, Any]) -> None:
    """Put the staged tables into place, then the manifest.

    May be called again after a crash at any point of it.

    Raises
    ------
    OutputExistsError
        If another run has put its result here meanwhile.
    """
    if not (staging / MANIFEST).exists():
        draft = staging / f"{MANIFEST}.draft"
        draft.write_text(json.dumps(manifest, indent=2) + "\n")
        draft.rename(staging / MANIFEST)
    final = output / MANIFEST
    retired = staging / "retired"
    if final.exists():
        if read_manifest(output)["run_id"] != manifest["run_id"] and not manifest["overwrite"]:
            raise OutputExistsError(f"--output {output}: another run has finished here meanwhile")
        retired.mkdir(exist_ok=True)
        final.rename(retired / MANIFEST)
    for name in TABLES:
        if (staging / name).exists():
            if (output / name).exists():
                retired.mkdir(exist_ok=True)
                (output / name).rename(retired / name)
            (staging / name).rename(output / name)
    try:
        os.link(staging / MANIFEST, final)
    except FileExistsError as error:
        raise OutputExistsError(
            f"--output {output}: another run has finished here meanwhile"
        ) from error
    shutil.rmtree(staging)


def discard(staging: Path) -> None:
    """Remove a staging folder, and the output folder if nothing else is in it."""
    shutil.rmtree(staging, ignore_errors=True)
    output = staging.parent
    if output.exists() and not any(output.iterdir()):
        output.rmdir()

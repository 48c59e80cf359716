"""The output place in an object store: nothing can be renamed, parts lie where they stay, the manifest commits.

::

    OUT/.dask-dedup-<run>/        the request and the receipts                   (while the run lasts)
    OUT/particles_kept/ ...       parts, whose names end in the run's mark       (a dead run's are seen, too)
    OUT/manifest.json             created last and exclusively: what it lists is the result
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dask_dedup.places import create, remove, remove_files

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: Lists, in the staging folder, what an overwritten result leaves to be removed.
SUPERSEDED = "superseded.json"


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
        The manifest that is there and may be replaced.

    Returns
    -------
    bool
        False if another one is there that may not.
    """
    content = (json.dumps(manifest, indent=2) + "\n").encode()
    if before is not None and manifest["overwrite"]:
        mine = {entry["path"] for entry in manifest["outputs"]}
        old = [entry["path"] for entry in before["outputs"] if entry["path"] not in mine]
        (staging / SUPERSEDED).write_text(json.dumps(old))
        final.write_bytes(content)
        return True
    try:
        create(final, content)
    except FileExistsError:
        return False
    return True


def sweep(staging: Path) -> None:
    """Remove what an overwritten result has left, and the staging folder; may be called again after a crash."""
    if (staging / SUPERSEDED).exists():
        old = json.loads((staging / SUPERSEDED).read_text())
        remove_files(staging.parent / path for path in old)
    remove(staging)


def remove_parts(output: Path, tables: Iterable[str], mark: str) -> None:
    """Remove the parts of a run that will not be finished."""
    for table in tables:
        folder = output / table
        if folder.exists():
            remove_files(
                file for file in folder.rglob("*") if mark in str(file.relative_to(folder))
            )

"""Read manifests, check their format version, and compute checksums of JSON values."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError
from dask_dedup.output.layout import MANIFEST
from dask_dedup.storage.files import read_bytes
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from pathlib import Path

#: Version of the manifest's keys. Other versions are refused.
FORMAT = 3
CHECKSUM = "checksum"
#: Whether the result has no particle tables. Older manifests lack this key.
DUPLICATES_ONLY = "duplicates_only"
#: Time and software versions of the particle tables that were added to a result.
MATERIALIZED = "materialized"


def read_manifest(output: str | Path) -> dict[str, Any]:
    """Read the manifest of a finished run. Raise `InputError` if there is no manifest."""
    manifest = find_manifest(output)
    if manifest is None:
        raise InputError(f"{output}: no finished run ({MANIFEST} is missing).")
    return manifest


def find_manifest(output: str | Path) -> dict[str, Any] | None:
    """Read the manifest of a finished run, or return None.

    Raise `InputError` if it is not a manifest of this format version.
    """
    path = at(output) / MANIFEST
    try:
        manifest = json.loads(read_bytes(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a manifest: {error}") from error
    if not isinstance(manifest, dict) or "run_id" not in manifest:
        raise InputError(f"{path}: not a manifest of dask-dedup.")
    if manifest.get("format") != FORMAT:
        found = manifest.get("format", "unknown")
        raise InputError(
            f"{path}: result format {found}, but this version of dask-dedup reads format {FORMAT}. "
            "Use the version that wrote it, or run again into another folder."
        )
    return manifest


def lacks_particles(manifest: dict[str, Any]) -> bool:
    """Return whether a result has no particle tables: the run was for duplicates only."""
    return bool(manifest.get(DUPLICATES_ONLY))


def same_result(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two manifests are of the same result, with or without particle tables."""
    return all(one[key] == other[key] for key in ("run_id", "created"))


def to_json(values: Any, indent: str = "") -> str:
    """Return JSON text with one line for each object or list that contains no other, such as a file's entry.

    Examples
    --------
    >>> print(to_json({"rows": 3, "outputs": [{"path": "a", "rows": 1}, {"path": "b", "rows": 2}]}))
    {
      "rows": 3,
      "outputs": [
        {"path": "a", "rows": 1},
        {"path": "b", "rows": 2}
      ]
    }
    """
    # `json.dumps` with an indentation takes seconds for thousands of files.
    is_dict = isinstance(values, dict)
    parts = values.values() if is_dict else values if isinstance(values, list | tuple) else ()
    if not any(isinstance(part, dict | list | tuple) for part in parts):
        return json.dumps(values)
    inner = indent + "  "
    lines = [to_json(part, inner) for part in parts]
    if is_dict:
        names = (json.dumps(str(name)) for name in values)
        lines = [f"{name}: {line}" for name, line in zip(names, lines, strict=True)]
    joined = f",\n{inner}".join(lines)
    opening, closing = "{}" if is_dict else "[]"
    return f"{opening}\n{inner}{joined}\n{indent}{closing}"


def digest_of(values: object) -> str:
    """Return a hash of JSON values, in hexadecimal."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def with_checksum(values: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of JSON values with their checksum added."""
    return {**values, CHECKSUM: _checksum(values)}


def checksum_ok(values: dict[str, Any]) -> bool:
    """Return whether JSON values contain a checksum that matches them."""
    return values.get(CHECKSUM) == _checksum(values)


def _checksum(values: dict[str, Any]) -> str:
    # Convert to JSON and back first, because keys that are numbers become text, which changes their order.
    plain = json.loads(json.dumps({key: values[key] for key in values if key != CHECKSUM}))
    return digest_of(plain)

"""Find a micrograph by a name from the user."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.particles.micrographs.stripping import bare_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dask_dedup.particles.micrographs.names import MicrographName
    from dask_dedup.particles.report_contents import ReportContents


def find_micrograph(
    output: Path | str, keys: Sequence[int], names: Mapping[int, MicrographName], name: str
) -> int:
    """Return the key of a micrograph. `name` is its full name, its name without folders and suffix, or its uid.

    Raises
    ------
    InputError
        If none or several of `keys` have this name.
    """
    if not keys:
        raise InputError(f"{output}: the result has no micrographs, so {name!r} cannot be shown.")
    by_name = {str(key): key for key in keys}
    bare: dict[str, list[int]] = {}
    for key in keys:
        if key in names:
            by_name[names[key].shown] = key
            bare.setdefault(bare_name(names[key].name or names[key].path), []).append(key)
    alike = bare.get(bare_name(name), [])
    if name in by_name:
        return by_name[name]
    if len(alike) == 1:
        return alike[0]
    full = {key: text for text, key in by_name.items()}
    near = [full[key] for key in alike[:3]]
    near = near or difflib.get_close_matches(name, by_name, n=3, cutoff=0.3) or list(by_name)[:3]
    raise InputError(f"{output}: no micrograph {name!r}. Similar names: {', '.join(near)}.")


def find_micrographs(output: Path, contents: ReportContents, names: Sequence[str]) -> list[int]:
    """Return the keys of the micrographs `names`. Raise InputError if a micrograph is not found."""
    keys = contents.micrographs.tolist()
    return [find_micrograph(output, keys, contents.names, name) for name in names]

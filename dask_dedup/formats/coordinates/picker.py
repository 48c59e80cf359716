"""Names of pickers. Output folders of pick files have these names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.formats.coordinates.detection import fixed_folder, is_pattern
from dask_dedup.storage.files import is_folder
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path


def picker_name(path: str | Path) -> str:
    """Return the name of a picker: the name of the folder that contains its pick files.

    Examples
    --------
    >>> picker_name("AutoPick/job010/autopick.star"), picker_name("CBOX/*.cbox")
    ('job010', 'CBOX')
    """
    folder = at(path)
    if is_pattern(folder):
        folder = fixed_folder(folder)
    elif not is_folder(folder):
        folder = folder.parent
    return folder.absolute().name or "picks"


def distinct_name(name: str, taken: Container[str]) -> str:
    """Return `name`. If `taken` has this name, return ``name-2``, ``name-3`` ... Upper and lower case are equal.

    Examples
    --------
    >>> distinct_name("CBOX", {"cbox"})
    'CBOX-2'
    """
    number, new = 1, name
    while new.casefold() in taken:
        number += 1
        new = f"{name}-{number}"
    return new

"""Checks that no table and no pick file is in two inputs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.storage.paths import at, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_dedup.formats.base import ParticleTable


def check_paths(paths: Sequence[str | Path]) -> None:
    """Raise InputError if an input is passed twice, also under two names of one file."""
    seen: set[Path] = set()
    for path in paths:
        location = resolve(at(path))
        if location in seen:
            raise InputError(f"{path}: passed twice as an input. Pass each table once.")
        seen.add(location)


def check_pick_files(tables: Sequence[ParticleTable]) -> None:
    """Raise InputError if two inputs have the same pick file. Example: a folder, and a list of its files."""
    picks = [table for table in tables if table.format == "coordinates"]
    owner: dict[str, ParticleTable] = {}
    for table in picks if len(picks) > 1 else ():
        for member in table.detail.members:
            other = owner.setdefault(os.path.abspath(member.path), table)  # noqa: PTH100 (faster)
            if other is not table:
                raise InputError(
                    f"{table.path}: has {member.path}, which the input {other.path} has, too. Leave out one of the "
                    "two inputs."
                )

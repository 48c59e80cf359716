"""Which inputs an option names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def ordinals(some: tuple[Path, ...], inputs: tuple[Path, ...]) -> tuple[int, ...]:
    """Give the numbers of the inputs that --flip-y names."""
    strangers = [path for path in some if path not in inputs]
    if strangers:
        raise InputError(f"--flip-y {strangers[0]}: is not among the INPUTs")
    return tuple(number for number, path in enumerate(inputs) if path in some)

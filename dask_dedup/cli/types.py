"""An argument that is a path, or the URI of one in an object store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from pathlib import Path


class Place(click.ParamType):  # type: ignore[type-arg]
    """A path, or the URI of one in an object store.

    The URI is only looked at here; whether anything is there is found out by whoever uses it.
    """

    name = "path"

    def convert(self, value: str | Path, *_: object) -> Path:
        """Give the path of what stands on the command line."""
        return at(value)


PATH = Place()

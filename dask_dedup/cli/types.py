"""Parameter types of the command line, and options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from dask_dedup.errors import InputError
from dask_dedup.storage.paths import at


class Location(click.ParamType):  # type: ignore[type-arg]
    """A path, or the URI of an object. Whether it exists is checked when it is used."""

    name = "path"

    def convert(self, value: str | Path, *_: object) -> Path:
        """Return the path of a command-line argument."""
        return at(value)


class LocalFolder(Location):
    """A path of a local file system."""

    def convert(self, value: str | Path, *_: object) -> Path:
        """Return the path; a URI is a usage error."""
        path = super().convert(value)
        if not isinstance(path, Path):
            self.fail(f"{value} is not a local folder")
        return path


PATH, LOCAL_FOLDER = Location(), LocalFolder()
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def ordinals(names: tuple[Path, ...], inputs: tuple[Path, ...], option: str) -> tuple[int, ...]:
    """Return the numbers of the inputs that an option names.

    Raises
    ------
    InputError
        If a name is not an input.
    """
    unknown = [path for path in names if path not in inputs]
    if unknown:
        raise InputError(f"{option} {unknown[0]}: not one of the inputs; name it as there")
    return tuple(number for number, path in enumerate(inputs) if path in names)

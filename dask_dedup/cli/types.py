"""Parameter types of the command line, and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.dedup.params import MATCHES, SHIFT_KEYS
from dask_dedup.errors import InputError
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Callable


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
_INPUT_OPTIONS = (
    click.option(
        "--micrographs",
        type=PATH,
        metavar="TABLE",
        help="Table with the pixel size and shape of each micrograph.",
    ),
    click.option(
        "--micrograph-pixel-size",
        type=float,
        metavar="A",
        help="Micrograph pixel size in angstrom, if no table has it.",
    ),
    click.option(
        "--shift-key",
        type=click.Choice(SHIFT_KEYS),
        default="auto",
        show_default=True,
        help="Alignment shift to apply; auto: alignments3D, else alignments2D, else none.",
    ),
    click.option(
        "--score-field",
        default="ncc_score",
        show_default=True,
        metavar="FIELD",
        help="Best particles win: ncc_score, error, error_min, NAME:higher, NAME:lower, or none (random).",
    ),
    click.option(
        "--match-micrographs",
        type=click.Choice(MATCHES),
        default="auto",
        show_default=True,
        help="How to match micrographs across inputs.",
    ),
    click.option(
        "--flip-y",
        multiple=True,
        type=PATH,
        metavar="INPUT",
        help="Flip the y axis of this INPUT; may be repeated.",
    ),
    click.option(
        "--micrograph-height",
        type=int,
        metavar="PIXELS",
        help="Micrograph height in pixels for --flip-y, if no table has it.",
    ),
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for reading INPUTs, which are parameters of `DedupParams`."""
    for option in reversed(_INPUT_OPTIONS):
        command = option(command)
    return command


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

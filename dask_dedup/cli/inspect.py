"""The command ``inspect``."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.cli.console import as_flag, spelled
from dask_dedup.cli.types import INPUTS, JSON, dedup_params, input_options, names_of

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.cli.types import NamedPath
    from dask_dedup.hints import Hint


@click.command()
@INPUTS
@click.option(
    "--min-separation",
    default=20.0,
    metavar="A",
    help="Largest distance at which picks of different inputs match, in angstrom.",
)
@input_options
@JSON
def inspect(
    inputs: tuple[NamedPath, ...],
    micrographs: Path | None,
    flip_y: tuple[Path, ...],
    as_json: bool,
    **parameters: Any,
) -> None:
    """Show what each INPUT holds, and whether the inputs fit together.

    Counts particles and micrographs, lists columns and problems, measures distances to help choose
    a separation, and finds inputs whose y axis or shifts disagree.
    """
    from dask_dedup.inspection import inspect as inspect_files

    def with_path(hint: Hint) -> str:
        """Format a parameter as a command-line flag. For `flip_y`, replace input numbers by paths."""
        if hint.parameter != "flip_y" or hint.text is None:
            return as_flag(hint)
        flipped = (found.inputs[number].path for number in hint.value)
        return " ".join(f"--flip-y {shlex.quote(path)}" for path in flipped)

    params = dedup_params(inputs, flip_y, parameters, micrographs)
    paths = [path for path, _ in inputs]
    found = inspect_files(paths, params=params, micrographs=micrographs, names=names_of(inputs))
    if as_json:
        click.echo(json.dumps(found.to_dict(lambda text: spelled(text, with_path)), indent=2))
    else:
        for line in found.lines(lambda text: spelled(text, with_path)):
            click.echo(line)

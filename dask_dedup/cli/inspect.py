"""The command ``inspect``."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.cli.console import spelled
from dask_dedup.cli.types import (
    INPUTS,
    JSON,
    PATH,
    dedup_params,
    input_options,
    names_of,
    ranking_options,
)
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter
from dask_dedup.results.command import spell_flag

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
    help="Picks of different INPUTs match if they are at most A angstrom apart.",
)
@input_options
@ranking_options
@click.option(
    "--separations",
    metavar="A,A,...",
    help="Separations, in angstrom, at which to count the kept particles.  [default: up to 32, chosen from the data]",
)
@click.option(
    "--html",
    type=PATH,
    metavar="FILE",
    help="Also write an HTML page with the picks on micrographs and a slider for the separation.",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also print the columns of each INPUT, distances of neighbours, and a comparison of each pair of INPUTs.",
)
@JSON
def inspect(
    inputs: tuple[NamedPath, ...],
    micrographs: Path | None,
    flip_y: tuple[Path, ...],
    separations: str | None,
    html: Path | None,
    verbose: bool,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Show the contents of each INPUT, and check that the INPUTs can be combined.

    Counts particles and micrographs. Recommends a separation, and counts the particles that a run keeps at
    other separations. Reports problems, such as inputs with different directions of the y axis.
    """
    from dask_dedup.inspection import inspect as inspect_files

    def with_path(hint: Hint) -> str:
        """Format a parameter as a command-line flag. For `flip_y`, replace input numbers by paths."""
        if hint.parameter != "flip_y" or hint.text is None:
            return spell_flag(hint)
        flipped = (found.inputs[number].path for number in hint.value)
        return " ".join(f"--flip-y {shlex.quote(path)}" for path in flipped)

    params = dedup_params(inputs, flip_y, parameters, micrographs)
    paths = [path for path, _ in inputs]
    found = inspect_files(
        paths,
        params=params,
        micrographs=micrographs,
        names=names_of(inputs),
        separations=_numbers(separations),
    )
    if html:
        from dask_dedup.results.report.preview import write_preview

        write_preview(found, html, lambda text: spelled(text, with_path))
    if as_json:
        click.echo(json.dumps(found.to_dict(lambda text: spelled(text, with_path)), indent=2))
    else:
        for line in found.lines(lambda text: spelled(text, with_path), verbose=verbose):
            click.echo(line)
        if html:
            click.echo(f"\npage: {html}")


def _numbers(text: str | None) -> list[float] | None:
    """Parse numbers that are separated by commas."""
    if text is None:
        return None
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise InputError(
            f"{parameter('separations')} is {text!r}; write numbers with commas between them."
        ) from None

"""The verb inspect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.cli.flips import ordinals
from dask_dedup.cli.types import PATH
from dask_dedup.dedup.params import MATCHES, SHIFT_KEYS, DedupParams

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=PATH, metavar="INPUT...")
@click.option(
    "--min-separation",
    default=20.0,
    show_default=True,
    metavar="A",
    help="Look for partners in other INPUTs within this distance, in angstrom.",
)
@click.option("--micrographs", type=PATH, metavar="TABLE", help="As for run.")
@click.option("--micrograph-pixel-size", type=float, metavar="A", help="As for run.")
@click.option("--shift-key", type=click.Choice(SHIFT_KEYS), default="auto", help="As for run.")
@click.option("--score-field", default="ncc_score", metavar="FIELD", help="As for run.")
@click.option("--match-micrographs", type=click.Choice(MATCHES), default="auto", help="As for run.")
@click.option("--flip-y", multiple=True, type=PATH, metavar="INPUT", help="As for run.")
@click.option("--micrograph-height", type=int, metavar="PIXELS", help="As for run.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def inspect(
    inputs: tuple[Path, ...],
    micrographs: Path | None,
    flip_y: tuple[Path, ...],
    as_json: bool,
    **parameters: Any,
) -> None:
    """Tell what is in each INPUT, and whether they fit together.

    Counts particles and micrographs, names the columns and what a run would refuse, shows how far apart
    particles are so that a separation can be chosen, and finds inputs whose y axis or shifts disagree.
    """
    from dask_dedup.inspection import inspect as inspect_files

    params = DedupParams(**parameters, flip_y=ordinals(flip_y, inputs))
    found = inspect_files(inputs, params=params, micrographs=micrographs)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        for line in found.lines():
            click.echo(line)

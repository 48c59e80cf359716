"""The verbs about what an earlier run left: report, status, clean."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from dask_dedup.cli.types import PATH
from dask_dedup.cli.verify import prove

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("output", type=PATH)
@click.option(
    "--plot-micrograph",
    "plot_micrographs",
    multiple=True,
    metavar="NAME",
    help="Show this micrograph, too.",
)
@click.option("--verify", is_flag=True, help="Prove the result first, and say so in the report.")
def report(output: Path, plot_micrographs: tuple[str, ...], verify: bool) -> None:
    """Make the pictures and the report of a finished run, or make them again.

    Reads the result only, not the inputs (but --verify does), and replaces OUTPUT/report.html and
    OUTPUT/plots.
    """
    from dask_dedup.results.report import report as make_report

    proof = prove(output) if verify else None
    click.echo(
        f"the report is {make_report(output, plot_micrographs=plot_micrographs, verification=proof)}"
    )
    if proof and not proof.verified:
        sys.exit(1)


@click.command()
@click.argument("output", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(output: Path, as_json: bool) -> None:
    """Tell what OUTPUT holds: a finished run, one at work, or one that was cut short and how to go on.

    Exit code 1 if files of the finished run are gone or have another size.
    """
    from dask_dedup.results.status import status as look

    found = look(output)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        for line in found.lines():
            click.echo(line)
    if found.damaged:
        sys.exit(1)


@click.command()
@click.argument("output", type=PATH)
def clean(output: Path) -> None:
    """Remove from OUTPUT what dead runs left there, and nothing else."""
    from dask_dedup.results.status import clean as remove

    removed = remove(output)
    for folder in removed:
        click.echo(f"removed {folder}")
    if not removed:
        click.echo(f"{output}: nothing to remove")

"""The commands verify and report."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from dask_dedup.cli.console import print_result
from dask_dedup.cli.types import JSON, PATH

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("output", type=PATH)
@JSON
def verify(output: Path, as_json: bool) -> None:
    """Verify a finished run with an independent algorithm.

    Checks that no row was lost or changed, that no two kept particles are within the separation,
    that every rejected particle has the right winner, and that every file has its checksum. Exit
    code 1 if a check fails, or cannot be made because the inputs are gone.
    """
    from dask_dedup import verify as verify_files

    found = verify_files(output)
    print_result(found, as_json=as_json)
    if not found.verified:
        sys.exit(1)


@click.command()
@click.argument("output", type=PATH)
@click.option(
    "--plot-micrograph",
    "plot_micrographs",
    multiple=True,
    metavar="NAME",
    help="Also show this micrograph; may be repeated.",
)
@click.option("--verify", is_flag=True, help="Verify the result first, and report the outcome.")
def report(output: Path, plot_micrographs: tuple[str, ...], verify: bool) -> None:
    """Write the report of a finished run.

    Writes OUTPUT/report.html and OUTPUT/plots, and replaces an earlier report. Reads only the
    result, not the inputs, unless --verify is given.
    """
    from dask_dedup import report as write_report
    from dask_dedup import verify as verify_files

    found = verify_files(output) if verify else None
    page = write_report(output, plot_micrographs=plot_micrographs, verification=found)
    click.echo(f"report: {page}")
    if found and not found.verified:
        sys.exit(1)

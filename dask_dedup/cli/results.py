"""Commands for an output folder: status, verify, report, publish and clean."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from dask_dedup.cli.console import print_result, spelled
from dask_dedup.cli.types import JSON, OUTPUT, PATH, PLOT_MICROGRAPH
from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@OUTPUT
@JSON
def status(output: Path, as_json: bool) -> None:
    """Show whether OUTPUT is finished, running or interrupted.

    Shows how to resume an interrupted run. Exit code 1 if a file of a finished run is missing or has
    the wrong size.
    """
    from dask_dedup import status as read_status

    found = read_status(output)
    print_result(found, as_json=as_json)
    if found.damaged:
        sys.exit(1)


@click.command()
@OUTPUT
@JSON
def verify(output: Path, as_json: bool) -> None:
    """Verify a finished run with an independent algorithm.

    Checks that:

    \b
    - no row was lost or changed
    - no two kept particles are within the separation
    - the list of duplicates has the right kept particle for each rejected one
    - votes are counted correctly
    - every file matches its checksum

    Exit code 1 if a check fails, or if the inputs are missing.
    """  # noqa: D301 (click reads the backspace)
    from dask_dedup import verify as verify_files

    found = verify_files(output)
    print_result(found, as_json=as_json)
    if not found.verified:
        sys.exit(1)


@click.command()
@OUTPUT
@PLOT_MICROGRAPH
@click.option(
    "--verify", is_flag=True, help="Verify the result first, and show the outcome in the report."
)
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


@click.command()
@OUTPUT
@click.option("--delta", type=PATH, metavar="TABLE", help="Folder or URI of the Delta table.")
@click.option(
    "--iceberg",
    nargs=2,
    metavar="CATALOG TABLE",
    help="Catalog in pyiceberg's configuration, and name of the Iceberg table, such as em.kept.",
)
@click.option(
    "--table",
    type=click.Choice(["kept", "rejected", "duplicates", "votes"]),
    default="kept",
    help="Part of the result to publish.",
)
@click.option(
    "--mode",
    type=click.Choice(["append", "replace", "replace-tagged"]),
    default="append",
    help="append: add the rows of the run. replace: replace all rows of the table. replace-tagged: replace only "
    "rows of the table with the tags (--tag) and the partition values of this run.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG=VALUE",
    help="Add a column TAG with this value, such as session=24mar07. May be repeated.",
)
@click.option(
    "--link",
    is_flag=True,
    help="Link the files of the run into the table, without converting column types. Files that cannot be linked "
    "are copied.",
)
@JSON
def publish(
    output: Path,
    delta: Path | None,
    iceberg: tuple[str, str] | None,
    table: str,
    mode: str,
    tags: tuple[str, ...],
    link: bool,
    as_json: bool,
) -> None:
    """Publish a finished run to a Delta or Iceberg table.

    Writes files with the column types of Delta and Iceberg. Creates the table if it does not exist. Does
    nothing if the table already has the rows of the run.
    """
    from dask_dedup import publish as publish_files

    if (delta is None) == (iceberg is None):
        raise click.UsageError("pass either --delta TABLE or --iceberg CATALOG TABLE")
    parsed: dict[str, str] = {}
    for tag in tags:
        name, equals, value = tag.partition("=")
        if not equals or name in parsed:
            raise InputError(f"--tag {tag}: pass NAME=VALUE, each name once")
        parsed[name] = value
    done = publish_files(
        output, delta=delta, iceberg=iceberg, table=table, mode=mode, tags=parsed, link=link
    )
    print_result(done, as_json=as_json)
    for line in done.warnings():
        click.echo(f"warning: {spelled(line)}", err=True)


@click.command()
@OUTPUT
def clean(output: Path) -> None:
    """Remove leftovers of interrupted runs from OUTPUT."""
    from dask_dedup import clean as remove_leftovers

    removed = remove_leftovers(output)
    for folder in removed:
        click.echo(f"removed {folder}")
    if not removed:
        click.echo(f"{output}: nothing to remove")

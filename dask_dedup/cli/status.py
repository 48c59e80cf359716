"""The commands status and clean."""

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
def status(output: Path, as_json: bool) -> None:
    """Show whether OUTPUT is finished, running or interrupted.

    Shows how to resume an interrupted run. Exit code 1 if files of a finished run are missing or
    have another size.
    """
    from dask_dedup import status as read_status

    found = read_status(output)
    print_result(found, as_json=as_json)
    if found.damaged:
        sys.exit(1)


@click.command()
@click.argument("output", type=PATH)
def clean(output: Path) -> None:
    """Remove leftovers of interrupted runs from OUTPUT."""
    from dask_dedup import clean as remove_leftovers

    removed = remove_leftovers(output)
    for folder in removed:
        click.echo(f"removed {folder}")
    if not removed:
        click.echo(f"{output}: nothing to remove")

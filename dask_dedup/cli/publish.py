"""The verb publish."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from dask_dedup.cli.console import spelled
from dask_dedup.cli.types import PATH
from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("output", type=PATH)
@click.option("--delta", type=PATH, metavar="TABLE", help="Folder or URI of the Delta table.")
@click.option(
    "--iceberg",
    nargs=2,
    metavar="CATALOG TABLE",
    help="Catalog of pyiceberg's configuration, and the Iceberg table's name in it, such as em.kept.",
)
@click.option(
    "--table",
    type=click.Choice(["kept", "rejected", "duplicates"]),
    default="kept",
    show_default=True,
    help="What to publish: particles_kept, particles_rejected or duplicates.",
)
@click.option(
    "--mode",
    type=click.Choice(["append", "replace"]),
    default="append",
    show_default=True,
    help="Add the run to what the table holds, or put it in the place of all that.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="NAME=VALUE",
    help="A column with this value in all rows of the run, such as session=24mar07; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def publish(
    output: Path,
    delta: Path | None,
    iceberg: tuple[str, str] | None,
    table: str,
    mode: str,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Publish a finished run in OUTPUT to a table of a lake.

    The files enter the table byte for byte, linked where possible; nothing is encoded again. A table is made if
    there is none. A run that the table holds already is not published again.
    """
    from dask_dedup.results.publish import publish as publish_files

    if (delta is None) == (iceberg is None):
        raise click.UsageError("give either --delta TABLE or --iceberg CATALOG TABLE")
    done = publish_files(
        output, delta=delta, iceberg=iceberg, table=table, mode=mode, tags=_parse(tags)
    )
    for line in done.warnings():
        click.echo(f"warning: {spelled(line)}", err=True)
    if as_json:
        click.echo(json.dumps(done.to_dict(), indent=2))
    else:
        for text in done.lines():
            click.echo(text)


def _parse(tags: tuple[str, ...]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for tag in tags:
        name, equals, value = tag.partition("=")
        if not equals or name in parsed:
            raise InputError(f"--tag {tag}: give NAME=VALUE, each name once")
        parsed[name] = value
    return parsed

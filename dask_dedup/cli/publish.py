"""The command publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dask_dedup.cli.console import print_result, spelled
from dask_dedup.cli.types import JSON, PATH
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
    help="Catalog in the configuration of pyiceberg, and name of the Iceberg table, such as em.kept.",
)
@click.option(
    "--table",
    type=click.Choice(["kept", "rejected", "duplicates"]),
    default="kept",
    show_default=True,
    help="Which part of the result to publish.",
)
@click.option(
    "--mode",
    type=click.Choice(["append", "replace"]),
    default="append",
    show_default=True,
    help="Add the run to the table, or replace the contents of the table.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="NAME=VALUE",
    help="Add a column with this value, such as session=24mar07; may be repeated.",
)
@JSON
def publish(
    output: Path,
    delta: Path | None,
    iceberg: tuple[str, str] | None,
    table: str,
    mode: str,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Publish a finished run to a Delta or Iceberg table.

    Files are added unchanged, linked where possible. The table is created if it does not exist. A
    run that the table already holds is not published again.
    """
    from dask_dedup import publish as publish_files

    if (delta is None) == (iceberg is None):
        raise click.UsageError("pass either --delta TABLE or --iceberg CATALOG TABLE")
    done = publish_files(
        output, delta=delta, iceberg=iceberg, table=table, mode=mode, tags=_parse(tags)
    )
    print_result(done, as_json=as_json)
    for line in done.warnings():
        click.echo(f"warning: {spelled(line)}", err=True)


def _parse(tags: tuple[str, ...]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for tag in tags:
        name, equals, value = tag.partition("=")
        if not equals or name in parsed:
            raise InputError(f"--tag {tag}: pass NAME=VALUE, each name once")
        parsed[name] = value
    return parsed

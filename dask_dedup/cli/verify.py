"""The verb verify, and its work for other verbs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from dask_dedup.cli.types import PATH

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.results.verify import Verification


@click.command()
@click.argument("output", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(output: Path, as_json: bool) -> None:
    """Prove a finished run with an independent algorithm.

    Checks that no row was lost or changed, that no two kept particles are within the separation, that every
    rejected one has its winner, and that every file is as the run left it. Exit code 1 if any of it fails, or
    cannot be checked because the inputs are gone.
    """
    proof = prove(output)
    if as_json:
        click.echo(json.dumps(proof.to_dict(), indent=2))
    else:
        for line in proof.lines():
            click.echo(line)
    if not proof.verified:
        sys.exit(1)


def prove(output: Path) -> Verification:
    """Prove a finished run."""
    from dask_dedup.results.verify import verify as verify_files

    return verify_files(output)

"""The verb demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dask_dedup.cli.console import log_to_terminal, result_lines, showing_progress
from dask_dedup.cli.types import PATH

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option(
    "-o", "--output", default="demo", show_default=True, type=PATH, help="Folder to work in."
)
@click.option("--particles", default=20_000, show_default=True, help="True particles to simulate.")
@click.option("--seed", default=0, show_default=True, help="Seeds the simulation.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo in the folder.")
def demo(output: Path, particles: int, seed: int, overwrite: bool) -> None:
    """Simulate two pickers on the same micrographs, remove the duplicates, verify the result."""
    from dask_dedup.cli.demo_run import run_demo

    log_to_terminal(quiet=False)
    with showing_progress(quiet=False) as on_event:
        result, proof, page = run_demo(
            output, particles=particles, seed=seed, overwrite=overwrite, on_event=on_event
        )
    for line in (*result_lines(result), *proof.lines()):
        click.echo(line)
    click.echo(f"the report is {page}")

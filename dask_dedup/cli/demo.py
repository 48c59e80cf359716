"""The command ``demo``."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from dask_dedup.cli.console import report_line, showing_progress, summary_lines, terminal_log
from dask_dedup.cli.types import PATH
from dask_dedup.errors import OutputExistsError


@click.command()
@click.option("-o", "--output", default="demo", type=PATH, help="Folder to work in.")
@click.option("--particles", default=20_000, help="Number of particles to simulate.")
@click.option("--seed", default=0, help="Seed for the simulation.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo in the folder.")
def demo(output: Path, particles: int, seed: int, overwrite: bool) -> None:
    """Simulate picks and remove the duplicates.

    Simulates two pickers on the same micrographs, removes the duplicates, verifies the result and
    writes the report.
    """
    from dask_dedup import DedupParams, report, run, verify
    from dask_dedup.simulation import simulate_pickers

    if not isinstance(output, Path):
        raise click.BadParameter(f"{output} is not a local folder", param_hint="--output")
    picks = output / "picks"
    if picks.exists():
        if not overwrite:
            raise OutputExistsError(f"{picks} exists; use --overwrite to replace it")
        shutil.rmtree(picks)
    pickers = simulate_pickers(
        picks,
        particles=particles,
        micrographs=max(1, particles // 330),
        pickers=("template", "blob"),
        seed=seed,
    )
    # The two score on different scales, so the better picker comes first and wins.
    params = DedupParams(prefer_input_order=True)
    result_folder = output / "result"
    with terminal_log() as log:
        with showing_progress(log) as on_event:
            result = run(pickers, result_folder, params, overwrite=overwrite, on_event=on_event)
        for line in summary_lines(result):
            click.echo(line)
        verification = verify(result_folder)
        for line in verification.lines():
            click.echo(line)
        click.echo(report_line(report(result_folder, verification=verification)))

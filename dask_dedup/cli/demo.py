"""The command ``demo``."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dask_dedup.cli.console import showing_progress, terminal_log
from dask_dedup.cli.types import PATH
from dask_dedup.errors import OutputExistsError, RunError
from dask_dedup.results.summary import report_line, summary_lines

if TYPE_CHECKING:
    from distributed import Client

    from dask_dedup import RunResult
    from dask_dedup.cli.console import TerminalLog

#: Workers of the local Dask cluster.
WORKERS = 2


@click.command()
@click.option("-o", "--output", default="demo", type=PATH, help="Folder to work in.")
@click.option("--particles", default=20_000, help="Number of particles to simulate.")
@click.option("--seed", default=0, help="Seed for the simulation.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo in the folder.")
@click.option(
    "--wait", is_flag=True, help="Keep the live page open at the end until a key is pressed."
)
def demo(output: Path, particles: int, seed: int, overwrite: bool, wait: bool) -> None:
    """Remove duplicates from simulated picks, in a single process and on a Dask cluster.

    Simulates the picks of three pickers on the same micrographs. Runs twice: in a single process, and on
    a local Dask cluster with a live page. Each run keeps the particles that at least two pickers found.
    Compares the files of both runs, verifies the result, and writes the report.
    """
    from dask_dedup import report, verify
    from dask_dedup.cluster.connect import start_local
    from dask_dedup.cluster.live_page_link import live_page_link, show_report
    from dask_dedup.pipeline.events import reported
    from dask_dedup.results.compare import compare_results
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
        pickers=("template", "blob", "topaz"),
        seed=seed,
    )
    click.echo(f"simulated: the picks of three pickers on the same micrographs, in {picks}")
    folders = output / "result", output / "result_of_cluster"
    with terminal_log(quiet=True) as log, ExitStack() as stack:
        here = _run(pickers, folders[0], None, log, overwrite=overwrite)
        click.echo(f"run in a single process: {here.manifest['seconds']:.1f} s")
        client = start_local(stack, WORKERS)
        link = live_page_link(client)
        click.echo(f"live page of the next run: {link}" if link else "no live page without bokeh")
        there = _run(pickers, folders[1], client, log, overwrite=overwrite)
        seconds = there.manifest["seconds"]
        click.echo(f"run on a Dask cluster of {WORKERS} workers: {seconds:.1f} s")
        compared = compare_results(*folders)
        if compared.differing:
            raise RunError(str(compared))
        click.echo(str(compared))
        for line in summary_lines(here):
            click.echo(line)
        verification = verify(folders[0])
        for line in verification.lines():
            click.echo(line)
        page = report(folders[0], verification=verification, contents=here.report_contents)
        show_report(client, reported(there.manifest, str(page.absolute())))
        if link:
            click.echo(f"live page: {link}{'' if wait else ' (closes now; --wait keeps it open)'}")
        click.echo(report_line(page))
        if wait:
            click.pause("Press any key to close the live page.", err=True)


def _run(
    pickers: list[Path],
    output: Path,
    client: Client | None,
    log: TerminalLog,
    *,
    overwrite: bool,
) -> RunResult:
    from dask_dedup import run

    with showing_progress(log) as on_event:
        # The pickers score on different scales, so the order of the inputs decides. The best picker is first.
        return run(
            pickers,
            output,
            client=client,
            overwrite=overwrite,
            on_event=on_event,
            prefer_input_order=True,
            min_votes=2,
        )

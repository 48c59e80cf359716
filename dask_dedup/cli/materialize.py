"""The command ``materialize``."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.cli.cluster_options import cluster_options, open_client
from dask_dedup.cli.console import showing_progress, silencing_dask_on_interrupt, terminal_log
from dask_dedup.cli.types import JSON, OUTPUT, QUIET, THREADS
from dask_dedup.formatting import shell_command
from dask_dedup.results.summary import summary_lines

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@OUTPUT
@THREADS
@cluster_options
@QUIET
@click.option("-v", "--verbose", is_flag=True, help="Also print details of fragments and shuffles.")
@JSON
def materialize(
    output: Path,
    threads: int | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **cluster: Any,
) -> None:
    """Write the particle tables of a run that used --duplicates-only.

    Adds particles_kept and particles_rejected to OUTPUT, identical to those of a run without --duplicates-only.
    The inputs must be unchanged since the run. If this command is interrupted, the result stays valid: run the
    command again to resume.
    """
    quiet = quiet or as_json
    if threads and any(cluster.values()):
        raise click.UsageError("--threads and the options of a cluster exclude each other")
    with terminal_log(quiet=quiet, verbose=verbose) as log, ExitStack() as stack:
        try:
            with silencing_dask_on_interrupt():
                client = None if threads else open_client(stack, **cluster)
                from dask_dedup import materialize as write_particles

                with showing_progress(log, quiet=quiet) as on_event:
                    result = write_particles(output, client, threads=threads, on_event=on_event)
        except KeyboardInterrupt:
            again = shell_command("materialize", output)
            click.echo(f"dask-dedup: interrupted; to resume: {again}", err=True)
            sys.exit(130)
        if as_json:
            done = {"output": str(output), "already_done": result.already_done}
            click.echo(json.dumps({**done, **result.manifest["totals"]}, indent=2))
        elif not quiet:
            for line in summary_lines(result):
                click.echo(line)

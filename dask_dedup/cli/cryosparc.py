"""The command ``cryosparc``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from dask_dedup.cli.types import (
    PLOT_MICROGRAPH,
    THREADS,
    NamedLocation,
    NamedPath,
    dedup_options,
    dedup_params,
    names_of,
)


@click.command()
@click.argument(
    "particles",
    nargs=-1,
    required=True,
    type=NamedLocation(),
    metavar="[NAME=]JOB:RESULT...",
)
@click.option("--project", required=True, metavar="P", help="Project, such as P1.")
@click.option(
    "--workspace", required=True, metavar="W", help="Workspace of the new job, such as W1."
)
@click.option(
    "--exposures",
    metavar="JOB:RESULT",
    help="Exposures with the pixel size and shape of each micrograph, such as J5:exposures.",
)
@click.option(
    "--url",
    help="Address of the instance, as in the browser. Also read from CRYOSPARC_BASE_URL.  "
    "[default: http://localhost:39000]",
)
@click.option("--title", help="Title of the new job.  [default: Remove duplicate particles]")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the tables read from CryoSPARC and for the result.  [default: a temporary folder]",
)
@dedup_options
@THREADS
@PLOT_MICROGRAPH
def cryosparc(
    particles: tuple[NamedPath, ...],
    project: str,
    workspace: str,
    exposures: str | None,
    url: str | None,
    title: str | None,
    folder: Path | None,
    micrographs: Path | None,
    flip_y: tuple[Path, ...],
    threads: int | None,
    plot_micrographs: tuple[str, ...],
    **parameters: Any,
) -> None:
    """Remove duplicates in an external job of a CryoSPARC workspace.

    Creates the job, connects the results of other jobs (J10:particles) to it, and saves particles_kept and
    particles_rejected for the next job. NAME=J10:particles names a picker. In options with INPUT, write
    J10:particles or NAME.

    CryoSPARC 5: save a login once with "python -m cryosparc.tools login", or set CRYOSPARC_EMAIL and
    CRYOSPARC_PASSWORD. CryoSPARC 4: set CRYOSPARC_EMAIL, CRYOSPARC_PASSWORD and CRYOSPARC_LICENSE_ID.
    """
    if exposures and micrographs:
        raise click.UsageError("--exposures and --micrographs exclude each other")
    table = Path(exposures) if exposures else micrographs
    params = dedup_params(particles, flip_y, parameters, table)
    from dask_dedup.integrations.cryosparc import TITLE, run_external_job

    run_external_job(
        [str(path) for path, _ in particles],
        params,
        project=project,
        workspace=workspace,
        exposures=exposures,
        micrographs=micrographs,
        url=url,
        title=title or TITLE,
        folder=folder,
        names=names_of(particles),
        echo=partial(click.echo, err=True),
        threads=threads,
        plot_micrographs=plot_micrographs,
    )

"""The command line, a thin layer over the Python API."""

from __future__ import annotations

import os
from typing import Any

import click

from dask_dedup.cli.cryosparc import cryosparc
from dask_dedup.cli.demo import demo
from dask_dedup.cli.failure import exiting_on_errors
from dask_dedup.cli.inspect import inspect
from dask_dedup.cli.materialize import materialize
from dask_dedup.cli.relion import relion
from dask_dedup.cli.results import clean, publish, report, status, verify
from dask_dedup.cli.run import run
from dask_dedup.storage.protocols import ENDPOINTS, check_endpoint
from dask_dedup.version import __version__


class _Commands(click.Group):
    """The group of all commands. An error is printed on one line, and its type sets the exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        with exiting_on_errors(ctx):
            return super().invoke(ctx)


@click.group(
    "dedup",  # as `dask dedup`
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
)
@click.version_option(__version__, prog_name="dask-dedup")
@click.option(
    "--endpoint-url",
    metavar="URL",
    help="S3 endpoint URL (default: AWS). Also read from AWS_ENDPOINT_URL.",
)
def main(endpoint_url: str | None) -> None:
    """Remove duplicate particle picks from cryo-EM particle tables.

    Inputs and results can be in an object store. Pass a URI, such as s3://bucket/picks.
    """
    if endpoint_url:
        os.environ[ENDPOINTS[0]] = check_endpoint(endpoint_url)
    # Arrow's default pool returns freed memory to the system at once, which makes a run a tenth longer.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


for _command in (
    *(run, inspect, verify, report, publish, materialize, status, clean),
    *(demo, cryosparc, relion),
):
    main.add_command(_command)

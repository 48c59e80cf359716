"""The command line: each verb is one call of the public interface."""

from __future__ import annotations

import errno
import os
from typing import Any

import click

from dask_dedup import __version__
from dask_dedup.cli.console import as_flag
from dask_dedup.cli.demo import demo
from dask_dedup.cli.inspect import inspect
from dask_dedup.cli.publish import publish
from dask_dedup.cli.run import run
from dask_dedup.cli.status import clean, report, status
from dask_dedup.cli.verify import verify
from dask_dedup.errors import DedupError, InputError
from dask_dedup.storage.paths import use_endpoint


class _Commands(click.Group):
    """Turns this program's errors into one line and the exit code they stand for."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DedupError as error:
            click.echo(f"dask-dedup: {error.spelled(as_flag)}", err=True)
            ctx.exit(2 if isinstance(error, InputError) else 1)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever read what is printed has gone, which click knows how to end
            click.echo(f"dask-dedup: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo(
                "dask-dedup: interrupted; the same command goes on from what is done", err=True
            )
            ctx.exit(130)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="dask-dedup")
@click.option(
    "--endpoint-url",
    metavar="URL",
    help="Server for s3:// places, where it is not Amazon's; or set AWS_ENDPOINT_URL.",
)
def main(endpoint_url: str | None) -> None:
    """Remove duplicate particle picks from cryo-EM particle tables.

    Tables and results may lie in an object store: name them by their URIs, such as s3://bucket/picks.
    """
    use_endpoint(endpoint_url)
    # Arrow's default gives memory back so soon that a tenth of a run goes into getting it again.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


for _verb in (run, inspect, verify, report, publish, status, clean, demo):
    main.add_command(_verb)

"""The command ``copick process dedup``, which copick loads as a plugin.

copick imports this module at each of its commands, so neither copick nor the rest of the package is imported here.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.cli.console import terminal_log
from dask_dedup.cli.failure import exiting_on_errors
from dask_dedup.cli.per_input import params_by_input
from dask_dedup.cli.types import (
    JSON,
    MIN_SCORE,
    QUIET,
    decision_options,
    separation_option,
)
from dask_dedup.dedup.per_input import as_input
from dask_dedup.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_dedup.integrations.copick import CopickResult


#: Shown only by the help in a terminal. In other outputs, asterisks and dashes would be markup.
_EXAMPLES = """
Examples:
  Combine the picks of two programs:
    copick process dedup -i ribosome:templatematch/1 -i ribosome:deeppicker/1 \\
        -o ribosome:dask-dedup/1 --min-separation 100

  All picks of all objects, each object separately:
    copick process dedup -i "*:*/*" -o :dask-dedup/1 --min-separation 100
"""


class _Plugin(click.Command):
    """A command of another program that reports errors in the same way as this package."""

    def invoke(self, ctx: click.Context) -> Any:
        with exiting_on_errors(ctx), _own_log():
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples at the end of the help."""
        formatter.write(_EXAMPLES)


@contextmanager
def _own_log() -> Iterator[None]:
    """Keep messages from the root logger, through which copick would print them a second time."""
    logger = logging.getLogger("dask_dedup")
    before, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = before


@click.command(
    "dedup",
    cls=_Plugin,
    short_help="Remove duplicate picks.",
    no_args_is_help=True,
    context_settings={"show_default": True, "max_content_width": 100},
)
@click.option(
    "-c",
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    required=True,
    envvar="COPICK_CONFIG",
    show_envvar=True,
    metavar="PATH",
    help="Path to the configuration file.",
)
@click.option(
    "-r",
    "--run-names",
    multiple=True,
    metavar="RUN",
    help="Run to process. May be repeated.  [default: all runs]",
)
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="URI",
    help="Picks to read: OBJECT:USER/SESSION, or a pattern. May be repeated.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="URI",
    help="Name for the kept picks. With :USER/SESSION, each object keeps its name.",
)
@click.option("--rejected", metavar="URI", help="Name for the rejected picks, as for --output.")
@separation_option(required=True)
@click.option(
    "--score-field",
    multiple=True,
    metavar="[INPUT=]FIELD",
    help="score:higher (default): high scores are better. score:lower: low scores are better. none: choose at "
    "random. INPUT=FIELD for one INPUT.",
)
@MIN_SCORE
@decision_options
@click.option(
    "--combine-objects",
    is_flag=True,
    help="Compare the picks of several objects with each other. All of them become picks of the object in --output.",
)
@click.option(
    "--renumber-filaments",
    is_flag=True,
    help="Give each filament of the second and later inputs a new instance_id, so that all filaments differ.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace existing picks with the names of --output and --rejected.",
)
@QUIET
@JSON
def dedup(
    config: str,
    inputs: tuple[str, ...],
    output: str,
    rejected: str | None,
    run_names: tuple[str, ...],
    combine_objects: bool,
    renumber_filaments: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Remove duplicates from the picks of all inputs.

    Two picks of a run are duplicates if their centres are too close. The pick with the better score is
    kept. Kept and rejected picks are copied with their orientations, scores and instance ids. Each
    object is processed separately.
    """
    params = params_by_input({as_input(uri): [uri] for uri in inputs}, parameters)
    with terminal_log(quiet=quiet or as_json):
        from dask_dedup.integrations.copick import remove_duplicate_picks

        result = remove_duplicate_picks(
            config,
            inputs,
            output,
            params,
            rejected=rejected,
            run_names=run_names,
            combine_objects=combine_objects,
            renumber_filaments=renumber_filaments,
            overwrite=overwrite,
        )
        if as_json:
            click.echo(json.dumps(result.to_dict(), indent=2))
        elif not quiet:
            for line in _summary(result):
                click.echo(printable(line))


def _summary(result: CopickResult) -> list[str]:
    """Return the lines of the summary: counts by input and by run, and the names of the outputs."""
    from dask_dedup.results.summary import count_lines

    return [
        *count_lines("input", result.counts(lambda each: str(each.name))),
        "",
        *count_lines("run", result.counts(lambda each: each.run)),
        "",
        *(f"kept: {name}" for name in result.kept),
        *(f"rejected: {name}" for name in result.rejected),
    ]

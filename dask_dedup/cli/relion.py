"""The command ``relion``: an External job of RELION."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dask_dedup.cli.types import (
    PATH,
    PLOT_MICROGRAPH,
    NamedLocation,
    NamedPath,
    dedup_options,
    dedup_params,
    names_of,
    together,
)
from dask_dedup.integrations import relion as host
from dask_dedup.integrations.interruption import interrupted_by_signals


class _Job(click.Command):
    """Command with hyphens or underscores in the names of its options, in a supervised process."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if job := host.job_to_supervise(args):
            sys.exit(host.run_supervised(job, args))
        return super().make_context(info_name, args, parent, **extra)


_ignored = together(
    [
        click.option("--in-movies", metavar="FILE", help="Ignored. RELION may pass this option."),
        click.option("--in-3dref", metavar="FILE", help="Ignored. RELION may pass this option."),
        click.option("--in-mask", metavar="FILE", help="Ignored. RELION may pass this option."),
        click.option(
            "--pipeline-control", metavar="JOB", help="Ignored. RELION may pass this option."
        ),
    ]
)


@click.command(
    cls=_Job,
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
)
@click.argument("inputs", nargs=-1, type=NamedLocation(), metavar="[[NAME=]INPUT]...")
@click.option(
    "--o", "job", required=True, type=click.Path(path_type=Path), help="Folder of the job."
)
@click.option(
    "--in-parts", type=NamedLocation(), metavar="STAR", help="Particles, used as the first INPUT."
)
@click.option(
    "--in-coords",
    type=NamedLocation(),
    metavar="FILE",
    help="Coordinates, used as the first INPUT.",
)
@click.option("--in-mics", type=PATH, metavar="STAR", help="Micrographs, used as --micrographs.")
@click.option(
    "--input",
    "further",
    type=NamedLocation(),
    multiple=True,
    metavar="[NAME=]INPUT",
    help="A further INPUT, such as the coordinates of another picker. May be repeated.",
)
@click.option(
    "--output-format",
    type=click.Choice(["star", "relion-coordinates"]),
    help="star: particles. relion-coordinates: one coordinate file per micrograph.  "
    "[default: star with --in-parts, else relion-coordinates]",
)
@click.option(
    "--j", "threads", type=click.IntRange(1), metavar="N", help="Maximum number of threads."
)
@dedup_options
@PLOT_MICROGRAPH
@_ignored
def relion(
    inputs: tuple[NamedPath, ...],
    job: Path,
    in_parts: NamedPath | None,
    in_coords: NamedPath | None,
    in_mics: Path | None,
    further: tuple[NamedPath, ...],
    output_format: str | None,
    threads: int | None,
    in_movies: str | None,
    in_3dref: str | None,
    in_mask: str | None,
    pipeline_control: str | None,  # noqa: ARG001
    micrographs: Path | None,
    flip_y: tuple[Path, ...],
    plot_micrographs: tuple[str, ...],
    **parameters: Any,
) -> None:
    """Remove duplicates as an External job of RELION.

    RELION calls this program with the folder of the job and the connected inputs. Other jobs can use the
    kept particles as input, and Extract can use the kept coordinates. The whole result and its report are
    in the subfolder dedup. In the Params tab of RELION, write an option without "--". Both min-separation
    and min_separation work.
    """
    if in_parts and in_coords:
        raise click.UsageError("connect either particles or coordinates, not both")
    every = (*filter(None, (in_parts, in_coords)), *further, *inputs)
    if not every:
        raise click.UsageError("no input: connect particles or coordinates")
    unused = {"movies": in_movies, "3D reference": in_3dref, "mask": in_mask}
    for name, path in unused.items():
        if path:
            click.echo(f"the {name} {path} is not used")
    if micrographs and in_mics and micrographs != in_mics:
        raise click.UsageError("--micrographs and the connected micrographs differ: leave out one")
    micrographs = micrographs or in_mics
    params = dedup_params(every, flip_y, parameters, micrographs)
    with interrupted_by_signals():
        host.run(
            job,
            [path for path, _ in every],
            params,
            click.echo,
            output_format=output_format or ("star" if in_parts else "relion-coordinates"),
            micrographs=micrographs,
            names=names_of(every),
            threads=threads,
            plot_micrographs=plot_micrographs,
        )

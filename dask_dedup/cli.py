"""The command line: each verb is one call of the public interface."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_dedup import __version__
from dask_dedup.errors import DedupError, InputError
from dask_dedup.params import MATCHES, SHIFT_KEYS, DedupParams

if TYPE_CHECKING:
    from dask_dedup.result import RunResult

_PATH = click.Path(path_type=Path)


class _Commands(click.Group):
    """Turns this program's errors into one line and the exit code they stand for."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DedupError as error:
            click.echo(f"dask-dedup: {error}", err=True)
            ctx.exit(2 if isinstance(error, InputError) else 1)
        except KeyboardInterrupt:
            click.echo(
                "dask-dedup: interrupted, nothing was committed; run the same command again",
                err=True,
            )
            ctx.exit(130)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="dask-dedup")
def main() -> None:
    """Remove duplicate particle picks from cryo-EM particle tables."""


@main.command()
@click.argument("inputs", nargs=-1, required=True, type=_PATH, metavar="INPUT...")
@click.option("-o", "--output", required=True, type=_PATH, help="Folder for the result.")
@click.option(
    "--min-separation",
    default=20.0,
    show_default=True,
    metavar="A",
    help="Least distance between particle centres, in angstrom; 0: precisely equal coordinates.",
)
@click.option(
    "--micrographs",
    type=_PATH,
    metavar="TABLE",
    help="Micrograph table: gives each micrograph its own pixel size and shape.",
)
@click.option(
    "--micrograph-pixel-size",
    type=float,
    metavar="A",
    help="Micrograph pixel size in angstrom, where neither table tells it.",
)
@click.option(
    "--shift-key",
    type=click.Choice(SHIFT_KEYS),
    default="auto",
    show_default=True,
    help="Alignment shift that moves the centres; auto: alignments3D, else alignments2D, else none.",
)
@click.option(
    "--score-field",
    default="ncc_score",
    show_default=True,
    metavar="FIELD",
    help="Who stays: ncc_score, error, error_min, none (a seeded choice), NAME:higher or NAME:lower.",
)
@click.option("--remove-entirely", is_flag=True, help="Reject every particle that has a duplicate.")
@click.option("--seed", default=0, show_default=True, help="Seeds the choice between equal scores.")
@click.option(
    "--prefer-input-order",
    is_flag=True,
    help="A particle of an earlier INPUT wins over one of a later INPUT, whatever the scores.",
)
@click.option(
    "--between-inputs-only",
    is_flag=True,
    help="Two particles of the same INPUT are never duplicates of each other.",
)
@click.option(
    "--ignore-within-filament",
    is_flag=True,
    help="Two particles of the same filament are never duplicates of each other.",
)
@click.option(
    "--undo-symmetry-expansion",
    is_flag=True,
    help="Keep one copy of each particle (sym_expand/src_uid), whatever their distance.",
)
@click.option(
    "--match-micrographs",
    type=click.Choice(MATCHES),
    default="auto",
    show_default=True,
    help="How the micrographs of several INPUTs are told to be the same.",
)
@click.option(
    "--flip-y",
    multiple=True,
    type=_PATH,
    metavar="INPUT",
    help="This INPUT's y axis runs the other way.",
)
@click.option(
    "--micrograph-height", type=int, metavar="PIXELS", help="For --flip-y, where no table tells it."
)
@click.option(
    "--output-format",
    type=click.Choice(["native", "parquet"]),
    default="native",
    show_default=True,
    help="Write each table in its own format, or all as one Parquet dataset.",
)
@click.option("--allow-outside", is_flag=True, help="Let a .csg point to files outside its folder.")
@click.option("--scheduler", metavar="ADDRESS", help="Run on the Dask cluster with this scheduler.")
@click.option("--scheduler-file", type=_PATH, metavar="FILE", help="The same, by scheduler file.")
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Start a local cluster of N workers."
)
@click.option(
    "--threads-per-worker",
    type=click.IntRange(1),
    metavar="N",
    help="Threads of each local worker.",
)
@click.option(
    "--memory-limit",
    metavar="SIZE",
    help="Memory of each local worker, such as 4GiB.  [default: its share]",
)
@click.option(
    "--dashboard-address",
    metavar="[HOST]:PORT",
    help="Serve the local cluster's dashboard, such as :8787.",
)
@click.option("--overwrite", is_flag=True, help="Replace the result of another run in --output.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def run(
    inputs: tuple[Path, ...],
    output: Path,
    micrographs: Path | None,
    flip_y: tuple[Path, ...],
    output_format: str,
    allow_outside: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    scheduler: str | None,
    scheduler_file: Path | None,
    workers: int | None,
    threads_per_worker: int | None,
    memory_limit: str | None,
    dashboard_address: str | None,
    **parameters: Any,
) -> None:
    """Find the duplicates among all INPUTs and write what is kept and what is rejected.

    An INPUT is a RELION .star, a CryoSPARC .cs or .csg, or Parquet (a file, a folder, or a
    hive-partitioned folder) with the column names of either program.
    """
    _log_to_terminal(quiet=quiet or as_json)
    params = DedupParams(**parameters, flip_y=_ordinals(flip_y, inputs))
    with ExitStack() as stack:
        client = None
        local = (workers, threads_per_worker, memory_limit, dashboard_address)
        if scheduler or scheduler_file:
            if (scheduler and scheduler_file) or any(local):
                raise click.UsageError(
                    "--scheduler, --scheduler-file and the options of a local cluster exclude each other"
                )
            from dask_dedup.cluster import connect

            client = connect(stack, scheduler, scheduler_file)
        elif any(local):
            from dask_dedup.cluster import start_local

            client = start_local(
                stack, workers, threads_per_worker, memory_limit or "auto", dashboard_address
            )
        from dask_dedup.pipeline import run as run_files

        result = run_files(
            inputs,
            output,
            params,
            client,
            micrographs=micrographs,
            output_format=output_format,
            allow_outside=allow_outside,
            overwrite=overwrite,
        )
    if as_json:
        click.echo(json.dumps(_as_dict(result), indent=2))
    elif not quiet:
        _print_result(result)


@main.command()
@click.argument("inputs", nargs=-1, required=True, type=_PATH, metavar="INPUT...")
@click.option(
    "--min-separation",
    default=20.0,
    show_default=True,
    metavar="A",
    help="Look for partners in other INPUTs within this distance, in angstrom.",
)
@click.option("--micrographs", type=_PATH, metavar="TABLE", help="As for run.")
@click.option("--micrograph-pixel-size", type=float, metavar="A", help="As for run.")
@click.option("--shift-key", type=click.Choice(SHIFT_KEYS), default="auto", help="As for run.")
@click.option("--score-field", default="ncc_score", metavar="FIELD", help="As for run.")
@click.option("--match-micrographs", type=click.Choice(MATCHES), default="auto", help="As for run.")
@click.option("--flip-y", multiple=True, type=_PATH, metavar="INPUT", help="As for run.")
@click.option("--micrograph-height", type=int, metavar="PIXELS", help="As for run.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def inspect(
    inputs: tuple[Path, ...],
    micrographs: Path | None,
    flip_y: tuple[Path, ...],
    as_json: bool,
    **parameters: Any,
) -> None:
    """Tell what is in each INPUT, and whether they fit together.

    Counts particles and micrographs, names the columns and what a run would refuse, shows how far apart
    particles are so that a separation can be chosen, and finds inputs whose y axis or shifts disagree.
    """
    from dask_dedup.inspection import inspect as inspect_files

    params = DedupParams(**parameters, flip_y=_ordinals(flip_y, inputs))
    found = inspect_files(inputs, params=params, micrographs=micrographs)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        for line in found.lines():
            click.echo(line)


@main.command()
@click.argument("output", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(output: Path, as_json: bool) -> None:
    """Prove a finished run with an independent algorithm.

    Checks that no row was lost or changed, that no two kept particles are within the separation, that every
    rejected one has its winner, and that every file is as the run left it. Exit code 1 if any of it fails, or
    cannot be checked because the inputs are gone.
    """
    from dask_dedup.verification import verify as verify_files

    report = verify_files(output)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        for line in report.lines():
            click.echo(line)
    if not report.proven:
        sys.exit(1)


@main.command()
@click.option(
    "-o", "--output", default="demo", show_default=True, type=_PATH, help="Folder to work in."
)
@click.option("--particles", default=20_000, show_default=True, help="True particles to simulate.")
@click.option("--seed", default=0, show_default=True, help="Seeds the simulation.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo in the folder.")
def demo(output: Path, particles: int, seed: int, overwrite: bool) -> None:
    """Simulate two pickers on the same micrographs, remove the duplicates, verify the result."""
    from dask_dedup.demo import run_demo

    _log_to_terminal(quiet=False)
    result, report = run_demo(output, particles=particles, seed=seed, overwrite=overwrite)
    _print_result(result)
    for line in report.lines():
        click.echo(line)


def _ordinals(some: tuple[Path, ...], inputs: tuple[Path, ...]) -> tuple[int, ...]:
    strangers = [path for path in some if path not in inputs]
    if strangers:
        raise InputError(f"--flip-y {strangers[0]}: is not among the INPUTs")
    return tuple(number for number, path in enumerate(inputs) if path in some)


def _log_to_terminal(*, quiet: bool) -> None:
    logger = logging.getLogger("dask_dedup")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]


def _as_dict(result: RunResult) -> dict[str, Any]:
    return {
        "output": str(result.output),
        "already_done": result.already_done,
        **result.manifest["totals"],
        "warnings": result.warnings,
        "run_id": result.manifest["run_id"],
    }


def _print_result(result: RunResult) -> None:
    entries = [*result.by_input]
    if len(entries) > 1:
        total = {
            "path": "all",
            "rows": result.rows,
            "kept": result.kept,
            "rejected": result.rejected,
        }
        entries.append(total)
    width = max(5, *(len(entry["path"]) for entry in entries))
    click.echo(f"{'input':<{width}} {'particles':>13} {'kept':>13} {'rejected':>13}")
    for entry in entries:
        share = f"{entry['rejected'] / entry['rows']:.1%}" if entry["rows"] else "-"
        click.echo(
            f"{entry['path']:<{width}} {entry['rows']:>13,} {entry['kept']:>13,} "
            f"{entry['rejected']:>13,}  {share}"
        )
    halves = result.manifest["totals"]["across_half_sets"]
    if halves:
        click.echo(f"duplicate pairs across the two half-sets: {halves:,}")
    for path in _native_files(result):
        click.echo(f"kept: {result.output / path}")
    click.echo(f"the result is in {result.output}")


def _native_files(result: RunResult) -> list[str]:
    """Name the kept file of each input that was written in its own format."""
    paths = [entry["path"] for entry in result.by_input]
    return [
        entry["path"]
        for entry in result.manifest["outputs"]
        if "input" in entry
        and entry["path"].startswith("particles_kept/")
        and Path(entry["path"]).name == Path(paths[entry["input"]]).name
    ]

"""The command line: each verb is one call of the public interface."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from dask_dedup import __version__
from dask_dedup.errors import DedupError, InputError
from dask_dedup.params import INVALID, MATCHES, SHIFT_KEYS, DedupParams
from dask_dedup.places import at, use_endpoint
from dask_dedup.terminal import log_to_terminal, result_lines, showing_progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_dedup.result import RunResult
    from dask_dedup.verification import Verification


class _Place(click.ParamType):  # type: ignore[type-arg]
    """A path, or the URI of one in an object store."""

    name = "path"

    def convert(self, value: str | Path, *_: object) -> Path:
        return at(value)


_PATH = _Place()


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
    "--invalid",
    type=click.Choice(INVALID),
    default="error",
    show_default=True,
    help="Rows that cannot be compared (no position, no micrograph): refuse the run, or carry them to "
    "the rejected or the kept without taking part.",
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
@click.option("--verify", is_flag=True, help="Prove the result as the verb verify does.")
@click.option("--no-report", is_flag=True, help="Make no report.html and no plots.")
@click.option(
    "--plot-micrograph",
    "plot_micrographs",
    multiple=True,
    metavar="NAME",
    help="Show this micrograph in the report.",
)
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
    verify: bool,
    no_report: bool,
    plot_micrographs: tuple[str, ...],
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
    quiet = quiet or as_json
    log_to_terminal(quiet=quiet)
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

        watch = stack.enter_context(showing_progress(quiet=quiet))
        result = run_files(
            inputs,
            output,
            params,
            client,
            micrographs=micrographs,
            output_format=output_format,
            allow_outside=allow_outside,
            overwrite=overwrite,
            watch=watch,
        )
    proof = _prove(output) if verify else None
    pictured = None
    if not no_report:
        pictured = _picture(result, plot_micrographs, proof)
    if as_json:
        click.echo(json.dumps(_as_dict(result, proof, pictured), indent=2))
    elif not quiet:
        for line in (*result_lines(result), *(proof.lines() if proof else ())):
            click.echo(line)
        if pictured:
            click.echo(f"the report is {pictured}")
    if proof and not proof.proven:
        sys.exit(1)


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
    proof = _prove(output)
    if as_json:
        click.echo(json.dumps(proof.to_dict(), indent=2))
    else:
        for line in proof.lines():
            click.echo(line)
    if not proof.proven:
        sys.exit(1)


@main.command()
@click.argument("output", type=_PATH)
@click.option(
    "--plot-micrograph",
    "plot_micrographs",
    multiple=True,
    metavar="NAME",
    help="Show this micrograph, too.",
)
@click.option("--verify", is_flag=True, help="Prove the result first, and say so in the report.")
def report(output: Path, plot_micrographs: tuple[str, ...], verify: bool) -> None:
    """Make the pictures and the report of a finished run, or make them again.

    Reads the result only, not the inputs (but --verify does), and replaces OUTPUT/report.html and
    OUTPUT/plots.
    """
    from dask_dedup.reporting import report as make_report

    proof = _prove(output) if verify else None
    click.echo(
        f"the report is {make_report(output, plot_micrographs=plot_micrographs, verification=proof)}"
    )
    if proof and not proof.proven:
        sys.exit(1)


@main.command()
@click.argument("output", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(output: Path, as_json: bool) -> None:
    """Tell what OUTPUT holds: a finished run, one at work, or one that was cut short and how to go on."""
    from dask_dedup.status import status as look

    found = look(output)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        for line in found.lines():
            click.echo(line)


@main.command()
@click.argument("output", type=_PATH)
def clean(output: Path) -> None:
    """Remove from OUTPUT what dead runs left there, and nothing else."""
    from dask_dedup.status import clean as remove

    removed = remove(output)
    for folder in removed:
        click.echo(f"removed {folder}")
    if not removed:
        click.echo(f"{output}: nothing to remove")


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

    log_to_terminal(quiet=False)
    with showing_progress(quiet=False) as watch:
        result, proof, page = run_demo(
            output, particles=particles, seed=seed, overwrite=overwrite, watch=watch
        )
    for line in (*result_lines(result), *proof.lines()):
        click.echo(line)
    click.echo(f"the report is {page}")


def _ordinals(some: tuple[Path, ...], inputs: tuple[Path, ...]) -> tuple[int, ...]:
    strangers = [path for path in some if path not in inputs]
    if strangers:
        raise InputError(f"--flip-y {strangers[0]}: is not among the INPUTs")
    return tuple(number for number, path in enumerate(inputs) if path in some)


def _prove(output: Path) -> Verification:
    from dask_dedup.verification import verify as verify_files

    return verify_files(output)


def _picture(
    result: RunResult, micrographs: Sequence[str], proof: Verification | None
) -> Path | None:
    """Make the report; the result stands, whatever becomes of its pictures."""
    page = result.output / "report.html"
    if result.already_done and page.exists() and not (micrographs or proof):
        return page
    try:
        from dask_dedup.reporting import report as make_report

        return make_report(result.output, plot_micrographs=micrographs, verification=proof)
    except DedupError as error:
        click.echo(f"warning: the result is whole, but has no report: {error}", err=True)
        return None


def _as_dict(
    result: RunResult, proof: Verification | None, pictured: Path | None
) -> dict[str, Any]:
    return {
        "output": str(result.output),
        "already_done": result.already_done,
        **result.manifest["totals"],
        "warnings": result.warnings,
        "run_id": result.manifest["run_id"],
        "report": str(pictured) if pictured else None,
        "verification": proof.to_dict() if proof else None,
    }

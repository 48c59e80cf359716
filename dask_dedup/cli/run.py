"""The verb run."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.cli.cluster_options import ClusterOptions, cluster_options
from dask_dedup.cli.console import log_to_terminal, result_lines, showing_progress
from dask_dedup.cli.flips import ordinals
from dask_dedup.cli.types import PATH
from dask_dedup.cli.verify import prove
from dask_dedup.dedup.params import INVALID, MATCHES, SHIFT_KEYS, DedupParams
from dask_dedup.errors import DedupError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_dedup.pipeline.result import RunResult
    from dask_dedup.results.verify import Verification


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=PATH, metavar="INPUT...")
@click.option("-o", "--output", required=True, type=PATH, help="Folder for the result.")
@click.option(
    "--min-separation",
    default=20.0,
    show_default=True,
    metavar="A",
    help="Least distance between particle centres, in angstrom; 0: precisely equal coordinates.",
)
@click.option(
    "--micrographs",
    type=PATH,
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
    type=PATH,
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
@cluster_options
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
    **parameters: Any,
) -> None:
    """Find the duplicates among all INPUTs and write what is kept and what is rejected.

    An INPUT is a RELION .star, a CryoSPARC .cs or .csg, or Parquet (a file, a folder, or a
    hive-partitioned folder) with the column names of either program.
    """
    quiet = quiet or as_json
    log_to_terminal(quiet=quiet)
    where = ClusterOptions.take(parameters)
    params = DedupParams(**parameters, flip_y=ordinals(flip_y, inputs))
    with ExitStack() as stack:
        client = where.client(stack)
        from dask_dedup.pipeline.run import run as run_files

        on_event = stack.enter_context(showing_progress(quiet=quiet))
        result = run_files(
            inputs,
            output,
            params,
            client,
            micrographs=micrographs,
            output_format=output_format,
            allow_outside=allow_outside,
            overwrite=overwrite,
            on_event=on_event,
        )
    proof = pictured = None
    try:
        if verify:
            proof = prove(output)
        if not no_report:
            pictured = _picture(result, plot_micrographs, proof)
    except KeyboardInterrupt:
        again = f"dask-dedup report {'--verify ' if verify else ''}{shlex.quote(str(output))}"
        click.echo(
            f"dask-dedup: interrupted, but the result is whole; for its report: {again}", err=True
        )
        sys.exit(130)
    if as_json:
        click.echo(json.dumps(_as_dict(result, proof, pictured), indent=2))
    elif not quiet:
        for line in (*result_lines(result), *(proof.lines() if proof else ())):
            click.echo(line)
        if pictured:
            click.echo(f"the report is {pictured}")
    if proof and not proof.verified:
        sys.exit(1)


def _picture(
    result: RunResult, micrographs: Sequence[str], proof: Verification | None
) -> Path | None:
    """Make the report; the result stands, whatever becomes of its pictures."""
    page = result.output / "report.html"
    if result.already_done and page.exists() and not (micrographs or proof):
        return page
    try:
        from dask_dedup.results.report import report as make_report

        try:
            return make_report(result.output, plot_micrographs=micrographs, verification=proof)
        except InputError as error:
            if not micrographs:
                raise
            click.echo(f"warning: the report is without --plot-micrograph: {error}", err=True)
            return make_report(result.output, verification=proof)
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

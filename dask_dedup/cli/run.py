"""The command ``run``."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_dedup.cli.cluster_options import cluster_options, open_client
from dask_dedup.cli.console import (
    showing_progress,
    silencing_dask_on_interrupt,
    spelled,
    terminal_log,
)
from dask_dedup.cli.types import (
    INPUTS,
    JSON,
    PATH,
    PLOT_MICROGRAPH,
    QUIET,
    THREADS,
    dedup_options,
    dedup_params,
    names_of,
)
from dask_dedup.errors import DedupError, InputError
from dask_dedup.formatting import shell_command
from dask_dedup.results.command import spell_flag
from dask_dedup.results.summary import report_line, summary_lines
from dask_dedup.storage.files import list_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distributed import Client

    from dask_dedup import RunResult, Verification
    from dask_dedup.cli.types import NamedPath


@click.command()
@INPUTS
@click.option("-o", "--output", required=True, type=PATH, help="Folder for the result.")
@dedup_options
@click.option(
    "--output-format",
    type=click.Choice(["native", "parquet", "star", "relion-coordinates"]),
    default="native",
    help="native: the format of each INPUT. parquet: Parquet for all. star: one RELION STAR file. "
    "relion-coordinates: one coordinate file per micrograph, for Extract in RELION.",
)
@click.option(
    "--compression",
    type=click.Choice(["auto", "zstd", "lz4", "snappy", "none"]),
    default="auto",
    help="Compression of Parquet files. auto: a codec and an encoding for each column. With the other values, all "
    "columns have encodings that every reader knows.",
)
@click.option(
    "--partition-by",
    multiple=True,
    metavar="COLUMN",
    help="Put Parquet files into folders by the values of COLUMN, such as session=A. May be repeated.  [default: the "
    "partition folders of the inputs]",
)
@click.option(
    "--duplicates-only",
    is_flag=True,
    help="Write duplicates/ and votes/, but no particle tables. The command materialize, or the same run without "
    "this option, writes the particle tables later.",
)
@click.option(
    "--allow-outside", is_flag=True, help="Allow a .csg to name files outside its folder."
)
@THREADS
@cluster_options
@click.option("--overwrite", is_flag=True, help="Replace an existing result in OUTPUT.")
@click.option("--verify", is_flag=True, help="Verify the result after the run.")
@click.option("--no-report", is_flag=True, help="Write no report.html and no plots.")
@PLOT_MICROGRAPH
@QUIET
@click.option(
    "-v", "--verbose", is_flag=True, help="Also print details of plan, fragments and shuffles."
)
@JSON
def run(
    inputs: tuple[NamedPath, ...],
    output: Path,
    micrographs: Path | None,
    flip_y: tuple[Path, ...],
    output_format: str,
    compression: str,
    partition_by: tuple[str, ...],
    duplicates_only: bool,
    allow_outside: bool,
    threads: int | None,
    overwrite: bool,
    verify: bool,
    no_report: bool,
    plot_micrographs: tuple[str, ...],
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Remove duplicates from all INPUTs.

    Writes the kept and the rejected particles to OUTPUT. An INPUT is one of:

    \b
    - a RELION .star file
    - a CryoSPARC .cs or .csg file
    - pick files: a folder, a RELION job folder, a list file, or a quoted pattern
    - a Parquet file or folder, also hive-partitioned, with RELION or CryoSPARC column names
    - a Delta table (FOLDER?version=N for an older version)

    NAME=INPUT names the picker of INPUT. Options that take an INPUT, such as --flip-y, also accept its
    NAME. The kept pick files of this INPUT are in particles_kept/NAME.
    """  # noqa: D301 (click reads the backspace)
    quiet = quiet or as_json
    params = dedup_params(inputs, flip_y, parameters, micrographs)
    # `parameters` now has only the options of the cluster.
    if threads and any(parameters.values()):
        raise click.UsageError("--threads and the options of a cluster exclude each other")
    options: dict[str, Any] = {
        name: value if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
        if value is not None
    }
    options |= {"verify": verify, "no_report": no_report, "plot_micrograph": plot_micrographs}
    options |= {"threads": threads} if threads else {}
    with terminal_log(quiet=quiet, verbose=verbose) as log, ExitStack() as stack:
        with _explained_interruption(output, overwrite=overwrite):
            client = None if threads else open_client(stack, **parameters)
            from dask_dedup import run as run_files

            with showing_progress(log, quiet=quiet) as on_event:
                result = run_files(
                    [path for path, _ in inputs],
                    output,
                    params,
                    client,
                    micrographs=micrographs,
                    output_format=output_format,
                    compression=compression,
                    partition_by=partition_by,
                    duplicates_only=duplicates_only,
                    allow_outside=allow_outside,
                    overwrite=overwrite,
                    threads=threads,
                    on_event=on_event,
                    names=names_of(inputs),
                    plot_micrographs=() if no_report else plot_micrographs,
                    command_options=options,
                )
        if parameters["cluster"]:
            stack.close()  # the next steps do not need the SLURM jobs
        print_line = (lambda _: None) if quiet else click.echo
        for line in summary_lines(result):
            print_line(line)
        found = page = None
        try:
            if verify:
                from dask_dedup import verify as verify_files

                found = verify_files(output)
                for line in found.lines():
                    print_line(spelled(line))
            if not no_report:
                page = _write_report(result, plot_micrographs, found)
        except KeyboardInterrupt:
            again = shell_command("report", output, *(["--verify"] if verify else []))
            click.echo(
                f"dask-dedup: interrupted, but the result is complete. To write the report: {again}",
                err=True,
            )
            sys.exit(130)
        if page:
            print_line(report_line(page))
            if client:
                _show_on_live_page(client, result, page)
        if as_json:
            click.echo(json.dumps(_as_dict(result, found, page), indent=2))
    if found and not found.verified:
        sys.exit(1)


@contextmanager
def _explained_interruption(output: Path, *, overwrite: bool) -> Iterator[None]:
    """On Ctrl-C, end with exit code 130, and print the state of OUTPUT. Warnings explain how to resume."""
    try:
        with silencing_dask_on_interrupt():
            yield
    except KeyboardInterrupt:
        from dask_dedup.output.manifest import find_manifest

        held = ""
        with suppress(OSError, DedupError):
            if not list_names(output):
                held = "; nothing was written"
            elif find_manifest(output):
                held = (
                    f"; the {'earlier result is unchanged' if overwrite else 'result is complete'}"
                )
        click.echo(f"dask-dedup: interrupted{held}", err=True)
        sys.exit(130)


def _write_report(
    result: RunResult, micrographs: Sequence[str], found: Verification | None
) -> Path | None:
    """Write the report and return its path. If this fails, print a warning and return None."""
    from dask_dedup.output.layout import PAGE

    page = result.output / PAGE
    noted = result.report_contents
    # If the result was finished before, its page has the same content.
    if noted is None and page.exists() and not (micrographs or found):
        return page
    from dask_dedup import report

    try:
        try:
            return report(
                result.output, plot_micrographs=micrographs, verification=found, contents=noted
            )
        except InputError as error:
            if not micrographs:
                raise
            without = f"the report is without --plot-micrograph: {error.spelled(spell_flag)}"
            click.echo(f"warning: {without}", err=True)
            return report(result.output, verification=found, contents=noted)
    except DedupError as error:
        text = error.spelled(spell_flag)
        click.echo(f"warning: the result is complete, but has no report: {text}", err=True)
        return None


def _show_on_live_page(client: Client, result: RunResult, page: Path) -> None:
    from dask_dedup.cluster.live_page_link import show_report
    from dask_dedup.pipeline.events import reported

    is_local = isinstance(page, type(Path()))
    show_report(client, reported(result.manifest, str(page.absolute() if is_local else page)))


def _as_dict(result: RunResult, found: Verification | None, page: Path | None) -> dict[str, Any]:
    return {
        "output": str(result.output),
        "already_done": result.already_done,
        "min_separation": result.manifest["parameters"]["min_separation"],
        **result.manifest["totals"],
        "warnings": list(map(spelled, result.warnings)),
        "run_id": result.manifest["run_id"],
        "report": str(page) if page else None,
        "verification": found.to_dict() if found else None,
    }

"""Write the report of a finished run: one page for checking the result.

The page is made from the manifest and the datasets, so the inputs are not needed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from dask_dedup.errors import DedupError, InputError, RunError
from dask_dedup.hints import parameter
from dask_dedup.output import open_store
from dask_dedup.output.layout import PAGE, PLOTS, VERIFICATION
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.storage.files import exists

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_dedup.particles.report_contents import ReportContents
    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.verify import Verification


def report(
    output: str | Path,
    *,
    plot_micrographs: Sequence[str] = (),
    verification: Verification | None = None,
    contents: ReportContents | None = None,
) -> Path:
    """Write ``report.html`` and ``plots/`` for a finished run. Replace an earlier report.

    Parameters
    ----------
    output : str or Path
        Folder of the run.
    plot_micrographs : sequence of str
        Further micrographs to show. Give each by its full name, by its name without folders and suffix,
        or by its uid.
    verification : Verification, optional
        Result of `verify` to show in the report. By default, the result in the last report of this run.
    contents : ReportContents, optional
        Contents that the run collected for the report (``RunResult.report_contents``). By default, the contents are
        read from the datasets. The datasets are also read if the given contents lack one of `plot_micrographs`.

    Returns
    -------
    Path
        Path of the page.

    Raises
    ------
    InputError
        If there is no finished run, or no such micrograph.
    RunError
        If the report cannot be written.
    """
    run = open_finished_run(output)
    try:
        return _write(run, plot_micrographs, verification, contents)
    except DedupError:
        raise
    except Exception as error:
        for path in open_store(run.output).find_damaged(run.manifest)[:1]:
            raise RunError(
                f"{output}: the report cannot be written: {path} is missing or has another size. "
                f"Run again with {parameter('overwrite')}."
            ) from error
        reason = " ".join(str(error).split())
        raise RunError(
            f"{output}: the report cannot be written ({type(error).__name__}: {reason}). "
            "The result is complete without it."
        ) from error


def _write(
    run: FinishedRun,
    named: Sequence[str],
    verification: Verification | None,
    contents: ReportContents | None,
) -> Path:
    from dask_dedup.results.report.analysis import analyse
    from dask_dedup.results.report.page import render
    from dask_dedup.results.report.subject import Subject

    if verification is None and exists(run.output / VERIFICATION):
        from dask_dedup.results.verify.outcome import read_outcome

        verification = read_outcome(run)
    contents, keys = _with_named(run, named, contents)
    page, plots = render(Subject(run, contents, analyse(run, contents), verification), keys)
    with open_store(run.output).draft_report() as folder:
        (folder / PLOTS).mkdir()
        for name, text in plots.items():
            (folder / PLOTS / f"{name}.svg").write_text(text, encoding="utf-8")
        if verification is not None:
            from dask_dedup.results.verify.outcome import outcome_json

            (folder / VERIFICATION).write_text(outcome_json(run, verification), encoding="utf-8")
        (folder / PAGE).write_text(page, encoding="utf-8")
    return run.output / PAGE


def _with_named(
    run: FinishedRun, named: Sequence[str], collected: ReportContents | None
) -> tuple[ReportContents, list[int]]:
    """Return contents with the micrographs `named` in the sample, and the keys of these micrographs.

    The datasets are read only if `collected` lacks one of the micrographs.
    """
    from dask_dedup.particles.micrographs.named import find_micrographs

    if collected is not None:
        with suppress(InputError):
            keys = find_micrographs(run.output, collected, named)
            if {*keys} <= {*collected.choice.keys.tolist()}:
                return collected, keys
    from dask_dedup.results.report.datasets import read_contents

    contents = read_contents(run, named)
    return contents, find_micrographs(run.output, contents, named)

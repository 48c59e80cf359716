"""The report of a finished run: one page that anyone can check the result with.

It is made from the manifest and the datasets, so the inputs are not needed.
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
        Micrographs to show besides those that are chosen. Name each by its full name, its name
        without folders and suffix, or its uid.
    verification : Verification, optional
        Result of `verify` to show in the report. By default, the last one that a report of this run showed.
    contents : ReportContents, optional
        What the run noted for the report (``RunResult.report_contents``). By default the datasets are read; they
        are also read if the run has not noted one of `plot_micrographs`.

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
    run: FinishedRun, named: Sequence[str], noted: ReportContents | None
) -> tuple[ReportContents, list[int]]:
    """Return the contents with the micrographs `named` in the sample, and the keys of these.

    The datasets are read only if the run has not noted them.
    """
    from dask_dedup.particles.micrographs.named import find_micrographs

    if noted is not None:
        with suppress(InputError):
            keys = find_micrographs(run.output, noted, named)
            if {*keys} <= {*noted.choice.keys.tolist()}:
                return noted, keys
    from dask_dedup.results.report.datasets import read_contents

    contents = read_contents(run, named)
    return contents, find_micrographs(run.output, contents, named)

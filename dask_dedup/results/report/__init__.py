"""The report of a finished run: one page with pictures and figures.

It is made from the manifest and the datasets, so the inputs are not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.errors import DedupError, RunError
from dask_dedup.output import open_store
from dask_dedup.output.layout import PAGE, PLOTS
from dask_dedup.results.finished_run import open_finished_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.verify import Verification


def report(
    output: str | Path,
    *,
    plot_micrographs: Sequence[str] = (),
    verification: Verification | None = None,
) -> Path:
    """Write ``report.html`` and ``plots/`` for a finished run. Replace an earlier report.

    Parameters
    ----------
    output : str or Path
        Folder of the run.
    plot_micrographs : sequence of str
        Micrographs to show besides the default examples. Name each by its full name, its name
        without folders and suffix, or its uid.
    verification : Verification, optional
        Result of `verify` to show in the report.

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
        return _write(run, plot_micrographs, verification)
    except DedupError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"{output}: the report cannot be written ({type(error).__name__}: {reason}). "
            "The result is complete without it."
        ) from error


def _write(run: FinishedRun, named: Sequence[str], verification: Verification | None) -> Path:
    from matplotlib import rc_context

    from dask_dedup.results.report.example import choose_examples, make_example
    from dask_dedup.results.report.figures import make_figures
    from dask_dedup.results.report.micrograph import make_picture
    from dask_dedup.results.report.page import render
    from dask_dedup.results.report.picture import STYLE, draw_files
    from dask_dedup.results.report.summary import summarize

    summary = summarize(run)
    chosen = choose_examples(run, summary, named)
    if run.no_distances_because:
        chosen = []
    separation = run.params.min_separation if run.params.measures else 0.0
    with rc_context(STYLE):
        pictures = [
            make_picture(f"micrograph-{n}", make_example(run, summary, key, why), separation)
            for n, (key, why) in enumerate(chosen, start=1)
        ]
        figures = make_figures(run, summary)
        drawn = {each.key: draw_files(each.figure) for each in (*pictures, *figures) if each.figure}
    page = render(run, pictures, figures, drawn, verification)

    with open_store(run.output).draft_report() as folder:
        (folder / PLOTS).mkdir()
        for key, files in drawn.items():
            for suffix, content in files.items():
                (folder / PLOTS / f"{key}{suffix}").write_bytes(content)
        (folder / PAGE).write_text(page, encoding="utf-8")
    return run.output / PAGE

"""The report of a finished run: pictures, figures and one page that holds them all.

Made from the manifest and the datasets alone, so that it can be made again when the inputs are gone.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.errors import DedupError, RunError
from dask_dedup.output.local import PAGE, PLOTS, STAGING_PREFIX
from dask_dedup.results.finished_run import open_result
from dask_dedup.storage.access import check_answers, in_words
from dask_dedup.storage.files import remove, upload
from dask_dedup.storage.paths import is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.results.finished_run import Result
    from dask_dedup.results.verify import Verification


def report(
    output: str | Path,
    *,
    plot_micrographs: Sequence[str] = (),
    verification: Verification | None = None,
) -> Path:
    """Make ``report.html`` and ``plots/`` of a finished run, or make them again.

    Parameters
    ----------
    output : str or Path
        Folder of the run.
    plot_micrographs : sequence of str
        Micrographs to show besides the most rejected and the median one, by name, by name without
        folders and endings, or by uid.
    verification : Verification, optional
        What `verify` found, to be shown.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InputError
        If there is no finished run, or no such micrograph.
    RunError
        If the report cannot be written.
    """
    with in_words(RunError):
        check_answers([output])
        result = open_result(output)
    try:
        return _make(result, plot_micrographs, verification)
    except DedupError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"{output}: the report cannot be made ({type(error).__name__}: {reason}); "
            "the result itself is not touched"
        ) from error


def _make(result: Result, named: Sequence[str], verification: Verification | None) -> Path:
    from dask_dedup.results.report.example import choose_examples, make_example
    from dask_dedup.results.report.figures import make_figures
    from dask_dedup.results.report.micrograph import draw_micrograph
    from dask_dedup.results.report.page import draw_files, make_pictures, render
    from dask_dedup.results.report.summary import summarize

    summary = summarize(result)
    chosen = choose_examples(result, summary, named)
    if result.unmeasurable:
        chosen = []
    examples = [make_example(result, summary, key, why) for key, why in chosen]
    separation = result.params.min_separation if result.params.measures else 0.0
    drawn = [draw_files(draw_micrograph(example, separation)) for example in examples]
    answers = [
        (answer, draw_files(answer.figure) if answer.figure else None)
        for answer in make_figures(result, summary)
    ]
    page = render(result, make_pictures(examples, drawn, separation), answers, verification)

    place = result.place
    folder = None if is_remote(place) else place
    with tempfile.TemporaryDirectory(prefix=f"{STAGING_PREFIX}report-", dir=folder) as aside:
        plots = Path(aside, PLOTS)
        plots.mkdir()
        for number, rendering in enumerate(drawn, start=1):
            rendering.save(plots / f"micrograph-{number}")
        for answer, chart in answers:
            if chart:
                chart.save(plots / answer.key)
        Path(aside, PAGE).write_text(page, encoding="utf-8")
        if is_remote(place):
            remove(place / PLOTS)
            for file in plots.iterdir():
                upload(file, place / PLOTS / file.name)
            upload(Path(aside, PAGE), place / PAGE)
            return place / PAGE
        if (place / PLOTS).exists():
            shutil.move(place / PLOTS, Path(aside, "before"))
        plots.rename(place / PLOTS)
        Path(aside, PAGE).replace(place / PAGE)
    return place / PAGE

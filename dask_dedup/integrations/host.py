"""Run inside a job of any host, in a subfolder of the job, and write to the job's log."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import DedupError, InputError
from dask_dedup.integrations import FOLDER
from dask_dedup.monitoring.log import LineLog, logging_to, progress_lines
from dask_dedup.results.command import spell_flag
from dask_dedup.results.summary import report_line, summary_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.hints import Hint
    from dask_dedup.pipeline.result import RunResult

logger = logging.getLogger("dask_dedup")


def run_in_job(
    job: str | Path,
    inputs: Sequence[str | Path],
    params: DedupParams,
    write: Callable[[str], None],
    *,
    finish: Callable[[RunResult], Iterable[str]] = lambda _: (),
    spelling: Callable[[Hint], str] = spell_flag,
    summary: Callable[[RunResult], Sequence[str]] = summary_lines,
    plot_micrographs: Sequence[str] = (),
    **options: Any,
) -> RunResult:
    """Run in the subfolder `FOLDER` of a job, and write the report. Replace earlier results in the subfolder.

    Parameters
    ----------
    job : path
        Folder of the job.
    inputs : sequence of paths
    params : DedupParams
    write : callable
        Called with each line of the job's log: messages, progress every 10 s, counts, paths, and the
        warnings last. Progress comes from another thread.
    finish : callable
        Called with the result at the end, to pass the result to the host. Returns further lines of the log.
    spelling : callable
        Formats the parameters in messages.
    summary : callable
        Returns the lines to write after the run.
    plot_micrographs : sequence of str
        Micrographs that the report shows in addition to its own choice.
    **options
        Further keywords of `dask_dedup.run`, such as ``threads=4``.

    Returns
    -------
    RunResult

    Raises
    ------
    InputError
        If the tables or parameters are wrong.
    RunError
        If the run fails. If only the report cannot be written, a warning is logged instead.
    """
    from dask_dedup import clean, run

    with logging_to(LineLog(write, spelling)) as log:
        with progress_lines() as on_event:
            result = run(
                inputs,
                Path(job) / FOLDER,
                params,
                overwrite=True,
                on_event=on_event,
                plot_micrographs=plot_micrographs,
                **options,
            )
        clean(result.output)
        for line in summary(result):
            log.write(line)
        try:
            page = _report(result, plot_micrographs, spelling)
        except DedupError as error:
            logger.warning("the result is complete, but has no report: %s", error.spelled(spelling))
        else:
            log.write(report_line(page))
        for line in finish(result):
            log.write(line)
    return result


def _report(result: RunResult, named: Sequence[str], spelling: Callable[[Hint], str]) -> Path:
    """Write the report. If the micrographs `named` do not exist, write the report without them."""
    from dask_dedup import report

    contents = result.report_contents
    try:
        return report(result.output, plot_micrographs=named, contents=contents)
    except InputError as error:
        if not named:
            raise
        logger.warning(
            "the report shows none of the named micrographs: %s", error.spelled(spelling)
        )
        return report(result.output, contents=contents)

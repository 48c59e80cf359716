"""Find the recommended separation of a run from the sample of the report, before the run finds duplicates."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.picks import Picks
from dask_dedup.dedup.separation import Fit, explain, judge_separation, measure_picks
from dask_dedup.errors import InputError
from dask_dedup.hints import Message, parameter
from dask_dedup.particles.sample import choose_sample, likely_sampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.recommended_separation import Spacing
    from dask_dedup.particles.sample import SampleChoice
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.executors import Executor
    from dask_dedup.pipeline.job import Job

log = logging.getLogger("dask_dedup")


@dataclass(frozen=True, slots=True)
class FoundSpacing:
    """The gap between the distances of duplicates and of real neighbours, in a sample of whole micrographs.

    Attributes
    ----------
    spacing : Spacing or None
        None if no gap was found.
    nearest : float
        If no gap was found, the distance in angstrom within which 95 % of the picks have another pick. Otherwise 0.
    picks, micrographs : int
        Size of the sample.
    """

    spacing: Spacing | None
    nearest: float
    picks: int
    micrographs: int

    def choose(self, params: DedupParams) -> DedupParams:
        """Return the parameters with the recommended separation instead of ``auto``, and log the separation.

        Raises
        ------
        InputError
            If no separation is recommended.
        """
        if self.spacing is None or self.spacing.recommended is None:
            raise InputError(
                f"{parameter('min_separation', 'auto')}: {self.reason}. "
                f"Pass {parameter('min_separation')} in angstrom; half of the particle's diameter is usual."
            )
        chosen = replace(params, min_separation=self.spacing.recommended)
        own = parameter("min_separation", f"{chosen.min_separation:g}")
        log.info("%s", Message(f"{own}: {self.reason}"))
        return chosen

    def warnings(self, params: DedupParams) -> list[Message]:
        """Return a list of one warning if `min_separation` is not in the gap, else []."""
        found = self.spacing
        if found is None or (fit := judge_separation(found, params)) is Fit.RIGHT:
            return []
        own = parameter("min_separation", f"{params.min_separation:g}")
        number = found.recommended
        use = "a smaller one" if number is None else parameter("min_separation", f"{number:g}")
        begin = f"{found.neighbours_begin:.3g} A"
        if fit is Fit.SMALL:
            text = f"{own} leaves duplicates: they end at {found.last_duplicate:.3g} A"
            return [Message(f"{text}, and neighbours begin at {begin} ({self.sample}). Use {use}.")]
        if params.ignore_within_filament:
            return []  # the neighbours may be in the same filament
        rejects = "may reject" if fit is Fit.EXEMPT else "rejects"
        return [
            Message(
                f"{own} {rejects} real neighbours: they begin at {begin} ({self.sample}). Use {use}."
            )
        ]

    @property
    def reason(self) -> str:
        """The reason why a separation is recommended, or why no separation is recommended."""
        return f"{explain(self.spacing)} ({self.sample})"

    @property
    def sample(self) -> str:
        """The size of the sample, in words."""
        several = "micrograph" if self.micrographs == 1 else f"{self.micrographs:,} micrographs"
        return f"{self.picks:,} picks on {several} were measured"

    def to_dict(self) -> dict[str, Any]:
        """Return the gap and the size of the sample as a dict for the manifest."""
        found = self.spacing
        return {
            "recommended": found.recommended if found else None,
            "duplicates_end": found.duplicates_end if found else None,
            "neighbours_begin": found.neighbours_begin if found else None,
            "farthest_duplicates": found.farthest_duplicates if found else None,
            "reason": explain(found),
            "nearest_95": self.nearest or None,
            "picks": self.picks,
            "micrographs": self.micrographs,
        }


def spacing_of_picks(picks: Picks, params: DedupParams) -> FoundSpacing:
    """Find the gap between duplicates and real neighbours in the sample of a table in memory."""
    compared = np.flatnonzero(picks.invalid == 0)
    keys, rows = np.unique(picks.micrograph[compared], return_counts=True)
    choice = choose_sample(keys, rows)
    chosen = choice.chosen(picks.micrograph, picks.x, picks.y) & (picks.invalid == 0)
    picks = picks.take(np.flatnonzero(chosen))
    return FoundSpacing(*measure_picks(picks, params), len(picks), choice.keys.size)


def choose_separation(
    executor: Executor, job: Job, summaries: Sequence[ScanSummary], choice: SampleChoice
) -> tuple[Job, FoundSpacing | None, list[Message]]:
    """Find the gap between duplicates and real neighbours in the sample of a scanned run.

    Parameters
    ----------
    executor : Executor
    job : Job
    summaries : sequence of ScanSummary
        Summaries of all fragments.
    choice : SampleChoice

    Returns
    -------
    job : Job
        The job, with the recommended separation instead of ``auto``.
    found : FoundSpacing or None
        None if the run measures no distances.
    warnings : list of Message

    Raises
    ------
    InputError
        If the separation is ``auto`` and no separation can be recommended.
    """
    params = job.inputs.params
    if not params.measures:
        return job, None, []
    picks = sample_picks(executor, job, summaries, choice)
    found = FoundSpacing(*measure_picks(picks, params), len(picks), choice.keys.size)
    if not params.chooses_separation:
        return job, found, found.warnings(params)
    params = found.choose(params)
    return replace(job, inputs=replace(job.inputs, params=params)), found, []


def sample_picks(
    executor: Executor, job: Job, summaries: Sequence[ScanSummary], choice: SampleChoice
) -> Picks:
    """Return the compared picks in the sample of a scanned run, sorted by row id."""
    parts = [each.sample.picks for each in summaries if each.sample is not None]
    noted = [each for each in parts if each is not None]
    if len(noted) == len(parts) and likely_sampled(choice.keys, job.inputs.rows).all():
        picks = Picks.concatenate(noted)
        picks = picks.take(np.flatnonzero(choice.chosen(picks.micrograph, picks.x, picks.y)))
    else:
        having = [each for each in summaries if (choice.find(each.micrographs) >= 0).any()]
        picks = Picks.concatenate(
            list(executor.sample(job, choice, [each.fragment for each in having]))
        )
    return picks.take(np.argsort(picks.row_id))


def with_recorded_separation(params: DedupParams, manifest: dict[str, Any] | None) -> DedupParams:
    """Replace the separation ``auto`` by the number in the manifest of a finished run.

    For the same inputs and other parameters, ``auto`` would choose this number again.
    """
    if not params.chooses_separation or manifest is None:
        return params
    number = (manifest.get("separation") or {}).get("recommended")
    return params if number is None else replace(params, min_separation=number)

"""Compute the picks of the sample that the run would keep at other separations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.recommended_separation import Spacing
from dask_dedup.dedup.separation import SeparationAnalysis, analyse_separations
from dask_dedup.dedup.vote_analysis import apply_votes
from dask_dedup.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from dask_dedup.particles.report_contents import ReportContents
    from dask_dedup.results.finished_run import FinishedRun


def analyse(run: FinishedRun, contents: ReportContents) -> SeparationAnalysis | None:
    """Analyse the picks of the sample that are on whole micrographs. Return None if the run measured no distances.

    The kept picks are those that remain after the votes. On partly sampled micrographs, all bits of a pick are set
    if the run kept it, else none.

    Raises
    ------
    RunError
        If the recomputed decisions at the run's separation differ from the result.
    """
    if not run.params.measures or run.no_distances_because:
        return None
    sample = contents.sample
    whole = contents.choice.whole[contents.choice.find(sample.micrograph)]
    if not whole.any():
        return None
    higher = [roles.higher_is_better for roles in run.roles]
    some = sample.take(whole)
    measured = recorded_spacing(run.manifest)
    picks = some.picks()
    found = analyse_separations(picks, run.params, higher, measured=measured)
    if run.params.votes_decide and run.voting is not None:
        found = apply_votes(found, picks, run.params, higher, run.voting)
    wrong = np.count_nonzero(found.at(run.params.min_separation) != some.kept)
    if wrong:
        raise RunError(
            f"{run.output}: {wrong} picks have another outcome than the rule gives. This is a bug in "
            "dask-dedup; verify the result."
        )

    def with_windows(kept: NDArray[np.bool_], bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
        every = np.where(kept, np.uint32(0xFFFFFFFF), np.uint32(0))
        every[whole] = bits
        return every

    bits, before = with_windows(sample.kept, found.bits), found.before_votes
    if before is not None:
        before = with_windows(sample.kept | sample.outvoted, before)
    return replace(found, bits=bits, before_votes=before)


def recorded_spacing(manifest: Mapping[str, Any]) -> tuple[Spacing | None, float] | None:
    """Return the spacing that the run measured, or None if it measured no spacing.

    The first value is None if there is no clear gap between duplicates and neighbours. The second value is then the
    95th percentile of the distances to the nearest neighbours, else 0.
    """
    found = manifest.get("separation")
    if found is None:
        return None
    if found["neighbours_begin"] is None:
        return None, found["nearest_95"] or 0.0
    names = ("duplicates_end", "neighbours_begin", "recommended", "farthest_duplicates")
    return Spacing(*(found[name] for name in names)), 0.0

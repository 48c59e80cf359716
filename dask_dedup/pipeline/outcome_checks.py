"""Warnings about the outcome of a run as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.messages import Message, parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan

#: A larger fraction of rejected particles than this is probably a mistake.
_MOST_REJECTED = 0.9


def find_doubts(job: Job, plan: Plan, checkpoints: Sequence[FragmentCheckpoint]) -> list[str]:
    """Return warnings about the outcome, such as nearly all particles rejected."""
    params = job.inputs.params
    rejected = sum(checkpoint.rejected for checkpoint in checkpoints)
    if params.invalid == "reject":
        rejected -= sum(checkpoint.rows for checkpoint in checkpoints) - plan.rows
    if not params.measures or rejected <= _MOST_REJECTED * plan.rows:
        return []
    return [
        Message(
            f"{rejected / plan.rows:.1%} of the particles are rejected. Is "
            f"{parameter('min_separation', f'{params.min_separation:g}')} meant, in angstrom? "
            f"For copies of a symmetry expansion, use {parameter('undo_symmetry_expansion')}."
        )
    ]

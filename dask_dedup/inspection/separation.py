"""The recommended separation, and the number of kept picks at other separations, from the sample of a report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.limits import FARTHEST
from dask_dedup.dedup.separation import (
    MOST_SEPARATIONS,
    analyse_separations,
    explain,
    largest_to_try,
    measure_picks,
    round_separations,
)
from dask_dedup.errors import InputError
from dask_dedup.hints import Message, parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.dedup.recommended_separation import Spacing
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.micrographs.names import MicrographName
    from dask_dedup.particles.sample import SampledMicrographs


@dataclass(frozen=True, slots=True)
class KeptAt:
    """Number of sampled picks that a run keeps at one separation: of all inputs, and of each input."""

    separation: float
    kept: int
    by_input: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SeparationAdvice:
    """The recommended separation, and the kept picks of a sample of whole micrographs at several separations.

    Attributes
    ----------
    recommended : float or None
        Recommended separation, angstrom. None without a gap, without duplicates, and without a pixel size.
    reason : str
        Advice on the separation, in one sentence without a full stop.
    spacing : Spacing or None
    unit : {"A", "px"}
        Unit of `spacing` and `kept_at`.
    kept_at : tuple of KeptAt
    cut_short : bool
        Whether larger separations were left out because of too many pairs.
    picks, micrographs : int
        Number of picks and micrographs in the sample.
    """

    recommended: float | None
    reason: str
    spacing: Spacing | None
    unit: str
    kept_at: tuple[KeptAt, ...]
    cut_short: bool
    picks: int
    micrographs: int


@dataclass(frozen=True, slots=True)
class InspectedSample:
    """The picks of the sample of a report, before any decision.

    Attributes
    ----------
    inputs : Inputs
    picks : Picks
        Sorted by row id.
    sampled : SampledMicrographs
    names : dict of int to MicrographName
    """

    inputs: Inputs
    picks: Picks
    sampled: SampledMicrographs
    names: dict[int, MicrographName]


def check_separations(separations: Sequence[float] | None) -> None:
    """Raise InputError unless all separations are numbers above 0, and there are not too many."""
    name = parameter("separations")
    if separations is None:
        return
    if not 0 < len(separations) <= MOST_SEPARATIONS:
        raise InputError(f"{name} has {len(separations)} values; pass 1 to {MOST_SEPARATIONS}.")
    for each in separations:
        if not (isfinite(each) and 0 < each <= FARTHEST):
            raise InputError(f"{name} has {each:g}; each must be above 0 (angstrom).")


def advise_separation(
    inputs: Inputs,
    picks: Picks,
    unit: str,
    separations: Sequence[float] | None,
    obstacle: str,
) -> SeparationAdvice:
    """Find the recommended separation. Find how many picks of a sample a run keeps at each of several separations.

    Parameters
    ----------
    inputs : Inputs
    picks : Picks
        All picks on the micrographs of the sample.
    unit : {"A", "px"}
        Unit of the centres.
    separations : sequence of float, optional
        Separations to try. By default at most 32 multiples of a round number.
    obstacle : str
        Reason why the inputs cannot be compared yet. Empty if they can be compared.
    """
    micrographs = np.unique(picks.micrograph).size
    if obstacle:
        return SeparationAdvice(
            recommended=None,
            reason=obstacle,
            spacing=None,
            unit=unit,
            kept_at=(),
            cut_short=False,
            picks=len(picks),
            micrographs=micrographs,
        )
    measured = measure_picks(picks, inputs.params)
    spacing, _ = measured
    if separations is None:
        farthest = largest_to_try(*measured, inputs.params.min_separation)
        separations = round_separations(farthest).tolist()
    tried = np.unique(np.array(separations, dtype=np.float64))
    params = replace(inputs.params, min_separation=float(tried[0]))
    found = analyse_separations(picks, params, inputs.higher_is_better, tried, measured)
    kept = zip(found.separations.tolist(), found.kept.tolist(), strict=True)
    number = spacing.recommended if spacing else None
    return SeparationAdvice(
        recommended=number if unit == "A" else None,
        reason=_advise(spacing, number, unit),
        spacing=spacing,
        unit=unit,
        kept_at=tuple(KeptAt(each, sum(counts), tuple(counts)) for each, counts in kept),
        cut_short=found.cut_short,
        picks=len(picks),
        micrographs=micrographs,
    )


def _advise(spacing: Spacing | None, number: float | None, unit: str) -> Message:
    separation, why = parameter("min_separation"), explain(spacing, unit)
    if spacing is None:
        return Message(
            f"{why}: choose {separation} by the diameter of the particle; half of it is usual"
        )
    if number is None:
        below = "below that" if unit == "A" else "below that times the pixel size, in angstrom"
        return Message(f"{why}: choose {separation} {below}")
    if unit != "A":
        return Message(f"{why}: choose {separation} {number:g} times the pixel size, in angstrom")
    return Message(f"choose {parameter('min_separation', f'{number:g}')}: {why}")

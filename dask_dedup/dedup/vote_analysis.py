"""Find the particles that a run with votes would keep at other separations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.arrays import unique_inverse
from dask_dedup.dedup.greedy import Suppression
from dask_dedup.dedup.pairs import PairSearch, Points
from dask_dedup.dedup.rank import rank_keys
from dask_dedup.dedup.separation import MOST_PAIRS, SeparationAnalysis
from dask_dedup.dedup.votes import count_votes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks
    from dask_dedup.dedup.voting import Voting


def apply_votes(
    analysis: SeparationAnalysis,
    picks: Picks,
    params: DedupParams,
    higher_is_better: Sequence[bool],
    voting: Voting,
) -> SeparationAnalysis:
    """Return the analysis with the picks that are kept at each separation after the votes.

    Parameters are as in `separation.analyse_separations`, with valid picks only. At separations below the vote
    distance, the separation replaces the vote distance.
    """
    centres, _ = picks.points(params)
    _, micrographs = unique_inverse(picks.micrograph)
    keys = rank_keys(picks, params, higher_is_better)
    separations = analysis.separations
    reach = np.minimum(separations, params.vote_distance or np.inf)
    search = PairSearch.over(
        Points(centres, micrographs, picks.exclusions(params)), float(reach.max())
    )
    pairs = search.pairs() if search.estimate() <= MOST_PAIRS * len(picks) else None
    bits = np.zeros_like(analysis.bits)
    kept = np.zeros_like(analysis.kept)
    for number, separation in enumerate(separations.tolist()):
        remaining = analysis.at(separation)
        decided = replace(Suppression.keep_all(len(picks), pairs), rejected=~remaining)
        at = replace(params, min_separation=separation, vote_distance=float(reach[number]))
        outvoted = count_votes(picks, micrographs, keys, decided, at, voting).outvoted
        stays = remaining & ~outvoted
        bits |= stays.astype(np.uint32) << np.uint32(number)
        kept[number] = np.bincount(picks.source[stays], minlength=kept.shape[1])
    return replace(analysis, bits=bits, kept=kept, before_votes=analysis.bits)

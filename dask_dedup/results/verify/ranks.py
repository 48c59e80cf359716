"""Rank picks. The standings are computed in another way than in the run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.rank import SCORE_SENTINEL, rank_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks


def rank_picks(
    picks: Picks, params: DedupParams, higher_is_better: Sequence[bool]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the rank of each pick, from 0, and its standing.

    The standing of a pick is its rank by score within its input and micrograph, from 1.

    Parameters
    ----------
    picks : Picks
        All picks of whole micrographs that can be compared.
    params : DedupParams
    higher_is_better : sequence of bool
        Direction of the score of each input.

    Returns
    -------
    rank : (n,) intp
    standing : (n,) float64
        NaN without a score, and for all picks if scores are compared as stored.
    """
    keys = rank_keys(picks, replace(params, score_scale="stored"), higher_is_better)
    standing = np.full(len(picks), np.nan)
    if params.uses_standing:
        standing = _standings(picks, np.array(higher_is_better)[picks.source])
        last = np.where(np.isnan(standing), len(picks) + 1.0, standing)
        keys[int(params.prefer_input_order)] = (2 * last).astype(np.uint64)
    rank = np.empty(len(picks), dtype=np.intp)
    rank[np.lexsort(keys[::-1])] = np.arange(len(picks))
    return rank, standing


def _standings(picks: Picks, higher: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the rank of each score within its input and micrograph, from 1. Equal scores have their mean rank."""
    standing = np.full(len(picks), np.nan)
    scored = np.flatnonzero(~np.isnan(picks.score) & (picks.score != SCORE_SENTINEL))
    if not scored.size:
        return standing
    score = np.where(higher[scored], -picks.score[scored], picks.score[scored])
    values, number = np.unique(score, return_inverse=True)
    _, micrograph = np.unique(picks.micrograph[scored], return_inverse=True)
    group = micrograph * (int(picks.source.max()) + 1) + picks.source[scored]
    _, group = np.unique(group, return_inverse=True)
    first = group * values.size
    own = first + number
    ordered = np.sort(own)
    start = np.searchsorted(ordered, first)
    before, upto = np.searchsorted(ordered, own), np.searchsorted(ordered, own, side="right")
    standing[scored] = ((before + upto) - 2 * start + 1) / 2
    return standing

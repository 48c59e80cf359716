"""The votes of a whole run: counts for the manifest, and warnings."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.hints import Message
from dask_dedup.particles.voters import warn_about_few

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dask_dedup.dedup.voting import Voting
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.voters import Voters

#: Two pickers may be one if this share of the picks of the smaller one is exactly on picks of the other.
_MOST_SHARED = 0.2


def vote_totals(
    voting: Voting, voters: Voters, checkpoints: Iterable[FragmentCheckpoint]
) -> dict[str, Any]:
    """Return the counts of votes for the manifest."""
    found: Counter[tuple[int, ...]] = Counter()
    kept: Counter[tuple[int, ...]] = Counter()
    for checkpoint in checkpoints:
        for pickers, total, stay in checkpoint.votes.by_pickers if checkpoint.votes else ():
            found[pickers] += total
            kept[pickers] += stay
    return {
        "pickers": list(voting.pickers),
        "by_votes": [
            {
                "votes": votes,
                "representatives": sum(n for pickers, n in found.items() if len(pickers) == votes),
                "kept": sum(n for pickers, n in kept.items() if len(pickers) == votes),
            }
            for votes in range(1, len(voting.pickers) + 1)
        ],
        "by_pickers": [
            {
                "pickers": [voting.pickers[number] for number in pickers],
                "representatives": number,
                "kept": kept[pickers],
            }
            for pickers, number in sorted(found.items(), key=lambda item: (-item[1], item[0]))
        ],
        "chance": _chance(voting, voters),
        "micrographs_with_few_pickers": voters.few,
    }


def _chance(voting: Voting, voters: Voters) -> list[dict[str, Any]]:
    if voters.chance is None:
        return []
    return [
        {"picker": one, "near": other, "level": round(float(level), 4)}
        for one, levels in zip(voting.pickers, voters.chance, strict=True)
        for other, level in zip(voting.pickers, levels, strict=True)
        if one != other and level > 0
    ]


def vote_doubts(
    inputs: Inputs, voters: Voters, checkpoints: Sequence[FragmentCheckpoint]
) -> list[Message]:
    """Return warnings about the votes of a run that is written."""
    voting = inputs.voting
    if voting is None:
        return []
    unseen = sum(checkpoint.votes.unseen for checkpoint in checkpoints if checkpoint.votes)
    return [*_warn_about_same(inputs, voting, checkpoints), *warn_about_few(voters, voting, unseen)]


def _warn_about_same(
    inputs: Inputs, voting: Voting, checkpoints: Sequence[FragmentCheckpoint]
) -> list[Message]:
    """Return a list of one warning if two inputs of different pickers hold the same picks, else []."""
    number = len(inputs.tables)
    shared = np.zeros((number, number), dtype=np.int64)
    for checkpoint in checkpoints:
        shared[checkpoint.source] += checkpoint.pairs.on_winner
    shared += shared.T
    rows = np.array([max(1, table.rows) for table in inputs.tables])
    picker = np.array(voting.picker_of)
    share = shared / np.minimum(rows[:, np.newaxis], rows)
    share[(picker[:, np.newaxis] == picker) | (np.tri(number, dtype=bool))] = 0.0
    if not number or share.max() < _MOST_SHARED:
        return []
    one, other = np.unravel_index(int(share.argmax()), share.shape)
    paths = [inputs.tables[int(n)].path for n in (one, other)]
    return [
        Message(
            f"{paths[0]} and {paths[1]}: {share[one, other]:.0%} of the picks of the smaller one are exactly on "
            "picks of the other, and count as found by two pickers. If both inputs are of one picker, give "
            "both its name (NAME=PATH)."
        )
    ]

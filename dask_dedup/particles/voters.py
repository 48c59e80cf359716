"""The picks of each picker on each micrograph: who has seen it, and how many votes chance explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.per_input import NAMED_PICKERS
from dask_dedup.formatting import counted
from dask_dedup.hints import Message, parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.voting import Voting
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary

    Floats = NDArray[np.float64]

#: Micrographs whose counts are in memory as a table of micrographs and pickers.
_BLOCK = 20_000
#: A chance level from which on a vote tells little.
_HIGH_LEVEL = 0.5
#: Pairs of pickers named in a warning, at most.
_NAMED_PAIRS = 2


@dataclass(frozen=True, slots=True)
class Voters:
    """The pickers on the micrographs of a run.

    Attributes
    ----------
    few : int
        Micrographs on which fewer pickers than `min_votes` have comparable particles.
    without : tuple of int
        Numbers of the pickers without comparable particles.
    unseen : tuple of int
        For each picker, the micrographs without comparable particles of it.
    chance : (p, p) float64 or None
        Chance level of each ordered pair of p pickers: how often a pick of the first would be within the vote
        distance of one of the second if it were anywhere on its micrograph. None if no distances are measured.
    """

    few: int
    without: tuple[int, ...]
    unseen: tuple[int, ...]
    chance: Floats | None

    def warnings(self, voting: Voting) -> list[Message]:
        """Return warnings about votes that chance explains, and about pickers that have not seen all micrographs."""
        return [*self._warn_about_chance(voting), *self._warn_about_unseen(voting)]

    def _warn_about_unseen(self, voting: Voting) -> list[Message]:
        """Return a warning for each picker that a particle must be found by, or must not, and that saw less."""
        lines = []
        for name in NAMED_PICKERS:
            for picker in getattr(voting, name):
                number = self.unseen[picker]
                if not number or (name == "found_by" and voting.relax_unseen):
                    continue
                have = counted(number, "micrograph", "have" if number != 1 else "has")
                line = f"{have} no particles of {voting.pickers[picker]}, "
                if name == "found_by":
                    line += (
                        f"so nothing there is kept ({parameter(name)}). If the picker was not run on them, "
                        f"consider {parameter('relax_unseen')}."
                    )
                else:
                    line += (
                        f"so all particles there count as not found by it ({parameter(name)}). If the picker "
                        "was not run on them, leave these micrographs out."
                    )
                lines.append(Message(line))
        return lines

    def _warn_about_chance(self, voting: Voting) -> list[Message]:
        """Return a list of one warning if chance explains many votes, else []."""
        if self.chance is None:
            return []
        level = np.maximum(self.chance, self.chance.T)
        first, second = np.nonzero(np.triu(level >= _HIGH_LEVEL, k=1))
        if not first.size:
            return []
        order = np.argsort(-level[first, second], kind="stable")[:_NAMED_PAIRS]
        pairs = [
            f"{voting.pickers[first[n]]} and {voting.pickers[second[n]]} "
            f"{level[first[n], second[n]]:.0%}"
            for n in order.tolist()
        ]
        return [
            Message(
                f"many votes may be chance: this share of the picks of one picker would be near a pick of the "
                f"other by chance alone ({', '.join(pairs)}). Pass a smaller {parameter('vote_distance')}."
            )
        ]


def find_voters(inputs: Inputs, summaries: Sequence[ScanSummary]) -> Voters | None:
    """Count the pickers of each micrograph, and compute the chance levels. Return None if votes are not counted.

    The chance level of A near B is the mean over the picks of A of ``min(1, n pi v**2 / area)``, with the number n of
    picks of B on the micrograph and the vote distance v; for tomograms, of ``n 4/3 pi v**3 / volume``. The area is
    that of the micrograph if the tables have its size, else that of the rectangle around all its picks.
    """
    voting, params = inputs.voting, inputs.params
    if voting is None:
        return None
    pickers = len(voting.pickers)
    keys = np.concatenate([np.empty(0, np.uint64), *(each.micrographs for each in summaries)])
    picks = np.concatenate([np.empty(0, np.int64), *(each.counts for each in summaries)])
    of = [np.full(s.micrographs.size, voting.picker_of[s.source]) for s in summaries]
    picker = np.concatenate([np.empty(0, np.intp), *of])
    distinct, number = np.unique(keys, return_inverse=True)
    share = None
    if params.measures:
        distance = params.min_separation if params.vote_distance is None else params.vote_distance
        share = _share_of_ball(distance, summaries, number, distinct.size)
    order = np.argsort(number, kind="stable")
    few, near, total = 0, np.zeros((pickers, pickers)), np.zeros(pickers)
    seen = np.zeros(pickers, dtype=np.int64)
    for start in range(0, distinct.size, _BLOCK):
        stop = min(start + _BLOCK, distinct.size)
        rows = order[np.searchsorted(number[order], start) : np.searchsorted(number[order], stop)]
        counts = np.zeros((stop - start, pickers))
        np.add.at(counts, (number[rows] - start, picker[rows]), picks[rows])
        few += int(((counts > 0).sum(axis=1) < voting.min_votes).sum())
        total += counts.sum(axis=0)
        seen += (counts > 0).sum(axis=0)
        if share is not None:
            near += counts.T @ np.minimum(counts * share[start:stop, np.newaxis], 1.0)
    chance = None if share is None else near / np.maximum(total, 1.0)[:, np.newaxis]
    without = np.flatnonzero(total == 0)
    unseen = distinct.size - seen
    return Voters(few, tuple(without.tolist()), tuple(unseen.tolist()), chance)


def _share_of_ball(
    distance: float, summaries: Sequence[ScanSummary], number: NDArray[np.intp], count: int
) -> Floats:
    """Return the share of each micrograph's area (or volume) within `distance` of a point, (m,), at most 1."""
    least, greatest = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    size = np.full((count, 2), np.nan)
    start = 0
    for summary in summaries:
        at = number[start : start + summary.micrographs.size]
        start += at.size
        if summary.bounds is not None:
            least[at] = np.minimum(least[at], summary.bounds[:, :3])
            greatest[at] = np.maximum(greatest[at], summary.bounds[:, 3:])
        if summary.scales is not None:
            size[at] = np.fmax(size[at], summary.scales.greatest[:, 1:])
    extent = np.maximum(greatest - least, 0.0)
    known = np.isfinite(size).all(axis=1)
    extent[:, :2] = np.where(known[:, np.newaxis], size, extent[:, :2])
    in_volume = extent[:, 2] > 0
    whole = np.where(in_volume, extent.prod(axis=1), extent[:, :2].prod(axis=1))
    ball = np.where(in_volume, 4 / 3 * np.pi * distance**3, np.pi * distance**2)
    return np.where(whole > ball, ball / np.maximum(whole, ball), 1.0)


def warn_about_few(voters: Voters, voting: Voting, unseen: int) -> list[Message]:
    """Return a list of one warning if votes decide on micrographs that few pickers have seen, else [].

    `unseen` is the number of particles that are rejected, or spared, because of that.
    """
    if not voters.few:
        return []
    what = counted(voters.few, "micrograph", "have" if voters.few != 1 else "has")
    fewer = f"{what} particles of fewer than {voting.min_votes} pickers"
    there = f"{counted(unseen, 'particle')} there {'is' if unseen == 1 else 'are'}"
    relaxed = parameter("relax_unseen")
    if voting.relax_unseen:
        return [Message(f"{fewer}: {there} kept, because of {relaxed}")]
    return [
        Message(
            f"{fewer}: {there} rejected for that. If pickers were not run on them, pass {relaxed}."
        )
    ]

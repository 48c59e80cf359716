"""The picks of each picker on each micrograph, and the fraction of votes that chance explains."""

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

#: Micrographs per block. The counts of a block are a table of micrographs and pickers in memory.
_BLOCK = 20_000
#: Smallest chance level at which a vote means little.
_HIGH_LEVEL = 0.5
#: Largest number of pairs of pickers in a warning.
_NAMED_PAIRS = 2


@dataclass(frozen=True, slots=True)
class Voters:
    """The pickers on the micrographs of a run.

    Attributes
    ----------
    few : int
        Number of micrographs on which fewer than `min_votes` pickers have comparable particles.
    without : tuple of int
        Numbers of the pickers without comparable particles.
    micrographs_without : tuple of int
        For each picker, the number of micrographs without its comparable particles.
    chance : (p, p) float64 or None
        Chance level of each ordered pair of p pickers. This is the probability that a random position on a
        micrograph is within the vote distance of a pick of the second picker, as a mean over the picks of the
        first picker. None if no distances are measured.
    """

    few: int
    without: tuple[int, ...]
    micrographs_without: tuple[int, ...]
    chance: Floats | None

    def warnings(self, voting: Voting) -> list[Message]:
        """Return warnings about votes that chance explains, and about pickers without particles on some micrographs."""
        return [*self._warn_about_chance(voting), *self._warn_about_missing(voting)]

    def _warn_about_missing(self, voting: Voting) -> list[Message]:
        """Return a warning for each picker in `found_by` or `not_found_by` without particles on some micrographs."""
        lines = []
        for name in NAMED_PICKERS:
            for picker in getattr(voting, name):
                number = self.micrographs_without[picker]
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

    Let n be the number of picks of B on the micrograph, and v the vote distance. The chance level of picker A near
    picker B is the mean over A's picks of ``min(1, n pi v**2 / area)``. For tomograms, the mean is over
    ``min(1, n 4/3 pi v**3 / volume)``. The area is the area of the micrograph if the tables have its size, else the
    area of the rectangle around all its picks.
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
    return Voters(few, tuple(without.tolist()), tuple((distinct.size - seen).tolist()), chance)


def _share_of_ball(
    distance: float, summaries: Sequence[ScanSummary], number: NDArray[np.intp], count: int
) -> Floats:
    """Return the fraction of each micrograph's area (or volume) within `distance` of a point, (m,), at most 1."""
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


def warn_about_few(voters: Voters, voting: Voting, particles: int) -> list[Message]:
    """Return a list of one warning if votes decide on micrographs with particles of too few pickers, else [].

    `particles` is the number of particles that are rejected for this reason, or kept because of `relax_unseen`.
    """
    if not voters.few:
        return []
    what = counted(voters.few, "micrograph", "have" if voters.few != 1 else "has")
    fewer = f"{what} particles of fewer than {voting.min_votes} pickers"
    there = f"{counted(particles, 'particle')} there {'is' if particles == 1 else 'are'}"
    relaxed = parameter("relax_unseen")
    if voting.relax_unseen:
        return [Message(f"{fewer}: {there} kept, because of {relaxed}")]
    return [
        Message(
            f"{fewer}: {there} rejected for that. If pickers were not run on them, pass {relaxed}."
        )
    ]

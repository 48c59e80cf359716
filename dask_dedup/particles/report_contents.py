"""Contents of a report page besides the manifest: exact counts and a sample of picks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.particles.micrographs.names import MicrographName

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.particles.sample import SampleChoice, SampledMicrographs, SampledPicks

    Ints = NDArray[np.int64]

#: Bins of the distances from rejected picks to their winners, from 0 to the separation.
DISTANCE_BINS = 64


@dataclass(frozen=True, slots=True)
class ReportContents:
    """Counts over all compared rows, and a sample of these rows.

    The manifest has the numbers of all rows, kept rows and rejected rows of each input.

    Attributes
    ----------
    rejected_by_winner : (i, i) int64
        Number of rejected picks by their input (first axis) and the input of their winner (second axis).
    decided_by_row_order : int
        Number of rejected picks that are equal to their winner in all rank keys except the row number.
    distances : (64,) int64
        Number of rejected picks by distance to their winner, in `DISTANCE_BINS` equal bins from 0 to the separation.
        All 0 if the run measured no distances.
    micrographs : (m,) uint64
        Keys of all micrographs, sorted.
    kept, rejected : (m,) int64
        Number of kept and of rejected picks on each micrograph.
    names : dict of int to MicrographName
        Names of micrographs by key. If a micrograph has several names, the first in alphabetical order.
    choice : SampleChoice
    sample : SampledPicks
        Sorted (see `SampledPicks.in_order`).
    sampled : SampledMicrographs
        One row for each key of `choice`.
    """

    rejected_by_winner: Ints
    decided_by_row_order: int
    distances: Ints
    micrographs: NDArray[np.uint64]
    kept: Ints
    rejected: Ints
    names: dict[int, MicrographName]
    choice: SampleChoice
    sample: SampledPicks
    sampled: SampledMicrographs

    def name_of(self, key: int) -> str:
        """Return the name, path or uid of a micrograph, with its group if it has a group."""
        return self.names.get(key, MicrographName(key, "")).shown


def bin_distances(distances: NDArray[np.float64], separation: float) -> Ints:
    """Count distances to winners in `DISTANCE_BINS` bins from 0 to `separation`. All are 0 if `separation` is 0."""
    if not separation:
        return np.zeros(DISTANCE_BINS, dtype=np.int64)
    return np.histogram(distances, DISTANCE_BINS, (0.0, separation))[0].astype(np.int64)


def count_by_winner(
    source: NDArray[np.uint16], winner_source: NDArray[np.uint16], inputs: int
) -> Ints:
    """Count rejected picks with a winner, by their input and the input of the winner, (inputs, inputs)."""
    pair = source.astype(np.int64) * inputs + winner_source
    return np.bincount(pair, minlength=inputs * inputs).reshape(inputs, inputs)

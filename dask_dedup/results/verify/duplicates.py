"""Derive the expected content of ``duplicates``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.pipeline.duplicates import DUPLICATE, OUTVOTED
from dask_dedup.results.verify.close_pairs import NOT_FOUND
from dask_dedup.results.verify.particle_columns import known, particle_columns, texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.particles.inputs import Inputs

    Indices = NDArray[np.intp]
    Floats = NDArray[np.float64]


def expected_duplicates(
    inputs: Inputs,
    picks: Picks,
    rejected: Indices,
    winner: Indices,
    distance: Floats,
    standing: Floats,
    votes: Indices,
) -> dict[str, pa.Array]:
    """Map each column name of ``duplicates``, except the micrograph, to the expected values.

    Parameters
    ----------
    inputs : Inputs
    picks : Picks
    rejected, winner : (n,) intp
        Indices in `picks` of each rejected pick and its winner. `NOT_FOUND` means no winner.
    distance : (n,) float64
        Values of ``distance_A`` in angstrom; NaN for null.
    standing : (p,) float64
        Standing of each pick, see `rank_picks`; NaN for null.
    votes : (p,) intp
        Number of votes of each pick; 0 for a duplicate, and for all picks if votes are not counted.
    """
    every, has_winner = np.ones(rejected.size, dtype=bool), winner != NOT_FOUND
    outvoted = votes[rejected] > 0
    own = particle_columns(inputs, picks.take(rejected), every)
    other = particle_columns(inputs, picks.take(winner), has_winner)
    return {
        "reason": texts(outvoted, pa.array([DUPLICATE, OUTVOTED]), every),
        "distance_A": known(distance, ~np.isnan(distance)),
        "standing": known(standing[rejected], ~np.isnan(standing[rejected])),
        "winner_standing": known(standing[winner], has_winner & ~np.isnan(standing[winner])),
        "votes": known(votes[rejected], outvoted),
        "winner_votes": known(votes[winner], has_winner & (votes[winner] > 0)),
        **own,
        **{f"winner_{name}": values for name, values in other.items()},
    }

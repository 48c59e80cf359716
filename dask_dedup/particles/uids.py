"""Uids that name more than one particle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Uids that are sorted at a time: a few MB are quicker to sort than what a processor does not hold.
BLOCK_ROWS = 2**18
#: One uid of so many is looked at to find bounds between the blocks.
SPACING = 2**8


def find_repeated(runs: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Find what occurs more than once, looking at one range of values after another.

    All at once would take as much memory again as the runs.

    Parameters
    ----------
    runs : sequence of (n,) uint64
        Each sorted.

    Returns
    -------
    (m,) uint64
        Sorted, each once.
    """
    runs = [np.empty(0, np.uint64), *runs]
    blocks = 1 + sum(run.size for run in runs) // BLOCK_ROWS
    sample = np.sort(np.concatenate([run[::SPACING] for run in runs]))
    bounds = sample[np.arange(1, blocks) * sample.size // blocks]
    cuts = [[0, *np.searchsorted(run, bounds).tolist(), run.size] for run in runs]
    found = []
    for block in range(blocks):
        parts = [run[cut[block] : cut[block + 1]] for run, cut in zip(runs, cuts, strict=True)]
        # Sorted runs are what a stable sort merges.
        values = np.sort(np.concatenate(parts), kind="stable")
        found.append(values[1:][values[1:] == values[:-1]])
    return np.unique(np.concatenate(found))

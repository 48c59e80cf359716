"""Count the representatives in ``votes`` by the pickers that voted for them."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from dask_dedup.arrow import to_numpy
from dask_dedup.dedup.voting import MOST_LISTED
from dask_dedup.particles.column_values import Columns
from dask_dedup.results.verify.outcome import MismatchError
from dask_dedup.storage.files import parquet_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_COLUMNS = ["file", "row", "kept", "picker"]


class VoterCounts:
    """Counts of all and of kept representatives, by number of votes and by the pickers that voted for them."""

    def __init__(self, pickers: Sequence[str]) -> None:
        self._pickers = {name: number for number, name in enumerate(pickers)}
        self._found: Counter[int | frozenset[str]] = Counter()
        self._kept: Counter[int | frozenset[str]] = Counter()

    def add(self, path: Path) -> None:
        """Count the representatives in a file of ``votes``."""
        with pq.ParquetFile(**parquet_source(path)) as file:
            columns = Columns(file.read(_COLUMNS), str(path))
        if not len(columns):
            return
        codes, names = columns.texts("picker")
        files, _ = columns.texts("file")
        row = columns.integers("row")
        first = np.append(True, (row[1:] != row[:-1]) | (files[1:] != files[:-1]))
        kept = to_numpy(columns.rows.column("kept"))[first]
        starts = np.flatnonzero(first)
        self._count(np.diff(starts, append=row.size), kept, int)
        if len(self._pickers) <= MOST_LISTED:
            voted = np.zeros((starts.size, len(names)), dtype=bool)
            voted[np.cumsum(first) - 1, codes] = True
            voters = np.packbits(voted, axis=1)
            self._count(
                voters,
                kept,
                lambda bits: frozenset(
                    names[n] for n in np.flatnonzero(np.unpackbits(bits, count=len(names)))
                ),
            )

    def _count(
        self, values: NDArray[Any], kept: NDArray[np.bool_], key: Callable[[Any], Any]
    ) -> None:
        """Count each distinct value. `key` converts a value to the key of its count."""
        distinct, number = np.unique(values, axis=0, return_inverse=True)
        total = np.bincount(number.ravel(), minlength=len(distinct))
        stay = np.bincount(number.ravel()[kept], minlength=len(distinct))
        for value, found, left in zip(distinct, total.tolist(), stay.tolist(), strict=True):
            self._found[key(value)] += found
            self._kept[key(value)] += left

    def check(self, totals: dict[str, Any] | None) -> None:
        """Raise a `MismatchError` if the totals of votes in the manifest differ from the counts."""
        if totals is None:
            if self._found:
                raise MismatchError("votes is null in the manifest, but the datasets have votes")
            return
        sets = sorted(
            (-found, sorted(self._pickers[name] for name in voters), voters)
            for voters, found in self._found.items()
            if isinstance(voters, frozenset)
        )
        counted: dict[str, list[dict[str, Any]]] = {
            "by_votes": [
                {
                    "votes": votes,
                    "representatives": self._found[votes],
                    "kept": self._kept[votes],
                }
                for votes in range(1, len(self._pickers) + 1)
            ],
            "by_pickers": [
                {
                    "pickers": [totals["pickers"][n] for n in numbers],
                    "representatives": -found,
                    "kept": self._kept[voters],
                }
                for found, numbers, voters in sets
            ],
        }
        for key, value in counted.items():
            for stated, found in zip_longest(totals[key], value):
                if stated != found:
                    raise MismatchError(
                        f"{key} of votes has {stated} in the manifest, but {found} in the datasets"
                    )

"""Count the representatives in ``votes`` by the pickers that voted for them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from dask_dedup.arrow import to_numpy
from dask_dedup.particles.column_values import Columns
from dask_dedup.results.verify.verification import MismatchError
from dask_dedup.storage.files import parquet_source

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = ["file", "row", "kept", "picker"]


class VoterCounts:
    """The number of representatives by the set of pickers that voted for them, and how many of these are kept."""

    def __init__(self) -> None:
        self._found: Counter[frozenset[str]] = Counter()
        self._kept: Counter[frozenset[str]] = Counter()

    def add(self, path: Path) -> None:
        """Count the representatives in a file of ``votes``."""
        with pq.ParquetFile(**parquet_source(path)) as file:
            columns = Columns(file.read(_COLUMNS), str(path))
        if not len(columns):
            return
        codes, names = columns.texts("picker")
        files, _ = columns.texts("file")
        row = columns.integers("row")
        new = np.append(True, (row[1:] != row[:-1]) | (files[1:] != files[:-1]))
        voted = np.zeros((int(new.sum()), len(names)), dtype=bool)
        voted[np.cumsum(new) - 1, codes] = True
        sets, number = np.unique(np.packbits(voted, axis=1), axis=0, return_inverse=True)
        kept = to_numpy(columns.rows.column("kept"))[new]
        total = np.bincount(number.ravel(), minlength=len(sets))
        stay = np.bincount(number.ravel()[kept], minlength=len(sets))
        for bits, found, left in zip(sets, total.tolist(), stay.tolist(), strict=True):
            pickers = np.flatnonzero(np.unpackbits(bits, count=len(names)))
            voters = frozenset(names[n] for n in pickers.tolist())
            self._found[voters] += found
            self._kept[voters] += left

    def check(self, totals: dict[str, Any] | None) -> None:
        """Raise a `MismatchError` if the totals of votes in the manifest differ from the counts."""
        if totals is None:
            if self._found:
                raise MismatchError("votes is null in the manifest, but the datasets have votes")
            return
        order = {name: n for n, name in enumerate(totals["pickers"])}
        sets = sorted(
            (-found, sorted(order[name] for name in voters), voters)
            for voters, found in self._found.items()
        )
        counted = {
            "by_votes": [
                {
                    "votes": votes,
                    "representatives": _sum(self._found, votes),
                    "kept": _sum(self._kept, votes),
                }
                for votes in range(1, len(order) + 1)
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
            if totals[key] != value:
                raise MismatchError(
                    f"{key} of votes is {totals[key]} in the manifest, but {value} in the datasets"
                )


def _sum(counts: Counter[frozenset[str]], votes: int) -> int:
    return sum(number for voters, number in counts.items() if len(voters) == votes)

"""Rows that fail a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from dask_dedup.particles.column_values import Columns
from dask_dedup.results.verify.outcome import MismatchError
from dask_dedup.results.verify.particle_columns import differs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    Indices = NDArray[np.intp]


@dataclass(slots=True)
class Faults:
    """The number of rows that fail a check, and a description of the first such row."""

    rows: int = 0
    first: str = ""

    def add(self, rows: Indices, describe: Callable[[int], str]) -> None:
        """Count rows that fail the check. `describe` returns the message for a row."""
        if rows.size and not self.rows:
            self.first = describe(int(rows[0]))
        self.rows += rows.size

    def compare(
        self,
        dataset: str,
        found: pa.Table,
        expected: Mapping[str, pa.Array],
        rows: Indices,
        describe: Callable[[int], str],
    ) -> None:
        """Compare the given rows of a dataset with the expected columns, and count the differences.

        `describe` returns the beginning of the message about a row.
        """
        one, other = Columns(found, dataset), Columns(pa.table(dict(expected)), "the expected rows")
        for column in found.column_names:

            def fault(row: int, column: str = column) -> str:
                is_, should_be = (table.rows.column(column)[row] for table in (one, other))
                return f"{describe(row)}: {column} is {is_} in {dataset}, but should be {should_be}"

            wrong = differs(one, other, column)
            self.add(rows[wrong[rows]], fault)

    def check(self, detail: str) -> str:
        """Return `detail` if there are no faults, else raise a `MismatchError`."""
        if self.rows:
            more = f" (and {self.rows - 1:,} more)" if self.rows > 1 else ""
            raise MismatchError(f"{self.first}{more}")
        return detail

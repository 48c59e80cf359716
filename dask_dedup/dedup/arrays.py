"""A base class for tables with NumPy arrays as columns, and functions on such columns."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

#: 2**64 divided by the golden ratio, made odd: a usual factor of multiplicative hashes.
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_TABLE_BITS = 18


def unique_inverse(keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """Return the same as ``numpy.unique(keys, return_inverse=True)``, faster if many keys are equal."""
    starts = np.flatnonzero(begins_run(keys))
    runs = keys[starts]
    rows = np.arange(runs.size, dtype=np.int32)
    slot = ((runs * HASH_FACTOR) >> np.uint64(64 - _TABLE_BITS)).view(np.int64)
    last_in_slot = np.empty(2**_TABLE_BITS, dtype=np.int32)
    last_in_slot[slot] = rows
    same = last_in_slot[slot]
    # Another key may have the same slot.
    other = np.flatnonzero(runs[same] != runs)
    same[other] = other
    first = np.flatnonzero(same == rows)
    first = first[np.argsort(runs[first])]
    distinct = runs[first]
    new = begins_run(distinct)
    number = np.empty(runs.size, dtype=np.intp)
    number[first] = np.cumsum(new) - 1
    inverse = number[same]
    if runs.size < keys.size:
        inverse = np.repeat(inverse, np.diff(starts, append=keys.size))
    return distinct[new], inverse


def begins_run(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask of the first of each run of equal values, (n,)."""
    begins = np.ones(values.size, dtype=bool)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def repeat_each(times: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Repeat each index i of `times` ``times[i]`` times. Return the indices, and numbers of the repetitions from 0."""
    position = np.repeat(np.arange(times.size), times)
    return position, np.arange(position.size) - (np.cumsum(times) - times)[position]


def find_sorted(known: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.intp]:
    """Return the index of each value of `wanted` in the sorted array `known`, or -1 for values that are not in it."""
    if not known.size:
        return np.full(wanted.size, -1, dtype=np.intp)
    at = np.searchsorted(known, wanted).clip(max=known.size - 1)
    return np.where(known[at] == wanted, at, -1)


def distinct_keys(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Return the sorted distinct keys of several arrays together."""
    keys, waiting, size = np.empty(0, np.uint64), [], 0
    for number, part in enumerate(parts, start=1):
        waiting.append(part)
        size += part.size
        # Keys are merged early: if rows are in random order, each fragment has nearly all micrographs.
        if size > keys.size or number == len(parts):
            # With counts, NumPy sorts, which is faster than its hash table.
            keys, _ = np.unique(np.concatenate([keys, *waiting]), return_counts=True)
            waiting, size = [], 0
    return keys


def constant_column(value: Any, rows: int) -> NDArray[Any]:
    """Return a read-only array that repeats one value. It takes no memory per row."""
    return np.broadcast_to(value, rows)


class ArrayTable:
    """Base class of tables with n rows. A table is a frozen dataclass; each field is an (n,) array."""

    __slots__ = ()
    #: Dtypes of the fields, in order; see `dtypes_of`.
    dtypes: ClassVar[dict[str, np.dtype[np.generic]]]

    def __len__(self) -> int:
        return len(getattr(self, next(iter(self.dtypes))))

    def __sizeof__(self) -> int:
        # Dask spills results to disk by this size.
        return object.__sizeof__(self) + self.nbytes

    @property
    def nbytes(self) -> int:
        """Memory used by the table, in bytes. Columns made by `constant_column` count as 0."""
        return sum(column.nbytes for column in self.columns().values() if any(column.strides))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """Return a table of the selected rows. `rows` holds row numbers or is a boolean mask."""
        if rows.dtype == bool:
            # With a mask without a pattern, NumPy takes four times as long for each column.
            rows = np.flatnonzero(rows)
        return self.from_columns(
            {name: _take(column, rows) for name, column in self.columns().items()}
        )

    def split(self, parts: Sequence[NDArray[np.intp]]) -> list[Self]:
        """Return a table for each array of row numbers in `parts`."""
        # Column by column, so that the column stays in the cache of the processor.
        taken = {
            name: [_take(column, rows) for rows in parts] for name, column in self.columns().items()
        }
        return [
            self.from_columns({name: each[part] for name, each in taken.items()})
            for part in range(len(parts))
        ]

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Map each column name to its array."""
        return {name: getattr(self, name) for name in self.dtypes}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[np.generic]]) -> Self:
        """Make a table from arrays by column name. Names that are not fields of the table are ignored."""
        return cls(**{name: np.asarray(columns[name]) for name in cls.dtypes})

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Concatenate the rows of the tables `parts`. If only one part has rows, return this part itself."""
        filled = [part for part in parts if len(part)]
        if len(filled) == 1:
            return filled[0]
        return cls.from_columns(
            {
                name: np.concatenate(
                    [np.empty(0, dtype), *(getattr(part, name) for part in filled)]
                )
                for name, dtype in cls.dtypes.items()
            }
        )


def dtypes_of(table: type[ArrayTable], *dtypes: str) -> dict[str, np.dtype[np.generic]]:
    """Map each field name of the class `table` to its dtype. Pass the dtypes in the order of the fields."""
    names = (field.name for field in fields(table))  # type: ignore[arg-type]
    return dict(zip(names, map(np.dtype, dtypes), strict=True))


def _take(column: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    if column.size and not any(column.strides):
        return constant_column(column[0], rows.size)
    return column.take(rows)

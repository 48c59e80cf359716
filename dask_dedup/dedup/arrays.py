"""Tables held as NumPy arrays of equal length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


def constant_column(value: Any, rows: int) -> NDArray[Any]:
    """Return a read-only column of one value, which takes no memory."""
    return np.broadcast_to(value, rows)


class ArrayTable:
    """Base of the frozen dataclasses `Picks` and `Rejections`: one (n,) array per field.

    Attributes
    ----------
    dtypes : dict of str to dtype
        Of the fields, in order.
    """

    __slots__ = ()
    dtypes: ClassVar[dict[str, np.dtype[np.generic]]]

    def __len__(self) -> int:
        return len(getattr(self, next(iter(self.dtypes))))

    @property
    def nbytes(self) -> int:
        """Memory in bytes; a column made by `constant_column` takes none."""
        return sum(column.nbytes for column in self.columns().values() if any(column.strides))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """Return rows by number or by mask."""
        number = int(np.count_nonzero(rows)) if rows.dtype == bool else rows.size
        taken = {name: _take(column, rows, number) for name, column in self.columns().items()}
        return self.from_columns(taken)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in self.dtypes}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return a table of arrays by name; other names are ignored."""
        return cls(**{name: np.asarray(columns[name]) for name in cls.dtypes})

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return tables joined end to end; an empty table if there are none."""
        return cls.from_columns(
            {
                name: np.concatenate([np.empty(0, dtype), *(getattr(part, name) for part in parts)])
                for name, dtype in cls.dtypes.items()
            }
        )


def _take(column: NDArray[Any], rows: NDArray[Any], number: int) -> NDArray[Any]:
    if column.size and not any(column.strides):
        return constant_column(column[0], number)
    return np.asarray(column[rows])

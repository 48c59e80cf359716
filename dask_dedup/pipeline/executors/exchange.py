"""Shuffle picks by micrograph with Dask, find duplicates, and shuffle the decisions back to the fragments.

::

    picks ─► shuffle by partition ─► decide ─► shuffle by group of fragments
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.dataframe as dd
import numpy as np
import pandas as pd

from dask_dedup.dedup.decide import Decisions, Rejections
from dask_dedup.dedup.picks import Picks
from dask_dedup.dedup.votes import Votes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.arrays import ArrayTable

    Arrays = Mapping[str, NDArray[Any]]
    Dtypes = Mapping[str, np.dtype[Any]]


def fragment_numbers(groups: Iterable[Sequence[int]]) -> dd.DataFrame:
    """Return a Dask frame of fragment numbers (column ``fragment``), one partition per group of fragments."""
    return dd.from_map(_numbers, list(groups), meta=_numbers([0]).iloc[:0])


def _numbers(fragments: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame({"fragment": list(fragments)})


def empty_frame(dtypes: Dtypes) -> pd.DataFrame:
    """Return an empty pandas frame with the column names and dtypes in `dtypes`, for Dask's ``meta``."""
    return pd.DataFrame({name: np.empty(0, dtype) for name, dtype in dtypes.items()})


#: What `picks_frame` returns.
PICKS_META = empty_frame({"partition": np.dtype("i4"), **Picks.dtypes})


def picks_frame(picks: Picks, partition: NDArray[np.integer]) -> pd.DataFrame:
    """Convert picks, with the shuffle partition of each, to a pandas frame for `exchange`."""
    return pd.DataFrame({"partition": partition.astype(np.int32, copy=False), **picks.columns()})


def exchange(
    picks: dd.DataFrame,
    decide: Callable[..., Arrays],
    *arguments: Any,
    partitions: int,
    groups: int,
    dtypes: Dtypes,
    shuffle_method: str | None = None,
) -> dd.DataFrame:
    """Shuffle picks and find duplicates. Return a Dask frame of decisions, one partition per group of fragments.

    Parameters
    ----------
    picks : dask.dataframe.DataFrame
        Partitions made by `picks_frame`; all picks of a micrograph have the same shuffle partition.
    decide : callable
        Called with the `Picks` of a shuffle partition and `arguments`. Returns a column ``group``
        (the group of each decision) and those of `dtypes`.
    *arguments
        Futures and delayed values are resolved.
    partitions, groups : int
        Numbers of shuffle partitions and of groups.
    dtypes : mapping of str to dtype
    shuffle_method : str, optional
        By default Dask chooses.
    """
    by_partition = picks.set_index(
        "partition", divisions=_one_each(partitions), shuffle_method=shuffle_method
    )
    decisions = by_partition.map_partitions(
        _decide, decide, *arguments, meta=empty_frame({"group": np.dtype("i8"), **dtypes})
    )
    return decisions.set_index("group", divisions=_one_each(groups), shuffle_method=shuffle_method)


def _decide(frame: pd.DataFrame, decide: Callable[..., Arrays], *arguments: Any) -> pd.DataFrame:
    picks = Picks.from_columns({name: frame[name].to_numpy() for name in Picks.dtypes})
    return pd.DataFrame(decide(picks, *arguments))


#: Before the name of a column of votes. One frame holds rejected particles and votes, in different rows.
_VOTE = "vote_"


def decision_dtypes(*, votes: bool) -> dict[str, np.dtype[Any]]:
    """Return the columns of `decision_columns` without the group, and their dtypes."""
    if not votes:
        return dict(Rejections.dtypes)
    voted = {f"{_VOTE}{name}": dtype for name, dtype in Votes.dtypes.items()}
    return {**Rejections.dtypes, **voted, _VOTE: np.dtype(bool)}


def decision_columns(
    decisions: Decisions, group_of: NDArray[np.int64], *, votes: bool
) -> dict[str, NDArray[Any]]:
    """Convert decisions to columns for `exchange`.

    `group_of` has the group of each fragment. Decisions about fragments with group -1 are left out. `votes` is whether
    votes are counted.
    """
    tables: dict[str, ArrayTable] = {"": decisions.rejections}
    groups = {"": group_of[decisions.rejections.fragment]}
    if votes:
        tables[_VOTE], groups[_VOTE] = decisions.votes, group_of[decisions.votes.fragment]
    tables = {prefix: table.take(groups[prefix] >= 0) for prefix, table in tables.items()}
    rows = {prefix: len(table) for prefix, table in tables.items()}
    columns = {"group": np.concatenate([group[group >= 0] for group in groups.values()])}
    for prefix, table in tables.items():
        for name, column in table.columns().items():
            parts = [
                column if other == prefix else np.zeros(number, column.dtype)
                for other, number in rows.items()
            ]
            columns[f"{prefix}{name}"] = np.concatenate(parts)
    if votes:
        columns[_VOTE] = np.repeat([False, True], list(rows.values()))
    return columns


def decisions_from(frame: pd.DataFrame) -> Decisions:
    """Convert a frame of `decision_columns` back."""
    columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    if _VOTE not in columns:
        return Decisions(Rejections.from_columns(columns), Votes.concatenate([]))
    is_vote = columns[_VOTE]
    voted = {name: columns[f"{_VOTE}{name}"] for name in Votes.dtypes}
    return Decisions(
        Rejections.from_columns(columns).take(~is_vote), Votes.from_columns(voted).take(is_vote)
    )


def _one_each(number: int) -> tuple[int, ...]:
    """Return Dask divisions for an index 0, 1, ..., ``number - 1`` with one partition per value."""
    return (*range(number), number)

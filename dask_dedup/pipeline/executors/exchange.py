"""Shuffle picks by micrograph with Dask, find duplicates, and shuffle the decisions back to the fragments.

::

    picks ─► shuffle by partition ─► decide ─► shuffle by group of fragments

A shuffled frame has a row for each partition or group that receives data from a task. So Dask moves and sorts only a
few rows, and not a row for every pick.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa

from dask_dedup.dedup.picks import Picks
from dask_dedup.pipeline.executors.splitting import split_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

#: Columns of a shuffled frame: the number of the receiving partition or group, and the pickled data.
_TO, _PIECE = "to", "piece"


def fragment_numbers(groups: Iterable[Sequence[int]]) -> dd.DataFrame:
    """Return a Dask frame of fragment numbers (column ``fragment``), one partition per group of fragments."""
    return dd.from_map(_numbers, list(groups), meta=_numbers([0]).iloc[:0])


def _numbers(fragments: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame({"fragment": list(fragments)})


def pieces_frame(pieces: Mapping[int, Any]) -> pd.DataFrame:
    """Return a pandas frame that sends the values of `pieces`. The keys are the receiving partitions or groups."""
    content = [pickle.dumps(piece, protocol=5) for piece in pieces.values()]
    # Arrow's `binary` type holds at most 2 GiB.
    column = pd.arrays.ArrowExtensionArray(pa.array(content, pa.large_binary()))
    return pd.DataFrame({_TO: np.array([*pieces], dtype=np.int64), _PIECE: column})


#: An empty frame, for Dask's ``meta``.
PIECES_META = pieces_frame({})


def pieces_in(frame: pd.DataFrame) -> list[Any]:
    """Return the data that a partition or group has received."""
    return [pickle.loads(piece) for piece in frame[_PIECE]]


def picks_frame(picks: Picks, partition: NDArray[np.integer]) -> pd.DataFrame:
    """Return a pandas frame that sends picks to shuffle partitions. `partition` has the partition of each pick."""
    return pieces_frame(split_by(picks, partition.astype(np.int32, copy=False)))


def exchange(
    picks: dd.DataFrame,
    decide: Callable[..., Mapping[int, Any]],
    *arguments: Any,
    partitions: int,
    groups: int,
    shuffle_method: str | None = None,
) -> dd.DataFrame:
    """Shuffle picks and find duplicates. Return a Dask frame of decisions, one partition per group of fragments.

    Parameters
    ----------
    picks : dask.dataframe.DataFrame
        Partitions made by `picks_frame`; all picks of a micrograph have the same shuffle partition.
    decide : callable
        Called with the `Picks` of a shuffle partition and `arguments`. Returns the decisions for each
        group of fragments. `pieces_in` reads the decisions from the result.
    *arguments
        Further arguments of `decide`. Futures and delayed values are resolved.
    partitions, groups : int
        Numbers of shuffle partitions and of groups.
    shuffle_method : str, optional
        By default Dask chooses the method.
    """
    by_partition = picks.set_index(
        _TO, divisions=_one_each(partitions), shuffle_method=shuffle_method
    )
    decisions = by_partition.map_partitions(_decide, decide, *arguments, meta=PIECES_META)
    return decisions.set_index(_TO, divisions=_one_each(groups), shuffle_method=shuffle_method)


def _decide(
    frame: pd.DataFrame, decide: Callable[..., Mapping[int, Any]], *arguments: Any
) -> pd.DataFrame:
    return pieces_frame(decide(Picks.concatenate(pieces_in(frame)), *arguments))


def _one_each(number: int) -> tuple[int, ...]:
    """Return Dask divisions for an index 0, 1, ..., ``number - 1`` with one partition per value."""
    return (*range(number), number)

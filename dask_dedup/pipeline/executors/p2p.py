"""Shuffle picks with Dask's P2P shuffle, find duplicates and write. Used if tasks cannot pass on all picks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from distributed import span

from dask_dedup.dedup.decide import Decisions
from dask_dedup.pipeline.executors import tasks
from dask_dedup.pipeline.executors.batching import groups_of
from dask_dedup.pipeline.executors.exchange import (
    PIECES_META,
    exchange,
    fragment_numbers,
    picks_frame,
    pieces_in,
)
from dask_dedup.pipeline.executors.splitting import split_decisions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client, Future
    from numpy.typing import NDArray

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan


def exchange_and_write(
    client: Client,
    plan: Plan,
    shared: tuple[Future, Future],
    sending: Sequence[Sequence[int]],
    receiving: Sequence[Sequence[int]],
) -> list[Future]:
    """Submit one graph that shuffles picks, finds duplicates and writes. Return a future per group in `receiving`.

    `shared` has the futures of the job and of `plan`. Each result is a frame with a column ``checkpoint``.
    """
    if not receiving:
        return []
    picks = fragment_numbers(sending).map_partitions(_collect, *shared, meta=PIECES_META)
    group_of = groups_of(dict(enumerate(receiving)), plan.fragments)
    decisions = exchange(
        picks,
        _decide,
        *shared,
        client.submit(tasks.share, group_of, pure=False),
        partitions=plan.partition_rows.size,
        groups=len(receiving),
        shuffle_method="p2p",
    )
    checkpoints = fragment_numbers(receiving).map_partitions(
        _write,
        decisions,
        *shared,
        meta=pd.DataFrame({"checkpoint": np.empty(0, dtype=object)}),
        align_dataframes=False,
    )
    checkpoints = checkpoints.optimize()
    graph = checkpoints.__dask_graph__()
    # Dask collections cannot be annotated with a span, so the graph is submitted. All steps are in one graph, so
    # that a partition is read from disk only when a task needs it.
    with span("shuffle"):
        return list(client.get(graph, checkpoints.__dask_keys__(), sync=False))


def _collect(numbers: pd.DataFrame, job: Job, plan: Plan) -> pd.DataFrame:
    return picks_frame(*tasks.collect(numbers["fragment"].tolist(), job, plan))


def _decide(
    picks: Picks, job: Job, plan: Plan, group_of: NDArray[np.int64]
) -> dict[int, Decisions]:
    return split_decisions(tasks.decide(picks, job, plan), group_of)


def _write(numbers: pd.DataFrame, moved: pd.DataFrame, job: Job, plan: Plan) -> pd.DataFrame:
    group, decisions = numbers["fragment"].tolist(), Decisions.concatenate(pieces_in(moved))
    return pd.DataFrame({"checkpoint": [*tasks.write(group, job, plan, decisions)]})

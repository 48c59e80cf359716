"""On a Dask cluster: the only module that knows `dask.dataframe`.

Only picks of straddling micrographs travel, and only decisions about rejected ones travel back::

    fragment numbers ─► picks ─► P2P shuffle by bucket ─► decide ─► P2P shuffle by fragment ─► write
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import as_completed

from dask_dedup import stages
from dask_dedup.decide import REJECTIONS_DTYPES, Rejections
from dask_dedup.picks import PICKS_DTYPES, Picks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from distributed import Client

    from dask_dedup.job import Job
    from dask_dedup.plan import Plan
    from dask_dedup.scan import Census
    from dask_dedup.stages import Receipt


class ClusterEngine:
    """Runs the stages on the workers of a Dask cluster; all must see the input and output folders."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __str__(self) -> str:
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        threads = sum(worker["nthreads"] for worker in workers.values())
        address = self.client.scheduler.address
        return f"Dask cluster at {address}: {len(workers)} workers, {threads} threads"

    def scan(self, job: Job) -> Iterator[Census]:
        """Take the census of every fragment."""
        shared = dask.delayed(job, traverse=False, pure=False)
        scan = dask.delayed(stages.scan_fragment, pure=False)
        yield from self._finished([scan(shared, number) for number in range(len(job.fragments))])

    def write(self, job: Job, plan: Plan) -> Iterator[Receipt]:
        """Decide, and write every fragment."""
        shared = dask.delayed(job, traverse=False, pure=False)
        shared_plan = dask.delayed(plan, traverse=False, pure=False)
        opened = set(plan.open_fragments)
        nothing = Rejections.concatenate([])
        write = dask.delayed(stages.write_fragment, pure=False)
        writes = [
            write(shared, shared_plan, number, nothing)
            for number in range(len(job.fragments))
            if number not in opened
        ]
        if opened:
            write_moved = dask.delayed(_write_moved, pure=False)
            moved = self._exchange(shared, shared_plan, plan).to_delayed()
            writes += [
                write_moved(shared, shared_plan, number, part)
                for number, part in zip(plan.open_fragments, moved, strict=True)
            ]
        yield from self._finished(writes)

    def _exchange(self, job: Any, shared_plan: Any, plan: Plan) -> dd.DataFrame:
        """Give the decisions about the open fragments, one partition each, in their order."""
        numbers = dd.from_map(_number_frame, plan.open_fragments, meta=_number_frame(0).iloc[:0])
        picks = numbers.map_partitions(
            _collect, job, shared_plan, meta=_meta({"bucket": np.dtype("i4"), **PICKS_DTYPES})
        )
        by_bucket = picks.set_index(
            "bucket", divisions=_one_each(plan.bucket_rows.size), shuffle_method="p2p"
        )
        rejections = by_bucket.map_partitions(
            _decide, job, shared_plan, meta=_meta({"home": np.dtype("i8"), **REJECTIONS_DTYPES})
        )
        return rejections.set_index(
            "home", divisions=_one_each(len(plan.open_fragments)), shuffle_method="p2p"
        )

    def _finished(self, tasks: list[Any]) -> Iterator[Any]:
        """Give results as they come; on an error or an interrupt, drop what waits."""
        futures = self.client.compute(tasks)
        try:
            for future in as_completed(futures):
                yield future.result()
                future.release()
        finally:
            self.client.cancel([future for future in futures if not future.done()])


def _one_each(partitions: int) -> tuple[int, ...]:
    """Divisions that give every number from 0 on a partition of its own."""
    return (*range(partitions), partitions)


def _meta(dtypes: Mapping[str, np.dtype[np.generic]]) -> pd.DataFrame:
    return pd.DataFrame({name: np.empty(0, dtype) for name, dtype in dtypes.items()})


def _number_frame(number: int) -> pd.DataFrame:
    return pd.DataFrame({"fragment": [number]})


def _collect(numbers: pd.DataFrame, job: Job, plan: Plan) -> pd.DataFrame:
    picks, bucket = stages.collect_picks(job, plan, int(numbers["fragment"].iloc[0]))
    return pd.DataFrame({"bucket": bucket, **picks.columns()})


def _decide(frame: pd.DataFrame, job: Job, plan: Plan) -> pd.DataFrame:
    picks = Picks.from_columns({name: frame[name].to_numpy() for name in PICKS_DTYPES})
    rejections = stages.decide_bucket(job, picks)
    home = np.searchsorted(np.array(plan.open_fragments, dtype=np.int64), rejections.fragment)
    return pd.DataFrame({"home": home.astype(np.int64), **rejections.columns()})


def _write_moved(job: Job, plan: Plan, number: int, frame: pd.DataFrame) -> Receipt:
    moved = Rejections.from_columns({name: frame[name].to_numpy() for name in REJECTIONS_DTYPES})
    return stages.write_fragment(job, plan, number, moved)

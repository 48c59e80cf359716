"""The proof of a finished run, from its files and its inputs alone.

Nothing of the run's own decisions is believed, and none of its code that decides is used. Taken on trust are only the
readers of the inputs (`formats`) and what they are read as: centres (`scan`) and rank (`picks`).

Two of the checks prove together that the kept particles are *the* greedy answer, not only a possible one.
Separation: no two kept particles are within the separation. Maximality: every rejected one has a kept one within
the separation that ranks above it. Take the particles from the best rank down, and let all before one agree with
the greedy walk. If it is kept here, none of the better kept ones is within the separation, so the walk keeps it; if it is
rejected here, a better kept one is, so the walk rejects it. Hence all agree.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dask_dedup import __version__
from dask_dedup.cellgrid import Points, best_within, closest_pair, distances, nearest_other
from dask_dedup.columns import Columns
from dask_dedup.errors import DedupError
from dask_dedup.formats import open_table, parquet
from dask_dedup.formats.table import InputFile
from dask_dedup.output import TABLES, read_manifest
from dask_dedup.params import DedupParams
from dask_dedup.picks import NO_HALF, Picks, fragment_of, row_of
from dask_dedup.pipeline import ALGORITHM, _run_id, make_job
from dask_dedup.rank import splitmix64
from dask_dedup.scan import read_picks
from dask_dedup.stages import DUPLICATES, DUPLICATES_SCHEMA, KEPT, REJECTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment
    from dask_dedup.stages import Job

    Bools = NDArray[np.bool_]
    Indices = NDArray[np.intp]
    Entries = dict[tuple[str, int], dict[str, Any]]

#: Picks held at once; the inputs' narrow columns are read again for every further pass.
PASS_ROWS = 4_000_000
#: Fragments looked at side by side, at most.
MOST_THREADS = 8

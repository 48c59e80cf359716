"""Record, during the scan, the micrographs of a fragment that may be in the sample of the report.

The sample is chosen after the scan of all fragments. Its picks are recorded when they are written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.arrays import unique_inverse
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.particles.micrographs.stripping import bare_name
from dask_dedup.particles.sample import (
    MOST_ON_ONE,
    SAMPLE_PICKS,
    ScannedSample,
    bounds_of,
    likely_sampled,
)
from dask_dedup.particles.sampled_rows import sampled_micrographs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.micrographs.table import MicrographTable
    from dask_dedup.particles.scan_summary import ScanSummary

#: The scan records enough micrographs to fill the sample this many times.
_MARGIN = 3.0
#: If a fragment has fewer micrographs than this, all of them are recorded.
_LEAST = 12.0
#: The bounds of a micrograph are recorded if it has at least this fraction of `MOST_ON_ONE` picks.
_MANY = 0.25
#: Largest number of picks in the summaries of all fragments together.
MOST_NOTED = 12 * SAMPLE_PICKS


def scan_sample(
    found: Extract,
    rows: pa.Table,
    roles: ColumnRoles,
    table: MicrographTable | None,
    summary: ScanSummary,
    first_row: int,
    total_rows: int,
    named: Sequence[str] = (),
) -> ScannedSample:
    """Record the micrographs of a fragment that may be sampled.

    Parameters
    ----------
    found : Extract
    rows : pyarrow.Table
        Rows with all columns of `roles`.
    roles : ColumnRoles
    table : MicrographTable or None
    summary : ScanSummary
        Summary of the fragment.
    first_row : int
        Number of the fragment's first row in the input.
    total_rows : int
        Number of rows of all inputs.
    named : sequence of str
        Names of micrographs that the user asked for.
    """
    compared = found.picks.invalid == 0
    wanted = _find_named(summary, named)
    likely, first = _likely_rows(found, compared, summary.micrographs.size, total_rows, wanted)
    row = np.arange(first_row, first_row + rows.num_rows)
    mask = np.zeros(rows.num_rows, dtype=bool)
    mask[first] = True
    micrographs = sampled_micrographs(found, rows, roles, table, mask, row)
    if roles.shape and np.isnan(micrographs.width).any():  # another row may have the size
        micrographs = sampled_micrographs(found, rows, roles, table, likely, row)
    at = np.flatnonzero(likely)
    at = at[likely_sampled(found.picks.micrograph[at], total_rows)]
    picks = found.picks.take(at) if at.size <= MOST_NOTED else None
    return ScannedSample(micrographs, *_bounds(found, compared, summary, total_rows), picks)


def limit_picks(summaries: Iterable[ScanSummary]) -> list[ScanSummary]:
    """Return the summaries. Drop the sampled picks of all summaries after `MOST_NOTED` picks in total."""
    found, noted = [], 0
    for summary in summaries:
        if summary.sample is not None and summary.sample.picks is not None:
            noted += len(summary.sample.picks)
            if noted > MOST_NOTED:
                summary = replace(summary, sample=replace(summary.sample, picks=None))
        found.append(summary)
    return found


def _likely_rows(
    found: Extract,
    compared: NDArray[np.bool_],
    micrographs: int,
    total_rows: int,
    wanted: NDArray[np.uint64],
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return a mask of the compared rows on micrographs that may be sampled, and the first such row of each micrograph.

    `micrographs` is the number of micrographs of the fragment. `wanted` has the keys that the user asked for.
    """
    keys, likely = found.picks.micrograph, compared
    share = _MARGIN * SAMPLE_PICKS / max(1, total_rows)
    if share < 1 and micrographs * share >= _LEAST:
        likely = splitmix64(keys) < np.uint64(share * 2.0**64)
        if wanted.size:
            likely |= np.isin(keys, wanted)
        likely &= compared
    at = np.flatnonzero(likely)
    distinct, number = unique_inverse(keys[at])
    first = np.empty(distinct.size, dtype=np.intp)
    first[number[::-1]] = at[::-1]
    return likely, first


def _find_named(summary: ScanSummary, named: Sequence[str]) -> NDArray[np.uint64]:
    """Return the keys of the micrographs of a fragment that may match one of the names."""
    if not named:
        return np.empty(0, np.uint64)
    bare = {bare_name(name) for name in named}
    uids = {int(name) for name in named if name.isdecimal() and int(name) < 2**64}
    keys = {each.key for each in summary.names if bare_name(each.name or each.path) in bare}
    return np.array(sorted(keys | uids), dtype=np.uint64)


def _bounds(
    found: Extract, compared: NDArray[np.bool_], summary: ScanSummary, total_rows: int
) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """Return the keys and bounds of micrographs with many picks, and of the first and the last micrograph."""
    if total_rows <= MOST_ON_ONE or not compared.any():
        return np.empty(0, np.uint64), np.empty((0, 4))
    picks = found.picks
    ends = picks.micrograph[np.flatnonzero(compared)[[0, -1]]]
    least = _MANY * MOST_ON_ONE * len(picks) / total_rows
    keys = np.unique(np.append(ends, summary.micrographs[summary.counts >= least]))
    rows = np.flatnonzero(compared & np.isin(picks.micrograph, keys))
    return keys, bounds_of(picks.micrograph[rows], picks.x[rows], picks.y[rows], keys)

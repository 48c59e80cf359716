"""What a scan notes about the micrographs of a fragment that the sample of the report may contain.

The sample is chosen when all fragments are scanned; its picks are noted when they are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.arrays import unique_inverse
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.particles.sample import MOST_ON_ONE, SAMPLE_PICKS
from dask_dedup.particles.sampled_rows import sampled_micrographs, sampled_paths

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.micrographs.names import MicrographName
    from dask_dedup.particles.micrographs.table import MicrographTable
    from dask_dedup.particles.sample import SampledMicrographs

#: All micrographs of a fragment may be sampled if it has no more than these.
FEW_MICROGRAPHS = 1_000
#: Else as many that their picks would fill the sample this many times.
_MARGIN = 3.0
#: Least picks on a fragment for which the extent of a micrograph is noted.
_MANY_PICKS = 2_000


@dataclass(frozen=True, slots=True)
class ScannedSample:
    """Micrographs of a fragment that may be sampled.

    Attributes
    ----------
    micrographs : SampledMicrographs
    paths : list of MicrographName
        Of micrographs that are matched by uid.
    extents : dict of int to tuple of float
        Least x and y, and greatest x and y, of the picks on micrographs that may need a window.
    """

    micrographs: SampledMicrographs
    paths: list[MicrographName]
    extents: dict[int, tuple[float, float, float, float]]


def scan_sample(
    found: Extract,
    rows: pa.Table,
    roles: ColumnRoles,
    table: MicrographTable | None,
    first_row: int,
    total_rows: int,
) -> ScannedSample:
    """Note the micrographs of a fragment that may be sampled.

    Parameters
    ----------
    found : Extract
    rows : pyarrow.Table
        With the columns `sampled_columns`.
    roles : ColumnRoles
    table : MicrographTable or None
    first_row : int
        Number of the fragment's first row in the input.
    total_rows : int
        Rows of all inputs.
    """
    likely, first = _likely_rows(found, total_rows)
    row = np.arange(first_row, first_row + rows.num_rows)
    mask = np.zeros(rows.num_rows, dtype=bool)
    mask[first] = True
    micrographs = sampled_micrographs(found, rows, roles, table, mask, row)
    if roles.shape and np.isnan(micrographs.width).any():  # perhaps another row has the size
        micrographs = sampled_micrographs(found, rows, roles, table, likely, row)
    paths = list(sampled_paths(found, rows, likely).values())
    return ScannedSample(micrographs, paths, _extents(found, total_rows))


def _likely_rows(found: Extract, total_rows: int) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return a mask of the compared rows on micrographs that may be sampled, and the first such row of each."""
    picks = found.picks
    likely = picks.invalid == 0
    at = np.flatnonzero(likely)
    keys, number = unique_inverse(picks.micrograph[at])
    share = _MARGIN * SAMPLE_PICKS / max(1, total_rows)
    if keys.size > FEW_MICROGRAPHS and share < 1:
        some = splitmix64(keys) < np.uint64(share * 2.0**64)
        at, number = at[some[number]], number[some[number]]
        likely[:] = False
        likely[at] = True
    first = np.full(keys.size, -1, dtype=np.intp)
    first[number[::-1]] = at[::-1]
    return likely, first[first >= 0]


def _extents(found: Extract, total_rows: int) -> dict[int, tuple[float, float, float, float]]:
    """Return the extents of the picks on micrographs with many, and on those of the first and the last row."""
    if total_rows <= MOST_ON_ONE:
        return {}
    picks = found.picks
    compared = np.flatnonzero(picks.invalid == 0)
    micrograph = picks.micrograph[compared]
    keys, number = unique_inverse(micrograph)
    many = keys[np.bincount(number, minlength=keys.size) >= _MANY_PICKS]
    extents = {}
    for key in {*many.tolist(), *micrograph[:1].tolist(), *micrograph[-1:].tolist()}:
        rows = compared[micrograph == key]
        x, y = picks.x[rows], picks.y[rows]
        extents[key] = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
    return extents

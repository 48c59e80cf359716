"""Read the paths and sizes of the sampled micrographs from the rows of a fragment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import cast_views, from_numpy, is_text
from dask_dedup.dedup.arrays import unique_inverse
from dask_dedup.particles.column_names import MICROGRAPH_PATH
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.names import MicrographName
from dask_dedup.particles.micrographs.row_keys import RowGroups, RowMicrographs
from dask_dedup.particles.sample import SampledMicrographs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.micrographs.table import MicrographTable

    Floats = NDArray[np.float64]


def sampled_columns(roles: ColumnRoles, names: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that `sampled_micrographs` and `sampled_paths` need, out of the columns `names` of a table."""
    more = [MICROGRAPH_PATH] if MICROGRAPH_PATH in {*names} else []
    return tuple(dict.fromkeys((*roles.scanned_columns, *more)))


def sampled_paths(
    found: Extract, rows: pa.Table, chosen: NDArray[np.bool_]
) -> dict[int, MicrographName]:
    """Return the paths of the micrographs of the `chosen` rows by key, if micrographs are matched by uid."""
    if found.micrographs.names:
        return {}
    groups = found.micrographs.groups.columns
    return micrograph_paths(rows, found.picks.micrograph, np.flatnonzero(chosen), groups)


def micrograph_paths(
    rows: pa.Table, keys: NDArray[np.uint64], at: NDArray[np.intp], groups: Sequence[str]
) -> dict[int, MicrographName]:
    """Return the path of each micrograph that is matched by uid. Of several paths, use the first in alphabetical order.

    Parameters
    ----------
    rows : pyarrow.Table
    keys : (n,) uint64
        Micrograph of each row.
    at : (k,) intp
        Numbers of the rows to read.
    groups : sequence of str
        Group columns.
    """
    if MICROGRAPH_PATH not in rows.column_names or not at.size:
        return {}
    kind = rows.schema.field(MICROGRAPH_PATH).type
    if not is_text(kind):
        return {}
    some = cast_views(rows.select([MICROGRAPH_PATH, *groups])).take(from_numpy(at))
    if pa.types.is_dictionary(kind):  # the dictionary may have many other paths
        some = some.set_column(0, MICROGRAPH_PATH, some.column(0).cast(kind.value_type))
    columns = Columns(some, "")
    codes, paths = columns.texts(MICROGRAPH_PATH)
    describe = RowGroups.of(columns, groups).describe
    keys = keys[at]
    _, number = unique_inverse(keys)
    _, first = np.unique(number * (len(paths) + 1) + codes, return_index=True)
    return first_names(
        MicrographName(int(keys[row]), "", describe(row), paths[codes[row]])
        for row in first.tolist()
        if codes[row] >= 0
    )


def first_names(names: Iterable[MicrographName]) -> dict[int, MicrographName]:
    """Map micrograph keys to names. Of several names, use the first in alphabetical order."""
    found: dict[int, MicrographName] = {}
    for name in names:
        found[name.key] = min(name, found.get(name.key, name))
    return found


def sampled_micrographs(
    found: Extract,
    rows: pa.Table,
    roles: ColumnRoles,
    table: MicrographTable | None,
    chosen: NDArray[np.bool_],
    row: NDArray[np.int64],
) -> SampledMicrographs:
    """Return the pixel size and size of the micrographs of the `chosen` rows of a fragment.

    `row` holds the number of each row in the input.
    """
    at = np.flatnonzero(chosen)
    psize = found.psize if found.psize is not None else found.sizes.stored
    if psize is None:
        psize = np.full(len(row), roles.given_psize or np.nan)
    psize = np.where(psize[at] > 0, psize[at], np.nan)
    scale = psize if found.psize is not None else np.ones(at.size)
    size = _sizes(Columns(cast_views(rows).take(from_numpy(at)), ""), roles, table, scale)
    width, height, depth = np.where(size > 0, size, np.nan).T
    picks = found.picks.take(at)
    columns: dict[str, NDArray[Any]] = {
        "key": picks.micrograph,
        "source": picks.source,
        "row": row[at],
        "psize": psize,
    }
    columns |= {"width": width, "height": height, "depth": depth}
    return SampledMicrographs.from_columns(columns).firsts()


def _sizes(
    columns: Columns, roles: ColumnRoles, table: MicrographTable | None, scale: Floats
) -> Floats:
    """Return the size of each row's micrograph as (n, 3): x, y and z, NaN where unknown.

    `scale` is the length of a pixel in the unit of the centres, (n,).
    """
    size = np.full((len(columns), 3), np.nan)
    if table is not None and (table.shape is not None or table.volume is not None):
        at = table.find(RowMicrographs.of(columns, roles))
        shape, volume = table.shape_at(at), table.volume_at(at)
        if shape is not None:
            size[:, :2] = shape[:, ::-1]
        if volume is not None:
            size[:] = volume[:, ::-1]
            if roles.binned:  # the volume is not
                scale = scale * table.psize_at(at) / table.binned_at(at)
    elif roles.shape and roles.shape in columns.rows.column_names:
        size[:, :2] = columns.vectors(roles.shape, 2)[:, ::-1]
    return size * scale[:, np.newaxis]

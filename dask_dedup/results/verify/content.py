"""Compute the content hashes of particles without a uid a second time.

The definition is in `particles.content_hash`. On purpose, the method is not the method of the run: the texts are
padded to one length, and the rows become an array of 64-bit words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.rank import splitmix64
from dask_dedup.particles.column_names import CONTENT_COLUMNS
from dask_dedup.particles.column_values import Columns

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.particles.column_roles import ColumnRoles

_MISSING = np.uint64(0x7FF8000000000000)


def content_hashes(rows: pa.Table, roles: ColumnRoles) -> NDArray[np.uint64]:
    """Return the (n,) content hash of each row of a table without uids."""
    columns = Columns(rows, "the input")
    found = np.zeros(rows.num_rows, dtype=np.uint64)
    others = CONTENT_COLUMNS[roles.convention]
    for name in (*roles.position, *others, roles.score or ""):
        for values in columns.optional(name, others.get(name, 1)).T:
            # -0.0 equals 0, so it becomes 0.0, too.
            bits = np.where(values == 0, 0.0, values).view(np.uint64)
            bits[np.isnan(values)] = _MISSING
            found = splitmix64(found ^ bits)
    if roles.particle_name is not None:
        texts = rows.column(roles.particle_name).to_pylist()
        encoded = [str(text or "").encode() if isinstance(text, str) else b"" for text in texts]
        width = max([1, *(-(-len(text) // 8) for text in encoded)])
        words = np.array(encoded, dtype=f"S{8 * width}").view("<u8").reshape(-1, width)
        length = np.array([len(text) for text in encoded], dtype=np.intp)
        for number, word in enumerate(words.T):
            found = np.where(8 * number < length, splitmix64(found ^ word), found)
    return found

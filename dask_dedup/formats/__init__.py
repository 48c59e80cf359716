"""One module a file format; here, what they have in common."""

from __future__ import annotations

from dask_dedup.formats.table import (
    Fragment,
    ParticleTable,
    Piece,
    StoredSchema,
    Written,
    open_table,
)

__all__ = ["Fragment", "ParticleTable", "Piece", "StoredSchema", "Written", "open_table"]

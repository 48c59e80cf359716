"""Names of scores, as the files that have them name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_dedup.formats.base import ParticleTable


def score_label(table: ParticleTable, column: str | None) -> str:
    """Return the name of a score column as the files of a table have it, or an empty text without scores."""
    if column is None or table.format != "coordinates":
        return column or ""
    from dask_dedup.formats.coordinates import description

    return description.score_label(table, column)

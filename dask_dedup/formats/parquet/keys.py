"""Types of hive keys that are inferred from the names of the folders of each table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dask_dedup.arrow import is_text
from dask_dedup.formats.base import StoredSchema

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dask_dedup.formats.base import FileSlice, ParticleTable

    Keys = tuple[tuple[str, Any], ...]


def with_common_types(tables: Sequence[ParticleTable]) -> list[ParticleTable]:
    """Return tables whose whole-number keys are text if another table has text in a column of this name.

    The text is that in the names of the folders.
    """
    if not any(table.partitions for table in tables):
        return list(tables)
    text = {field.name for table in tables for field in table.schema if is_text(field.type)}
    return [_with_text(table, text.intersection(table.partitions)) for table in tables]


def _with_text(table: ParticleTable, names: Collection[str]) -> ParticleTable:
    """Return a table whose keys `names` are text if they are whole numbers."""
    schema = table.schema
    names = {name for name in names if pa.types.is_integer(schema.field(name).type)}
    if not names:
        return table
    for name in names:
        number = schema.get_field_index(name)
        schema = schema.set(number, schema.field(number).with_type(pa.string()))

    def as_text(keys: Keys) -> Keys:
        return tuple(
            (name, str(value) if name in names and value is not None else value)
            for name, value in keys
        )

    def changed(part: FileSlice) -> FileSlice:
        return replace(part, keys=as_text(part.keys))

    fragments = (
        replace(
            fragment,
            slices=tuple(map(changed, fragment.slices)),
            parts=tuple(
                replace(part, keys=as_text(part.keys), first=changed(part.first))
                for part in fragment.parts
            ),
        )
        for fragment in table.fragments
    )
    return replace(table, stored_schema=StoredSchema.of(schema), fragments=tuple(fragments))

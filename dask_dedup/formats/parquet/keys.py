"""Unify the types of hive keys. Each table infers them from its folder names, so tables can have different types."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dask_dedup.arrow import is_text
from dask_dedup.formats.base import StoredSchema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_dedup.formats.base import FileSlice, ParticleTable

    Keys = tuple[tuple[str, Any], ...]


def with_common_types(tables: Sequence[ParticleTable]) -> list[ParticleTable]:
    """Convert integer keys to text or uint64 if another table has this type in the column of the same name.

    The text is the value in the folder name. Keys with negative numbers are not converted to uint64.
    """
    if not any(table.partitions for table in tables):
        return list(tables)
    types = {f.name: f.type for table in tables for f in table.schema if f.type == pa.uint64()}
    types |= {f.name: pa.string() for table in tables for f in table.schema if is_text(f.type)}
    return [_with_types(table, types) for table in tables]


def _with_types(table: ParticleTable, types: Mapping[str, pa.DataType]) -> ParticleTable:
    """Convert the integer keys of a table to the types in `types`. Keys that do not fit are left unchanged."""
    schema = table.schema
    numbers = {
        name
        for name in types.keys() & set(table.partitions)
        if pa.types.is_integer(schema.field(name).type)
    }
    if not numbers:
        return table
    keys = [dict(part.keys) for fragment in table.fragments for part in fragment.slices]
    names = {
        name
        for name in numbers
        if is_text(types[name]) or all((each[name] or 0) >= 0 for each in keys)
    }
    for name in names:
        number = schema.get_field_index(name)
        schema = schema.set(number, schema.field(number).with_type(types[name]))
    texts = {name for name in names if is_text(types[name])}

    def as_text(keys: Keys) -> Keys:
        return tuple(
            (name, str(value) if name in texts and value is not None else value)
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

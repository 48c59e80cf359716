"""Column types for Delta and Iceberg, which have no unsigned integers and no fixed-size lists.

A type is used only if it holds every value, and if each reader in ``docs/guides/lake.md`` reads it
correctly or refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from dask_dedup.arrow import without_views
from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection

#: Holds every unsigned 64-bit integer.
_UINT64 = pa.decimal128(20, 0)


@dataclass(frozen=True, slots=True)
class LakeColumns:
    """Columns of a dataset in a Delta or Iceberg table.

    Attributes
    ----------
    schema : pyarrow.Schema
        The columns of the table, with their types there.
    decimals : list of str
        Columns of unsigned 64-bit integers, which are decimals in the table.
    left_out : dict of str to str
        Columns that are in the files only, and their stored types.
    """

    schema: pa.Schema
    decimals: list[str]
    left_out: dict[str, str]

    def check_fit(self, there: LakeColumns, table: str, advice: str) -> None:
        """Raise `InputError` if a column is missing from the table's columns (`there`) or has another type."""
        known = {field.name: field.type for field in there.schema} | there.left_out
        for field in self.schema:
            if field.name not in known:
                raise InputError(f"{table} has no column {field.name}, but this run has; {advice}")
            if known[field.name] != field.type:
                raise InputError(
                    f"{table}: {field.name} is {known[field.name]} in the table, but {field.type} in "
                    f"this run; {advice}"
                )


def check_distinct(schema: pa.Schema, table: str) -> None:
    """Raise `InputError` if two column names differ only by case, which Delta does not distinguish."""
    known: dict[str, str] = {}
    for name in schema.names:
        other = known.setdefault(name.lower(), name)
        if other != name:
            raise InputError(
                f"{table}: the columns {other} and {name} differ only by case, which a Delta table does not "
                "distinguish. Rename one of them in the input and run again."
            )


def lake_columns(
    stored: pa.Schema, *, unsigned64: bool, without: Collection[str] = ()
) -> LakeColumns:
    """Convert the schema of Parquet files to the columns of a Delta or Iceberg table.

    Unsigned 64-bit integers become decimals if `unsigned64`, and are left out otherwise. The columns
    in `without` are left out.
    """
    fields: list[pa.Field] = []
    decimals: list[str] = []
    left_out: dict[str, str] = {}
    for field in stored:
        kind = _lake_type(without_views(field.type), unsigned64=unsigned64)
        if kind is None or field.name in without:
            left_out[field.name] = str(field.type)
            continue
        fields.append(pa.field(field.name, kind))
        if _inner(field.type) == pa.uint64():
            decimals.append(field.name)
    return LakeColumns(pa.schema(fields), decimals, left_out)


def _lake_type(kind: pa.DataType, *, unsigned64: bool) -> pa.DataType | None:
    if pa.types.is_dictionary(kind):
        return _lake_type(kind.value_type, unsigned64=unsigned64)
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        element = _lake_type(kind.value_type, unsigned64=unsigned64)
        return None if element is None else pa.list_(pa.field("element", element))
    if kind == pa.uint64():
        return _UINT64 if unsigned64 else None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_decimal128(kind):
        return kind
    # A signed type of twice the width holds every unsigned value. Spark cannot read half floats.
    return _SIMPLE.get(kind)


_SIMPLE: dict[pa.DataType, pa.DataType] = {
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.int32(): pa.int32(),
    pa.int64(): pa.int64(),
    pa.float32(): pa.float32(),
    pa.float64(): pa.float64(),
    pa.bool_(): pa.bool_(),
    pa.date32(): pa.date32(),
}


def _inner(kind: pa.DataType) -> pa.DataType:
    while pa.types.is_nested(kind) and kind.num_fields == 1:
        kind = kind.value_type
    return kind

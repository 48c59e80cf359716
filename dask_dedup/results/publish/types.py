"""Column types for Delta and Iceberg, which have no unsigned integers and no fixed-size lists.

A type is used only if it can store every value, and if each reader in ``docs/guides/lake.md`` reads
it correctly. Linked files keep their types. Some readers refuse these types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from dask_dedup.arrow import without_views
from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


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
        Columns that the table lacks, and their stored types.
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
        for name, kind in self.left_out.items():
            if name in there.schema.names:
                raise InputError(
                    f"{table}: {name} is {known[name]} in the table, but {kind} in the linked files; {advice}"
                )


def check_distinct(columns: Iterable[str], table: str) -> None:
    """Raise `InputError` if two names of columns differ only by case. Delta does not distinguish case."""
    known: dict[str, str] = {}
    for name in columns:
        other = known.setdefault(name.lower(), name)
        if other != name:
            raise InputError(
                f"{table}: the columns {other} and {name} differ only by case, which a Delta table does not "
                "distinguish. Rename one of them in the input and run again."
            )


def lake_columns(stored: pa.Schema, *, without: Collection[str] = ()) -> LakeColumns:
    """Convert the schema of Parquet files to the columns of a Delta or Iceberg table.

    The columns in `without` are left out.
    """
    fields: list[pa.Field] = []
    decimals: list[str] = []
    left_out: dict[str, str] = {}
    for field in stored:
        kind = _lake_type(without_views(field.type))
        if kind is None or field.name in without:
            left_out[field.name] = str(field.type)
            continue
        fields.append(pa.field(field.name, kind))
        if _innermost(field.type) == pa.uint64():
            decimals.append(field.name)
    return LakeColumns(pa.schema(fields), decimals, left_out)


def _lake_type(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_dictionary(kind):
        return _lake_type(kind.value_type)
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        element = _lake_type(kind.value_type)
        return None if element is None else pa.list_(pa.field("element", element))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_decimal128(kind):
        return kind
    return _SIMPLE.get(kind)


#: Each type can store every value of the run's type. Spark cannot read half floats.
_SIMPLE: dict[pa.DataType, pa.DataType] = {
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.int32(): pa.int32(),
    pa.int64(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.float32(): pa.float32(),
    pa.float64(): pa.float64(),
    pa.bool_(): pa.bool_(),
    pa.date32(): pa.date32(),
}


def _innermost(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values in lists, or the type itself."""
    while pa.types.is_nested(kind) and kind.num_fields == 1:
        kind = kind.value_type
    return kind


def columns_of(schema: pa.Schema, *kinds: pa.DataType) -> set[str]:
    """Return the names of the columns with one of these types, or with lists of one of them."""
    return {field.name for field in schema if _innermost(field.type) in kinds}

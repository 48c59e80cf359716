"""Column types of Parquet tables: merge the types of several files, and choose the types in memory."""

from __future__ import annotations

import pyarrow as pa

from dask_dedup.arrow import is_text, map_children, without_views
from dask_dedup.errors import InputError

#: For each width in bits, the decimal digits that a signed and an unsigned integer can need.
_DIGITS = {8: (3, 3), 16: (5, 5), 32: (10, 10), 64: (19, 20)}
#: Units of timestamps, from coarse to fine.
_UNITS = ("s", "ms", "us", "ns")


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """Return a file's schema with the standard Parquet names for list elements.

    Polars and Rust programs use other names.
    """
    for number, field in enumerate(schema):
        schema = schema.set(number, field.with_type(_named(field.type)))
    return schema


def _named(kind: pa.DataType) -> pa.DataType:
    kind = map_children(kind, _named)
    if not is_list(kind):
        return kind
    value = kind.value_field.with_name("element")
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(value, kind.list_size)
    return pa.large_list(value) if pa.types.is_large_list(kind) else pa.list_(value)


def unify(known: pa.Schema, other: pa.Schema, path: str) -> pa.Schema:
    """Merge `other`, the schema of the file `path`, into `known`. Raise `InputError` if types are incompatible."""
    fields = {field.name: field for field in known}
    for field in other:
        mine = fields.get(field.name)
        if mine is None:
            fields[field.name] = field
            continue
        kind = _common_type(mine.type, field.type)
        if kind is None:
            raise InputError(
                f"{path}: the column {field.name} has type {field.type}, but {mine.type} in the files before. "
                "Cast one of them to the type of the other."
            )
        fields[field.name] = mine.with_type(kind).with_nullable(mine.nullable or field.nullable)
    return pa.schema(list(fields.values()), metadata=known.metadata)


def _common_type(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Return an Arrow type that can hold the values of both types, or None if there is no such type.

    The common type of integers and floats is float64. `cast` raises an error for integers that float64 cannot hold.
    """
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if is_text(a) and is_text(b):
        return pa.string() if pa.types.is_string(a) or pa.types.is_string(b) else pa.large_string()
    if _is_bytes(a) and _is_bytes(b):
        return pa.binary() if pa.types.is_binary(a) or pa.types.is_binary(b) else pa.large_binary()
    if is_list(a) and is_list(b):
        return _common_list(a, b)
    if pa.types.is_timestamp(a) and pa.types.is_timestamp(b) and a.tz == b.tz:
        return pa.timestamp(max(a.unit, b.unit, key=_UNITS.index), a.tz)
    return _common_number(a, b)


def _common_list(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    value = _common_type(a.value_type, b.value_type)
    if value is None:
        return None
    field = a.value_field.with_type(value)
    if not (pa.types.is_fixed_size_list(a) and pa.types.is_fixed_size_list(b)):
        return pa.list_(field)
    # Two different fixed lengths are probably a mistake.
    return pa.list_(field, a.list_size) if a.list_size == b.list_size else None


def _common_number(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (a, b)]
    if all(numbers):
        floats = [kind for kind in (a, b) if pa.types.is_floating(kind)]
        if len(floats) == 1:
            return pa.float64()
        if floats or pa.types.is_signed_integer(a) == pa.types.is_signed_integer(b):
            return a if a.bit_width >= b.bit_width else b
        signed, unsigned = (a, b) if pa.types.is_signed_integer(a) else (b, a)
        if signed.bit_width > unsigned.bit_width:
            return signed
        return {8: pa.int16(), 16: pa.int32(), 32: pa.int64()}.get(unsigned.bit_width)
    digits = [_decimal_digits(kind) for kind in (a, b)]
    if None in digits:
        return None
    whole, scale = (max(each) for each in zip(*filter(None, digits), strict=True))
    return pa.decimal128(whole + scale, scale) if whole + scale <= 38 else None


def _decimal_digits(kind: pa.DataType) -> tuple[int, int] | None:
    """Return the digits before and after the point of a decimal or integer type. Return None for other types."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    if pa.types.is_integer(kind):
        return _DIGITS[kind.bit_width][pa.types.is_unsigned_integer(kind)], 0
    return None


def cast(column: pa.ChunkedArray, kind: pa.DataType, name: str, path: str = "") -> pa.ChunkedArray:
    """Convert a column of a file to its type in the whole table. Raise `InputError` if a value does not fit."""
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        prefix = f"{path}: " if path else ""
        raise InputError(
            f"{prefix}the column {name} is {column.type} here and {kind} in other files. Some of its values do not "
            f"fit the type {kind}. Cast it to the same type in all files."
        ) from error


def is_list(kind: pa.DataType) -> bool:
    """Return whether an Arrow type is a list type, of variable or fixed length."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def held_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of rows in memory: text dictionary-encoded, no views, no metadata."""
    return pa.schema([field.with_type(_held(field.type)) for field in schema])


def _held(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.dictionary(pa.int32(), pa.string())
    return without_views(kind)

"""Parquet: single files, folders of files, hive-partitioned folders."""

from __future__ import annotations

import base64
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.arrow import from_numpy
from dask_dedup.errors import InputError, is_of_the_system
from dask_dedup.formats.base import FileSlice, Fragment, OutputFile, ParticleTable, StoredSchema
from dask_dedup.formats.parquet.footer import (
    OTHER_SUFFIXES,
    SUFFIXES,
    UNREADABLE,
    Footer,
    read_footer,
    reason,
)
from dask_dedup.formatting import counted
from dask_dedup.storage.files import list_files, parquet_source, read_metadata, status_of
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

#: A fragment holds about so many bytes before compression: several fit in memory, yet few tasks do the job.
FRAGMENT_BYTES = 24 * 2**20
#: Rows a row group of the output holds.
ROW_GROUP_ROWS = 2**17
#: Dictionary encoding pays for a column if a sample of so many rows has at most half as many values.
SAMPLE_ROWS = 4096


def open_table(path: Path, source: int) -> ParticleTable:
    """List a table's files, check that their columns agree, cut it into fragments."""
    if path.is_dir():
        paths = [
            file
            for file in list_files(path)
            if file.suffix in SUFFIXES and not _hidden(file.relative_to(path))
        ]
        if not paths:
            if (path / "particles_kept").is_dir():
                raise InputError(f"{path}: is the result of a run; give {path}/particles_kept")
            others = [file.name for file in sorted(path.iterdir()) if file.suffix in OTHER_SUFFIXES]
            hint = f"; give its files by name, such as {others[0]}" if others else ""
            raise InputError(
                f"{path}: the folder has no Parquet files ({', '.join(SUFFIXES)}){hint}"
            )
    else:
        paths = [path]
    with ThreadPoolExecutor() as pool:
        footers = list(pool.map(lambda file: read_footer(file, path), paths))
    schema = _schema_of_all(footers)
    pieces = [piece for footer in footers for piece in footer.pieces(schema)]
    return ParticleTable(
        format="parquet",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(schema),
        files=tuple(footer.file for footer in footers),
        fragments=tuple(_fragments(pieces, source)),
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in path.parts)


def _schema_of_all(footers: list[Footer]) -> pa.Schema:
    """Unify the schemas of a table's files and add the columns its folders tell."""
    schema = reduce(
        lambda known, footer: unify(known, footer.schema, footer.file.path),
        footers[1:],
        footers[0].schema,
    )
    if len(footers) > 1:
        # The categories of many files may be more than the numbers of one file's reach.
        for number, field in enumerate(schema):
            if pa.types.is_dictionary(field.type):
                wide = pa.dictionary(pa.int32(), field.type.value_type, field.type.ordered)
                schema = schema.set(number, field.with_type(wide))
    names = dict.fromkeys(name for footer in footers for name, _ in footer.keys)
    for name in names:
        values = [dict(footer.keys).get(name, "__HIVE_DEFAULT_PARTITION__") for footer in footers]
        given = [value for value in values if value != "__HIVE_DEFAULT_PARTITION__"]
        whole = bool(given) and all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", value) for value in given)
        schema = schema.append(pa.field(name, pa.int64() if whole else pa.string()))
    return schema


def unify(known: pa.Schema, other: pa.Schema, path: str) -> pa.Schema:
    """Add another file's or table's columns to those known so far.

    Raises
    ------
    InputError
        If a column has a type that the known one cannot hold unchanged; names file and column.
    """
    fields = {field.name: field for field in known}
    for field in other:
        mine = fields.get(field.name)
        if mine is None:
            fields[field.name] = field
            continue
        kind = _common_type(mine.type, field.type)
        if kind is None:
            raise InputError(
                f"{path}: the column {field.name} is {field.type}, but {mine.type} in the files "
                "before it; cast one of the two, so that both fit one schema"
            )
        fields[field.name] = mine.with_type(kind).with_nullable(mine.nullable or field.nullable)
    return pa.schema(list(fields.values()), metadata=known.metadata)


def _common_type(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Give the type that holds the values of both unchanged, None if there is none."""
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if _is_text(a) and _is_text(b):
        return pa.string() if pa.types.is_string(a) or pa.types.is_string(b) else pa.large_string()
    if _is_list(a) and _is_list(b) and a.value_type == b.value_type:
        # Two fixed lengths that differ are a mistake, not two forms of one thing.
        fixed = pa.types.is_fixed_size_list(a) and pa.types.is_fixed_size_list(b)
        return None if fixed else pa.list_(a.value_field)
    for same_kind in (
        pa.types.is_signed_integer,
        pa.types.is_unsigned_integer,
        pa.types.is_floating,
    ):
        if same_kind(a) and same_kind(b):
            return a if a.bit_width >= b.bit_width else b
    return None


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _fragments(pieces: list[tuple[FileSlice, int]], source: int) -> Iterator[Fragment]:
    """Group small pieces, in order, up to about `FRAGMENT_BYTES`."""
    group: list[FileSlice] = []
    number = first_row = size = 0
    for piece, nbytes in pieces:
        if group and size + nbytes > FRAGMENT_BYTES:
            rows = sum(member.rows for member in group)
            yield Fragment(number, source, first_row, rows, tuple(_merged(group)))
            number, first_row, size, group = number + 1, first_row + rows, 0, []
        group.append(piece)
        size += nbytes
    rows = sum(member.rows for member in group)
    yield Fragment(number, source, first_row, rows, tuple(_merged(group)))


def _merged(pieces: list[FileSlice]) -> Iterator[FileSlice]:
    """Join neighbouring row groups of one file, so that they are read at once."""
    run: list[FileSlice] = []
    for piece in [*pieces, None]:
        if run and (piece is None or piece.path != run[0].path):
            blocks = tuple(block for member in run for block in member.blocks)
            rows = sum(member.rows for member in run)
            yield FileSlice(run[0].path, run[0].first_row, rows, blocks, run[0].keys)
            run = []
        if piece is not None:
            run.append(piece)


def read(
    table: ParticleTable, fragment: Fragment, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read a fragment; strings come as dictionaries, which is quicker to decode and to split.

    Parameters
    ----------
    table : ParticleTable
    fragment : Fragment
    columns : sequence of str, optional
        All of the table's columns by default, in its order.
    """
    schema = table.schema
    wanted = schema.names if columns is None else list(columns)
    parts = [_read_piece(piece, wanted, schema) for piece in fragment.slices]
    if not parts:
        return _decoded_schema(schema, wanted).empty_table()
    if len(parts) > 1:
        return pa.concat_tables(parts, promote_options="none").unify_dictionaries()
    return parts[0]


def _read_piece(piece: FileSlice, wanted: list[str], schema: pa.Schema) -> pa.Table:
    target = _decoded_schema(schema, wanted)
    text = [field.name for field in target if pa.types.is_dictionary(field.type)]
    try:
        state = status_of(at(piece.path))
        metadata = _footer_of(piece.path, state.st_mtime_ns, state.st_size)
        there = set(metadata.schema.to_arrow_schema().names)
        present = [name for name in wanted if name in there]
        text = [name for name in text if name in there]
        try:
            part = _read_groups(piece, metadata, present, text)
        except OSError:
            # Text that is stored as differences (DELTA_BYTE_ARRAY) cannot be read as dictionaries,
            # which pyarrow calls an input/output error.
            part = _read_groups(piece, metadata, present, [])
        # Arrow takes text and codes as they come; what uses them later does not.
        part.validate(full=True)
    except UNREADABLE as error:
        if is_of_the_system(error):
            raise
        raise InputError(
            f"{piece.path}: cannot be read from row {piece.first_row} on: {reason(error)}"
        ) from error
    if present and part.num_rows != piece.rows:
        raise InputError(
            f"{piece.path}: holds {counted(part.num_rows, 'row')} from row {piece.first_row} on, but its footer "
            f"tells of {piece.rows:,}; the file is damaged"
        )
    keys = dict(piece.keys)
    return pa.table(
        [
            part.column(field.name).cast(field.type)
            if field.name in present
            else _constant(keys.get(field.name), piece.rows, field.type)
            for field in target
        ],
        schema=target,
    )


def _read_groups(
    piece: FileSlice, metadata: pq.FileMetaData, columns: list[str], text: list[str]
) -> pa.Table:
    """Read a piece's row groups, the columns `text` as dictionaries; checksums are heeded if there are any.

    The file is not mapped into memory: if it shrank, or its server failed, that would end the process.
    """
    with pq.ParquetFile(
        **parquet_source(piece.path),
        metadata=metadata,
        read_dictionary=text,
        page_checksum_verification=True,
    ) as file:
        return file.read_row_groups(list(piece.blocks), columns=columns, use_threads=False)


@lru_cache(maxsize=64)
def _footer_of(path: str, modified_ns: int, size: int) -> pq.FileMetaData:  # noqa: ARG001
    """Read a file's footer once: with many row groups it takes longer than one of them."""
    return read_metadata(path)


def _decoded_schema(schema: pa.Schema, wanted: list[str]) -> pa.Schema:
    """Give the types columns are held in: text as dictionaries, all else as it is."""
    return pa.schema([_held(schema.field(name)) for name in wanted])


def _held(field: pa.Field) -> pa.Field:
    if pa.types.is_string(field.type):
        return field.with_type(pa.dictionary(pa.int32(), field.type))
    return field


def _constant(value: Any, rows: int, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return _constant(value, rows, kind.value_type).dictionary_encode()
    return pa.repeat(pa.scalar(value, kind), rows)


@dataclass(frozen=True, slots=True)
class ParquetPayload:
    """A fragment as an Arrow table; `split` below writes it, with the schema of all inputs."""

    rows: pa.Table

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Give columns by name."""
        return self.rows.select(list(names))


def load(table: ParticleTable, fragment: Fragment) -> ParquetPayload:
    """Read a fragment whole."""
    return ParquetPayload(read(table, fragment))


def split(
    payload: pa.Table,
    keep: NDArray[np.bool_],
    schema: pa.Schema,
    kept: Path,
    rejected: Path,
) -> tuple[OutputFile, OutputFile]:
    """Write the kept and the rejected rows of a payload, in its order.

    Parameters
    ----------
    payload : pyarrow.Table
        As `read` gives it; columns of `schema` it lacks are written as null.
    keep : (rows,) bool
    schema : pyarrow.Schema
        Of the files to be read back, with its metadata.
    kept, rejected : Path
    """
    held = pa.schema([_held(field) for field in schema])
    there = {*payload.column_names}
    whole = pa.table(
        [
            payload.column(field.name).cast(field.type)
            if field.name in there
            else pa.nulls(payload.num_rows, field.type)
            for field in held
        ],
        names=held.names,
    ).unify_dictionaries()
    encoded = _columns_worth_a_dictionary(whole)
    return (
        _write(whole.filter(from_numpy(keep)), schema, encoded, kept),
        _write(whole.filter(from_numpy(~keep)), schema, encoded, rejected),
    )


def write(table: pa.Table, path: Path) -> OutputFile:
    """Write a whole table with this project's settings."""
    return _write(table, table.schema, _columns_worth_a_dictionary(table), path)


def _write(table: pa.Table, schema: pa.Schema, encoded: list[str], path: Path) -> OutputFile:
    # Text is held as dictionaries, but a reader is to find the input's own schema: it is what ARROW:schema says.
    stored = {**(schema.metadata or {}), b"ARROW:schema": base64.b64encode(schema.serialize())}
    held = pa.schema(
        [
            field.with_nullable(schema.field(field.name).nullable).with_metadata(
                schema.field(field.name).metadata
            )
            for field in table.schema
        ]
    )
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        held,
        compression="zstd",
        compression_level=1,
        use_dictionary=encoded or False,
        store_schema=False,
    ) as writer:
        writer.write_table(table.cast(held), row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata(stored)
    content = memoryview(sink.getvalue())
    path.write_bytes(content)
    return OutputFile(path.name, table.num_rows, len(content), hashlib.sha256(content).hexdigest())


def _flat(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([chunk.flatten() for chunk in lists.chunks], lists.type.value_type)


def _columns_worth_a_dictionary(table: pa.Table) -> list[str]:
    """Name the leaf columns that repeat their values; random floats are 4x slower to write so."""
    chosen = []
    sample = table.slice(0, SAMPLE_ROWS)
    for field in table.schema:
        name, values, kind = field.name, sample.column(field.name), field.type
        if pa.types.is_dictionary(kind):
            chosen.append(name)
            continue
        while _is_list(kind):
            values, kind = _flat(values), kind.value_type
            name = f"{name}.list.element"
        if not pa.types.is_primitive(kind) or kind in (pa.bool_(), pa.float16()):
            continue
        if len(values.unique()) * 2 <= len(values):
            chosen.append(name)
    return chosen

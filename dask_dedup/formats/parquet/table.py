"""Read Parquet tables: single files, folders of files, hive-partitioned folders."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.errors import InputError, is_system_error
from dask_dedup.formats.base import FileSlice, Fragment, ParticleTable, StoredSchema
from dask_dedup.formats.parquet import lake
from dask_dedup.formats.parquet.footer import (
    NULL_KEY,
    OTHER_SUFFIXES,
    SUFFIXES,
    UNREADABLE,
    Footer,
    read_footer,
    reason,
)
from dask_dedup.formats.parquet.fragments import make_folder_fragments, make_fragments
from dask_dedup.formats.parquet.schema import cast, held_schema, stored_schema, unify
from dask_dedup.formats.unsupported import advise_on_files
from dask_dedup.formatting import counted
from dask_dedup.storage.files import (
    is_folder,
    list_files,
    list_names,
    parquet_source,
    read_metadata,
    status_of,
)
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

#: These hive keys are text, even if all values are numbers such as 255.
_NAMES = ("rlnMicrographName", "rlnTomoName", "location/micrograph_path")
#: Size of the fragments of small tables before compression.
FRAGMENT_BYTES = 24 * 2**20


def open_table(path: Path, source: int, version: int | None = None) -> ParticleTable:
    """Open a Parquet table: list its files, unify their schemas, and split the rows into fragments.

    `version` is the version of a Delta table, by default the newest version.
    """
    if version is not None or lake.is_delta(path):
        return _open_delta(path, source, version)
    paths = _list_parquet(path) if is_folder(path) else [path]
    lake.check_not_inside(path)
    with ThreadPoolExecutor() as pool:
        footers = list(pool.map(lambda file: read_footer(file, path), paths))
    schema = _schema_of_all(footers)
    return _table_of(path, source, list(_with_all_keys(footers)), schema)


def _list_parquet(path: Path) -> list[Path]:
    files = list_files(path)
    lake.check_no_tables(path, files)
    paths = [
        file
        for file in files
        if file.suffix in SUFFIXES
        and not any(part.startswith(("_", ".")) for part in file.relative_to(path).parts)
    ]
    if not paths:
        names = list_names(path)
        if not names:
            raise InputError(f"{path}: the folder is empty. Leave it out.")
        others = sorted(
            (name for name in names if name.endswith(OTHER_SUFFIXES)), key=_particles_first
        )
        hint = f"Pass its files by name, such as {others[0]}." if others else advise_on_files(names)
        raise InputError(
            f"{path}: the folder has no Parquet files ({', '.join(SUFFIXES)})"
            + (f". {hint}" if hint else "")
        )
    return paths


def _particles_first(name: str) -> tuple[bool, ...]:
    """Return a sort key for the files of a job. Files that are probably particle tables come first."""
    return (
        not name.endswith(".csg"),
        "particles" not in name,
        "passthrough" in name,
        "data" not in name,
    )


def _open_delta(path: Path, source: int, version: int | None) -> ParticleTable:
    """Open a Delta table. Its columns are the columns of its files, followed by the partition columns."""
    snapshot = lake.read_snapshot(path, version)
    with ThreadPoolExecutor() as pool:
        footers = list(pool.map(lambda file: read_footer(file, file), snapshot.files))
    keyed = [
        replace(footer, keys=tuple((k, v) for k, v in keys.items() if k not in footer.schema.names))
        for footer, keys in zip(footers, snapshot.keys, strict=True)
    ]
    schema = _merge(keyed) if keyed else snapshot.schema
    for name in snapshot.partitions:
        if name not in schema.names:
            schema = schema.append(snapshot.schema.field(name))
    return replace(_table_of(path, source, keyed, schema), version=snapshot.version)


def _table_of(
    path: Path, source: int, footers: Sequence[Footer], schema: pa.Schema
) -> ParticleTable:
    groups = [each for footer in footers for each in footer.slices(schema)]
    partitions = _partitions(footers)
    make = make_folder_fragments if partitions else make_fragments
    return ParticleTable(
        format="parquet",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(schema),
        files=tuple(footer.file for footer in footers),
        fragments=make(groups, source, FRAGMENT_BYTES),
        partitions=partitions,
    )


def _partitions(footers: Sequence[Footer]) -> tuple[str, ...]:
    """Return the hive keys if all files have the same keys and no file has a key as a column. Else return ()."""
    keys = {tuple(name for name, _ in footer.keys) for footer in footers}
    if len(keys) != 1:
        return ()
    (names,) = keys
    return () if any({*names} & {*footer.schema.names} for footer in footers) else names


def _schema_of_all(footers: Sequence[Footer]) -> pa.Schema:
    """Merge the schemas of a table's files and add a column for each hive key."""
    schema = _merge(footers)
    values: dict[str, set[str]] = {}
    for footer in footers:
        for name, value in footer.keys:
            values.setdefault(name, set()).add(value)
    for name, given in values.items():
        if name not in schema.names:  # some files may have it as a column
            schema = schema.append(pa.field(name, _key_type(name, given - {NULL_KEY})))
    return schema


def _key_type(name: str, values: set[str]) -> pa.DataType:
    """Return the type of a hive key: an integer type that can hold all values, else text."""
    whole = bool(values) and all(re.fullmatch(r"0|-?[1-9]\d{0,19}", value) for value in values)
    if whole and name not in _NAMES:
        least, greatest = min(map(int, values)), max(map(int, values))
        if least >= -(2**63) and greatest < 2**63:
            return pa.int64()
        if least >= 0 and greatest < 2**64:
            return pa.uint64()
    return pa.string()


def _with_all_keys(footers: Sequence[Footer]) -> Iterator[Footer]:
    """Add missing hive keys to each footer, with null values, so that all files have the same keys."""
    names = dict.fromkeys(name for footer in footers for name, _ in footer.keys)
    for footer in footers:
        absent = names.keys() - dict(footer.keys) - set(footer.schema.names)
        keys = (*footer.keys, *((name, NULL_KEY) for name in names if name in absent))
        yield replace(footer, keys=keys) if absent else footer


def _merge(footers: Sequence[Footer]) -> pa.Schema:
    """Merge the schemas of a table's files."""
    schema = reduce(
        lambda known, footer: unify(known, footer.schema, footer.file.path),
        footers[1:],
        stored_schema(footers[0].schema),
    )
    # A single file with keys may be part of a partitioned table, and must have the same types as the whole table.
    return _with_wide_dictionaries(schema) if len(footers) > 1 or footers[0].keys else schema


def _with_wide_dictionaries(schema: pa.Schema) -> pa.Schema:
    """Use int32 for the indices of dictionaries. Many files together may have more categories than a single file."""
    for number, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            wide = pa.dictionary(pa.int32(), field.type.value_type, field.type.ordered)
            schema = schema.set(number, field.with_type(wide))
    return schema


def with_metadata_of(path: str, schema: pa.Schema) -> pa.Schema:
    """Return `schema` with the metadata of a file. If the columns differ, the metadata of pandas are left out."""
    status = status_of(at(path))
    footer = _footer_of(path, status.st_mtime_ns, status.st_size)
    found = stored_schema(footer.schema.to_arrow_schema())
    metadata = dict(found.metadata or {})
    if not _with_wide_dictionaries(found).equals(schema):
        # The metadata of pandas describe only the columns of this file.
        metadata.pop(b"pandas", None)
    return schema.with_metadata(metadata or None)


def with_keys(
    table: ParticleTable, keys: Mapping[str, str], types: Mapping[str, str]
) -> ParticleTable:
    """Return a table with additional columns from folder names (hive keys). Each new column has a single value.

    Parameters
    ----------
    table : ParticleTable
    keys : mapping of str to str
        Columns and their values, as in the names of folders.
    types : mapping of str to str
        Arrow types of the columns.
    """
    fields = [pa.field(name, pa.type_for_alias(types[name])) for name in keys]
    schema = pa.schema([*table.schema, *fields], metadata=table.schema.metadata)
    values = tuple(
        (field.name, None if text == NULL_KEY else pa.scalar(text).cast(field.type).as_py())
        for field, text in zip(fields, keys.values(), strict=True)
    )
    fragments = (
        replace(each, slices=tuple(replace(part, keys=values) for part in each.slices))
        for each in table.fragments
    )
    return replace(table, stored_schema=StoredSchema.of(schema), fragments=tuple(fragments))


def read(
    table: ParticleTable, fragment: Fragment, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read the named columns of a fragment, by default all columns. Text is dictionary-encoded."""
    schema = table.schema
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    schema = held_schema(schema)
    parts = [read_slice(part, schema) for part in fragment.slices]
    if not parts:
        return schema.empty_table()
    if len(parts) > 1:
        return pa.concat_tables(parts, promote_options="none").unify_dictionaries()
    return parts[0]


def read_sample(table: ParticleTable, rows: int) -> dict[str, pa.ChunkedArray]:
    """Read the first rows of a table's first file. Return {} if the rows are damaged. `read` raises the error later."""
    for part in (part for fragment in table.fragments[:1] for part in fragment.slices[:1]):
        try:
            with pq.ParquetFile(**{**parquet_source(part.path), "pre_buffer": False}) as file:
                for first in file.iter_batches(rows, part.blocks[:1], use_threads=False):
                    return dict(
                        zip(first.schema.names, pa.Table.from_batches([first]).columns, strict=True)
                    )
        except UNREADABLE as error:
            if is_system_error(error):
                raise
    return {}


def read_slice(part: FileSlice, schema: pa.Schema) -> pa.Table:
    """Read columns of consecutive row groups of a file. The columns get the types of `held_schema(schema)`."""
    try:
        status = status_of(at(part.path))
        metadata = _footer_of(part.path, status.st_mtime_ns, status.st_size)
        stored = set(metadata.schema.to_arrow_schema().names)
        present = [name for name in schema.names if name in stored]
        text = [name for name in present if pa.types.is_dictionary(schema.field(name).type)]
        try:
            rows = _read_groups(part, metadata, present, text)
        except OSError:
            # pyarrow cannot read text with DELTA_BYTE_ARRAY encoding as dictionaries, and raises OSError.
            rows = _read_groups(part, metadata, present, [])
        # Arrow does not validate text and dictionary indices when it reads a file.
        rows.validate(full=True)
    except UNREADABLE as error:
        if is_system_error(error):
            raise
        raise InputError(
            f"{part.path}: cannot be read from row {part.first_row} on: {reason(error)}"
        ) from error
    if present and rows.num_rows != part.rows:
        raise InputError(
            f"{part.path}: footer claims {counted(part.rows, 'row')} from row {part.first_row} on, "
            f"but there are {rows.num_rows:,}. The file is damaged."
        )
    keys = dict(part.keys)
    return pa.table(
        [
            cast(rows.column(field.name), field.type, field.name, part.path)
            if field.name in present
            else _constant(keys.get(field.name), part.rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def _read_groups(
    part: FileSlice, metadata: pq.FileMetaData, columns: list[str], text: list[str]
) -> pa.Table:
    """Read the row groups of a slice and verify page checksums. Columns in `text` are dictionary-encoded.

    The file is not memory-mapped, because the process would crash if the file shrank or the file server failed.
    """
    with pq.ParquetFile(
        **parquet_source(part.path),
        metadata=metadata,
        read_dictionary=text,
        page_checksum_verification=True,
    ) as file:
        return file.read_row_groups(list(part.blocks), columns=columns, use_threads=False)


@lru_cache(maxsize=64)
def _footer_of(path: str, modified_ns: int, size: int) -> pq.FileMetaData:  # noqa: ARG001
    """Read and cache the footer of a Parquet file. A large footer takes longer to read than a row group."""
    return read_metadata(path)


def _constant(value: Any, rows: int, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return _constant(value, rows, kind.value_type).dictionary_encode()
    return pa.repeat(pa.scalar(value, kind), rows)

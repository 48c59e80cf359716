"""Read the kept particles of a finished run as a Dask data frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from dask_dedup.arrow import cast_views, filter_rows, without_views
from dask_dedup.errors import InputError, RunError
from dask_dedup.formats import ParticleTable, StoredSchema, read
from dask_dedup.pipeline.job import unified_schema
from dask_dedup.pipeline.rejected_rows import find_rejected_rows
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.recorded_inputs import open_unchanged_inputs
from dask_dedup.storage.files import status_of
from dask_dedup.storage.paths import at
from dask_dedup.storage.protocols import endpoint, using_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import dask.dataframe as dd
    import pandas as pd

    from dask_dedup.pipeline.rejected_rows import RejectedRows
    from dask_dedup.results.finished_run import FinishedRun

#: Formats in which a fragment lists all the files that it is read from.
_SEPARATE_FILES = ("parquet", "coordinates")


def read_kept(output: str | Path, columns: Sequence[str] | None = None) -> dd.DataFrame:
    """Return the kept particles of a finished run as a Dask data frame, without reading the particle tables.

    The rows are read from the inputs when the frame is computed, and the rejected rows are left out. So no
    particle tables are needed (see `duplicates_only` of `run`). The inputs must not have changed since the run.

    Parameters
    ----------
    output : path
        Folder of the run.
    columns : sequence of str, optional
        Columns to read; by default all columns of the inputs. A column that an input lacks is null there.

    Returns
    -------
    dask.dataframe.DataFrame
        A partition for each fragment of the inputs, with the rows in input order. Columns have pandas' Arrow types
        (as with ``dtype_backend="pyarrow"``), which hold all values: 64-bit uids, integers with nulls, vectors.

    Raises
    ------
    InputError
        If there is no finished run, an input is missing or has changed, or there is no such column. If an input
        changes later, computing the frame raises RunError.

    Examples
    --------
    >>> kept = read_kept("combined", columns=["uid"])  # doctest: +SKIP
    >>> kept["uid"].nunique().compute()  # doctest: +SKIP
    3120
    """
    import dask.dataframe as dd
    import pandas as pd

    run = open_finished_run(output)
    tables, _ = open_unchanged_inputs(run)
    schema = _frame_schema(unified_schema(tables))
    names = list(schema.names if columns is None else columns)
    unknown = next((name for name in names if name not in schema.names), None)
    if unknown is not None:
        raise InputError(f"{output}: its inputs have no column {unknown}.")
    # The inputs' metadata for pandas would change the types of the columns.
    schema = schema.remove_metadata()
    meta = pa.schema([schema.field(name) for name in names]).empty_table()
    return dd.from_map(
        _read_part,
        list(_parts(run, tables)),
        schema=StoredSchema.of(schema),
        endpoint_url=endpoint(),
        columns=names,
        meta=meta.to_pandas(types_mapper=pd.ArrowDtype),
        label="read-kept",
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A fragment of an input, and the file that lists its rejected rows.

    Attributes
    ----------
    table : ParticleTable
        The input with only this fragment and the files that it is read from.
    rejected : RejectedRows
    """

    table: ParticleTable
    rejected: RejectedRows

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return columns of the kept rows. Raise RunError if a file has changed."""
        for file in self.table.files:
            now = status_of(at(file.path))
            if (now.st_size, now.st_mtime_ns) != (file.bytes, file.modified_ns):
                raise RunError(f"{file.path}: changed since the run. Restore it, or run again.")
        (fragment,) = self.table.fragments
        keep = self.rejected.read_kept(fragment)
        return filter_rows(cast_views(read(self.table, fragment, columns)), keep)


def _parts(run: FinishedRun, tables: Sequence[ParticleTable]) -> Iterator[_Part]:
    for table in tables:
        listed = find_rejected_rows(run.output, run.manifest, table, run.folder)
        for fragment, rejected in zip(table.fragments, listed, strict=True):
            paths = {part.path for part in fragment.slices}
            files = table.files
            if table.format in _SEPARATE_FILES:
                files = tuple(file for file in files if file.path in paths)
            yield _Part(replace(table, fragments=(fragment,), files=files), rejected)


def _frame_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema with text instead of categories. Categories differ between partitions."""

    def decoded(kind: pa.DataType) -> pa.DataType:
        return without_views(kind.value_type if pa.types.is_dictionary(kind) else kind)

    return pa.schema([field.with_type(decoded(field.type)) for field in schema])


def _read_part(
    part: _Part, *, schema: StoredSchema, endpoint_url: str | None, columns: Sequence[str]
) -> pd.DataFrame:
    """Return columns of the kept rows of a part, with the types of `schema`."""
    import pandas as pd

    types = schema.load()
    there = [name for name in columns if name in part.table.schema.names]
    with using_endpoint(endpoint_url):
        # At least one column is read, because it gives the number of rows.
        rows = part.read(there or part.table.schema.names[:1])
    arrays = [
        rows.column(name).cast(types.field(name).type)
        if name in there
        else pa.nulls(len(rows), types.field(name).type)
        for name in columns
    ]
    found = pa.table(arrays, schema=pa.schema([types.field(name) for name in columns]))
    frame: pd.DataFrame = found.to_pandas(types_mapper=pd.ArrowDtype)
    return frame

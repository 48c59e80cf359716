"""Write the output files of one fragment: its particles, and the lists of its duplicates and votes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dask_dedup.arrow import from_numpy
from dask_dedup.errors import RunError
from dask_dedup.formats import OutputFile, native_format, read
from dask_dedup.formats.parquet import writer as parquet
from dask_dedup.formats.parquet.encoding import encodings_by_type
from dask_dedup.output.layout import DUPLICATES, KEPT, REJECTED, VOTES, piece_name
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.row_keys import RowGroups
from dask_dedup.pipeline.divide import divide
from dask_dedup.pipeline.duplicates import duplicates_table
from dask_dedup.pipeline.partitions import file_name
from dask_dedup.pipeline.votes import votes_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.dedup.decide import Decisions
    from dask_dedup.formats import Fragment
    from dask_dedup.pipeline.job import Job

    #: Returns columns of a fragment.
    ReadColumns = Callable[[Sequence[str]], pa.Table]
    #: Parquet files by table.
    Files = dict[str, tuple[OutputFile, ...]]


def column_reader(job: Job, number: int) -> ReadColumns:
    """Return a function that returns columns of a fragment. For Parquet output, all columns are read now."""
    fragment = job.inputs.fragments[number]
    table = job.inputs.tables[fragment.source]
    if job.conversion or job.native_names[fragment.source] or not job.writes_particles:
        return partial(read, table, fragment)
    select: ReadColumns = read(table, fragment, table.schema.names).select
    return select


def write_particles(
    job: Job, number: int, columns: ReadColumns, keep: NDArray[np.bool_], draft: Path
) -> Files:
    """Write the kept and the rejected rows of a fragment to the folder `draft`. Return the Parquet files by table.

    `keep` is a (rows,) bool mask of the kept rows. Tables in other formats become part files, which are not returned.
    """
    fragment = job.inputs.fragments[number]
    table = job.inputs.tables[fragment.source]
    if job.conversion or job.native_names[fragment.source]:
        two = [draft / piece_name(outcome, number) for outcome in (KEPT, REJECTED)]
        if job.conversion:
            job.conversion.split(job.inputs, fragment, keep, *two)
        else:
            native_format(table).split(table, fragment, keep, *two)
        return {}
    rows = columns(table.schema.names)
    check_rows(rows, fragment)
    files: dict[str, list[OutputFile]] = {KEPT: [], REJECTED: []}
    for part in divide(job, number, rows):
        paths = [draft / job.dataset_folder(outcome) / part.path for outcome in files]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        written = parquet.split(
            part.rows, keep[part.selection], part.schema, part.encodings, *paths
        )
        for outcome, file in zip(files, written, strict=True):
            files[outcome].append(replace(file, path=part.path))
    return {outcome: tuple(each) for outcome, each in files.items()}


def write_listings(
    job: Job,
    number: int,
    columns: ReadColumns,
    decisions: Decisions,
    micrograph: pa.ChunkedArray | None,
    draft: Path,
) -> Files:
    """Write the duplicates and the votes of a fragment to the folder `draft`. Return the files by table.

    `micrograph` has the micrograph name of each row; it is read if not passed.
    """
    fragment = job.inputs.fragments[number]
    table = job.inputs.tables[fragment.source]
    if micrograph is None:
        micrograph = columns([job.inputs.roles[fragment.source].micrograph]).column(0)
    names = job.inputs.params.group_columns
    groups = RowGroups.of(Columns(columns(names), table.path), names) if names else None

    def values(rows: NDArray[np.int64]) -> tuple[pa.ChunkedArray, Sequence[pa.Array]]:
        """Return the micrograph and the group values of rows of the fragment."""
        return micrograph.take(from_numpy(rows)), groups.values(rows) if groups else ()

    rejections, votes, voting = decisions.rejections, decisions.votes, job.inputs.voting
    tables = {DUPLICATES: duplicates_table(job.inputs, rejections, *values(rejections.row))}
    if voting:
        tables[VOTES] = votes_table(job.inputs, voting, votes, *values(votes.row))
    files: Files = {}
    for dataset, rows in tables.items():
        # Before pyarrow 18, a schema with metadata cannot be hashed.
        encodings = encodings_by_type(rows.schema.remove_metadata(), job.compression)
        path = draft / job.dataset_folder(dataset) / file_name(number)
        files[dataset] = (parquet.write(rows, rows.schema, encodings, path),)
    return files


def check_rows(table: pa.Table, fragment: Fragment) -> None:
    """Raise RunError if the number of rows in a fragment has changed since the start of the run."""
    if table.num_rows != fragment.rows:
        raise RunError(
            f"{fragment}: has {table.num_rows} rows, but had {fragment.rows} at the start of the "
            "run. The file was changed; run again."
        )

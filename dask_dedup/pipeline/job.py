"""The job: all that the stages have to know, gathered from the inputs and the parameters."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa

from dask_dedup.errors import InputError, RunError
from dask_dedup.formats import StoredSchema
from dask_dedup.formats.parquet.table import unify
from dask_dedup.particles.conventions import (
    check_flip,
    check_pixel_size,
    compare_roles,
    resolve_roles,
)
from dask_dedup.particles.micrographs import read_micrographs
from dask_dedup.storage.files import status_of
from dask_dedup.storage.paths import at, endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.particles.conventions import ColumnRoles
    from dask_dedup.particles.micrographs import MicrographTable

#: Rises whenever the same inputs and parameters may give other decisions or other files.
ALGORITHM = 3
OUTPUT_FORMATS = ("native", "parquet")


@dataclass(frozen=True, slots=True)
class Job:
    """All that the stages have to know.

    Attributes
    ----------
    tables : tuple of ParticleTable
        The inputs, in the user's order.
    fragments : tuple of Fragment
        Of all inputs, numbered from 0.
    roles : tuple of Roles
        One an input.
    params : DedupParams
    micrographs : MicrographTable or None
    stored_schema : StoredSchema
        Of the Parquet files written.
    native_names : tuple of (str or None)
        For each input, the file its kept and rejected rows are written to in its own format; None
        where they are written as Parquet.
    output_format : {"native", "parquet"}
    staging : str
        Folder the parts are written to before the commit.
    mark : str
        Names the folder of a run's files in each dataset, where those of others may lie beside them.
    endpoint_url : str or None
        Of the server for ``s3://``, if it is not Amazon's; workers may not have it in their environment.
    attempt : str
        Tells the events of this attempt at the run from those of others.
    """

    tables: tuple[ParticleTable, ...]
    fragments: tuple[Fragment, ...]
    roles: tuple[ColumnRoles, ...]
    params: DedupParams
    micrographs: MicrographTable | None
    stored_schema: StoredSchema
    native_names: tuple[str | None, ...]
    output_format: str
    staging: str
    run_token: str = ""
    endpoint_url: str | None = None
    attempt: str = ""

    def home(self, dataset: str) -> str:
        """Give the folder of the output that a dataset's files lie in."""
        return f"{dataset}/{self.run_token}" if self.run_token else dataset

    @property
    def schema(self) -> pa.Schema:
        """Of the Parquet files written."""
        return self.stored_schema.load()


def make_job(
    tables: Sequence[ParticleTable],
    exposures: ParticleTable | None,
    params: DedupParams,
    output_format: str,
    run_token: str = "",
) -> Job:
    """Gather what the stages have to know; nothing is read but the micrograph table."""
    roles = [resolve_roles(table.schema.names, params, table.path) for table in tables]
    names = [(table.path, table.schema.names) for table in tables]
    roles = compare_roles(roles, names, params)
    micrographs = read_micrographs(exposures, match=roles[0].match) if exposures else None
    for table, role in zip(tables, roles, strict=True):
        check_pixel_size(role, params, micrographs, table.path)
        if table.source in params.flip_y:
            check_flip(role, params, micrographs, table.path)
    strange = [number for number in params.flip_y if not 0 <= number < len(tables)]
    if strange:
        raise InputError(
            f"flip_y names input {strange[0]}, but there are only {len(tables)}, from 0"
        )
    native = _native_names(tables, output_format)
    as_parquet = [table for table, name in zip(tables, native, strict=True) if name is None]
    fragments = [fragment for table in tables for fragment in table.fragments]
    return Job(
        tables=tuple(tables),
        fragments=tuple(replace(part, number=n) for n, part in enumerate(fragments)),
        roles=tuple(roles),
        params=params,
        micrographs=micrographs,
        stored_schema=StoredSchema.of(_unified_schema(as_parquet)),
        native_names=tuple(native),
        output_format=output_format,
        staging="",
        run_token=run_token,
        endpoint_url=endpoint(),
        attempt=uuid4().hex[:12],
    )


def _native_names(tables: Sequence[ParticleTable], output_format: str) -> list[str | None]:
    """Name each native table's output like its input, in a folder apart if that name is taken."""
    if output_format not in OUTPUT_FORMATS:
        raise InputError(
            f"--output-format is {output_format!r}; it must be one of {', '.join(OUTPUT_FORMATS)}"
        )
    names: list[str | None] = []
    taken: set[str] = set()
    for table in tables:
        if table.format == "parquet" or output_format == "parquet":
            names.append(None)
            continue
        name = Path(table.path).name
        mine = {name, *(Path(file.path).name for file in table.files)}
        names.append(f"input-{table.source + 1}/{name}" if mine & taken else name)
        taken |= mine
    return names


def _unified_schema(tables: Sequence[ParticleTable]) -> pa.Schema:
    """Give one schema for all inputs written as Parquet; a column that some lack may be null."""
    if not tables:
        return pa.schema([])
    schema = tables[0].schema
    for table in tables[1:]:
        schema = unify(schema, table.schema, table.path)
    common = set.intersection(*(set(table.schema.names) for table in tables))
    for number, field in enumerate(schema):
        if field.name not in common:
            if pa.types.is_fixed_size_list(field.type):
                # Before pyarrow 26 no reader takes a null in the place of so many numbers.
                field = field.with_type(pa.list_(field.type.value_field))
            schema = schema.set(number, field.with_nullable(nullable=True))
    if len(tables) > 1 and schema.metadata and len({str(t.schema) for t in tables}) > 1:
        # What pandas noted of the first table does not describe the columns of all.
        kept = {key: value for key, value in schema.metadata.items() if key != b"pandas"}
        schema = schema.with_metadata(kept)
    return schema


def make_run_id(
    tables: Sequence[ParticleTable],
    exposures: ParticleTable | None,
    params: DedupParams,
    output_format: str,
) -> str:
    """Hash all that a result depends on."""

    def identity(table: ParticleTable) -> dict[str, Any]:
        return {"path": table.path, "files": [asdict(file) for file in table.files]}

    request = {
        "algorithm": ALGORITHM,
        "parameters": params.to_dict(),
        "output_format": output_format,
        "inputs": [identity(table) for table in tables],
        "micrographs": identity(exposures) if exposures else None,
    }
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def find_changed(job: Job) -> str | None:
    """Name an input file that is not as it was when the run began, and say how it differs."""
    for file in (file for table in job.tables for file in table.files):
        try:
            now = status_of(at(file.path))
        except FileNotFoundError:
            return f"{file.path} is gone"
        if (now.st_size, now.st_mtime_ns) != (file.bytes, file.modified_ns):
            return f"{file.path} has changed ({file.bytes:,} bytes then, {now.st_size:,} now)"
    return None


def check_unchanged(job: Job) -> None:
    """Refuse a result whose inputs were replaced while they were read.

    Raises
    ------
    RunError
    """
    change = find_changed(job)
    if change:
        raise RunError(
            f"{change} since the run began, so nothing was committed; run again when it is at rest"
        )

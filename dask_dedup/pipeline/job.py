"""The job of a run (its inputs and output settings), the run id, and checks for changed input files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa

from dask_dedup.conversion import CONVERSIONS
from dask_dedup.dedup.params import PER_INPUT, RENAMES
from dask_dedup.dedup.per_input import as_input
from dask_dedup.errors import InputError, RunError
from dask_dedup.formats import StoredSchema, is_writable, output_name
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.parquet.encoding import COMPRESSIONS, SAMPLE_ROWS, choose_encodings
from dask_dedup.formats.parquet.schema import unify
from dask_dedup.hints import parameter
from dask_dedup.output.layout import KEPT, PARTICLES, TABLES, VOTES
from dask_dedup.output.manifest import digest_of
from dask_dedup.particles.pickers import name_pickers
from dask_dedup.pipeline.partitions import NO_PARTITIONS, partition_by_columns, partition_like
from dask_dedup.storage.files import status_of
from dask_dedup.storage.paths import at
from dask_dedup.storage.protocols import endpoint
from dask_dedup.storage.table_version import with_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.conversion import Conversion
    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import ParticleTable
    from dask_dedup.formats.parquet.encoding import Encodings
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.pipeline.output_settings import OutputSettings
    from dask_dedup.pipeline.partitions import Partitions

#: Version of the algorithm. Increase it when the same inputs and parameters may give other decisions or other files.
ALGORITHM = 8
OUTPUT_FORMATS = ("native", "parquet", *CONVERSIONS)


@dataclass(frozen=True, slots=True)
class Job:
    """Inputs and output settings of a run, which every stage and worker needs."""

    inputs: Inputs
    #: Schema of the Parquet files to write.
    stored_schema: StoredSchema
    #: Name of the kept and rejected files of each input, in the input's format. None for Parquet output.
    native_names: tuple[str | None, ...]
    #: native, parquet or one of `conversion.CONVERSIONS`.
    output_format: str
    #: One of `encoding.COMPRESSIONS`.
    compression: str
    #: Encodings of the kept and rejected Parquet files.
    encodings: Encodings
    #: The datasets to write, from `output.layout.TABLES`.
    tables: tuple[str, ...]
    #: Staging folder of the run.
    staging: str = ""
    #: In an object store, the name of the run's subfolder in each dataset. Otherwise empty.
    run_token: str = ""
    #: S3 endpoint; workers may not have it in their environment.
    endpoint_url: str | None = None
    #: Identifies the events of this attempt.
    attempt: str = ""
    #: Names of micrographs that the report shows in addition to its own choice.
    plot_micrographs: tuple[str, ...] = ()
    #: Partition folders of the kept and rejected Parquet files.
    partitions: Partitions = NO_PARTITIONS
    #: Set after the scan if the output format is a conversion.
    conversion: Conversion | None = None

    def dataset_folder(self, dataset: str) -> str:
        """Return the folder of a dataset, such as particles_kept, relative to the output folder."""
        return f"{dataset}/{self.run_token}" if self.run_token else dataset

    @property
    def writes_particles(self) -> bool:
        """Whether the kept and the rejected particles are written."""
        return KEPT in self.tables

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the Parquet files to write."""
        return self.stored_schema.load()


def make_job(
    inputs: Inputs,
    settings: OutputSettings,
    plot_micrographs: Sequence[str] = (),
    *,
    duplicates_only: bool = False,
) -> Job:
    """Make the job of a run from its inputs, its output settings and the micrographs to show.

    If `duplicates_only`, no particles are written.
    """
    output_format, compression = settings.output_format, settings.compression
    native = native_names(inputs.tables, output_format)
    if compression not in COMPRESSIONS:
        raise InputError(
            f"{parameter('compression')} is {compression!r}; it must be one of {', '.join(COMPRESSIONS)}."
        )
    as_parquet = [t for t, name in zip(inputs.tables, native, strict=True) if name is None]
    if output_format in CONVERSIONS:
        as_parquet = []
    schema = unified_schema(as_parquet)
    if settings.partition_by:
        other = next((t for t in inputs.tables if t not in as_parquet), None)
        if other is not None:
            raise InputError(
                f"{other.path}: is not written as Parquet, so {parameter('partition_by')} cannot apply. Use "
                f"{parameter('output_format', 'parquet')}."
            )
        partitions = partition_by_columns(settings.partition_by, as_parquet, schema)
    else:
        partitions = partition_like(as_parquet, schema, inputs.fragments)
    schema = partitions.without_columns(schema)
    # The encodings of a partition folder are chosen when it is written.
    sample = {} if duplicates_only or partitions.files else _sample(as_parquet)
    return Job(
        inputs=inputs,
        stored_schema=StoredSchema.of(schema),
        native_names=tuple(native),
        output_format=output_format,
        compression=compression,
        encodings=choose_encodings(schema, compression, sample),
        tables=tuple(
            name
            for name in TABLES
            if (name != VOTES or inputs.voting) and not (duplicates_only and name in PARTICLES)
        ),
        endpoint_url=endpoint(),
        attempt=uuid4().hex[:12],
        plot_micrographs=tuple(plot_micrographs),
        partitions=partitions,
    )


def native_names(tables: Sequence[ParticleTable], output_format: str) -> list[str | None]:
    """Return the output file name for each input. Inputs written as Parquet have None.

    An output has the name of its input. If an earlier input has the same name, the output is in a folder ``input-N``.
    Pick files are in a folder with the name of their picker.
    """
    if output_format not in OUTPUT_FORMATS:
        raise InputError(
            f"{parameter('output_format')} is {output_format!r}; it must be one of "
            f"{', '.join(OUTPUT_FORMATS)}."
        )
    names: list[str | None] = []
    taken: set[str] = set()
    for table, picker in zip(tables, name_pickers(tables), strict=True):
        if output_format != "native" or not is_writable(table):
            names.append(None)
            continue
        name = output_name(table, picker, taken)
        mine = {name}
        if table.format == "coordinates":
            mine = {name.split("/")[0].casefold()}
        if table.format in ("csg", "optimisation_set"):
            mine |= {Path(file.path).name for file in table.files}
        names.append(f"input-{table.source + 1}/{name}" if mine & taken else name)
        taken |= mine
    return names


def unified_schema(tables: Sequence[ParticleTable]) -> pa.Schema:
    """Merge the schemas of tables. A column that some tables lack becomes nullable."""
    if not tables:
        return pa.schema([])
    schema = tables[0].schema
    for table in tables[1:]:
        schema = unify(schema, table.schema, table.path)
    common = set.intersection(*(set(table.schema.names) for table in tables))
    for number, field in enumerate(schema):
        if field.name not in common:
            if pa.types.is_fixed_size_list(field.type):
                # Before pyarrow 26, no reader accepts nulls in a fixed-size list column.
                field = field.with_type(pa.list_(field.type.value_field))
            schema = schema.set(number, field.with_nullable(nullable=True))
    if len(tables) > 1 and schema.metadata and len({str(t.schema) for t in tables}) > 1:
        # The pandas metadata of the first table describes only its own columns.
        kept = {key: value for key, value in schema.metadata.items() if key != b"pandas"}
        schema = schema.with_metadata(kept)
    return schema


def _sample(tables: Sequence[ParticleTable]) -> dict[str, pa.ChunkedArray]:
    """Return the first values of each column, from the first Parquet table that has it."""
    sample: dict[str, pa.ChunkedArray] = {}
    for table in tables:
        if table.format == "parquet" and not sample.keys() >= {*table.schema.names}:
            sample = {**parquet.read_sample(table, SAMPLE_ROWS), **sample}
    return sample


def make_run_id(
    tables: Sequence[ParticleTable],
    exposures: ParticleTable | None,
    params: DedupParams,
    settings: OutputSettings,
) -> str:
    """Return the run id: a hash of algorithm version, inputs, parameters and output settings."""

    def identity(table: ParticleTable) -> dict[str, Any]:
        path = with_version(table.path, table.version)
        name = {"picker": table.picker} if table.picker else {}
        return {"path": path, "files": [file.to_dict() for file in table.files], **name}

    parameters = params.to_dict()
    # Use the same names as the command that repeats the run.
    named = {as_input(table.path): with_version(table.path, table.version) for table in tables}
    for name in (*PER_INPUT, RENAMES):
        parameters[name] = [[named.get(path, path), value] for path, value in parameters[name]]
    # The run id does not depend on the path of the map or the order of its lines.
    parameters["micrograph_map"] = sorted(params.names_of_micrographs.pairs)
    request = {
        "algorithm": ALGORITHM,
        "parameters": parameters,
        "output_format": settings.output_format,
        "compression": settings.compression,
        "inputs": [identity(table) for table in tables],
        "micrographs": identity(exposures) if exposures else None,
        **({"partition_by": settings.partition_by} if settings.partition_by else {}),
    }
    return digest_of(request)


def find_changed(inputs: Inputs) -> str | None:
    """Describe the first input file that changed since the start of the run. Return None if no file changed."""
    for file in (file for table in inputs.tables for file in table.files):
        try:
            now = status_of(at(file.path))
        except FileNotFoundError:
            return f"{file.path} was deleted"
        if (now.st_size, now.st_mtime_ns) != (file.bytes, file.modified_ns):
            return f"{file.path} was changed (from {file.bytes:,} to {now.st_size:,} bytes)"
    return None


def check_unchanged(inputs: Inputs) -> None:
    """Raise RunError if an input file changed during the run."""
    change = find_changed(inputs)
    if change:
        raise RunError(
            f"{change} during the run; nothing was committed. "
            "Run again when the inputs no longer change."
        )

"""The Iceberg table to which `publish` adds files."""

from __future__ import annotations

import json
import logging
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dask_dedup.errors import InputError
from dask_dedup.results.publish.dataset import as_text
from dask_dedup.results.publish.types import columns_of, lake_columns
from dask_dedup.storage.credentials import iceberg_options
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table, Transaction
    from pyiceberg.types import IcebergType

    from dask_dedup.results.publish.dataset import Dataset
    from dask_dedup.results.publish.files import TableFile

_NAME_MAPPING = "schema.name-mapping.default"
_RETRIES = "commit.retry.num-retries"
_DATASET = "dask-dedup.table"
#: Field ids from this number on are for columns of the files that the table lacks.
_FIRST_OTHER_ID = 1_000_000


def _not_linkable(dataset: Dataset) -> set[str]:
    """Return the names of columns that have a type without an equivalent in Iceberg in the run's files.

    pyiceberg reads unsigned integers as signed, so values of uint32 must be below 2**31.
    """
    return columns_of(dataset.schema, pa.uint64(), pa.float16()) | {
        name
        for file in dataset.files
        for name, bound in file.bounds.items()
        if dataset.schema.field(name).type == pa.uint32() and int(bound.maximum) >= 2**31
    }


def _open_catalog(name: str) -> Catalog:
    from pyiceberg.catalog import load_catalog
    from pyiceberg.utils.config import Config

    configured = Config().get_catalog_config(name)
    if configured is None:
        raise InputError(
            f"{name}: no such catalog in pyiceberg's configuration. Describe it in .pyiceberg.yaml, "
            f"or set PYICEBERG_CATALOG__{name.upper()}__URI."
        )
    warehouse = str(configured.get("warehouse", ""))
    options = iceberg_options(at(warehouse)) if warehouse.startswith("s3://") else {}
    try:
        return load_catalog(name, **{**options, **configured})
    except Exception as error:
        raise InputError(f"{name}: the Iceberg catalog cannot be opened: {error}") from error


class IcebergLakeTable:
    """An Iceberg table for one dataset. The table may not exist yet in its catalog.

    Attributes
    ----------
    name : str
        Names of catalog and table in messages.
    identifier : str
        The table's name in the catalog, with its namespace.
    columns : LakeColumns
    """

    kind = "Iceberg"

    def __init__(
        self, dataset: Dataset, catalog: str, identifier: str, *, link: bool = False
    ) -> None:
        try:
            import pyiceberg.exceptions  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"Iceberg tables need a library: pip install 'dask-dedup[iceberg]' ({error})"
            ) from error
        if "." not in identifier:
            raise InputError(
                f"{identifier}: the name of an Iceberg table needs a namespace. Write, for example, em.{identifier}."
            )
        # pyiceberg warns about each dictionary column, but reads the values correctly.
        logging.getLogger("pyiceberg.io.pyarrow").setLevel(logging.ERROR)
        self.dataset, self.identifier, self.name = dataset, identifier, f"{catalog} {identifier}"
        self.link = link
        without = _not_linkable(dataset) if link else ()
        self.columns = lake_columns(dataset.schema, without=without)
        self.catalog = _open_catalog(catalog)
        self.table: Table | None = None
        self.change: Transaction | None = None

    def refresh(self) -> None:
        """Open the latest version of the table."""
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            self.table = self.catalog.load_table(self.identifier)
        except (NoSuchTableError, NoSuchNamespaceError):
            self.table = None
        else:
            # No retries: another state of the table may need another change. This property is not stored.
            self.table.metadata.properties[_RETRIES] = "0"

    def _files(self) -> list[DataFile]:
        return [task.file for task in self.table.scan().plan_files()] if self.table else []

    def contents(self) -> list[dict[str, str | None]]:
        """Return one dict per file in the table: the values of the partition columns."""
        if self.table is None:
            return []
        columns = [field.name for field in self.table.spec().fields]
        dataset = self.table.properties.get(_DATASET, self.dataset.name)
        self.dataset.check_table(self.name, dataset, columns)
        return [self._values(file) for file in self._files()]

    def _values(self, file: DataFile) -> dict[str, str | None]:
        from pyiceberg.utils.datetime import days_to_date

        assert self.table is not None
        stored = self.table.schema().as_arrow()
        values: dict[str, str | None] = {}
        for number, name in enumerate(self.dataset.partition_columns):
            value = file.partition[number]
            if value is not None and pa.types.is_date(stored.field(name).type):
                value = days_to_date(value)
            values[name] = as_text(value)
        return values

    def prepare(self, mode: str) -> str:  # noqa: ARG002
        """Check that the dataset's columns fit, and begin a transaction. Return the folder for new files."""
        if self.table is not None:
            stored = self.table.schema().as_arrow()
            advice = "use another table, or write the files." if self.link else "use another table."
            self.dataset = self.dataset.fitted_to(stored, self.columns, self.name, advice)
            self.change = self.table.transaction()
        else:
            self.change = self._create()
        return f"{self.change.table_metadata.location.rstrip('/')}/data"

    def file_schema(self) -> pa.Schema:
        """Return the columns of files that are written for the table, with the table's field ids."""
        assert self.change is not None
        schema = self.change.table_metadata.schema()
        fields = {field.name: field for field in schema.fields}
        return pa.schema(
            [
                _with_id(field, fields[field.name].field_id, fields[field.name].field_type)
                for field in (*self.columns.schema, *self.dataset.partition_fields)
            ]
        )

    def _create(self) -> Transaction:
        from pyiceberg.catalog import Catalog

        self.catalog.create_namespace_if_not_exists(Catalog.namespace_from(self.identifier))
        change = self.catalog.create_table_transaction(
            self.identifier,
            pa.schema([*self.columns.schema, *self.dataset.partition_fields]),
            properties={_DATASET: self.dataset.name},
        )
        with change.update_spec() as spec:
            for name in self.dataset.partition_columns:
                spec.add_identity(name)
        return change

    def commit(self, files: Sequence[TableFile], mode: str) -> bool:
        """Commit added files as a new snapshot. Return False if another process committed first."""
        from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError

        change = self.change
        assert change is not None
        replaced = [
            file for file in self._files() if self.dataset.replaces(self._values(file), mode)
        ]
        try:
            if self.link:
                mapping = _name_mapping(change, self.dataset.schema)
                if mapping != change.table_metadata.properties.get(_NAME_MAPPING):
                    change.set_properties({_NAME_MAPPING: mapping})
            schema, spec = change.table_metadata.schema(), change.table_metadata.default_spec_id
            producer = change.update_snapshot(snapshot_properties=self.dataset.provenance())
            with producer.overwrite() if replaced else producer.fast_append() as snapshot:
                for file in replaced:
                    snapshot.delete_data_file(file)
                for added in files:
                    snapshot.append_data_file(_data_file(self.dataset, added, schema, spec))
            change.commit_transaction()
        except (CommitFailedException, TableAlreadyExistsError):
            return False
        return True

    def version(self) -> str:
        """Return the id of the current snapshot as text."""
        snapshot = self.table.current_snapshot() if self.table else None
        return str(snapshot.snapshot_id) if snapshot else ""

    def missing_files(self) -> list[str]:
        """Return the paths of files that the table lists but that do not exist."""
        if self.table is None:
            return []
        paths, io = [file.file_path for file in self._files()], self.table.io
        return [path for path in paths if not io.new_input(path).exists()]

    def close(self) -> None:
        """Close the connection to the catalog."""
        self.catalog.close()


def _name_mapping(change: Transaction, stored: pa.Schema) -> str:
    """Return an Iceberg name mapping, as JSON, that covers all columns of the files.

    If a column of the files has no field id, DuckDB reads nulls, and pyiceberg reads nothing.
    """
    schema = change.table_metadata.schema()
    written = change.table_metadata.properties.get(_NAME_MAPPING)
    mapped = json.loads(written or schema.name_mapping.model_dump_json())
    known = {name for entry in mapped for name in entry["names"]}
    number = max([_FIRST_OTHER_ID, *(entry.get("field-id") or 0 for entry in mapped)])
    for field in stored:
        if field.name in known:
            continue
        number += 2
        entry: dict[str, Any] = {"field-id": number, "names": [field.name]}
        if pa.types.is_nested(field.type):
            entry["fields"] = [{"field-id": number + 1, "names": ["element"]}]
        mapped.append(entry)
    return json.dumps(mapped)


def _with_id(field: pa.Field, number: int, kind: IcebergType) -> pa.Field:
    """Return a field of a file's schema with Iceberg's ids of the field and of its list's elements."""
    if pa.types.is_list(field.type):
        element = _with_id(field.type.value_field, kind.element_id, kind.element_type)
        field = field.with_type(pa.list_(element))
    return field.with_metadata({"PARQUET:field_id": str(number)})


def _data_file(dataset: Dataset, file: TableFile, schema: Schema, spec: int) -> DataFile:
    from pyiceberg.conversions import to_bytes
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record
    from pyiceberg.utils.datetime import date_to_days

    keys = dataset.typed(file.values).values()
    bounds = [
        (field.field_id, field.field_type, file.bounds[field.name])
        for field in schema.fields
        if field.name in file.bounds
    ]
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"{file.root}/{file.relative}",
        file_format=FileFormat.PARQUET,
        partition=Record(*(date_to_days(key) if isinstance(key, date) else key for key in keys)),
        record_count=file.rows,
        file_size_in_bytes=file.bytes,
        column_sizes={},
        value_counts={number: file.rows for number, *_ in bounds},
        null_value_counts={number: each.nulls for number, _, each in bounds},
        nan_value_counts={},
        lower_bounds={number: to_bytes(kind, each.minimum) for number, kind, each in bounds},
        upper_bounds={number: to_bytes(kind, each.maximum) for number, kind, each in bounds},
        spec_id=spec,
    )

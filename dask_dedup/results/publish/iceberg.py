"""A dataset as an Iceberg table: files put into the table's folder, then one commit that lists them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dask_dedup.errors import DedupError, InputError, RunError
from dask_dedup.results.publish.credentials import iceberg_options
from dask_dedup.results.publish.files import how_placed, place, take_back
from dask_dedup.results.publish.outcome import ATTEMPTS, Publication
from dask_dedup.results.publish.types import lake_columns
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table, Transaction

    from dask_dedup.results.publish.dataset import Dataset
    from dask_dedup.results.publish.files import Placed
    from dask_dedup.results.publish.types import LakeColumns

_MAPPING = "schema.name-mapping.default"
_RETRIES = "commit.retry.num-retries"
_TABLE = "dask-dedup.table"
#: Ids from here on stand for columns of the files that the table has no type for.
_OUTSIDE = 1_000_000


def publish_iceberg(dataset: Dataset, catalog_name: str, name: str, mode: str) -> Publication:
    """Commit a dataset to an Iceberg table, which is made if there is none.

    Parameters
    ----------
    dataset : Dataset
    catalog_name : str
        In pyiceberg's configuration.
    name : str
        Of the table, with its namespace.
    mode : {"append", "replace"}
        Whether what the table holds stays.

    Raises
    ------
    InputError
        If there is no such catalog, or the table cannot take the dataset.
    RunError
        If the commit fails; the table is as it was.
    """
    try:
        from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError
    except ImportError as error:
        raise InputError(
            f"no library to write Iceberg tables with: pip install 'dask-dedup[iceberg]' ({error})"
        ) from error
    # It warns of each dictionary column, of which it reads the values all the same.
    logging.getLogger("pyiceberg.io.pyarrow").setLevel(logging.ERROR)
    columns = lake_columns(dataset.schema, unsigned64=False, without=_beyond_31_bits(dataset))
    catalog = _open_catalog(catalog_name)
    target = f"{catalog_name} {name}"
    placed: list[Placed] = []
    # While the outcome of a commit is open, its files stay where they are.
    unlisted = True
    try:
        for _ in range(ATTEMPTS):
            table = _open_table(catalog, name)
            there = _files(table) if table else []
            if table:
                _check_fits(dataset, columns, table, target)
            held = [dict(zip(dataset.constants, _values(file), strict=True)) for file in there]
            if dataset.is_in(held, mode, f"--iceberg {target}"):
                return _told(dataset, target, table, mode, columns, [])
            change = _begin(dataset, columns, catalog, name, table)
            if not placed:
                root = f"{change.table_metadata.location.rstrip('/')}/data"
                placed = place(dataset.parts, dataset.constants, root)
            dataset.check_unchanged()
            unlisted = False
            try:
                _commit(dataset, change, placed, root, there if mode == "replace" else [])
            except (CommitFailedException, TableAlreadyExistsError):
                unlisted = True
                continue
            return _told(dataset, target, _open_table(catalog, name), mode, columns, placed)
    except DedupError:
        raise
    except Exception as error:
        raise RunError(f"{target}: publishing failed: {error}; publish again") from error
    finally:
        if unlisted:
            take_back(placed)
        catalog.close()
    raise RunError(
        f"{target}: {ATTEMPTS} times another publisher was quicker; publish again, the table is as it was"
    )


def _beyond_31_bits(dataset: Dataset) -> set[str]:
    """Name the unsigned 32-bit columns with such values: pyiceberg compares them as signed ones, and finds no row."""
    return {
        name
        for part in dataset.parts
        for name, bound in part.bounds.items()
        if dataset.schema.field(name).type == pa.uint32() and int(bound.greatest) >= 2**31
    }


def _open_catalog(name: str) -> Catalog:
    from pyiceberg.catalog import load_catalog
    from pyiceberg.utils.config import Config

    configured = Config().get_catalog_config(name)
    if configured is None:
        raise InputError(
            f"--iceberg {name}: pyiceberg knows no such catalog; describe it in .pyiceberg.yaml or by "
            f"PYICEBERG_CATALOG__{name.upper()}__URI and the like"
        )
    warehouse = str(configured.get("warehouse", ""))
    options = iceberg_options(at(warehouse)) if warehouse.startswith("s3://") else {}
    try:
        return load_catalog(name, **{**options, **configured})
    except Exception as error:
        raise InputError(f"--iceberg {name}: the catalog cannot be opened: {error}") from error


def _open_table(catalog: Catalog, name: str) -> Table | None:
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    try:
        table = catalog.load_table(name)
    except (NoSuchTableError, NoSuchNamespaceError):
        return None
    # What was found in the table decides what is done to it, so a commit on any other state will not do; this is
    # not written to the table.
    table.metadata.properties[_RETRIES] = "0"
    return table


def _files(table: Table) -> list[DataFile]:
    return [task.file for task in table.scan().plan_files()]


def _values(file: DataFile) -> list[str]:
    return [file.partition[number] for number in range(len(file.partition))]


def _check_fits(dataset: Dataset, columns: LakeColumns, table: Table, target: str) -> None:
    """Refuse a table of another kind, or one that lacks columns of this run."""
    kind = table.properties.get(_TABLE, dataset.name)
    if kind != dataset.name:
        raise InputError(f"--iceberg {target} is a table of {kind}, not of {dataset.name}")
    there = [field.name for field in table.spec().fields]
    if there != list(dataset.constants):
        raise InputError(
            f"--iceberg {target} tells runs apart by {', '.join(there) or 'nothing'}, this run would be "
            f"told apart by {', '.join(dataset.constants)}; give the same --tag names, or another table"
        )
    known = table.schema().as_arrow()
    for field in columns.schema:
        if field.name not in known.names:
            raise InputError(
                f"--iceberg {target} has no column {field.name}, which this run has; use another table"
            )
        if lake_columns(pa.schema([known.field(field.name)]), unsigned64=False).schema.types != [
            field.type
        ]:
            raise InputError(
                f"--iceberg {target} has {field.name} as {known.field(field.name).type}, this run as "
                f"{field.type}; use another table"
            )


def _begin(
    dataset: Dataset, columns: LakeColumns, catalog: Catalog, name: str, table: Table | None
) -> Transaction:
    """Begin to change the table, or to make it."""
    from pyiceberg.catalog import Catalog as AnyCatalog

    if table is not None:
        return table.transaction()
    catalog.create_namespace_if_not_exists(AnyCatalog.namespace_from(name))
    constants = [pa.field(constant, pa.string()) for constant in dataset.constants]
    change = catalog.create_table_transaction(
        name,
        pa.schema([*columns.schema, *constants]),
        properties={_TABLE: dataset.name},
    )
    with change.update_spec() as spec:
        for constant in dataset.constants:
            spec.add_identity(constant)
    return change


def _commit(
    dataset: Dataset, change: Transaction, placed: list[Placed], root: str, gone: list[DataFile]
) -> None:
    """Write one snapshot of the table."""
    mapping = _name_mapping(change, dataset.schema)
    if mapping != change.table_metadata.properties.get(_MAPPING):
        change.set_properties({_MAPPING: mapping})
    schema = change.table_metadata.schema()
    producer = change.update_snapshot(snapshot_properties=dataset.provenance())
    with producer.overwrite() if gone else producer.fast_append() as snapshot:
        for file in gone:
            snapshot.delete_data_file(file)
        for one in placed:
            snapshot.append_data_file(
                _data_file(dataset, one, root, schema, change.table_metadata.default_spec_id)
            )
    change.commit_transaction()


def _name_mapping(change: Transaction, stored: pa.Schema) -> str:
    """Tell which column of the files is which: they have no field ids.

    All their columns must be in it, or DuckDB reads nulls, and pyiceberg nothing.
    """
    schema = change.table_metadata.schema()
    written = change.table_metadata.properties.get(_MAPPING)
    mapped = json.loads(written or schema.name_mapping.model_dump_json())
    known = {name for entry in mapped for name in entry["names"]}
    number = max([_OUTSIDE, *(entry.get("field-id") or 0 for entry in mapped)])
    for field in stored:
        if field.name in known:
            continue
        number += 2
        entry: dict[str, Any] = {"field-id": number, "names": [field.name]}
        if pa.types.is_nested(field.type):
            entry["fields"] = [{"field-id": number + 1, "names": ["element"]}]
        mapped.append(entry)
    return json.dumps(mapped)


def _data_file(dataset: Dataset, one: Placed, root: str, schema: Schema, spec: int) -> DataFile:
    from pyiceberg.conversions import to_bytes
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    fields = {field.name: field for field in schema.fields}
    bounds = {
        fields[name].field_id: (fields[name], bound)
        for name, bound in one.part.bounds.items()
        if name in fields
    }
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"{root}/{one.relative}",
        file_format=FileFormat.PARQUET,
        partition=Record(*(one.part.values[name] for name in dataset.constants)),
        record_count=one.part.rows,
        file_size_in_bytes=one.part.bytes,
        column_sizes={},
        value_counts=dict.fromkeys(bounds, one.part.rows),
        null_value_counts={number: bound.nulls for number, (_, bound) in bounds.items()},
        nan_value_counts={},
        lower_bounds={n: to_bytes(field.field_type, b.least) for n, (field, b) in bounds.items()},
        upper_bounds={
            n: to_bytes(field.field_type, b.greatest) for n, (field, b) in bounds.items()
        },
        split_offsets=None,
        sort_order_id=None,
        spec_id=spec,
        equality_ids=None,
        key_metadata=None,
    )


def _told(
    dataset: Dataset,
    target: str,
    table: Table | None,
    mode: str,
    columns: LakeColumns,
    placed: list[Placed],
) -> Publication:
    snapshot = table.current_snapshot() if table else None
    return Publication(
        kind="Iceberg",
        target=target,
        table=dataset.name,
        run_id=dataset.manifest["run_id"],
        mode=mode,
        changed=bool(placed),
        version=str(snapshot.snapshot_id) if snapshot else "",
        files=len(dataset.parts),
        rows=dataset.rows,
        placed=how_placed(placed) if placed else "",
        decimals=columns.decimals,
        left_out=columns.left_out,
        missing=_missing(table) if table else [],
    )


def _missing(table: Table) -> list[str]:
    """Name the files that the table refers to and that are gone."""
    return [
        file.file_path for file in _files(table) if not table.io.new_input(file.file_path).exists()
    ]

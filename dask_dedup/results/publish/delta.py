"""The Delta table to which `publish` adds files."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from dask_dedup.errors import InputError
from dask_dedup.hints import parameter
from dask_dedup.results.publish.dataset import DATASETS, RUN, as_text
from dask_dedup.results.publish.types import (
    check_distinct,
    columns_of,
    lake_columns,
)
from dask_dedup.storage.credentials import delta_options
from dask_dedup.storage.files import exists, is_folder, list_names
from dask_dedup.storage.paths import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deltalake import DeltaTable

    from dask_dedup.results.publish.dataset import Dataset
    from dask_dedup.results.publish.files import TableFile

#: The log has no minima and maxima, also not after a compaction. deltalake would store the bounds of
#: decimals as inexact floats, so a filter on a uid would find no row. And its Arrow datasets use null
#: as the maximum of a column without bounds.
_NO_BOUNDS = {"delta.dataSkippingNumIndexedCols": "0"}


class DeltaLakeTable:
    """A Delta table for one dataset. The table may not exist yet.

    Attributes
    ----------
    name : str
        Name of the table in messages.
    columns : LakeColumns
    """

    kind = "Delta"

    def __init__(self, dataset: Dataset, root: Path, *, link: bool = False) -> None:
        try:
            import deltalake.exceptions  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"Delta tables need a library: pip install 'dask-dedup[delta]' ({error})"
            ) from error
        if resolve(dataset.run.output) in (resolve(root), *resolve(root).parents):
            raise InputError(
                f"{root} is inside the run; choose another folder for the Delta table."
            )
        self.dataset, self.root, self.name = dataset, root, str(root)
        self.uri = str(root.absolute())
        check_distinct([*dataset.schema.names, *dataset.keys.names], self.name)
        without = columns_of(dataset.schema, pa.float16()) if link else ()
        self.columns = lake_columns(dataset.schema, without=without)
        empty = next(
            (
                name
                for name in dataset.keys.names
                for each in dataset.files
                if each.values[name] == ""
            ),
            None,
        )
        if empty is not None:
            raise InputError(
                f"{dataset.run.output}: {empty} is empty text in some rows. In a partition column, a Delta table "
                "cannot distinguish empty text from null. Replace it in the input, and run again."
            )
        self.options = delta_options(root)
        self.table: DeltaTable | None = None

    def refresh(self) -> None:
        """Open the latest version of the table."""
        from deltalake import DeltaTable

        if exists(self.root) and not is_folder(self.root):
            raise InputError(f"{self.root} is a file; choose a folder for the Delta table.")
        if DeltaTable.is_deltatable(self.uri, storage_options=self.options):
            self.table = DeltaTable(self.uri, storage_options=self.options)
            return
        self.table = None
        # Interrupted publishers can leave files.
        expected = (f"{RUN}=", "_delta_log")
        others = [name for name in list_names(self.root) if not name.startswith(expected)]
        if others:
            raise InputError(
                f"{self.root} is not empty and not a Delta table (it contains {others[0]}); "
                "choose another folder."
            )

    def contents(self) -> list[dict[str, str | None]]:
        """Return one dict per file in the table: the values of the partition columns."""
        if self.table is None:
            return []
        described = self.table.metadata()
        dataset = described.name if described.name in DATASETS.values() else self.dataset.name
        columns = list(described.partition_columns)
        self.dataset.check_table(self.name, dataset, columns)
        actions = pa.table(self.table.get_add_actions(flatten=True))
        values = actions.select([f"partition.{name}" for name in columns])
        return [
            {name: as_text(value) for name, value in each.items()}
            for each in values.rename_columns(columns).to_pylist()
        ]

    def prepare(self, mode: str) -> str:
        """Check that the dataset's columns fit the table. Return the folder for new files."""
        if self.table is not None and mode != "replace":
            stored = pa.schema(self.table.schema().to_arrow())
            advice = f"choose another table, or pass {parameter('mode', 'replace')}."
            self.dataset = self.dataset.fitted_to(stored, self.columns, self.name, advice)
        return self.name

    def file_schema(self) -> pa.Schema:
        """Return the columns of files that are written for the table."""
        return self.columns.schema

    def _own_schema(self) -> Any:
        from deltalake import Schema

        return Schema.from_arrow(pa.schema([*self.columns.schema, *self.dataset.partition_fields]))

    def commit(self, files: Sequence[TableFile], mode: str) -> bool:
        """Commit added files as a new version. Return False if another process committed first."""
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import (
            AddAction,
            CommitProperties,
            create_table_with_add_actions,
        )

        now = int(time.time() * 1000)
        actions = [
            AddAction(
                path=file.relative,
                size=file.bytes,
                partition_values=file.values,
                modification_time=now,
                data_change=True,
                stats=json.dumps({"numRecords": file.rows}),
            )
            for file in files
        ]
        # No retries: another version of the table may need other actions.
        properties = CommitProperties(
            custom_metadata=self.dataset.provenance(), max_commit_retries=0
        )
        common: dict[str, Any] = {
            "partition_by": self.dataset.partition_columns,
            "commit_properties": properties,
        }
        try:
            if self.table is None:
                create_table_with_add_actions(
                    self.uri,
                    self._own_schema(),
                    actions,
                    mode="error",
                    name=self.dataset.name,
                    description=f"{self.dataset.name} of dask-dedup runs; each commit names its run",
                    configuration=_NO_BOUNDS,
                    storage_options=self.options,
                    **common,
                )
            else:
                schema = self._own_schema() if mode == "replace" else self.table.schema()
                filters = self._find_replaced() if mode == "replace-tagged" else None
                self.table.create_write_transaction(
                    actions,
                    mode="append" if mode == "append" else "overwrite",
                    schema=schema,
                    partition_filters=filters,
                    **common,
                )
        except CommitFailedError:
            return False
        except Exception as error:
            if self.table is None and "already exists" in str(error):
                return False
            raise
        return True

    def _find_replaced(self) -> list[tuple[str, str, Any]]:
        """Return the filter for the files with the tags and in the folders of this run.

        A filter of Delta has a set of values for each column. Raise `InputError` if it would match other files, too.
        """
        contents = self.contents()
        replaced = [each for each in contents if self.dataset.replaces(each, "replace-tagged")]
        # Delta compares values as text, and null as empty text.
        filters: list[tuple[str, str, Any]] = [
            (name, "=", value or "") for name, value in self.dataset.tags.items()
        ]
        found = [
            each
            for each in contents
            if all(each[name] == value for name, value in self.dataset.tags.items())
        ]
        for name in self.dataset.keys.names:
            values = sorted(
                {each[name] or "" for each in replaced or [self.dataset.files[0].values]}
            )
            filters.append((name, "in", values) if len(values) > 1 else (name, "=", values[0]))
            found = [each for each in found if (each[name] or "") in values]
            if len(values) > 1 and "" in values:
                raise InputError(
                    f"{self.name}: a Delta table cannot replace the partition without a value of {name} together "
                    "with others. Run and publish this partition alone."
                )
        if len(found) > len(replaced):
            other = next(each for each in found if each not in replaced)
            names = ", ".join(f"{name}={other[name]}" for name in self.dataset.keys.names)
            raise InputError(
                f"{self.name}: a Delta table cannot replace the partitions of this run without also replacing "
                f"{names}, which are not in this run. Run and publish each {self.dataset.keys.names[0]} alone."
            )
        return filters

    def version(self) -> str:
        """Return the version of the table as text."""
        return str(self.table.version()) if self.table else ""

    def missing_files(self) -> list[str]:
        """Return the paths of files that the table lists but that do not exist."""
        if self.table is None:
            return []
        actions = pa.table(self.table.get_add_actions(flatten=True))
        there = {str(path.relative_to(self.root)) for path in self.root.rglob("*.parquet")}
        paths = map(unquote, actions.column("path").to_pylist())
        return [path for path in paths if path not in there]

    def close(self) -> None:
        """Do nothing: a Delta table has no catalog to close."""

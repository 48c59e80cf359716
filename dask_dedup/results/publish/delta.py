"""A dataset as a Delta table: files put into the table's folder, then one commit that lists them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dask_dedup.errors import InputError, RunError
from dask_dedup.results.publish.credentials import delta_options, location
from dask_dedup.results.publish.dataset import RUN, TABLES
from dask_dedup.results.publish.files import how_placed, place, take_back
from dask_dedup.results.publish.outcome import ATTEMPTS, Publication
from dask_dedup.results.publish.types import lake_columns
from dask_dedup.storage.paths import is_remote, resolve

if TYPE_CHECKING:
    from pathlib import Path

    from deltalake import DeltaTable

    from dask_dedup.results.publish.dataset import Dataset
    from dask_dedup.results.publish.files import Placed
    from dask_dedup.results.publish.types import LakeColumns


def publish_delta(dataset: Dataset, root: Path, mode: str) -> Publication:
    """Commit a dataset to a Delta table, which is made if there is none.

    Parameters
    ----------
    dataset : Dataset
    root : Path
        The table's folder.
    mode : {"append", "replace"}
        Whether what the table holds stays.

    Raises
    ------
    InputError
        If the table cannot take the dataset.
    RunError
        If the commit fails; the table is as it was.
    """
    try:
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise InputError(
            f"no library to write Delta tables with: pip install 'dask-dedup[delta]' ({error})"
        ) from error
    if resolve(dataset.output) in (resolve(root), *resolve(root).parents):
        raise InputError(f"--delta {root} lies inside the run; give a folder of its own")
    columns = lake_columns(dataset.schema, unsigned64=True)
    placed: list[Placed] = []
    # While the outcome of a commit is open, its files stay where they are.
    unlisted = True
    try:
        for _ in range(ATTEMPTS):
            table = _open(root)
            held = _held(table, root, dataset) if table else []
            if dataset.is_in(held, mode, f"--delta {root}"):
                return _told(dataset, root, table, mode, columns, [])
            schema = _schema_for(dataset, columns, table, root, mode)
            if not placed:
                placed = place(dataset.parts, dataset.constants, root)
            dataset.check_unchanged()
            unlisted = False
            if _commit(dataset, root, table, schema, placed, mode):
                return _told(dataset, root, _open(root), mode, columns, placed)
            unlisted = True
    except (DeltaError, OSError) as error:
        raise RunError(f"{root}: publishing failed: {_plain(error)}; publish again") from error
    finally:
        if unlisted:
            take_back(placed)
    raise RunError(
        f"{root}: {ATTEMPTS} times another publisher was quicker; publish again, the table is as it was"
    )


def _plain(error: Exception) -> str:
    """Bring a message of deltalake, in colour and over several lines, onto one."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|↳", " ", str(error)).split())


def _open(root: Path) -> DeltaTable | None:
    from deltalake import DeltaTable

    if not is_remote(root) and root.is_file():
        raise InputError(f"--delta {root} is a file; give a folder of its own")
    options = delta_options(root)
    if not DeltaTable.is_deltatable(location(root), storage_options=options):
        _check_free(root)
        return None
    return DeltaTable(location(root), storage_options=options)


def _check_free(root: Path) -> None:
    """Refuse a place that holds something else; files of a publisher that died are nothing else."""
    if is_remote(root) or not root.exists():
        return
    strangers = [entry.name for entry in root.iterdir() if not entry.name.startswith(f"{RUN}=")]
    if strangers:
        raise InputError(
            f"--delta {root} is not empty and no Delta table (there is {strangers[0]}); "
            "give a folder of its own"
        )


def _held(table: DeltaTable, root: Path, dataset: Dataset) -> list[dict[str, str]]:
    """Give what the table tells of each of its files; refuse a table of another kind."""
    described = table.metadata()
    if described.name in TABLES.values() and described.name != dataset.name:
        raise InputError(f"--delta {root} is a table of {described.name}, not of {dataset.name}")
    there = list(described.partition_columns)
    if there != list(dataset.constants):
        raise InputError(
            f"--delta {root} tells runs apart by {', '.join(there) or 'nothing'}, this run would be "
            f"told apart by {', '.join(dataset.constants)}; give the same --tag names, "
            "or another table"
        )
    actions = pa.table(table.get_add_actions(flatten=True))
    told = actions.select([f"partition.{name}" for name in there]).rename_columns(there)
    held: list[dict[str, str]] = told.to_pylist()
    return held


def _schema_for(
    dataset: Dataset, columns: LakeColumns, table: DeltaTable | None, root: Path, mode: str
) -> Any:
    """Give the table's schema after the commit; refuse columns that do not fit what is there."""
    from deltalake import Schema

    constants = [pa.field(name, pa.string()) for name in dataset.constants]
    mine = Schema.from_arrow(pa.schema([*columns.schema, *constants]))
    if table is None or mode == "replace":
        return mine
    there = {field.name: field for field in table.schema().fields}
    for field in mine.fields:
        known = there.get(field.name)
        if known is None:
            raise InputError(
                f"--delta {root} has no column {field.name}, which this run has; "
                "use another table, or --mode replace"
            )
        if known.type != field.type:
            raise InputError(
                f"--delta {root} has {field.name} as {_shown(known.type)}, this run as "
                f"{_shown(field.type)}; use another table, or --mode replace"
            )
    return table.schema()


def _shown(kind: Any) -> str:
    told = json.loads(kind.to_json())
    return f"a list of {told['elementType']}" if isinstance(told, dict) else str(told)


def _commit(
    dataset: Dataset,
    root: Path,
    table: DeltaTable | None,
    schema: Any,
    placed: list[Placed],
    mode: str,
) -> bool:
    """Write one version of the table, unless somebody else has written one since it was opened."""
    from deltalake.exceptions import CommitFailedError
    from deltalake.transaction import (
        AddAction,
        CommitProperties,
        create_table_with_add_actions,
    )

    actions = [
        AddAction(
            path=one.relative,
            size=one.part.bytes,
            partition_values=one.part.values,
            modification_time=int(one.part.path.stat().st_mtime * 1000),
            data_change=True,
            # No least and greatest values: deltalake's Arrow datasets take those that are not told for null, and
            # then find no row of the uid one asks for.
            stats=json.dumps({"numRecords": one.part.rows}),
        )
        for one in placed
    ]
    # What was found in the table decides what is done to it, so a commit on any other version will not do.
    properties = CommitProperties(custom_metadata=dataset.provenance(), max_commit_retries=0)
    try:
        if table is None:
            create_table_with_add_actions(
                location(root),
                schema,
                actions,
                mode="error",
                partition_by=list(dataset.constants),
                name=dataset.name,
                description=f"{dataset.name} of dask-dedup runs; each commit tells its run",
                storage_options=delta_options(root),
                commit_properties=properties,
            )
        else:
            table.create_write_transaction(
                actions,
                mode="append" if mode == "append" else "overwrite",
                schema=schema,
                partition_by=list(dataset.constants),
                commit_properties=properties,
            )
    except CommitFailedError:
        return False
    except Exception as error:
        if table is None and "already exists" in str(error):
            return False
        raise
    return True


def _told(
    dataset: Dataset,
    root: Path,
    table: DeltaTable | None,
    mode: str,
    columns: LakeColumns,
    placed: list[Placed],
) -> Publication:
    return Publication(
        kind="Delta",
        target=str(root),
        table=dataset.name,
        run_id=dataset.manifest["run_id"],
        mode=mode,
        changed=bool(placed),
        version=str(table.version()) if table else "",
        files=len(dataset.parts),
        rows=dataset.rows,
        placed=how_placed(placed) if placed else "",
        decimals=columns.decimals,
        left_out=columns.left_out,
        missing=_missing(table, root) if table else [],
    )


def _missing(table: DeltaTable, root: Path) -> list[str]:
    """Name the files that the table refers to and that are gone."""
    actions = pa.table(table.get_add_actions(flatten=True))
    there = {str(path.relative_to(root)) for path in root.rglob("*.parquet")}
    return [path for path in actions.column("path").to_pylist() if path not in there]

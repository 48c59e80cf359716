"""Publish one dataset of a finished run in a Delta or Iceberg table, without encoding it again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dask_dedup.errors import DedupError, InputError, RunError
from dask_dedup.messages import parameter
from dask_dedup.results.publish.dataset import DATASETS, open_dataset
from dask_dedup.results.publish.files import copy_files, describe_copies, remove_copies
from dask_dedup.results.publish.outcome import Publication
from dask_dedup.storage.access import check_access
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dask_dedup.results.publish.dataset import Dataset
    from dask_dedup.results.publish.delta import DeltaLakeTable
    from dask_dedup.results.publish.files import CopiedFile
    from dask_dedup.results.publish.iceberg import IcebergLakeTable

__all__ = ["Publication", "publish"]

MODES = ("append", "replace")
#: How often a commit is tried while other publishers change the table.
ATTEMPTS = 20


def publish(
    output: str | Path,
    *,
    delta: str | Path | None = None,
    iceberg: tuple[str, str] | None = None,
    table: str = "kept",
    mode: str = "append",
    tags: Mapping[str, str] | None = None,
) -> Publication:
    """Publish one dataset of a finished run.

    Parameters
    ----------
    output : str or Path
        Folder of the run.
    delta : str or Path, optional
        Folder of the Delta table, which is created if it does not exist.
    iceberg : (str, str), optional
        Name of a catalog in pyiceberg's configuration, and of a table in it. Pass this or `delta`.
    table : {"kept", "rejected", "duplicates"}
        The dataset to publish.
    mode : {"append", "replace"}
        Whether to keep the contents of the table. A run that is in the table is not published again.
    tags : mapping of str to str, optional
        Columns with one value in all rows of this run, such as the session.

    Returns
    -------
    Publication

    Raises
    ------
    InputError
        If there is no finished run, or the table cannot hold the dataset.
    RunError
        If the commit fails; the table is unchanged.
    """
    if (delta is None) == (iceberg is None):
        raise InputError(f"Pass either {parameter('delta')} or {parameter('iceberg')}.")
    for name, value, known in (("table", table, tuple(DATASETS)), ("mode", mode, MODES)):
        if value not in known:
            raise InputError(
                f"{parameter(name)} is {value!r}; it must be one of {', '.join(known)}."
            )
    if delta is not None:
        check_access([at(delta)])
    dataset = open_dataset(output, table, tags or {})
    if delta is not None:
        from dask_dedup.results.publish.delta import DeltaLakeTable

        return _publish(dataset, DeltaLakeTable(dataset, at(delta)), mode)
    from dask_dedup.results.publish.iceberg import IcebergLakeTable

    assert iceberg is not None
    return _publish(dataset, IcebergLakeTable(dataset, *iceberg), mode)


def _publish(dataset: Dataset, table: DeltaLakeTable | IcebergLakeTable, mode: str) -> Publication:
    """Copy the files into the table's folder, then add them in one commit."""
    copies: list[CopiedFile] = []
    # If a commit is interrupted, its files stay: the table may list them.
    uncommitted = True
    try:
        for _ in range(ATTEMPTS):
            table.refresh()
            done = dataset.is_in(table.contents(), mode, table.name)
            if not done:
                folder = table.prepare(mode)
                copies = copies or copy_files(dataset.files, dataset.constants, folder)
                dataset.check_unchanged()
                uncommitted = False
                done = table.commit(copies, mode)
                uncommitted = not done
                table.refresh()
            if done:
                return Publication(
                    kind=table.kind,
                    target=table.name,
                    table=dataset.name,
                    run_id=dataset.run.manifest["run_id"],
                    mode=mode,
                    changed=bool(copies) and not uncommitted,
                    version=table.version(),
                    files=len(dataset.files),
                    rows=dataset.rows,
                    placed=describe_copies(copies) if not uncommitted else "",
                    decimals=table.columns.decimals,
                    left_out=table.columns.left_out,
                    missing=table.missing_files(),
                )
    except DedupError:
        raise
    except Exception as error:
        # The messages of deltalake have colours and several lines.
        reason = " ".join(re.sub(r"\x1b\[[0-9;]*m|↳", " ", str(error)).split())
        raise RunError(f"{table.name}: publishing failed: {reason}. Publish again.") from error
    finally:
        if uncommitted:
            remove_copies(copies)
        table.close()
    raise RunError(
        f"{table.name}: other publishers changed the table {ATTEMPTS} times. The table is unchanged; publish again."
    )

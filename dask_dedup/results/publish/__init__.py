"""Publish one dataset of a finished run in a Delta or Iceberg table."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import DedupError, InputError, RunError
from dask_dedup.formatting import counted
from dask_dedup.hints import Message, parameter
from dask_dedup.results.publish.dataset import DATASETS, open_dataset
from dask_dedup.results.publish.files import describe_files, link_files, remove_files
from dask_dedup.results.publish.types import lake_columns
from dask_dedup.results.publish.writer import write_files
from dask_dedup.storage.access import check_access
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dask_dedup.results.publish.dataset import Dataset
    from dask_dedup.results.publish.delta import DeltaLakeTable
    from dask_dedup.results.publish.files import TableFile
    from dask_dedup.results.publish.iceberg import IcebergLakeTable

__all__ = ["Publication", "publish"]

MODES = ("append", "replace", "replace-tagged")
#: Maximum number of attempts to commit while other publishers change the table.
ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Publication:
    """The outcome of `publish`.

    Attributes
    ----------
    kind : {"Delta", "Iceberg"}
    target : str
        The table: a folder or its URI, or a catalog and the name in it.
    table : str
        "particles_kept", "particles_rejected", "duplicates" or "votes".
    run_id : str
    mode : {"append", "replace", "replace-tagged"}
    changed : bool
        False if the table held this run already.
    version : str
        Version of the Delta table, or snapshot of the Iceberg table.
    files, rows : int
        The table's files and rows of this run.
    placed : str
        The way in which the files were put into the table's folder: "written", "linked", "copied by the store" or
        "copied".
    decimals : list of str
        Columns of unsigned 64-bit integers, which are decimals in the table.
    left_out : dict of str to str
        Columns that the table lacks, and their types.
    missing : list of str
        Files that the table lists but that do not exist.
    replaced : list of str
        Runs with files that were removed from the table: the first 12 digits of the run ids.
    beside : list of str
        Other runs with rows with the same tags and in the same partition folders. These rows stay.
    """

    kind: str
    target: str
    table: str
    run_id: str
    mode: str
    changed: bool
    version: str
    files: int
    rows: int
    placed: str
    decimals: list[str]
    left_out: dict[str, str]
    missing: list[str]
    replaced: list[str]
    beside: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield lines of text that describe the outcome."""
        table = f"the {self.kind} table {self.target}"
        dataset = f"{self.table} of run {self.run_id[:12]}"
        if not self.changed:
            yield f"{dataset} is already in {table}; nothing was changed"
            return
        size = f"{counted(self.rows, 'row')} in {counted(self.files, 'file')}, {self.placed}"
        version = f"{'version' if self.kind == 'Delta' else 'snapshot'} {self.version}"
        done = "replaced the contents of" if self.mode == "replace" else "added to"
        instead = ""
        if self.mode == "replace-tagged" and self.replaced:
            instead = f", in place of rows of {counted(len(self.replaced), 'run')}"
        yield f"{dataset} ({size}): {done} {table}, {version}{instead}"
        if self.decimals:
            names, linked = ", ".join(self.decimals), self.placed != "written"
            files = "; in the linked files uint64, which some readers refuse" if linked else ""
            yield (
                f"{names}: decimal(20,0) in the table, because {self.kind} has no unsigned integers{files}"
            )

    def warnings(self) -> Iterator[Message]:
        """Yield warnings about rows of other runs, columns that the table lacks, and missing files of the table."""
        if self.beside:
            yield Message(
                f"{self.target}: {counted(len(self.beside), 'other run', 'have rows')} with the same tags and "
                f"partition folders (first: {self.beside[0]}), so particles may be in the table twice. "
                f"{parameter('mode', 'replace-tagged')} replaces such rows."
            )
        if self.left_out:
            names = ", ".join(f"{name} ({kind})" for name, kind in self.left_out.items())
            yield Message(
                f"The table lacks these columns, because {self.kind} does not have the types of their values: {names}"
            )
        if self.missing:
            count = len(self.missing)
            files = f"{counted(count, 'file')} of the table {'is' if count == 1 else 'are'} missing"
            yield Message(
                f"{self.target}: {files} (first: {self.missing[0]}). "
                f"Publish its run with {parameter('mode', 'replace')}, or restore the table."
            )


def publish(
    output: str | Path,
    *,
    delta: str | Path | None = None,
    iceberg: tuple[str, str] | None = None,
    table: str = "kept",
    mode: str = "append",
    tags: Mapping[str, str] | None = None,
    link: bool = False,
) -> Publication:
    """Publish one dataset of a finished run in a Delta or Iceberg table.

    Parameters
    ----------
    output : str or Path
        Folder of the run.
    delta : str or Path, optional
        Folder of the Delta table, which is created if it does not exist.
    iceberg : (str, str), optional
        Name of a catalog in pyiceberg's configuration, and of a table in it. Pass this or `delta`.
    table : {"kept", "rejected", "duplicates", "votes"}
        The dataset to publish.
    mode : {"append", "replace", "replace-tagged"}
        Keep the contents of the table, replace them, or replace only the rows with the same tags and in the same
        partition folders. A run that is in the table is not published again.
    tags : mapping of str to str, optional
        Columns with one value in all rows of this run, such as the session.
    link : bool, default False
        Hard-link the run's files (or copy them) instead of writing files with the table's types.

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

        return _publish(dataset, DeltaLakeTable(dataset, at(delta), link=link), mode, link=link)
    from dask_dedup.results.publish.iceberg import IcebergLakeTable

    assert iceberg is not None
    return _publish(dataset, IcebergLakeTable(dataset, *iceberg, link=link), mode, link=link)


def _publish(
    dataset: Dataset, table: DeltaLakeTable | IcebergLakeTable, mode: str, *, link: bool
) -> Publication:
    """Write files to the table's folder, then add them in one commit."""
    files: list[TableFile] = []
    # If a commit is interrupted, its files stay: the table may list them.
    uncommitted = True
    try:
        for _ in range(ATTEMPTS):
            table.refresh()
            contents = table.contents()
            done = dataset.is_in(contents, mode, table.name)
            if not done:
                dataset.check_replaced(contents, mode, table.name)
                folder, schema = table.prepare(mode), table.file_schema()
                # Another publisher may have created the table meanwhile, with other field ids.
                if not (files and files[0].fits(folder, schema)):
                    remove_files(files)
                    add = link_files if link else write_files
                    # `table.dataset` has keys with the types of this table.
                    files = add(table.dataset, schema, folder)
                dataset.check_unchanged()
                uncommitted = False
                done = table.commit(files, mode)
                uncommitted = not done
                table.refresh()
            if done:
                changed = bool(files) and not uncommitted
                return Publication(
                    kind=table.kind,
                    target=table.name,
                    table=dataset.name,
                    run_id=dataset.run.manifest["run_id"],
                    mode=mode,
                    changed=changed,
                    version=table.version(),
                    files=dataset.count_mine(table.contents()),
                    rows=dataset.rows,
                    placed=describe_files(files) if changed else "",
                    decimals=[*table.columns.decimals, *lake_columns(table.dataset.keys).decimals],
                    left_out=table.columns.left_out,
                    missing=table.missing_files(),
                    replaced=dataset.runs_replaced(contents, mode) if changed else [],
                    beside=dataset.runs_beside(contents) if changed and mode == "append" else [],
                )
    except DedupError:
        raise
    except Exception as error:
        # The messages of deltalake have colours and several lines.
        reason = " ".join(re.sub(r"\x1b\[[0-9;]*m|↳", " ", str(error)).split())
        raise RunError(f"{table.name}: publishing failed: {reason}. Publish again.") from error
    finally:
        if uncommitted:
            remove_files(files)
        table.close()
    raise RunError(
        f"{table.name}: other publishers changed the table {ATTEMPTS} times. The table is unchanged; publish again."
    )

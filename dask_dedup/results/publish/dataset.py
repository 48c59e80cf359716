"""One dataset of a finished run: Parquet files with their column statistics."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dask_dedup.arrow import is_text
from dask_dedup.errors import InputError
from dask_dedup.formatting import counted, shell_command, short_names
from dask_dedup.hints import parameter
from dask_dedup.output import open_store
from dask_dedup.output.layout import DUPLICATES, KEPT, PARTICLES, REJECTED, VOTES
from dask_dedup.output.manifest import read_manifest
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.publish.types import lake_columns
from dask_dedup.storage.files import read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow.parquet as pq

    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.publish.types import LakeColumns

#: The dataset that each value of `table` publishes.
DATASETS = {"kept": KEPT, "rejected": REJECTED, "duplicates": DUPLICATES, "votes": VOTES}
#: Columns of the table with one value for each file. The files do not contain these columns.
RUN, INPUT = "run", "input_name"
#: This many digits of the run id are in the table.
_RUN_DIGITS = 12
#: Advice if a partition column has another type in a table. Whole numbers can become text, but not the reverse.
_KEY_ADVICE = "use another table, and first publish a run with text in this column there. Whole numbers fit text."
_TAG_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
#: Characters that every reader and file system accepts unchanged in the name of a folder.
_TAG_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Minimum, maximum and number of nulls of one column in one file."""

    minimum: int | str
    maximum: int | str
    nulls: int


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """One Parquet file of a dataset.

    Attributes
    ----------
    path : Path
    bytes, rows : int
    groups : tuple of int
        Number of rows of each row group.
    values : dict of str to str or None
        Values of the partition columns as text.
    bounds : dict of str to Bounds
        Bounds of columns, see `read_bounds`.
    """

    path: Path
    bytes: int
    rows: int
    groups: tuple[int, ...]
    values: dict[str, str | None]
    bounds: dict[str, Bounds]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset of a finished run.

    Attributes
    ----------
    run : FinishedRun
    name : str
        "particles_kept", "particles_rejected", "duplicates" or "votes".
    schema : pyarrow.Schema
        Schema of the files.
    files : tuple of DatasetFile
    constants : tuple of str
        Names of the columns with one value per run and input, in order: run, input_name, tags.
    keys : pyarrow.Schema
        The columns in the names of the dataset's folders.
    folders : frozenset of tuple
        Values of these columns in each folder, as text.
    """

    run: FinishedRun
    name: str
    schema: pa.Schema
    files: tuple[DatasetFile, ...]
    constants: tuple[str, ...]
    keys: pa.Schema
    folders: frozenset[tuple[str | None, ...]]

    @property
    def partition_fields(self) -> list[pa.Field]:
        """The partition columns of the table: the constants and the keys. Each has one value per file."""
        constants = [pa.field(name, pa.string()) for name in self.constants]
        return [*constants, *lake_columns(self.keys).schema]

    @property
    def partition_columns(self) -> list[str]:
        """The names of the partition columns of the table, in order."""
        return [*self.constants, *self.keys.names]

    def typed(self, values: Mapping[str, str | None]) -> dict[str, Any]:
        """Return the values of the partition columns with the types of the table."""
        kinds = {field.name: field.type for field in self.keys}
        return {
            field.name: None
            if values[field.name] is None
            else pa.scalar(values[field.name])
            .cast(kinds.get(field.name, field.type))
            .cast(field.type)
            .as_py()
            for field in self.partition_fields
        }

    def fitted_to(self, table: pa.Schema, columns: LakeColumns, name: str, advice: str) -> Dataset:
        """Return the dataset with keys of the types of a table, if the conversion does not change them as text.

        A whole number becomes text, and a key without any value gets the type in the table. Raise `InputError` if
        the keys or `columns` do not fit the table. `name` is the table's name, and `advice` is about `columns`.
        """
        keys = self.keys
        for number, field in enumerate(keys):
            kind = table.field(field.name).type if field.name in table.names else field.type
            absent = all(file.values[field.name] is None for file in self.files)
            if absent or (pa.types.is_integer(field.type) and is_text(kind)):
                keys = keys.set(number, field.with_type(kind))
        there = lake_columns(table)
        columns.check_fit(there, name, advice)
        lake_columns(keys).check_fit(there, name, _KEY_ADVICE)
        return replace(self, keys=keys)

    @property
    def rows(self) -> int:
        """Number of rows in all files."""
        return sum(file.rows for file in self.files)

    def provenance(self) -> dict[str, str]:
        """Return metadata for the table's commit: run id, inputs, parameters and totals of the run."""
        manifest = self.run.manifest
        names = _input_names(self.run)
        inputs = [
            {"path": entry["path"], "rows": entry["rows"], INPUT: name}
            for entry, name in zip(manifest["inputs"], names, strict=True)
        ]
        totals = {key: manifest["totals"][key] for key in ("rows", "kept", "rejected", "invalid")}
        values = {
            "run_id": manifest["run_id"],
            "table": self.name,
            "output": str(self.run.output),
            "created": manifest["created"],
            "parameters": json.dumps(manifest["parameters"]),
            "versions": json.dumps(manifest["versions"]),
            "inputs": json.dumps(inputs),
            "totals": json.dumps(totals),
        }
        return {f"dask-dedup.{key}": value for key, value in values.items()}

    def check_table(self, target: str, dataset: str, columns: Sequence[str]) -> None:
        """Check that the table `target` is for this dataset and has the same partition columns."""
        if dataset != self.name:
            raise InputError(f"{target} is a table of {dataset}, not of {self.name}.")
        if list(columns) != self.partition_columns:
            raise InputError(
                f"{target} is partitioned by {', '.join(columns) or 'nothing'}, but this run "
                f"needs {', '.join(self.partition_columns)}. Use the same tags and partition folders, or another "
                "table."
            )

    @property
    def tags(self) -> dict[str, str | None]:
        """The tags of this run."""
        return {name: self.files[0].values[name] for name in self.constants[2:]}

    def replaces(self, values: Mapping[str, str | None], mode: str) -> bool:
        """Return whether publishing in this mode removes the files with these values of the partition columns."""
        if mode != "replace-tagged":
            return mode == "replace"
        folder = tuple(values[name] for name in self.keys.names)
        return {name: values[name] for name in self.tags} == self.tags and folder in self.folders

    def runs_replaced(self, contents: Sequence[Mapping[str, str | None]], mode: str) -> list[str]:
        """Return the other runs with files that publishing in this mode removes from a table, sorted."""
        runs = {str(values[RUN]) for values in contents if self.replaces(values, mode)}
        return sorted(runs - {str(self.files[0].values[RUN])})

    def runs_beside(self, contents: Sequence[Mapping[str, str | None]]) -> list[str]:
        """Return the other runs of a table that have files with the same tags and in the same folders, sorted.

        Without tags and partition folders there are none, because runs may be about different particles.
        """
        return self.runs_replaced(contents, "replace-tagged") if self._distinguished else []

    @property
    def _distinguished(self) -> bool:
        """Whether tags or partition folders distinguish the rows of this run from others."""
        return bool(self.tags or self.keys.names)

    def check_replaced(
        self, contents: Sequence[Mapping[str, str | None]], mode: str, target: str
    ) -> None:
        """Raise `InputError` if mode "replace-tagged" would replace all rows, because nothing distinguishes runs."""
        runs = self.runs_replaced(contents, mode)
        if mode == "replace-tagged" and runs and not self._distinguished:
            raise InputError(
                f"{target}: without tags and partition folders, {parameter('mode', mode)} would replace all rows, of "
                f"{counted(len(runs), 'run')}. Publish with tags, or pass {parameter('mode', 'replace')}."
            )

    def count_mine(self, contents: Sequence[Mapping[str, str | None]]) -> int:
        """Count the files of this run in a table. `contents` has the partition columns of each file."""
        return sum(values[RUN] == self.files[0].values[RUN] for values in contents)

    def is_in(self, contents: Sequence[Mapping[str, str | None]], mode: str, target: str) -> bool:
        """Return whether a table already has this run, and no other run that publishing would replace.

        `contents` has the values of the partition columns of each file in the table `target`. Raise `InputError` if
        the table has this run with other tags, unless the mode is "replace".
        """
        mine = [values for values in contents if values[RUN] == self.files[0].values[RUN]]
        other = next(
            (v for v in mine if {name: v[name] for name in self.tags} != self.tags),
            None,
        )
        if other is not None and mode != "replace":
            stored = ", ".join(f"{name}={other[name]}" for name in self.tags)
            raise InputError(
                f"{target} holds this run already, with {stored}. "
                f"Pass {parameter('mode', 'replace')} to change it."
            )
        return bool(mine) and other is None and not self.runs_replaced(contents, mode)

    def check_unchanged(self) -> None:
        """Check that no other run has replaced the result since the dataset was opened."""
        if read_manifest(self.run.output)["run_id"] != self.run.manifest["run_id"]:
            raise InputError(
                f"{self.run.output}: another run has replaced this result meanwhile; publish again."
            )


def open_dataset(output: str | Path, table: str, tags: Mapping[str, str]) -> Dataset:
    """Open one dataset of a finished run. `table` is a key of `DATASETS`, such as "kept"."""
    run = open_finished_run(output)
    store = open_store(run.output)
    store.check_idle()
    damaged = store.find_damaged(run.manifest)
    if damaged:
        raise InputError(
            f"{damaged[0]} is missing or changed. Run again with {parameter('overwrite')}, then publish."
        )
    name = DATASETS[table]
    if name == VOTES and not run.params.counts_votes:
        raise InputError(
            f"{run.output}: the run counted no votes. Run with {parameter('votes')} into another folder, and "
            "publish that."
        )
    if run.lacks_particles and name in PARTICLES:
        raise InputError(
            f"{run.output}: the run was for duplicates only, so it has no {name}. Write them with "
            f"{shell_command('materialize', run.output)}, and publish again."
        )
    files = run.files_of(name)
    other = next((file.path for file in files if file.path.suffix != ".parquet"), None)
    if other:
        raise InputError(
            f"{other} is not Parquet, so it cannot be in a Delta or Iceberg table. Run with "
            f"{parameter('output_format', 'parquet')} into another folder, and publish that."
        )
    if not files:
        raise InputError(f"{run.output}: the run has no {name}, so there is nothing to publish.")
    with ThreadPoolExecutor() as pool:
        footers = list(pool.map(lambda file: read_metadata(file.path), files))
    for file, footer in zip(files, footers, strict=True):
        if footer.num_rows != file.rows:
            raise InputError(
                f"{file.path} has {footer.num_rows:,} rows, not {file.rows:,} as in the manifest. "
                f"Run again with {parameter('overwrite')}, then publish."
            )
    schema = footers[0].schema.to_arrow_schema()
    types = run.partitions if name in PARTICLES else {}
    keys = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in types.items()])
    _check_constants(run, tags, [*schema.names, *keys.names])
    names = _input_names(run)
    folders = [run.partition_values(file.path) for file in files]
    return Dataset(
        run=run,
        name=name,
        schema=schema,
        files=tuple(
            DatasetFile(
                path=file.path,
                bytes=file.bytes,
                rows=footer.num_rows,
                groups=tuple(
                    footer.row_group(group).num_rows for group in range(footer.num_row_groups)
                ),
                values={
                    RUN: run.manifest["run_id"][:_RUN_DIGITS],
                    INPUT: names[file.source],
                    **tags,
                    **folder,
                },
                bounds=read_bounds(footer, schema),
            )
            for file, footer, folder in zip(files, footers, folders, strict=True)
        ),
        constants=(RUN, INPUT, *sorted(tags)),
        keys=keys,
        folders=frozenset(tuple(folder.values()) for folder in folders),
    )


def as_text(value: Any) -> str | None:
    """Return the value of a partition column of a table as text, as in the names of folders."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def _check_constants(run: FinishedRun, tags: Mapping[str, str], columns: Sequence[str]) -> None:
    """Check that tags are valid, and that no column of the dataset is named like a constant column."""
    taken = {column.lower() for column in columns}
    for name in (RUN, INPUT):
        if name in taken:
            raise InputError(
                f"{run.output} has a column {name}, which the table needs to distinguish runs."
            )
    taken |= {RUN, INPUT}
    for name, value in tags.items():
        if not (_TAG_NAME.fullmatch(name) and _TAG_VALUE.fullmatch(value)):
            raise InputError(
                f"The tag {name}={value} is not valid: use letters, digits and _, in the value also . "
                "and -. Begin the name with a letter, and the value with a letter or digit."
            )
        if name.lower() in taken:
            raise InputError(f"The tag {name} has the name of another column; choose another name.")
        taken.add(name.lower())


def _input_names(run: FinishedRun) -> list[str]:
    return input_names([entry["path"] for entry in run.manifest["inputs"]])


def input_names(paths: Sequence[str]) -> list[str]:
    """Return a short, unique name for each input, from the end of its path.

    Examples
    --------
    >>> input_names(["s1/topaz", "s1/blob.parquet"]), input_names(["s1/picks", "s2/picks"])
    (['topaz', 'blob'], ['s1_picks', 's2_picks'])
    """
    bare = [re.sub(r"\.(parquet|pq|star|csg|cs)$", "", path) for path in paths]
    names = [re.sub(r"[^A-Za-z0-9._-]", "_", name)[-100:] for name in short_names(bare)]
    if len(set(names)) < len(names) or not all(name[:1].isalnum() for name in names):
        return [f"{number}_{name}" for number, name in enumerate(names, start=1)]
    return names


def read_bounds(footer: pq.FileMetaData, schema: pa.Schema) -> dict[str, Bounds]:
    """Return the bounds of text and of integers below 2**63, if the footer has them.

    Floats have no bounds: a footer does not count NaN, and some readers use NaN as the maximum.
    """
    number = {footer.schema.column(n).path: n for n in range(len(footer.schema.names))}
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    bounds = {}
    for name in (field.name for field in schema if _has_bounds(field.type)):
        stats = [group.column(number[name]).statistics for group in groups]
        if stats and all(each and each.has_min_max and each.has_null_count for each in stats):
            bounds[name] = Bounds(
                min(each.min for each in stats),
                max(each.max for each in stats),
                sum(each.null_count for each in stats),
            )
    return bounds


def _has_bounds(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        (pa.types.is_integer(kind) and kind != pa.uint64())
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    )

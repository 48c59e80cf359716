"""What is published: one table of a finished run, its files with what their footers tell."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dask_dedup.errors import InputError
from dask_dedup.formatting import counted
from dask_dedup.output.local import find_damaged, read_manifest
from dask_dedup.output.lock import busy, holder
from dask_dedup.pipeline.stages import DUPLICATES, KEPT, REJECTED
from dask_dedup.storage.files import read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow.parquet as pq

#: What each choice of --table publishes.
TABLES = {"kept": KEPT, "rejected": REJECTED, "duplicates": DUPLICATES}
#: Columns that no file holds: the table itself tells them of each file.
RUN, INPUT = "run", "input_name"
#: So much of a run's id tells it from others.
_SHORT = 12
_TAG_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
#: What stands for itself in the names of folders, wherever they are and whoever reads them.
_TAG_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and greatest value of a column in a file, and how many are null."""

    least: int | str
    greatest: int | str
    nulls: int


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the dataset.

    Attributes
    ----------
    path : Path
    bytes, rows : int
    values : dict of str to str
        What the table tells of all its rows: run, input, tags.
    bounds : dict of str to Bounds
        Of whole numbers below 2**63 and of text, where the footer tells them. Not of floating-point numbers:
        a footer is silent about NaN, which some readers take for the greatest number.
    """

    path: Path
    bytes: int
    rows: int
    values: dict[str, str]
    bounds: dict[str, Bounds]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One table of a finished run.

    Attributes
    ----------
    output : Path
    name : str
        "particles_kept", "particles_rejected" or "duplicates".
    manifest : dict
    schema : pyarrow.Schema
        As stored.
    parts : tuple of Part
    constants : tuple of str
        Names of the columns that no file holds, in order: run, input_name, tags.
    """

    output: Path
    name: str
    manifest: dict[str, Any]
    schema: pa.Schema
    parts: tuple[Part, ...]
    constants: tuple[str, ...]

    @property
    def run(self) -> str:
        """The run, as the table tells it."""
        return str(self.manifest["run_id"][:_SHORT])

    @property
    def rows(self) -> int:
        """In all files."""
        return sum(part.rows for part in self.parts)

    def provenance(self) -> dict[str, str]:
        """Tell where the rows come from, for the metadata of a commit."""
        manifest = self.manifest
        names = _input_names([entry["path"] for entry in manifest["inputs"]])
        inputs = [
            {"path": entry["path"], "rows": entry["rows"], INPUT: name}
            for entry, name in zip(manifest["inputs"], names, strict=True)
        ]
        told = {
            "run_id": manifest["run_id"],
            "table": self.name,
            "output": str(self.output),
            "created": manifest["created"],
            "parameters": json.dumps(manifest["parameters"]),
            "versions": json.dumps(manifest["versions"]),
            "inputs": json.dumps(inputs),
            "totals": json.dumps(
                {key: manifest["totals"][key] for key in ("rows", "kept", "rejected", "invalid")}
            ),
        }
        return {f"dask-dedup.{key}": value for key, value in told.items()}

    def is_in(self, held: Sequence[Mapping[str, str]], mode: str, target: str) -> bool:
        """Tell whether a table holds this run already, so that nothing is left to do.

        Parameters
        ----------
        held : sequence of mapping
            For each file of the table, what the table tells of its rows.
        mode : {"append", "replace"}
            The latter leaves something to do if the table holds other runs, too.
        target : str
            The table, for the message.

        Raises
        ------
        InputError
            If it holds the run with other tags, which only "replace" can change.
        """
        mine = [values for values in held if values[RUN] == self.run]
        tags = [name for name in self.constants if name not in (RUN, INPUT)]
        wanted = [self.parts[0].values[name] for name in tags]
        other = next((v for v in mine if [v[name] for name in tags] != wanted), None)
        if mode == "replace":
            return bool(mine) and len(mine) == len(held) and other is None
        if other is not None:
            told = ", ".join(f"{name}={other[name]}" for name in tags)
            raise InputError(
                f"{target} holds this run already, with {told}; only --mode replace changes that"
            )
        return bool(mine)

    def check_unchanged(self) -> None:
        """Refuse what another run has replaced while it was looked at."""
        if read_manifest(self.output)["run_id"] != self.manifest["run_id"]:
            raise InputError(
                f"{self.output}: another run has put its result there meanwhile; publish again"
            )


def open_dataset(output: Path, table: str, tags: Mapping[str, str]) -> Dataset:
    """Look at one table of a finished run.

    Raises
    ------
    InputError
        If there is no whole, finished run, if the table is not Parquet, or if tags are wrong.
    """
    who = holder(output)
    if who:
        raise busy(output, who)
    manifest = read_manifest(output)
    damaged = find_damaged(output, manifest)
    if damaged:
        raise InputError(
            f"{damaged[0]} is not as the run left it; make it again with --overwrite, then publish"
        )
    name = TABLES[table]
    entries = [entry for entry in manifest["outputs"] if entry["path"].startswith(f"{name}/")]
    other = next((e["path"] for e in entries if not e["path"].endswith(".parquet")), None)
    if other:
        raise InputError(
            f"{output / other} is not Parquet, which is all that a lake can hold; run again with "
            "--output-format parquet and another --output, then publish that"
        )
    if not entries:
        raise InputError(f"{output}: the run has written no {name}; there is nothing to publish")
    names = _input_names([entry["path"] for entry in manifest["inputs"]])
    with ThreadPoolExecutor() as pool:
        footers = list(pool.map(lambda entry: read_metadata(output / entry["path"]), entries))
    schema = footers[0].schema.to_arrow_schema()
    constants = (RUN, INPUT, *sorted(tags))
    _check_tags(output, tags, schema)
    parts = tuple(
        Part(
            path=output / entry["path"],
            bytes=entry["bytes"],
            rows=footer.num_rows,
            values={RUN: manifest["run_id"][:_SHORT], INPUT: names[entry["input"]], **tags},
            bounds=_bounds(footer, schema),
        )
        for entry, footer in zip(entries, footers, strict=True)
    )
    dataset = Dataset(output, name, manifest, schema, parts, constants)
    rows = sum(entry["rows"] for entry in entries)
    if dataset.rows != rows:
        raise InputError(
            f"{output / name} holds {counted(dataset.rows, 'row')}, but the manifest tells of {rows:,}"
        )
    return dataset


def _check_tags(output: Path, tags: Mapping[str, str], schema: pa.Schema) -> None:
    for name, value in tags.items():
        if not _TAG_NAME.fullmatch(name):
            raise InputError(f"--tag {name}={value}: a name has letters, digits and _ only")
        if not _TAG_VALUE.fullmatch(value):
            raise InputError(
                f"--tag {name}={value}: a value has letters, digits and . _ - only, the first no mark"
            )
    names = [RUN, INPUT, *tags]
    taken = {column.lower() for column in schema.names}
    for name in (RUN, INPUT):
        if name in taken:
            raise InputError(
                f"{output} has a column {name} of its own, which a lake's table needs to tell runs apart"
            )
    for name in tags:
        if name.lower() in taken or [other.lower() for other in names].count(name.lower()) > 1:
            raise InputError(
                f"--tag {name}: there is a column of that name already; name it otherwise"
            )


def _input_names(paths: Sequence[str]) -> list[str]:
    """Name inputs shortly: by the ends of their paths, as far as it takes to tell them apart.

    Examples
    --------
    >>> _input_names(["s1/topaz", "s1/blob.parquet"]), _input_names(["s1/picks", "s2/picks"])
    (['topaz', 'blob'], ['s1_picks', 's2_picks'])
    """
    split = [[part for part in PurePosixPath(path).parts if part.strip("/.")] for path in paths]
    for length in range(1, max((len(parts) for parts in split), default=0) + 1):
        names = [_plain("_".join(parts[-length:])) for parts in split]
        if len(set(names)) == len(names):
            return names
    return [f"{number}_{_plain(Path(path).name)}" for number, path in enumerate(paths, 1)]


def _plain(name: str) -> str:
    bare = re.sub(r"\.(parquet|pq|star|csg|cs)$", "", name)
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", bare)[-100:]
    return plain if plain[:1].isalnum() else f"i{plain}"


def _bounds(footer: pq.FileMetaData, schema: pa.Schema) -> dict[str, Bounds]:
    told = [field.name for field in schema if _has_bounds(field.type)]
    places = {
        footer.schema.column(number).path: number for number in range(len(footer.schema.names))
    }
    found = {}
    for name in told:
        every = [
            footer.row_group(group).column(places[name]).statistics
            for group in range(footer.num_row_groups)
        ]
        if every and all(one and one.has_min_max and one.has_null_count for one in every):
            found[name] = Bounds(
                min(one.min for one in every),
                max(one.max for one in every),
                sum(one.null_count for one in every),
            )
    return found


def _has_bounds(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        (pa.types.is_integer(kind) and kind != pa.uint64())
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    )

"""Divide the rows of a fragment among the partition folders of the result, by the names of the folders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.arrow import to_numpy
from dask_dedup.formats.parquet.table import with_metadata_of
from dask_dedup.pipeline.job import unified_schema
from dask_dedup.pipeline.partitions import folder_name, folder_type
from dask_dedup.results.verify.outcome import MismatchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from numpy.typing import NDArray

    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.finished_run import FinishedRun


@dataclass(frozen=True, slots=True)
class Folders:
    """The partition folders of a result. A result without partitions is a single folder without columns.

    Attributes
    ----------
    run : FinishedRun
    columns : tuple of str
        Columns in the names of the folders.
    schema : pyarrow.Schema
        Columns of the files.
    first : dict of str to str
        The first file of each partition folder of the inputs. Files of the result have the metadata of this file.
    """

    run: FinishedRun
    columns: tuple[str, ...]
    schema: pa.Schema
    first: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: FinishedRun, inputs: Inputs, schema: pa.Schema) -> Self:
        """Return the folders of a run, given the columns of all inputs."""
        columns = tuple(run.partitions)
        kept = [each for each in schema if each.name not in columns]
        first: dict[str, str] = {}
        if not run.manifest.get("partition_by"):
            for part in (part for each in inputs.fragments for part in each.parts):
                first.setdefault(folder_name(part.keys), part.first.path)
        return cls(run, columns, pa.schema(kept, metadata=schema.metadata), first)

    def schema_of(self, path: Path) -> pa.Schema:
        """Return the expected schema of a file."""
        folder = folder_name([*self._keys(path).items()]) if self.columns else ""
        first = self.first.get(folder)
        return with_metadata_of(first, self.schema) if first else self.schema

    def _keys(self, path: Path) -> dict[str, str | None]:
        keys = self.run.partition_values(path)
        if tuple(keys) != self.columns:
            raise MismatchError(f"{path}: is not in a folder of {', '.join(self.columns)}")
        return keys

    def divide(
        self, rows: pa.Table, paths: Sequence[Path]
    ) -> Iterator[tuple[NDArray[np.bool_], list[Path]]]:
        """For each folder, yield a mask of the fragment's rows that belong there, and the fragment's files in it."""
        if not self.columns:
            yield np.ones(rows.num_rows, dtype=bool), list(paths)
            return
        files: dict[tuple[tuple[str, str | None], ...], list[Path]] = {}
        for path in paths:
            files.setdefault(tuple(self._keys(path).items()), []).append(path)
        texts = {name: rows.column(name).cast(pa.string()) for name in self.columns}
        found = np.zeros(rows.num_rows, dtype=bool)
        for keys, mine in files.items():
            mask = np.ones(rows.num_rows, dtype=bool)
            for name, text in keys:
                same = pc.is_null(texts[name]) if text is None else pc.equal(texts[name], text)
                mask &= to_numpy(pc.fill_null(same, False))  # noqa: FBT003 (Arrow's parameter)
            found |= mask
            yield mask, mine
        if not found.all():
            row = int(np.argmin(found))
            values = ", ".join(f"{name}={texts[name][row]}" for name in self.columns)
            raise MismatchError(f"{self.run.output}: has no file with the rows of {values}")


def check_types(run: FinishedRun, inputs: Inputs) -> None:
    """Check that the partition columns have the same types as in the inputs."""
    if not run.partitions:
        return
    schema = unified_schema(inputs.tables)
    for name, found in run.partitions.items():
        expected = folder_type(schema.field(name).type) if name in schema.names else None
        if found != expected:
            raise MismatchError(
                f"{name} is {found} in the names of folders (see the manifest), but {expected} in the inputs"
            )

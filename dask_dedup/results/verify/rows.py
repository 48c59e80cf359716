"""Check that every input row is in the result once, unchanged, and that the totals are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dask_dedup import __version__, formats
from dask_dedup.particles.columns import Columns
from dask_dedup.pipeline.job import unified_schema
from dask_dedup.pipeline.stages import DUPLICATES, KEPT, REJECTED
from dask_dedup.results.verify.duplicates import read_duplicates
from dask_dedup.results.verify.files import sha256_of
from dask_dedup.results.verify.verification import MismatchError, UncheckedError
from dask_dedup.storage.files import parquet_source, read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.finished_run import FinishedRun

DATASETS = (KEPT, REJECTED, DUPLICATES)
_PAIR_COLUMNS = ["uid", "winner_uid", "half_set", "winner_half_set", "input", "winner_input"]


def find_parts(run: FinishedRun, inputs: Inputs) -> dict[str, dict[int, Path]]:
    """Return the Parquet files of each dataset by the number of their fragment.

    Raises
    ------
    MismatchError
        If a fragment has no file, or a file no fragment.
    UncheckedError
        If this may be because another version made the run.
    """
    parts = {}
    for dataset in DATASETS:
        native = run.native_tables(dataset)
        parts[dataset] = {n: file.path for n, file in run.by_fragment(dataset).items()}
        expected = [part.number for part in inputs.fragments if part.source not in native]
        if sorted(parts[dataset]) != expected:
            message = (
                f"{dataset} has {len(parts[dataset])} parts, but the inputs have "
                f"{len(expected)} fragments"
            )
            version = run.manifest["versions"]["dask-dedup"]
            if version != __version__:
                # Another version may cut the inputs into other fragments.
                raise UncheckedError(f"{message}; use version {version}, which made the run")
            raise MismatchError(message)
    return parts


def compare_rows(run: FinishedRun, inputs: Inputs, pool: Executor) -> str:
    """Check that every input row is kept or rejected, once, unchanged and in its order."""
    parts = find_parts(run, inputs)
    native = {dataset: run.native_tables(dataset) for dataset in (KEPT, REJECTED)}
    schema = unified_schema([t for t in inputs.tables if t.source not in native[KEPT]])

    def compare_fragment(fragment: Fragment) -> None:
        keep = _read_kept(fragment, parts[DUPLICATES])
        rows = _read_all(inputs, fragment)
        for dataset, mask in ((KEPT, keep), (REJECTED, ~keep)):
            path = parts[dataset][fragment.number]
            part = _read_part(path, schema)
            if part.num_rows != mask.sum():
                raise MismatchError(
                    f"{path}: {part.num_rows} rows, but {mask.sum()} by {DUPLICATES}"
                )
            _compare(rows, mask, part, schema, fragment, path)

    def compare_native(source: int) -> None:
        table = inputs.tables[source]
        outputs = {dataset: _NativeRows(paths[source], table) for dataset, paths in native.items()}
        for fragment in inputs.fragments:
            if fragment.source == source:
                keep = _read_kept(fragment, parts[DUPLICATES])
                rows = _read_all(inputs, fragment)
                for dataset, mask in ((KEPT, keep), (REJECTED, ~keep)):
                    part = outputs[dataset].take(int(mask.sum()))
                    _compare(rows, mask, part, table.schema, fragment, outputs[dataset].path)
        for output in outputs.values():
            output.check_finished()
        paths = {dataset: output.path for dataset, output in outputs.items()}
        _compare_bytes(paths, inputs, source, parts[DUPLICATES])

    as_parquet = [part for part in inputs.fragments if part.source not in native[KEPT]]
    list(pool.map(compare_fragment, as_parquet))
    list(pool.map(compare_native, native[KEPT]))
    rows = sum(fragment.rows for fragment in inputs.fragments)
    return f"{rows:,} rows, each in the result once and unchanged to the bit"


def _compare_bytes(
    paths: Mapping[str, Path], inputs: Inputs, source: int, duplicates: Mapping[int, Path]
) -> None:
    """Write a native table again from the input and the decisions, and compare the files.

    This finds what values do not show: digits, blanks, comments, other tables. It takes temporary
    disk space for the table.
    """
    table = inputs.tables[source]
    with TemporaryDirectory(prefix="dask-dedup-verify-") as scratch:
        pieces: dict[str, list[Path]] = {dataset: [] for dataset in paths}
        rows = dict.fromkeys(paths, 0)
        for fragment in inputs.fragments:
            if fragment.source != source:
                continue
            keep = _read_kept(fragment, duplicates)
            two = [Path(scratch) / f"{dataset}-{fragment.number}" for dataset in (KEPT, REJECTED)]
            formats.load(table, fragment).split(keep, *two)
            for dataset, piece, mask in zip((KEPT, REJECTED), two, (keep, ~keep), strict=True):
                pieces[dataset].append(piece)
                rows[dataset] += int(mask.sum())
        for dataset, path in paths.items():
            folder = Path(scratch) / dataset
            folder.mkdir()
            files = formats.format_of(table).assemble(
                table, pieces[dataset], rows[dataset], folder, path.name
            )
            for file in files:
                if sha256_of(path.parent / file.path) != file.sha256:
                    raise MismatchError(
                        f"{path.parent / file.path}: its bytes differ from those of the input's rows"
                    )


def _read_all(inputs: Inputs, fragment: Fragment) -> pa.Table:
    table = inputs.tables[fragment.source]
    return formats.read(table, fragment, table.schema.names)


def _read_kept(fragment: Fragment, duplicates: Mapping[int, Path]) -> NDArray[np.bool_]:
    """Return which rows of a fragment were kept: those that ``duplicates`` does not list."""
    _, rows = read_duplicates(duplicates[fragment.number], fragment)
    keep = np.ones(fragment.rows, dtype=bool)
    keep[rows] = False
    return keep


def _read_part(path: Path, schema: pa.Schema) -> pa.Table:
    text = [field.name for field in schema if pa.types.is_string(field.type)]
    # As dictionaries, like the text of the inputs: faster to decode and to compare.
    source = parquet_source(path)
    with pq.ParquetFile(**source) as plain, pq.ParquetFile(**source, read_dictionary=text) as file:
        if not plain.schema_arrow.equals(schema, check_metadata=True):
            raise MismatchError(f"{path}: its schema is not that of the inputs")
        return file.read(use_threads=False)


class _NativeRows:
    """The rows of an output in its input's format, read in order."""

    def __init__(self, path: Path, like: ParticleTable) -> None:
        self.path = path
        table = formats.open_table(path)
        if table.schema.names != like.schema.names:
            raise MismatchError(f"{path}: its columns are not those of {like.path}")
        # Types inferred from text depend on the rows; those of the input count.
        self._table = replace(table, stored_schema=like.stored_schema)
        self._unread = list(reversed(self._table.fragments))
        self._rows = like.schema.empty_table()

    def take(self, count: int) -> pa.Table:
        """Return the next rows."""
        parts = [self._rows]
        while sum(len(part) for part in parts) < count and self._unread:
            parts.append(formats.read(self._table, self._unread.pop(), self._rows.column_names))
        parts = [part for part in parts if len(part)] or parts[:1]
        rows = pa.concat_tables(parts)
        if len(rows) < count:
            raise MismatchError(f"{self.path}: fewer rows than by {DUPLICATES}")
        self._rows = rows.slice(count)
        return rows.slice(0, count)

    def check_finished(self) -> None:
        """Check that no rows are left."""
        if len(self._rows) or sum(fragment.rows for fragment in self._unread):
            raise MismatchError(f"{self.path}: more rows than by {DUPLICATES}")


def _compare(
    rows: pa.Table,
    mask: NDArray[np.bool_],
    part: pa.Table,
    schema: pa.Schema,
    fragment: Fragment,
    path: Path,
) -> None:
    """Compare the rows that `mask` selects with an output, column by column."""
    selected = pa.array(mask)
    for field in schema:
        found = _as_bits(part.column(field.name), field.type)
        if field.name in rows.column_names:
            expected = _as_bits(rows.column(field.name).filter(selected), field.type)
        else:
            expected = pa.chunked_array([pa.nulls(len(found), found.type)])
        if expected.equals(found):
            continue
        first, length = 0, len(found)
        while length > 1:
            half = length // 2
            if expected.slice(first, half).equals(found.slice(first, half)):
                first, half = first + half, length - half
            length = half
        origin, row = fragment.locate(int(np.flatnonzero(mask)[first]))
        raise MismatchError(f"{path}: column {field.name} of {origin} row {row} has changed")


def _as_bits(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return floats as integers of the same bits, so that NaNs are compared too; decode text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if column.type != kind:
        column = column.cast(kind)
    bits = _bits_type(kind)
    if bits == kind:
        return column
    return pa.chunked_array([chunk.view(bits) for chunk in column.chunks], bits)


def _bits_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_floating(kind):
        return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[kind.bit_width]
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_bits_type(field.type)) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_bits_type(kind.value_type)), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_bits_type(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_bits_type(kind.value_type)))
    return kind


def compare_totals(run: FinishedRun, inputs: Inputs | None) -> str:
    """Compare the totals of the manifest with the datasets; per input only if there are inputs."""
    totals = run.manifest["totals"]
    rows = {name: np.zeros(len(run.manifest["inputs"]), dtype=np.int64) for name in DATASETS}
    same_uid = across = 0
    for file in run.files:
        if not file.holds_rows:
            continue
        source = file.source
        if file.fragment is None:
            number = formats.open_table(file.path).rows
        else:
            number = read_metadata(file.path).num_rows
            source = inputs.fragments[file.fragment].source if inputs else source
        if number != file.rows:
            raise MismatchError(f"{file.path} has {number} rows, but {file.rows} in the manifest")
        rows[file.dataset][source] += number
        if file.dataset == DUPLICATES:
            with pq.ParquetFile(**parquet_source(file.path)) as content:
                pairs = content.read(_PAIR_COLUMNS)
            same_uid += pc.sum(pc.equal(pairs["uid"], pairs["winner_uid"])).as_py() or 0
            across += _count_across(Columns(pairs, str(file.path)), run)
    kept, rejected, listed = (rows[name] for name in DATASETS)
    if rejected.sum() != listed.sum():
        raise MismatchError(
            f"{rejected.sum():,} particles are rejected, but {DUPLICATES} has {listed.sum():,} rows"
        )
    by_input = totals["by_input"]
    if inputs:
        by_input = [
            {
                "path": table.path,
                "rows": table.rows,
                "kept": int(kept[table.source]),
                "rejected": int(rejected[table.source]),
                # The datasets do not show it; the check "validity" counts it.
                "invalid": by_input[table.source]["invalid"],
            }
            for table in inputs.tables
        ]
    pairs_exist = not run.params.remove_entirely
    counted = {
        "rows": sum(entry["rows"] for entry in run.manifest["inputs"]),
        "kept": int(kept.sum()),
        "rejected": int(rejected.sum()),
        "same_uid": same_uid if pairs_exist else None,
        "across_half_sets": across if pairs_exist else None,
        "by_input": by_input,
    }
    for key, value in counted.items():
        if totals[key] != value:
            raise MismatchError(
                f"{key} is {totals[key]} in the manifest, but {value} in the datasets"
            )
    if counted["kept"] + counted["rejected"] != counted["rows"]:
        raise MismatchError(
            f"kept and rejected do not add up to the {counted['rows']:,} rows of the inputs"
        )
    return f"{counted['kept']:,} kept and {counted['rejected']:,} rejected, as in the manifest"


def _count_across(pairs: Columns, run: FinishedRun) -> int:
    """Count the pairs whose particles are in different half-sets."""
    # RELION numbers half-sets from 1, CryoSPARC from 0.
    first_half = {e["path"]: int(e["convention"] == "relion") for e in run.manifest["inputs"]}
    sides = []
    for prefix in ("", "winner_"):
        codes, paths = pairs.texts(f"{prefix}input")
        first = np.array([*(first_half[path] for path in paths), 0])[codes]
        sides.append(pairs.floats(f"{prefix}half_set") - first)
    known = np.isfinite(sides[0]) & np.isfinite(sides[1])
    return int((known & (sides[0] != sides[1])).sum())

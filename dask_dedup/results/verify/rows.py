"""Check that the result has each input row once and unchanged, and that the totals are right."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import chain, starmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dask_dedup import formats
from dask_dedup.arrow import map_children, without_views
from dask_dedup.formats.base import StoredSchema
from dask_dedup.output.layout import DUPLICATES, KEPT, REJECTED, VOTES
from dask_dedup.particles.column_values import Columns
from dask_dedup.pipeline.duplicates import DUPLICATES_SCHEMA, OUTVOTED, with_groups
from dask_dedup.pipeline.job import unified_schema
from dask_dedup.results.verify.conversions import compare_conversion, count_rows
from dask_dedup.results.verify.dataset_files import DatasetFiles
from dask_dedup.results.verify.outcome import MismatchError, UncheckedError
from dask_dedup.results.verify.partitioned import Folders, check_types
from dask_dedup.results.verify.voters import VoterCounts
from dask_dedup.storage.files import parquet_source, read_bytes, sha256_of
from dask_dedup.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.finished_run import FinishedRun

DATASETS = (KEPT, REJECTED, DUPLICATES)
#: In a list of files: the folders of a path, and a quoted path (the second group is the file name).
_FOLDERS, _QUOTED = re.compile(rb"[^\s\"']*/"), re.compile(rb"([\"'])(?:[^\"'\n]*/)?([^\"'\n]*)\1")
_PAIR_COLUMNS = [
    *("reason", "uid", "winner_uid", "half_set", "winner_half_set", "input", "winner_input")
]


def find_parts(run: FinishedRun, inputs: Inputs) -> dict[str, dict[int, list[Path]]]:
    """Map each dataset to {fragment number: Parquet files}. Raise an error if a fragment has no files."""
    parts = {}
    for dataset in (*DATASETS, VOTES) if inputs.voting else DATASETS:
        native = run.native_tables(dataset)
        files = run.by_fragment(dataset)
        parts[dataset] = {number: [file.path for file in mine] for number, mine in files.items()}
        if (run.is_conversion or run.lacks_particles) and dataset in (KEPT, REJECTED):
            continue
        expected = [(p.number, p.source) for p in inputs.fragments if p.source not in native]
        found = {(number, file.source) for number, mine in files.items() for file in mine}
        if sorted(found) != expected:
            message = (
                f"{dataset} has {len(files)} parts, but the inputs have {len(expected)} fragments"
            )
            version = run.manifest["versions"]["dask-dedup"]
            if version != __version__:
                # Another version may divide the inputs into other fragments.
                raise UncheckedError(f"{message}; use version {version}, which made the run")
            raise MismatchError(message)
    return parts


def compare_rows(run: FinishedRun, inputs: Inputs, pool: Executor) -> str:
    """Check that each input row is kept or rejected, and stored unchanged and in input order."""
    parts = find_parts(run, inputs)
    listed = with_groups(DUPLICATES_SCHEMA, inputs.params)
    duplicates = DatasetFiles(parts[DUPLICATES], listed, run.folder)
    check_types(run, inputs)
    if run.lacks_particles:
        return _compare_lists(inputs, duplicates, pool)
    if run.is_conversion:
        return compare_conversion(run, inputs, duplicates)
    native = {dataset: run.native_tables(dataset) for dataset in (KEPT, REJECTED)}
    schema = unified_schema([t for t in inputs.tables if t.source not in native[KEPT]])
    folders = Folders.of(run, inputs, schema)

    def compare_parquet(fragment: Fragment) -> None:
        keep = duplicates.read_kept(fragment)
        table = inputs.tables[fragment.source]
        rows = formats.read(table, fragment, table.schema.names)
        for dataset, mask in ((KEPT, keep), (REJECTED, ~keep)):
            for of_folder, paths in folders.divide(rows, parts[dataset][fragment.number]):
                output = _open(
                    {path: formats.open_table(path) for path in paths}, folders.schema_of(paths[0])
                )
                _compare(rows, mask & of_folder, fragment, output)
                output.check_finished()

    def compare_native(source: int) -> None:
        table = inputs.tables[source]
        paths = {dataset: native[dataset][source] for dataset in (KEPT, REJECTED)}
        outputs = {
            name: _open({path: run.open_output(path, source)}, table.schema, native=True)
            for name, path in paths.items()
        }
        for fragment in of_input[source]:
            keep = duplicates.read_kept(fragment)
            rows = formats.read(table, fragment, table.schema.names)
            for dataset, mask in ((KEPT, keep), (REJECTED, ~keep)):
                _compare(rows, mask, fragment, outputs[dataset])
        for output in outputs.values():
            output.check_finished()
        _compare_bytes(paths, table, of_input[source], duplicates)

    of_input = formats.by_source(inputs.fragments)
    as_parquet = [part for part in inputs.fragments if part.source not in native[KEPT]]
    list(pool.map(compare_parquet, as_parquet))
    list(pool.map(compare_native, native[KEPT]))
    rows = sum(fragment.rows for fragment in inputs.fragments)
    return f"{rows:,} rows, each in the result once and unchanged to the bit"


def _compare_lists(inputs: Inputs, duplicates: DatasetFiles, pool: Executor) -> str:
    """Check that ``duplicates`` lists rows of the inputs, each at most once, in input order."""
    rejected = sum(rows.size for _, rows in pool.map(duplicates.read, inputs.fragments))
    return (
        f"there are no particle tables, as the run was for duplicates only; {DUPLICATES}/ lists "
        f"{rejected:,} of {inputs.rows:,} rows, each once"
    )


def _compare_bytes(
    paths: Mapping[str, Path],
    table: ParticleTable,
    fragments: Sequence[Fragment],
    duplicates: DatasetFiles,
) -> None:
    """Check the bytes of native-format output by writing the files again from the input.

    This finds differences that values do not show: digits, blanks, comments, other tables. The new
    files need temporary disk space.
    """
    with TemporaryDirectory(prefix="dask-dedup-verify-") as scratch:
        pieces: dict[str, list[Path]] = {dataset: [] for dataset in paths}
        rows = dict.fromkeys(paths, 0)
        for fragment in fragments:
            keep = duplicates.read_kept(fragment)
            two = [Path(scratch) / f"{dataset}-{fragment.number}" for dataset in (KEPT, REJECTED)]
            formats.native_format(table).split(table, fragment, keep, *two)
            for dataset, piece, mask in zip((KEPT, REJECTED), two, (keep, ~keep), strict=True):
                pieces[dataset].append(piece)
                rows[dataset] += int(mask.sum())
        for dataset, path in paths.items():
            folder = Path(scratch) / dataset
            folder.mkdir()
            files = formats.native_format(table).assemble(
                table, pieces[dataset], rows[dataset], folder, path.name
            )
            lists = formats.write_lists(table, folder, path.name, path.parent)
            for file in (*files, *lists):
                written = path.parent / file.path
                if sha256_of(written) == file.sha256:
                    continue
                if file in lists and _same_names(read_bytes(written), folder / file.path):
                    continue
                raise MismatchError(
                    f"{written}: its bytes differ from the bytes of the input's rows"
                )


def _same_names(written: bytes, new: Path) -> bool:
    """Return whether two lists differ only in the folders of paths, as after a move of the result."""
    one, other = (
        _FOLDERS.sub(b"", _QUOTED.sub(rb"\2", text)) for text in (written, read_bytes(new))
    )
    return one == other


@dataclass(slots=True)
class _Output:
    """An output file, read in row order.

    Attributes
    ----------
    path : Path
    schema : pyarrow.Schema
        The types of the input.
    chunks : iterator of pyarrow.Table
        Rows that are not read yet.
    rows : pyarrow.Table
        Rows that were read, but not yet returned.
    """

    path: Path
    schema: pa.Schema
    chunks: Iterator[pa.Table]
    rows: pa.Table

    def take(self, count: int) -> pa.Table:
        """Return the next `count` rows."""
        parts = [self.rows]
        while sum(map(len, parts)) < count:
            chunk = next(self.chunks, None)
            if chunk is None:
                raise MismatchError(f"{self.path}: fewer rows than {DUPLICATES} implies")
            parts.append(chunk)
        rows = pa.concat_tables([part for part in parts if len(part)] or parts[:1])
        self.rows = rows.slice(count)
        return rows.slice(0, count)

    def check_finished(self) -> None:
        """Check that the output file has no more rows than expected."""
        if len(self.rows) or any(len(chunk) for chunk in self.chunks):
            raise MismatchError(f"{self.path}: more rows than {DUPLICATES} implies")


def _open(
    tables: Mapping[Path, ParticleTable], schema: pa.Schema, *, native: bool = False
) -> _Output:
    """Open output files, which are read one after the other, with the column types of the input."""

    def read(path: Path, table: ParticleTable) -> Iterator[pa.Table]:
        same = table.schema.names == schema.names or (native and not table.rows)
        if not native:
            same = table.schema.equals(schema, check_metadata=True)
        if not same:
            raise MismatchError(f"{path}: its columns are not the columns of the inputs")
        # Types that are inferred from text depend on the rows, so the input's types are used.
        typed = replace(table, stored_schema=StoredSchema.of(schema))
        for fragment in typed.fragments:
            yield formats.read(typed, fragment, schema.names)

    chunks = chain.from_iterable(starmap(read, tables.items()))
    return _Output(next(iter(tables)), schema, chunks, schema.empty_table())


def _compare(rows: pa.Table, mask: NDArray[np.bool_], fragment: Fragment, output: _Output) -> None:
    """Compare the input rows that `mask` selects with the next rows of the output, column by column."""
    part = output.take(int(mask.sum()))
    selected = pa.array(mask)
    for field in output.schema:
        found = _as_bits(part.column(field.name), field.type)
        if field.name in rows.column_names:
            expected = _as_bits(rows.column(field.name).filter(selected), field.type)
        else:
            expected = pa.chunked_array([pa.nulls(len(found), found.type)])
        if expected.equals(found):
            continue
        pairs = enumerate(zip(expected, found, strict=True))
        first = next(number for number, (old, new) in pairs if not old.equals(new))
        origin, row = fragment.locate(int(np.flatnonzero(mask)[first]))
        raise MismatchError(f"{output.path}: column {field.name} of {origin} row {row} has changed")


def _as_bits(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Prepare a column for bitwise comparison: view floats as integers, and decode dictionaries."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind)
    kind = _decoded(kind)
    if column.type != kind:
        column = column.cast(kind)
    bits = _bits_type(kind)
    if bits == kind:
        return column
    return pa.chunked_array([chunk.view(bits) for chunk in column.chunks], bits)


def _decoded(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _decoded(kind.value_type)
    return map_children(without_views(kind), _decoded)


def _bits_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_floating(kind):
        return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[kind.bit_width]
    return map_children(kind, _bits_type)


def compare_totals(run: FinishedRun) -> str:
    """Check that the totals in the manifest equal counts from the datasets."""
    totals, inputs = run.manifest["totals"], run.manifest["inputs"]
    rows = {name: np.zeros(len(inputs), dtype=np.int64) for name in DATASETS}
    same_uid = across = 0
    outvoted = np.zeros(len(inputs), dtype=np.int64)
    voters = VoterCounts(totals["votes"]["pickers"] if totals["votes"] else ())
    for file in run.files:
        if not file.holds_rows:
            continue
        number = run.open_output(file.path, file.source).rows
        if number != file.rows:
            raise MismatchError(f"{file.path} has {number} rows, but {file.rows} in the manifest")
        if file.dataset == VOTES:
            voters.add(file.path)
            continue
        rows[file.dataset][file.source] += number
        if file.dataset == DUPLICATES:
            with pq.ParquetFile(**parquet_source(file.path)) as content:
                pairs = content.read(_PAIR_COLUMNS)
            same_uid += pc.sum(pc.equal(pairs["uid"], pairs["winner_uid"])).as_py() or 0
            across += _count_across(Columns(pairs, str(file.path)), run)
            outvoted[file.source] += pc.sum(pc.equal(pairs["reason"], OUTVOTED)).as_py() or 0
    for dataset in (KEPT, REJECTED):
        for source, number in run.count_trees(dataset).items():
            rows[dataset][source] += number
    if run.is_conversion or run.lacks_particles:
        rows[REJECTED] = rows[DUPLICATES]
        rows[KEPT] = np.array([entry["rows"] for entry in inputs]) - rows[REJECTED]
        for dataset in (KEPT, REJECTED) if not run.lacks_particles else ():
            number = count_rows(run, dataset)
            if number != rows[dataset].sum():
                raise MismatchError(
                    f"{dataset} has {number:,} rows, but {rows[dataset].sum():,} according to {DUPLICATES}"
                )
    kept, rejected, listed = (rows[name] for name in DATASETS)
    if (rejected != listed).any():
        raise MismatchError(
            f"{rejected.sum():,} particles are rejected, but {DUPLICATES} has {listed.sum():,} rows"
        )
    pairs_exist = not run.params.remove_entirely
    counted = {
        "rows": sum(entry["rows"] for entry in inputs),
        "kept": int(kept.sum()),
        "rejected": int(rejected.sum()),
        "same_uid": same_uid if pairs_exist else None,
        "across_half_sets": across if pairs_exist else None,
        "outvoted": int(outvoted.sum()),
        "by_input": [
            # The check "validity" counts the invalid rows; the datasets do not show them.
            stated
            | {
                "path": entry["path"],
                "rows": entry["rows"],
                "kept": k,
                "rejected": r,
                "outvoted": o,
            }
            for stated, entry, k, r, o in zip(
                *(totals["by_input"], inputs),
                *(kept.tolist(), rejected.tolist(), outvoted.tolist()),
                strict=True,
            )
        ],
    }
    for key, value in counted.items():
        if totals[key] != value:
            raise MismatchError(
                f"{key} is {totals[key]} in the manifest, but {value} in the datasets"
            )
    voters.check(totals["votes"])
    if counted["kept"] + counted["rejected"] != counted["rows"]:
        raise MismatchError(
            f"kept and rejected do not add up to the {counted['rows']:,} rows of the inputs"
        )
    return f"{counted['kept']:,} kept and {counted['rejected']:,} rejected, as in the manifest"


def _count_across(pairs: Columns, run: FinishedRun) -> int:
    """Count the rejected particles that have a winner in the other half-set."""
    # RELION numbers half-sets from 1, CryoSPARC from 0.
    first_half = {e["path"]: int(e["convention"] == "relion") for e in run.manifest["inputs"]}
    sides = []
    for prefix in ("", "winner_"):
        codes, paths = pairs.texts(f"{prefix}input")
        first = np.array([*(first_half[path] for path in paths), 0])[codes]
        sides.append(pairs.floats(f"{prefix}half_set") - first)
    known = np.isfinite(sides[0]) & np.isfinite(sides[1])
    return int((known & (sides[0] != sides[1])).sum())

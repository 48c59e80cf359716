"""Conservation: what became of each input row, and whether it came through unchanged."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dask_dedup import __version__, formats
from dask_dedup.errors import DedupError
from dask_dedup.particles.columns import Columns
from dask_dedup.pipeline.duplicates import DUPLICATES_SCHEMA
from dask_dedup.pipeline.stages import DUPLICATES, KEPT, REJECTED
from dask_dedup.storage.files import open_to_read, parquet_source, read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.pipeline.job import Job

FOLDERS = (KEPT, REJECTED, DUPLICATES)
_PAIRED = ["uid", "winner_uid", "half_set", "winner_half_set", "input", "winner_input"]


class FindingError(DedupError):
    """A finished run is not as a run leaves it; the message is one line."""


class UncheckedError(DedupError):
    """Something cannot be checked; the message is one line."""


def read_duplicates(path: Path, fragment: Fragment) -> tuple[pa.Table, NDArray[np.intp]]:
    """Read what a run tells of the rejected rows of a fragment.

    Returns
    -------
    told : pyarrow.Table
    rows : (n,) intp
        Row number in the fragment of each, ascending.

    Raises
    ------
    FindingError
        If it names rows that the fragment does not have, or any twice, or out of order.
    """
    with pq.ParquetFile(**parquet_source(path)) as file:
        told = file.read(use_threads=False)
    if told.schema.names != DUPLICATES_SCHEMA.names:
        raise FindingError(f"{path}: the columns are {', '.join(told.schema.names)}")
    columns = Columns(told, str(path))
    codes, files = columns.texts("file")
    # A last piece without rows stands for every file that is not the fragment's.
    number = {piece.path: n for n, piece in enumerate(fragment.slices)}
    piece = np.array([*(number.get(name, -1) for name in files), -1])[codes]
    first_row = np.array([*(piece.first_row for piece in fragment.slices), 0])
    size = np.array([*(piece.rows for piece in fragment.slices), 0])
    within = columns.integers("row").astype(np.int64) - first_row[piece]
    rows = (np.cumsum(size) - size)[piece] + within
    wrong = (within < 0) | (within >= size[piece]) | columns.nulls("row")
    wrong[1:] |= rows[1:] <= rows[:-1]
    if wrong.any():
        row = int(np.argmax(wrong))
        name = f"{told.column('file')[row]} row {told.column('row')[row]}"
        raise FindingError(f"{path}: row {row} names {name}, which is out of place there")
    return told, rows


def find_parts(place: Path, manifest: dict[str, Any], job: Job) -> dict[str, dict[int, Path]]:
    """Find the Parquet parts of each folder, by the number of their fragment.

    Raises
    ------
    FindingError
        If they are not one for each fragment.
    UncheckedError
        If that may be because another version made the run.
    """
    parts: dict[str, dict[int, Path]] = {}
    for folder in FOLDERS:
        parts[folder] = {
            entry["fragment"]: place / entry["path"]
            for entry in manifest["outputs"]
            if _folder_of(entry) == folder and "fragment" in entry
        }
        wanted = [
            fragment.number
            for fragment in job.fragments
            if folder == DUPLICATES or job.native_names[fragment.source] is None
        ]
        if sorted(parts[folder]) != wanted:
            message = (
                f"{folder} has {len(parts[folder])} parts, but the inputs {len(wanted)} fragments"
            )
            version = manifest["versions"]["dask-dedup"]
            if version != __version__:
                # Its fragments may well be larger or smaller.
                raise UncheckedError(f"{message}; use version {version}, which made the run")
            raise FindingError(message)
    return parts


def _folder_of(entry: dict[str, Any]) -> str:
    return Path(entry["path"]).parts[0]


def compare_rows(place: Path, manifest: dict[str, Any], job: Job, pool: Executor) -> str:
    """Check that every input row is in one of the two datasets, unchanged, in its order.

    Parameters
    ----------
    place : Path
        The output.
    manifest : dict
    job : Job
    pool : Executor
        Compares the fragments.

    Returns
    -------
    str
        What was found, in one line.

    Raises
    ------
    FindingError
        Names the first row that is wrong.
    """
    parts, schema = find_parts(place, manifest, job), job.schema

    def compare(fragment: Fragment) -> None:
        payload, keep = _read_whole(job, fragment, parts[DUPLICATES])
        for folder, mask in ((KEPT, keep), (REJECTED, ~keep)):
            path = parts[folder][fragment.number]
            part = _read_part(path, schema)
            if part.num_rows != mask.sum():
                raise FindingError(f"{path}: {part.num_rows} rows, but {mask.sum()} decided so")
            _compare(payload, mask, part, schema, fragment, path)

    def compare_native(source: int) -> None:
        table, name = job.tables[source], job.native_names[source] or ""
        outputs = {
            folder: _Rows(place / job.home(folder) / name, table) for folder in (KEPT, REJECTED)
        }
        for fragment in job.fragments:
            if fragment.source == source:
                payload, keep = _read_whole(job, fragment, parts[DUPLICATES])
                for folder, mask in ((KEPT, keep), (REJECTED, ~keep)):
                    part = outputs[folder].take(int(mask.sum()))
                    _compare(payload, mask, part, table.schema, fragment, outputs[folder].path)
        for rows in outputs.values():
            rows.finish()
        _compare_bytes(place, job, source, parts[DUPLICATES])

    whole = [part for part in job.fragments if job.native_names[part.source] is None]
    native = [source for source, name in enumerate(job.native_names) if name is not None]
    for _ in (*pool.map(compare, whole), *pool.map(compare_native, native)):
        pass
    rows = sum(fragment.rows for fragment in job.fragments)
    return f"{rows:,} rows are there once each, every column the same to the bit"


def _compare_bytes(place: Path, job: Job, source: int, duplicates: Mapping[int, Path]) -> None:
    """Make a native table's files again, from the input and what was decided, and compare them.

    That takes room for the table in the folder of temporary files. The values have been compared
    already; this finds what does not show in them: digits, blanks, comments, other tables.
    """
    table, name = job.tables[source], job.native_names[source] or ""
    mine = [fragment for fragment in job.fragments if fragment.source == source]
    with TemporaryDirectory(prefix="dask-dedup-verify-") as scratch:
        pieces: dict[str, list[Path]] = {KEPT: [], REJECTED: []}
        rows = dict.fromkeys(pieces, 0)
        for fragment in mine:
            keep = _kept(fragment, duplicates)
            two = [Path(scratch) / f"{folder}-{fragment.number}" for folder in pieces]
            formats.load(table, fragment).split(keep, *two)
            for folder, piece, mask in zip(pieces, two, (keep, ~keep), strict=True):
                pieces[folder].append(piece)
                rows[folder] += int(mask.sum())
        for folder in pieces:
            target = Path(scratch) / folder
            target.mkdir()
            files = formats.format_of(table).assemble(
                table, pieces[folder], rows[folder], target, Path(name).name
            )
            for file in files:
                path = (place / job.home(folder) / name).parent / file.path
                with open_to_read(path) as content:
                    if hashlib.file_digest(content, "sha256").hexdigest() != file.sha256:
                        raise FindingError(f"{path}: is not byte for byte made of the input's rows")


def _read_whole(
    job: Job, fragment: Fragment, duplicates: Mapping[int, Path]
) -> tuple[pa.Table, NDArray[np.bool_]]:
    """Read a fragment, and which of its rows were kept."""
    keep = _kept(fragment, duplicates)
    table = job.tables[fragment.source]
    return formats.read(table, fragment, table.schema.names), keep


def _kept(fragment: Fragment, duplicates: Mapping[int, Path]) -> NDArray[np.bool_]:
    """Tell which rows of a fragment were kept: those of which ``duplicates`` does not tell."""
    _, rows = read_duplicates(duplicates[fragment.number], fragment)
    keep = np.ones(fragment.rows, dtype=bool)
    keep[rows] = False
    return keep


def _read_part(path: Path, schema: pa.Schema) -> pa.Table:
    text = [field.name for field in schema if pa.types.is_string(field.type)]
    # Dictionaries, as the inputs' text comes too: quicker to decode and to compare.
    source = parquet_source(path)
    with pq.ParquetFile(**source) as plain, pq.ParquetFile(**source, read_dictionary=text) as file:
        if not plain.schema_arrow.equals(schema, check_metadata=True):
            raise FindingError(f"{path}: the schema is not that of the inputs")
        return file.read(use_threads=False)


class _Rows:
    """The rows of an output in its input's own format, handed out in order."""

    def __init__(self, path: Path, like: ParticleTable) -> None:
        self.path = path
        table = formats.open_table(path)
        if table.schema.names != like.schema.names:
            raise FindingError(f"{path}: the columns are not those of {like.path}")
        # What a text format takes a column for may depend on the rows; the input's type counts.
        self._table = replace(table, stored_schema=like.stored_schema)
        self._left = list(reversed(self._table.fragments))
        self._rows = like.schema.empty_table()

    def take(self, number: int) -> pa.Table:
        """Give the next rows."""
        parts = [self._rows]
        while sum(len(part) for part in parts) < number and self._left:
            parts.append(formats.read(self._table, self._left.pop(), self._rows.column_names))
        parts = [part for part in parts if len(part)] or parts[:1]
        rows = pa.concat_tables(parts)
        if len(rows) < number:
            raise FindingError(f"{self.path}: has fewer rows than were decided so")
        self._rows = rows.slice(number)
        return rows.slice(0, number)

    def finish(self) -> None:
        """Complain of rows that are left over."""
        if len(self._rows) or sum(fragment.rows for fragment in self._left):
            raise FindingError(f"{self.path}: has more rows than were decided so")


def _compare(
    payload: pa.Table,
    mask: NDArray[np.bool_],
    part: pa.Table,
    schema: pa.Schema,
    fragment: Fragment,
    path: Path,
) -> None:
    """Compare the rows of `payload` that `mask` selects with `part`, column by column."""
    chosen = pa.array(mask)
    for kind in schema:
        told = _as_bits(part.column(kind.name), kind.type)
        if kind.name in payload.column_names:
            true = _as_bits(payload.column(kind.name).filter(chosen), kind.type)
        else:
            true = pa.chunked_array([pa.nulls(len(told), told.type)])
        if true.equals(told):
            continue
        first, length = 0, len(told)
        while length > 1:
            half = length // 2
            if true.slice(first, half).equals(told.slice(first, half)):
                first, half = first + half, length - half
            length = half
        origin, row = fragment.locate(int(np.flatnonzero(mask)[first]))
        raise FindingError(f"{path}: column {kind.name} of {origin} row {row} has changed")


def compare_totals(place: Path, manifest: dict[str, Any], job: Job | None) -> str:
    """Count the datasets again and compare with the manifest.

    Parameters
    ----------
    place : Path
        The output.
    manifest : dict
    job : Job or None
        Without it the inputs are not told apart.

    Returns
    -------
    str
        What was found, in one line.

    Raises
    ------
    FindingError
        Names the first number that is wrong.
    """
    inputs = manifest["inputs"]
    rows = {folder: np.zeros(len(inputs), dtype=np.int64) for folder in FOLDERS}
    first_half = {entry["path"]: int(entry["convention"] == "relion") for entry in inputs}
    same_uid = across = 0
    for entry in manifest["outputs"]:
        path, folder = place / entry["path"], _folder_of(entry)
        if "fragment" in entry:
            number = read_metadata(path).num_rows
            source = job.fragments[entry["fragment"]].source if job else 0
        elif path.suffix == Path(inputs[entry["input"]]["path"]).suffix:
            number, source = formats.open_table(path).rows, entry["input"]
        else:
            # A table of several files has its rows in the first.
            continue
        if number != entry["rows"]:
            raise FindingError(f"{path} has {number} rows, but {entry['rows']} in the manifest")
        rows[folder][source] += number
        if folder == DUPLICATES:
            with pq.ParquetFile(**parquet_source(path)) as file:
                pairs = file.read(_PAIRED)
            same_uid += pc.sum(pc.equal(pairs["uid"], pairs["winner_uid"])).as_py() or 0
            across += _count_across(Columns(pairs, str(path)), first_half)
    kept, rejected, told = (rows[folder] for folder in FOLDERS)
    if rejected.sum() != told.sum():
        raise FindingError(f"{rejected.sum():,} are rejected, but {DUPLICATES} has {told.sum():,}")
    by_input = manifest["totals"]["by_input"]
    if job:
        by_input = [
            {
                "path": table.path,
                "rows": table.rows,
                "kept": int(kept[table.source]),
                "rejected": int(rejected[table.source]),
                # Which rows cannot be compared does not show in the datasets.
                "invalid": by_input[table.source]["invalid"],
            }
            for table in job.tables
        ]
    crowded = manifest["parameters"]["remove_entirely"]
    counted = {
        "rows": sum(entry["rows"] for entry in inputs),
        "kept": int(kept.sum()),
        "rejected": int(rejected.sum()),
        "same_uid": None if crowded else same_uid,
        "across_half_sets": None if crowded else across,
        "by_input": by_input,
    }
    for key, value in counted.items():
        stated = manifest["totals"][key]
        if stated != value:
            raise FindingError(f"{key} is {stated} in the manifest, but {value} by the datasets")
    if counted["kept"] + counted["rejected"] != counted["rows"]:
        raise FindingError(
            f"kept and rejected do not add up to the inputs' {counted['rows']:,} rows"
        )
    return f"{counted['kept']:,} kept and {counted['rejected']:,} rejected, as the manifest says"


def _count_across(pairs: Columns, first_half: Mapping[str, int]) -> int:
    """Count the pairs whose two sides are in different half-sets, however these are numbered."""
    sides = []
    for prefix in ("", "winner_"):
        codes, paths = pairs.texts(f"{prefix}input")
        first = np.array([*(first_half[path] for path in paths), 0])[codes]
        sides.append(pairs.floats(f"{prefix}half_set") - first)
    known = np.isfinite(sides[0]) & np.isfinite(sides[1])
    return int((known & (sides[0] != sides[1])).sum())


def _as_bits(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """View floats as integers, since NaNs are no less to be kept, and hold text plainly."""
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

"""STAR files of RELION 3.0 to 5. Rows are written exactly as they were read.

Kept and rejected files have rows of the input, unchanged and in order. Both files also have everything else in the
input: comments, optics groups and other tables. Blank lines and comments between two rows are written after the row
before them. As in the STAR standard, a blank line does not end a table. RELION's programs stop reading at a blank
line.

The columns are the table's labels without the leading underscore. These computed columns follow:

- ``rlnMicrographPixelSize``, ``rlnImagePixelSize``, ``rlnTomoTiltSeriesPixelSize`` and
  ``rlnMicrographOriginalPixelSize`` of each row's optics group (RELION 3.1 and later);
- ``rlnTomoSubTomosAre2DStacks`` of the block ``data_general`` (RELION 5, WarpTools);
- the pixel size ``1e4 * rlnDetectorPixelSize / rlnMagnification`` (RELION 3.0 and before): ``rlnImagePixelSize`` for
  particles, ``rlnMicrographPixelSize`` in a table of micrographs;
- ``rlnMicrographName`` from the name of a picker's coordinate file, if no column has a micrograph, tomogram or
  image. For example, ``mic1_autopick.star`` belongs to ``mic1.mrc``. Other suffixes such as ``_manualpick`` are
  also known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, to_numpy
from dask_dedup.errors import RunError
from dask_dedup.formats.base import (
    FileSlice,
    Fragment,
    InputFile,
    OutputFile,
    ParticleTable,
    StoredSchema,
    changed_error,
    opening,
    read_blocks,
    read_parts,
    write_blocks,
)
from dask_dedup.formats.star.blocks import Layout
from dask_dedup.formats.star.lines import Span, find_rows
from dask_dedup.formats.star.particle_block import (
    DETECTOR_PIXEL_SIZE,
    MAGNIFICATION,
    OPTICS_GROUP,
    StarDetail,
    as_texts,
    choose_particles,
    describe,
    schema_of,
)
from dask_dedup.formats.star.values import parse_columns
from dask_dedup.storage.files import open_to_read, status_of
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def open_table(path: Path, source: int) -> ParticleTable:
    """Open a STAR file: find its particle table and split the rows into fragments.

    The complete file is read once. Its fingerprint is computed from all bytes.
    """
    with opening(path):
        status = status_of(path)
        layout = Layout(path)
        loop = choose_particles(path, layout)
        detail = describe(path, layout, loop)
        schema = schema_of(loop, detail)
    fragments = []
    for number, span in enumerate(loop.spans):
        part = FileSlice(str(path), span.first_row, span.rows, (span.start, span.stop))
        slices = (part,) if span.rows else ()
        size = span.stop - span.start
        fragments.append(Fragment(number, source, span.first_row, span.rows, slices, size))
    fingerprint = layout.digest.hexdigest()
    file = InputFile.of(path, status, loop.span.rows, fingerprint)
    return ParticleTable(
        format="star",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(schema),
        files=(file,),
        fragments=tuple(fragments),
        detail=detail,
    )


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Read the named columns of a fragment, including computed columns. Text is dictionary-encoded."""
    detail: StarDetail = table.detail
    schema = table.schema
    needed = {name: schema.field(name).type for name in columns if name in detail.labels}
    if detail.optics_columns.keys() & set(columns):
        needed[OPTICS_GROUP] = pa.int64()
    if detail.computed_pixel_size in columns:
        needed |= dict.fromkeys((DETECTOR_PIXEL_SIZE, MAGNIFICATION), pa.float64())
    span = _span_of(table, fragment)
    parsed = parse_columns(span, detail.labels, needed)
    result = {}
    for name in columns:
        if name in detail.labels:
            result[name] = parsed[name]
        elif name in detail.optics_columns:
            index = _index_of_group(parsed[OPTICS_GROUP], detail, span)
            result[name] = from_numpy(np.array(detail.optics_columns[name])[index])
        elif name in detail.general_columns:
            result[name] = from_numpy(np.full(fragment.rows, detail.general_columns[name]))
        elif name == detail.computed_pixel_size:
            with np.errstate(divide="ignore", invalid="ignore"):
                size = 1e4 * to_numpy(parsed[DETECTOR_PIXEL_SIZE]) / to_numpy(parsed[MAGNIFICATION])
            result[name] = from_numpy(size)
        else:
            zeros = from_numpy(np.zeros(fragment.rows, dtype=np.int32))
            result[name] = pa.DictionaryArray.from_arrays(zeros, [detail.micrograph])
    return pa.table(result)


def read_text(
    table: ParticleTable, fragment: Fragment, labels: Sequence[str]
) -> dict[str, pa.Array]:
    """Read columns of a fragment as the text in the file, without quotes. Text is dictionary-encoded."""
    detail: StarDetail = table.detail
    span = _span_of(table, fragment)
    return parse_columns(span, detail.labels, dict.fromkeys(labels, pa.string()))


def with_texts(table: ParticleTable, columns: Collection[str]) -> ParticleTable:
    """Return the table with `columns` as text, exactly as written, unless RELION defines their type."""
    schema = as_texts(table.schema, table.detail, columns)
    return replace(table, stored_schema=StoredSchema.of(schema))


def _span_of(table: ParticleTable, fragment: Fragment) -> Span:
    """Return the span of a fragment's rows."""
    start, stop = fragment.slices[0].blocks if fragment.slices else (0, 0)
    return Span(_unchanged_file(table), start, stop, fragment.first_row, fragment.rows)


def _unchanged_file(table: ParticleTable) -> Path:
    """Return the path of a table's file. Raise `RunError` if the file's size has changed."""
    path = at(table.files[0].path)
    try:
        size = status_of(path).st_size
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error
    if size != table.bytes:
        raise changed_error(path)
    return path


def _index_of_group(groups: pa.Array, detail: StarDetail, span: Span) -> NDArray[np.intp]:
    """Return the (rows,) index of each row's optics group in `detail.optics_groups`."""
    if groups.null_count:
        row = int(to_numpy(groups.is_null()).argmax())
        raise span.error(row, "has no optics group")
    known, group = np.array(detail.optics_groups), to_numpy(groups)
    index = np.searchsorted(known, group).clip(max=known.size - 1)
    missing = known[index] != group
    if missing.any():
        row = int(missing.argmax())
        listed = ", ".join(map(str, detail.optics_groups))
        raise span.error(
            row, f"has optics group {group[row]}, but data_optics has only {listed}. Add it there."
        )
    return np.asarray(index)


def split(
    table: ParticleTable,
    fragment: Fragment,
    keep: NDArray[np.bool_],
    kept: Path,
    rejected: Path,
) -> None:
    """Write the lines of kept rows to the part file `kept`, the lines of rejected rows to `rejected`."""
    row, span = 0, _span_of(table, fragment)
    with kept.open("wb") as kept_file, rejected.open("wb") as rejected_file:
        for offset, block in span.blocks():
            starts, _ = find_rows(block, span.path, offset)
            chosen = keep[row : row + starts.size]
            if chosen.size < starts.size:
                raise changed_error(fragment)
            # Text before the first row of the block belongs to the last row of the previous block.
            chosen = np.append(keep[row - 1] if row else True, chosen)
            bounds = np.concatenate([[0], starts, [min(len(block), span.stop - offset)]])
            lines = pa.Array.from_buffers(
                pa.binary(),
                chosen.size,
                [None, pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(block)],
            )
            for file, mask in ((kept_file, chosen), (rejected_file, ~chosen)):
                length = int(np.diff(bounds)[mask].sum())
                if length:
                    file.write(lines.filter(from_numpy(mask)).buffers()[2][:length])
            row += starts.size
    if row != keep.size:
        raise changed_error(fragment)


def assemble(
    table: ParticleTable, parts: Sequence[Path], rows: int, folder: Path, name: str
) -> list[OutputFile]:
    """Write a copy of the input file with the rows of the part files instead of all rows."""
    return [write_blocks(folder, name, rows, _join(table, parts))]


def _join(table: ParticleTable, parts: Sequence[Path]) -> Iterator[memoryview]:
    detail: StarDetail = table.detail
    with open_to_read(_unchanged_file(table)) as original:
        yield from read_blocks(original, detail.start)
        yield from read_parts(parts)
        original.seek(detail.stop)
        yield from read_blocks(original, table.bytes - detail.stop)

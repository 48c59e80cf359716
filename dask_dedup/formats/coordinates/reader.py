"""Read pick files as tables with RELION's columns."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, take_strings, to_numpy
from dask_dedup.errors import InputError
from dask_dedup.formats.base import changed_error
from dask_dedup.formats.coordinates.column_map import (
    COORDINATES,
    FILAMENT,
    MICROGRAPH,
    PIXEL_SIZE_2D,
    PIXEL_SIZE_3D,
    SCORE,
    TOMOGRAM,
    centre,
)
from dask_dedup.formats.coordinates.detail import CoordinatesDetail, member_of
from dask_dedup.formats.coordinates.lines import (
    find_lines,
    number_lines,
    pick_lines,
    read_picks,
    read_span,
)
from dask_dedup.formats.coordinates.programs import MAP_OF
from dask_dedup.formats.coordinates.values import RowError, Table, to_floats, whole_number
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats.base import FileSlice, Fragment, ParticleTable
    from dask_dedup.formats.coordinates.column_map import Layout

_HELIX = b"#helix"
#: This score means that there is no score.
_NO_SCORE = -999.0
_NAMES = (MICROGRAPH, TOMOGRAM)
_PIXEL_SIZES = (PIXEL_SIZE_2D, PIXEL_SIZE_3D)


def schema_of(layouts: Sequence[Layout], *, tomograms: bool) -> pa.Schema:
    """Return the schema of a table with files of these layouts."""
    roles = {name for layout in layouts for name in layout.columns}
    axes = 3 if any(layout.has_z for layout in layouts) else 2
    fields = {TOMOGRAM if tomograms else MICROGRAPH: pa.string()}
    fields |= dict.fromkeys((*COORDINATES[:axes], SCORE), pa.float64())
    if "filament" in roles or any(MAP_OF[layout.map].helix for layout in layouts):
        fields[FILAMENT] = pa.int64()
    if "pixel_size" in roles or any(layout.pixel_size for layout in layouts):
        fields[PIXEL_SIZE_3D if axes == 3 else PIXEL_SIZE_2D] = pa.float64()
    for layout in layouts:
        for name in layout.extra:
            text = any(name in each.text for each in layouts)
            fields.setdefault(name, pa.string() if text else pa.float64())
    return pa.schema(list(fields.items()))


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Read the named columns of a fragment, with centres in pixels. Text is dictionary-encoded."""
    detail: CoordinatesDetail = table.detail
    known = table.schema
    if not fragment.slices:  # without picks, the columns of the format are unknown
        others = set(columns) - set(known.names)
        known = pa.unify_schemas([known, pa.schema([(name, pa.float64()) for name in others])])
    schema = pa.schema([_encoded(known.field(name)) for name in columns])
    parts = [
        _read_slices(detail, layout, slices, schema)
        for layout, slices in _by_layout(detail, fragment)
    ]
    return pa.concat_tables(parts).combine_chunks() if parts else schema.empty_table()


def _by_layout(
    detail: CoordinatesDetail, fragment: Fragment
) -> Iterator[tuple[Layout, list[FileSlice]]]:
    """Yield the slices of a fragment. Slices of consecutive files with the same layout are yielded together."""
    for number, found in groupby(
        fragment.slices, key=lambda part: detail.members[member_of(part)].layout
    ):
        yield detail.layouts[number], list(found)


def _encoded(field: pa.Field) -> pa.Field:
    text = pa.types.is_string(field.type)
    return field.with_type(pa.dictionary(pa.int32(), pa.string())) if text else field


def _read_slices(
    detail: CoordinatesDetail, layout: Layout, slices: Sequence[FileSlice], schema: pa.Schema
) -> pa.Table:
    """Read slices with the same layout."""
    if MAP_OF[layout.map].parse:
        return _read_documents(detail, layout, slices, schema)
    blocks, rows = [], 0
    filaments: list[NDArray[np.int64]] = []
    helix = MAP_OF[layout.map].helix and FILAMENT in schema.names
    for part in slices:
        start, stop, _ = part.blocks
        block = read_span(at(part.path), start, stop)
        starts, is_pick = find_lines(block)
        if np.count_nonzero(is_pick) != part.rows:
            raise changed_error(part.path)
        blocks.append(pick_lines(block, starts, is_pick))
        rows += part.rows
        if helix:
            filaments.append(_count_helices(block, starts, is_pick))
    values = Table(b"".join(blocks), layout.columns, layout.delimiter, rows)
    try:
        text = values.columns(_needed(detail, layout, schema.names))
        numbers = {
            name: to_floats(column, name)
            for name, column in text.items()
            if name != "micrograph" and not (name in schema.names and _is_text(schema, name))
        }
    except RowError as error:
        raise _row_error(slices, error) from None
    if helix:
        numbers["filament"] = np.concatenate(filaments).astype(np.float64)
    return pa.table(_columns(detail, layout, slices, text, numbers, schema), schema)


def read_text(
    table: ParticleTable, fragment: Fragment, names: Sequence[str]
) -> dict[str, pa.Array]:
    """Read columns of a fragment as the text in the files. Coordinates of boxes are corners, as in the files.

    Computed values are not in the files. They are null.
    """
    detail: CoordinatesDetail = table.detail
    roles = {SCORE: "score", FILAMENT: "filament"}
    roles |= dict(zip(COORDINATES, "xyz", strict=True))
    parts: dict[str, list[pa.Array]] = {name: [] for name in names}
    for layout, slices in _by_layout(detail, fragment):
        has_text = MAP_OF[layout.map].parse is None
        rows = sum(part.rows for part in slices)
        text = b"".join(read_picks(at(p.path), *p.blocks[:2]) for p in slices if has_text)
        wanted = [roles.get(name, name) for name in names]
        known = [role for role in wanted if role in layout.columns and has_text]
        found = Table(text, layout.columns, layout.delimiter, rows).columns(known)
        for name, role in zip(names, wanted, strict=True):
            missing = pa.nulls(rows, pa.string())
            parts[name].append(found.get(role, missing))
    return {name: pa.concat_arrays([pa.array([], pa.string()), *parts[name]]) for name in names}


def read_box_sizes(table: ParticleTable) -> NDArray[np.float64]:
    """Read the widths of the boxes in the first file with picks, in pixels: (n,) float64. Without boxes, n is 0."""
    detail: CoordinatesDetail = table.detail
    part = next((part for fragment in table.fragments for part in fragment.slices), None)
    layout = detail.layouts[detail.members[member_of(part)].layout] if part else None
    if part is None or layout is None or "width" not in layout.columns:
        return np.empty(0)
    lines = read_picks(at(part.path), *part.blocks[:2])
    values = Table(lines, layout.columns, layout.delimiter, part.rows)
    return to_floats(values.columns(["width"])["width"], "width")


def _read_documents(
    detail: CoordinatesDetail, layout: Layout, slices: Sequence[FileSlice], schema: pa.Schema
) -> pa.Table:
    """Read documents with the same layout."""
    parse = MAP_OF[layout.map].parse
    parts = []
    for part in slices:
        member = detail.members[member_of(part)]
        columns = parse(read_span(at(part.path), 0, member.bytes), at(part.path)) if parse else None
        if columns is None or len(columns["x"]) != part.rows:
            raise changed_error(part.path)
        parts.append(columns)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in layout.columns}
    text = {
        name: pa.array(v.tolist(), pa.string())
        for name, v in joined.items()
        if v.dtype.kind in "UO"
    }
    needed = _needed(detail, layout, schema.names)
    numbers = {name: v for name, v in joined.items() if name in needed and name not in text}
    return pa.table(_columns(detail, layout, slices, text, numbers, schema), schema)


def _columns(
    detail: CoordinatesDetail,
    layout: Layout,
    slices: Sequence[FileSlice],
    text: Mapping[str, pa.Array],
    numbers: Mapping[str, NDArray[np.float64]],
    schema: pa.Schema,
) -> dict[str, pa.Array]:
    """Return the columns of `schema`. `text` and `numbers` are the columns of the files, as text and as numbers."""
    rows = sum(part.rows for part in slices)
    key = TOMOGRAM if detail.tomograms else MICROGRAPH
    result: dict[str, pa.Array] = {}
    for name in schema.names:
        if name == key:
            if "micrograph" in text and not detail.lists:
                names = text["micrograph"].dictionary_encode()
                numbered = MAP_OF[layout.map].numbered
                result[name] = _renamed(names, dict(detail.names), numbered=numbered)
            else:
                result[name] = _names_of_files(detail, slices)
        elif name in COORDINATES:
            result[name] = from_numpy(centre(layout, COORDINATES.index(name), numbers))
        elif name == SCORE:
            score = numbers.get("score", np.full(rows, np.nan))
            result[name] = from_numpy(np.where(score == _NO_SCORE, np.nan, score))
        elif name == FILAMENT:
            result[name] = _whole(numbers.get("filament"), rows)
        elif name in _PIXEL_SIZES and name not in {*numbers, *text}:
            size = np.full(rows, layout.pixel_size or np.nan)
            result[name] = from_numpy(numbers.get("pixel_size", size))
        elif name in numbers:
            result[name] = from_numpy(numbers[name])
        elif name in text:
            result[name] = text[name].dictionary_encode()
        else:
            result[name] = pa.nulls(rows, schema.field(name).type)
    return result


def _needed(detail: CoordinatesDetail, layout: Layout, names: Sequence[str]) -> list[str]:
    """Return the columns of a file from which the columns `names` of the table are computed."""
    needed: set[str] = set()
    for name in names:
        if name in _NAMES:
            needed |= {"micrograph", name}
        elif name in COORDINATES:
            axis = COORDINATES.index(name)
            needed |= {"xyz"[axis], ("width", "height", "z")[axis]}
            needed |= {f"shift_{'xyz'[axis]}"} if detail.adds_shifts else set()
        else:
            needed.add({SCORE: "score", FILAMENT: "filament"}.get(name, name))
            needed |= {"pixel_size"} if name in _PIXEL_SIZES else set()
    return [name for name in layout.columns if name in needed]


def _is_text(schema: pa.Schema, name: str) -> bool:
    return bool(pa.types.is_dictionary(schema.field(name).type))


def _names_of_files(detail: CoordinatesDetail, slices: Sequence[FileSlice]) -> pa.Array:
    """Return the micrograph of each row. The micrograph is from the name of the file or from the list."""
    names = [detail.members[member_of(part)].micrograph for part in slices]
    return take_strings(names, np.repeat(np.arange(len(names)), [part.rows for part in slices]))


def _renamed(names: pa.DictionaryArray, new: dict[str, str], *, numbered: bool) -> pa.Array:
    """Rename micrographs. Names that are not in `new` stay. If `numbered`, names are whole numbers without decimals."""
    old = names.dictionary.to_pylist()
    stripped = [each.strip("'\"") for each in old]
    if numbered:
        stripped = [whole_number(each) for each in stripped]
    changed = [new.get(each, each) for each in stripped]
    return names if changed == old else take_strings(changed, to_numpy(names.indices))


def _whole(values: NDArray[np.number] | None, rows: int) -> pa.Array:
    """Return filament numbers as integers. Missing numbers are null."""
    if values is None:
        return pa.nulls(rows, pa.int64())
    number = np.asarray(values, np.float64)
    valid = np.isfinite(number) & (np.abs(number) < 2**53)
    return from_numpy(np.where(valid, number, 0).astype(np.int64), valid)


def _count_helices(
    block: bytes, starts: NDArray[np.intp], is_pick: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the helix number of each pick: the number of ``#helix`` lines before the pick."""
    comments = starts[~is_pick].tolist()
    begins = [start for start in comments if block.startswith(_HELIX, start)]
    return np.searchsorted(begins, starts[is_pick]).astype(np.int64)


def _row_error(slices: Sequence[FileSlice], error: RowError) -> InputError:
    """Return an `InputError` with the file and the line number of a row."""
    row = error.row
    for part in slices:
        if row < part.rows:
            start, stop, _ = part.blocks
            lines = number_lines(at(part.path), start, read_span(at(part.path), start, stop))
            number = next(number for n, (number, _) in enumerate(lines) if n == row)
            return InputError(f"{part.path}: line {number} {error.problem}. Correct or remove it.")
        row -= part.rows
    raise IndexError(error.row)

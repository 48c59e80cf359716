"""Recognise the format of a pick file, and find the picks in the file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import InputError
from dask_dedup.formats.base import InputFile, opening
from dask_dedup.formats.coordinates.column_map import Layout
from dask_dedup.formats.coordinates.lines import (
    LONGEST_LINE,
    SLICE_BYTES,
    Span,
    check_text,
    find_spans,
    first_row,
)
from dask_dedup.formats.coordinates.programs import MAP_OF
from dask_dedup.formats.coordinates.values import is_numeric
from dask_dedup.storage.files import open_to_read, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from io import BufferedReader
    from pathlib import Path

    from dask_dedup.formats.coordinates.column_map import ColumnMap, Header
    from dask_dedup.formats.coordinates.folder import PickPath


@dataclass(frozen=True, slots=True)
class PickFile:
    """A pick file after it was opened.

    Attributes
    ----------
    pick_path : PickPath
        Path and micrograph. If the format has one folder per tomogram, the tomogram is from the document.
    info : InputFile
    layout : Layout or None
        None for an empty file.
    spans : tuple of Span
        Byte ranges with picks.
    """

    pick_path: PickPath
    info: InputFile
    layout: Layout | None
    spans: tuple[Span, ...]


def open_file(pick_path: PickPath, maps: Sequence[ColumnMap]) -> PickFile | None:
    """Read a pick file once. Return None if the file has none of the formats `maps`.

    Raises
    ------
    InputError
        If the file cannot be read, or if it does not have the format that its extension requires.
    """
    path = pick_path.path
    with opening(path):
        status = status_of(path)
        with open_to_read(path) as file:
            head = file.read(SLICE_BYTES)
            if len(head) == SLICE_BYTES:
                head += file.readline(LONGEST_LINE)
            digest = hashlib.sha256(head)
            found = _read_document(path, head, file, digest, maps)
            found = found or _find_lines(path, head, file, digest, maps)
    if found is None:
        return None
    layout, spans, run = found
    rows = sum(span.rows for span in spans)
    info = InputFile.of(path, status, rows, digest.hexdigest())
    if run:
        pick_path = replace(pick_path, micrograph=run)
    return PickFile(pick_path, info, layout, tuple(spans))


_Found = tuple[Layout | None, list[Span], str]


def _find_lines(
    path: Path, head: bytes, file: BufferedReader, digest: Any, maps: Sequence[ColumnMap]
) -> _Found | None:
    """Return the layout of a file, and the spans of its picks. Return None if the format is unknown."""
    header = recognise(head, path, maps) if head.strip() else None
    if header is None:
        return None if first_row(head) else (None, [], "")
    column_map = MAP_OF[header.layout.map]
    names = [name for name in header.layout.columns if name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"{path}: the column {twice} occurs more than once. Rename or remove one.")
    rest = (file, head, min(header.start, len(head)), digest)
    spans = find_spans(*rest, star=column_map.star, whole=column_map.helix)
    return _with_types(header.layout, head, spans), spans, ""


def _read_document(
    path: Path, head: bytes, file: BufferedReader, digest: Any, maps: Sequence[ColumnMap]
) -> _Found | None:
    """Return the layout of a document, and the span of its picks. Return None if the file is no document."""
    found = parse_document(head, path, file, maps)
    if found is None:
        return None
    column_map, columns, content = found
    digest.update(content[len(head) :])
    rows = len(columns["x"])
    layout = Layout(column_map.name, tuple(columns))
    if not rows:
        return layout, [], ""
    elements = column_map.find_elements(content) if column_map.find_elements else []
    start, stop = (elements[0][0], elements[-1][1]) if elements else (0, len(content))
    run = str(columns["micrograph"][0]) if column_map.by_run else ""
    return layout, [Span(start, stop, rows)], run


def parse_document(
    head: bytes, path: Path, file: BufferedReader, maps: Sequence[ColumnMap]
) -> tuple[ColumnMap, Mapping[str, Any], bytes] | None:
    """Return the format, the columns and the content of a document. Return None if the file is no document.

    `head` are the bytes before the current position of `file`. If None is returned, this position is unchanged.
    """
    extension = path.suffix.lower()
    mine = [each for each in maps if each.parse and extension in each.extensions]
    if not mine or not head.strip():
        return None
    content = head + file.read()
    for column_map in mine:
        columns = column_map.parse(content, path) if column_map.parse else None
        if columns is not None:
            return column_map, columns, content
    file.seek(len(head))
    return None


def recognise(head: bytes, path: Path, maps: Sequence[ColumnMap]) -> Header | None:
    """Return the header of a file if the file has one of the formats `maps`, else None."""
    text = head if head.endswith(b"\n") else head + b"\n"
    extension = path.suffix.lower()
    mine = [each for each in maps if extension in each.extensions]
    found = (each.recognise(text, path) for each in mine)
    header = next((each for each in found if each is not None), None)
    if header is None and mine and mine[0].expected and first_row(head):
        check_text(head, path)
        line = first_row(head)[:60].decode(errors="replace")
        raise InputError(
            f"{path}: expected {mine[0].expected}; found {line!r}. "
            "Rename the file if it is in another format, or export the picks again."
        )
    return header


def _with_types(layout: Layout, head: bytes, spans: Sequence[Span]) -> Layout:
    """Set the attribute `text` of a layout. It has the columns with text in the first pick."""
    extra = layout.extra
    if not spans or not extra:
        return layout
    row = first_row(head, spans[0].start)
    values = row.split(layout.delimiter.encode()) if layout.delimiter else row.split()
    pairs = zip(layout.columns, values, strict=False)
    text = tuple(n for n, value in pairs if n in extra and not is_numeric(value.strip()))
    return replace(layout, text=text) if text else layout

"""Read the structure of a STAR file: its ``data_`` blocks with their tables and single values."""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.star.lines import (
    BLANKS,
    LONGEST_LINE,
    Span,
    check_line,
    find_spans,
    is_structure,
    line_error,
)
from dask_dedup.storage.files import open_to_read, status_of

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

_HEADER_LINE = re.compile(
    rb"(?i:data_)(?P<block>[^\s#]*)\s*(?:#.*)?"
    rb"|(?P<loop>(?i:loop_))\s*(?:#.*)?"
    rb"|_(?P<label>[^\s#]+)(?:\s+(?P<value>[^\s#].*?))?\s*(?:#.*)?"
)
#: Messages quote this many bytes of a line.
_QUOTED = 40


@dataclass(frozen=True, slots=True)
class Loop:
    """A table.

    Attributes
    ----------
    block : str
        Name of the ``data_`` block, without that prefix.
    labels : tuple of str
        Without the leading underscore, in the order of the values.
    span : Span
        All rows; of an empty table, an empty span after its labels.
    spans : tuple of Span
        The same rows, split into spans of about the size of a fragment.
    """

    block: str
    labels: tuple[str, ...]
    span: Span
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A label with a single value, outside a loop; the value may still have its quotes."""

    block: str
    label: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """The structure of a file.

    Attributes
    ----------
    loops : tuple of Loop
    items : tuple of Item
    fingerprint : str
        SHA-256 that covers the file's size and all bytes.
    """

    loops: tuple[Loop, ...]
    items: tuple[Item, ...]
    fingerprint: str


def read_layout(path: Path) -> Layout:
    """Read a file once, tables in parallel, and return its structure.

    Raises
    ------
    InputError
        If the file is not a STAR file; names the line.
    """
    size, offset = status_of(path).st_size, 0
    scan = _Scan(path, size, hashlib.sha256(str(size).encode()))
    with open_to_read(path) as file:
        _check_text(path, file.read(2**16))
        file.seek(0)
        while line := file.readline(LONGEST_LINE + 1):
            check_line(path, offset, line)
            text = (line if offset else line.removeprefix(codecs.BOM_UTF8)).strip(BLANKS)
            idle = not text or text.startswith(b"#")
            if scan.labels and not idle and not is_structure(text):
                offset = scan.add_rows(offset)
                file.seek(offset)
                continue
            scan.digest.update(line)
            if not idle:
                scan.add_header_line(text, offset, offset + len(line))
            offset += len(line)
    scan.end_labels()
    return Layout(tuple(scan.loops), tuple(scan.items), scan.digest.hexdigest())


def _check_text(path: Path, begin: bytes) -> None:
    problem = None
    if not begin:
        problem = "the file is empty"
    elif begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        problem = "the file is UTF-16 text. Save it as UTF-8."
    elif b"\0" in begin:
        problem = "a binary file, not a STAR file"
    if problem:
        raise InputError(f"{path}: {problem}")


@dataclass(slots=True)
class _Scan:
    """The structure found so far; `labels` is a list between ``loop_`` and its rows, else None."""

    path: Path
    size: int
    digest: Any
    loops: list[Loop] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    block: str = ""
    in_block: bool = False
    labels: list[str] | None = None
    labels_stop: int = 0

    def add_rows(self, start: int) -> int:
        """Add the table whose first row is at `start`; return the offset of what follows it."""
        spans, stop = find_spans(self.path, start, self.size, self.digest)
        span = Span(self.path, start, spans[-1].stop, 0, sum(each.rows for each in spans))
        self.loops.append(Loop(self.block, tuple(self.labels or ()), span, spans))
        self.labels = None
        return stop

    def add_header_line(self, text: bytes, start: int, stop: int) -> None:
        """Add a line outside the rows."""
        header = _HEADER_LINE.fullmatch(text)
        if header is None or (not self.in_block and header["block"] is None):
            found = text[:_QUOTED].decode(errors="replace")
            problem = f"not STAR: expected data_, loop_ or a label, found {found!r}"
            raise line_error(self.path, start, problem)
        value = header["value"] or b""
        if header["label"] is not None and self.labels is not None and not value:
            self.labels.append(self._decode(header["label"], start))
            self.labels_stop = stop
            return
        if self.labels == [] and value:
            raise line_error(self.path, start, "the label of a loop is followed by a value")
        self.end_labels()
        if header["block"] is not None:
            self.block, self.in_block = self._decode(header["block"], start), True
        elif header["loop"]:
            self.labels = []
        else:
            label = self._decode(header["label"], start)
            self.items.append(Item(self.block, label, value))

    def end_labels(self) -> None:
        """Add an empty table if labels have just ended without rows."""
        if self.labels:
            empty = Span(self.path, self.labels_stop, self.labels_stop, 0, 0)
            self.loops.append(Loop(self.block, tuple(self.labels), empty, ()))
        self.labels = None

    def _decode(self, name: bytes, offset: int) -> str:
        try:
            text = name.decode()
        except UnicodeDecodeError as error:
            problem = f"the name {name!r} is not UTF-8 text"
            raise line_error(self.path, offset, problem) from error
        if not text.isprintable():
            problem = f"the name {text!r} has unprintable characters"
            raise line_error(self.path, offset, problem)
        return text

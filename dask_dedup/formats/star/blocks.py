"""What lies where in a STAR file: its ``data_`` blocks, their tables and single values."""

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
    Stretch,
    at_line,
    check_line,
    find_stretches,
    is_structure,
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


#: Of a line that is no STAR so many bytes are shown.
_QUOTED = 40


@dataclass(frozen=True, slots=True)
class Loop:
    """A table of many rows.

    Attributes
    ----------
    block : str
        Name of the ``data_`` block, without that prefix.
    labels : tuple of str
        Without the leading underscore, in the order of the values.
    start, stop : int
        The bytes of its rows; for a table of no rows, both are the end of its labels.
    stretches : tuple of Stretch
    """

    block: str
    labels: tuple[str, ...]
    start: int
    stop: int
    stretches: tuple[Stretch, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(stretch.rows for stretch in self.stretches)


@dataclass(frozen=True, slots=True)
class Item:
    """A label with its one value, as blocks without a loop have them; quotes are still on."""

    block: str
    label: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies where in a file.

    Attributes
    ----------
    loops : tuple of Loop
    items : tuple of Item
    fingerprint : str
        Hash of the file's size and all of its bytes: SHA-256 over the lines outside tables and the
        SHA-256 of each stretch of a table.
    """

    loops: tuple[Loop, ...]
    items: tuple[Item, ...]
    fingerprint: str


def survey(path: Path) -> Layout:
    """Read a file once from end to end, the rows in parallel, and note what lies where.

    Raises
    ------
    InputError
        If the file is not a STAR file; names the line.
    """
    size, at = status_of(path).st_size, 0
    scan = _Scan(path, size, hashlib.sha256(str(size).encode()))
    with open_to_read(path) as file:
        if not size:
            raise InputError(f"{path}: the file is empty")
        begin = file.read(2**16)
        if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{path}: is UTF-16 text; save it as UTF-8")
        if b"\0" in begin:
            raise InputError(f"{path}: a binary file, not a STAR file")
        if b"\r" in begin and b"\n" not in begin:
            raise InputError(f"{path}: its lines end in CR alone; convert it: tr '\\r' '\\n'")
        file.seek(0)
        while line := file.readline(LONGEST_LINE + 1):
            check_line(path, at, line)
            text = (line.removeprefix(b"\xef\xbb\xbf") if at == 0 else line).strip(BLANKS)
            idle = not text or text.startswith(b"#")
            if scan.labels and not idle and not is_structure(text):
                at = scan.take_rows(at)
                file.seek(at)
                continue
            scan.digest.update(line)
            if not idle:
                scan.take_header(text, at, at + len(line))
            at += len(line)
    scan.end_labels()
    return Layout(tuple(scan.loops), tuple(scan.items), scan.digest.hexdigest())


@dataclass(slots=True)
class _Scan:
    """What was found so far; `labels` is not None between ``loop_`` and its rows."""

    path: Path
    size: int
    digest: Any
    loops: list[Loop] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    block: str | None = None
    labels: list[str] | None = None
    labels_stop: int = 0

    def take_rows(self, start: int) -> int:
        """Note a table whose first row begins at `start`; gives what follows its rows."""
        stretches, stop = find_stretches(self.path, start, self.size, self.digest)
        labels = tuple(self.labels or ())
        self.loops.append(Loop(str(self.block), labels, start, stretches[-1].stop, stretches))
        self.labels = None
        return stop

    def take_header(self, text: bytes, start: int, stop: int) -> None:
        """Note a line outside the rows."""
        header = _HEADER_LINE.fullmatch(text)
        found = text[:_QUOTED].decode(errors="replace")
        if header is None or (self.block is None and header["block"] is None):
            raise at_line(
                self.path, start, f"not STAR: expected data_, loop_ or a label, found {found!r}"
            )
        value = header["value"] or b""
        if header["label"] is not None and self.labels is not None and not value:
            self.labels.append(self._text(header["label"], start))
            self.labels_stop = stop
            return
        if self.labels == [] and value:
            raise at_line(self.path, start, "the label of a loop is followed by a value")
        self.end_labels()
        if header["block"] is not None:
            self.block = self._text(header["block"], start)
        elif header["loop"]:
            self.labels = []
        else:
            label = self._text(header["label"], start)
            self.items.append(Item(str(self.block), label, value))

    def end_labels(self) -> None:
        """Note the table of no rows whose labels have just ended, if so."""
        if self.labels:
            stop = self.labels_stop
            self.loops.append(Loop(str(self.block), tuple(self.labels), stop, stop, ()))
        self.labels = None

    def _text(self, name: bytes, at: int) -> str:
        try:
            text = name.decode()
        except UnicodeDecodeError as error:
            raise at_line(self.path, at, f"the name {name!r} is not UTF-8 text") from error
        if not text.isprintable():
            raise at_line(self.path, at, f"the name {text!r} has unprintable characters")
        return text

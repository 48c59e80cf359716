"""Read the structure of a STAR file: its ``data_`` blocks with their tables and single values."""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.base import EmptyTableError
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

_HEADER_LINE = re.compile(
    rb"(?i:data_)(?P<block>[^\s#]*)\s*(?:#.*)?"
    rb"|(?P<loop>(?i:loop_))\s*(?:#.*)?"
    rb"|_(?P<label>[^\s#]+)(?:\s+(?P<value>[^\s#].*?))?\s*(?:#.*)?"
)
#: Maximum number of bytes of a line that messages quote.
_QUOTED = 40
#: RELION's file with the path of a micrograph table. It is no STAR file.
_COORDS_SUFFIX = "coords_suffix_"


@dataclass(frozen=True, slots=True)
class Loop:
    """A table (``loop_``) in a STAR file.

    Attributes
    ----------
    block : str
        Name of the block, without ``data_``.
    labels : tuple of str
        Labels without the leading underscore, in the order of the columns.
    spans : tuple of Span
        The rows, in spans of about `fragment_bytes`. An empty table has one empty span.
    """

    block: str
    labels: tuple[str, ...]
    spans: tuple[Span, ...]

    @property
    def span(self) -> Span:
        """Span of all rows of the table."""
        first, last = self.spans[0], self.spans[-1]
        return Span(first.path, first.start, last.stop, 0, sum(span.rows for span in self.spans))


class Layout:
    """The tables and single values of a STAR file. The file is read once.

    Attributes
    ----------
    loops : list of Loop
    items : dict of str to dict of str to bytes
        For each block, the values of labels outside a loop. Quotes are not removed.
    digest : hashlib object
        SHA-256 of the file's size and all bytes.
    """

    def __init__(self, path: Path) -> None:
        self.loops: list[Loop] = []
        self.items: dict[str, dict[str, bytes]] = {}
        self._path, self._size = path, status_of(path).st_size
        self.digest = hashlib.sha256(str(self._size).encode())
        self._block: str | None = None
        #: Labels of the current table. None outside a table's header.
        self._labels: list[str] | None = None
        self._labels_stop = 0
        self._read()

    def _read(self) -> None:
        """Read the complete STAR file. The rows of each table are scanned in parallel."""
        offset = 0
        with open_to_read(self._path) as file:
            self._check_text(file.read(2**16))
            file.seek(0)
            while line := file.readline(LONGEST_LINE + 1):
                check_line(self._path, offset, line)
                text = (line if offset else line.removeprefix(codecs.BOM_UTF8)).strip(BLANKS)
                is_skipped = not text or text.startswith(b"#")
                if self._labels and not is_skipped and not is_structure(text):
                    spans, offset = find_spans(self._path, offset, self._size, self.digest)
                    self._end_loop(spans)
                    file.seek(offset)
                    continue
                self.digest.update(line)
                if not is_skipped:
                    self._add_header_line(text, offset, offset + len(line))
                offset += len(line)
        self._end_loop()

    def _check_text(self, begin: bytes) -> None:
        problem = None
        if not begin:
            raise EmptyTableError(f"{self._path}: the file is empty")
        if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            problem = "the file is UTF-16 text. Save it as UTF-8."
        elif b"\0" in begin:
            problem = "a binary file, not a STAR file"
        if problem:
            raise InputError(f"{self._path}: {problem}")

    def _add_header_line(self, text: bytes, start: int, stop: int) -> None:
        """Parse a header line: ``data_name``, ``loop_`` or ``_label`` with an optional value."""
        header = _HEADER_LINE.fullmatch(text)
        if header is None or (self._block is None and header["block"] is None):
            if self._path.name.startswith(_COORDS_SUFFIX):
                raise InputError(
                    f"{self._path}: has the micrographs of a job, not its picks. Pass the job's files that end in "
                    f"_{self._path.name.removeprefix(_COORDS_SUFFIX)}."
                )
            found = text[:_QUOTED].decode(errors="replace")
            problem = f"not STAR: expected data_, loop_ or a label, found {found!r}"
            raise line_error(self._path, start, problem)
        value = header["value"] or b""
        if header["label"] is not None and self._labels is not None and not value:
            self._labels.append(self._decode(header["label"], start))
            self._labels_stop = stop
            return
        if self._labels == [] and value:
            raise line_error(self._path, start, "the label of a loop is followed by a value")
        self._end_loop()
        if header["block"] is not None:
            self._block = self._decode(header["block"], start)
        elif header["loop"]:
            self._labels = []
        else:
            items = self.items.setdefault(self._block or "", {})
            label = self._decode(header["label"], start)
            if items.setdefault(label, value) != value and self._block == "optics":
                problem = f"the label _{label} occurs more than once in data_optics"
                raise line_error(self._path, start, problem)

    def _end_loop(self, spans: tuple[Span, ...] = ()) -> None:
        """If a table was begun, add it to `loops`. Without `spans`, the table has no rows."""
        if self._labels:
            empty = Span(self._path, self._labels_stop, self._labels_stop, 0, 0)
            self.loops.append(Loop(self._block or "", tuple(self._labels), spans or (empty,)))
        self._labels = None

    def _decode(self, name: bytes, offset: int) -> str:
        text = name.decode(errors="replace")
        if "\ufffd" in text or not text.isprintable():
            problem = f"the name {name!r} is not UTF-8 text, or has unprintable characters"
            raise line_error(self._path, offset, problem)
        return text

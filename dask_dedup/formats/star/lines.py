"""Find the rows of a STAR table and group them into spans.

A line is blank, a comment (``#``), structure (``data_name``, ``loop_``, ``_label``) or a row. A line such as
``data_001.mrc 12.0 7.5`` is a row, although it begins like structure.
"""

from __future__ import annotations

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formats.base import changed_error, fragment_bytes
from dask_dedup.storage.files import open_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any, BinaryIO

    from numpy.typing import NDArray

#: Size of the fragments of small tables.
FRAGMENT_BYTES = 32 * 2**20
#: Block size for the processing of text. The NumPy arrays for a block fit in the processor's cache.
BLOCK_BYTES = 2**20
#: Maximum length of a line. Longer lines raise an error.
LONGEST_LINE = 2**20
#: More threads would mostly wait for Python's global interpreter lock.
_MOST_THREADS = min(4, os.cpu_count() or 1)
_THREADS = ContextVar("threads", default=_MOST_THREADS)
_NUL = "a NUL byte; the file is damaged"

#: The white space of STAR files.
BLANKS = bytes(range(33))
#: Kinds of lines, by first character.
_ROW, _SPACE, _NEWLINE, _COMMENT, _CANDIDATE = range(5)
_KIND = np.full(256, _ROW, dtype=np.uint8)
_KIND[:33] = _SPACE
_KIND[10] = _NEWLINE
_KIND[ord("#")] = _COMMENT
_KIND[[ord(character) for character in "dDlL_;"]] = _CANDIDATE

_STRUCTURE = re.compile(
    rb"(?i:data_\S*|loop_)\s*(?:#.*)?"
    rb"|_\S+(?:\s+(?:'.*'|\".*\"|[^\s#]\S*))?\s*(?:#.*)?"
)


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive rows of a STAR table, as a byte range of complete lines in the file.

    Blank lines and comments among the rows belong to the row before them.

    Attributes
    ----------
    start, stop : int
        Byte range in the file.
    first_row : int
        Number of the first row in the table, from 0.
    """

    path: Path
    start: int
    stop: int
    first_row: int
    rows: int

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Yield the byte offset in the file and the text of each block of complete lines."""
        offset = self.start
        with open_to_read(self.path) as file:
            file.seek(offset)
            for block in read_lines(file, self.stop - offset):
                yield offset, block
                offset += len(block)

    def error(self, row: int, problem: str) -> InputError:
        """Return an `InputError` about a row of the span. The message names the row's line."""
        number = self.first_row + row
        for offset, block in self.blocks():
            starts, _ = find_rows(block, self.path, offset)
            if row < starts.size:
                line = line_number(self.path, offset + int(starts[row]))
                return InputError(f"{self.path}: row {number} (line {line}) {problem}")
            row -= starts.size
        raise IndexError(number)


def is_structure(line: bytes) -> bool:
    """Return whether a line (without newline) is ``data_name``, ``loop_`` or ``_label``. Such a line ends a table."""
    return _STRUCTURE.fullmatch(line.strip(BLANKS)) is not None


def read_lines(file: BinaryIO, length: int) -> Iterator[bytes]:
    """Read the next `length` bytes of a file in blocks of complete lines.

    Each block ends with a newline. If the last line of the file has no newline, it is added.
    """
    while length > 0:
        block = file.read(min(BLOCK_BYTES, length))
        if not block:
            raise changed_error(file.name)
        if not block.endswith(b"\n"):
            block += file.readline(length - len(block)) if len(block) < length else b""
        length -= len(block)
        yield block if block.endswith(b"\n") else block + b"\n"


def find_rows(block: bytes, path: Path, offset: int) -> tuple[NDArray[np.intp], int]:
    """Find the start of each row in a block of lines, and the end of the table.

    Parameters
    ----------
    block : bytes
        Complete lines. Each ends with a newline.
    path, offset
        Path of the file, and offset of the block in the file, for messages.

    Returns
    -------
    starts : (rows,) intp
        Offset of each row in the block.
    stop : int
        Offset in the block of the line that ends the table. If the table does not end, the length of the block.
    """
    characters = np.frombuffer(block, dtype=np.uint8)
    newlines = np.flatnonzero(characters == 10)
    starts = np.concatenate([[0], newlines[:-1] + 1])
    too_long = newlines - starts >= LONGEST_LINE
    if too_long.any():
        raise _long_line_error(path, offset + int(starts[too_long.argmax()]))
    first = starts.copy()
    kind = _KIND[characters[first]]
    indented = np.flatnonzero(kind == _SPACE)
    while indented.size:
        first[indented] += 1
        kind[indented] = _KIND[characters[first[indented]]]
        indented = indented[kind[indented] == _SPACE]
    stop = len(block)
    candidates = np.flatnonzero(kind == _CANDIDATE)
    begin = characters[first[candidates]]
    # This quick test excludes paths such as data/1.mrc.
    fifth = characters[np.minimum(first[candidates] + 4, characters.size - 1)]
    possible = (begin == ord("_")) | (begin == ord(";")) | (fifth == ord("_"))
    for line in candidates[possible].tolist():
        start = int(starts[line])
        if characters[start] == ord(";"):
            problem = "multi-line text (between lines that begin with ;) is not supported"
            raise line_error(path, offset + start, problem)
        if is_structure(block[first[line] : newlines[line]]):
            stop = start
            starts, kind = starts[:line], kind[:line]
            break
    return starts[(kind == _ROW) | (kind == _CANDIDATE)], stop


def line_number(path: Path, offset: int) -> int:
    """Return the number, from 1, of the line at a byte offset in a file."""
    number = 1
    with open_to_read(path) as file:
        while offset > 0 and (block := file.read(min(BLOCK_BYTES, offset))):
            number += block.count(b"\n")
            offset -= len(block)
    return number


def line_error(path: Path, offset: int, problem: str) -> InputError:
    """Return an `InputError` about the line at a byte offset in a file."""
    return InputError(f"{path}: line {line_number(path, offset)}: {problem}")


def _long_line_error(path: Path, offset: int) -> InputError:
    problem = f"longer than {LONGEST_LINE:,} bytes; this is not a STAR file, or it is damaged"
    return line_error(path, offset, problem)


def check_line(path: Path, offset: int, line: bytes) -> None:
    """Raise an error if a line is too long or has a NUL byte."""
    if len(line) > LONGEST_LINE:
        raise _long_line_error(path, offset)
    if b"\0" in line:
        raise line_error(path, offset, _NUL)


@contextmanager
def scanning_with(threads: int | None) -> Iterator[None]:
    """Scan files with at most this many threads within the context."""
    before = _THREADS.set(min(threads or _MOST_THREADS, _MOST_THREADS))
    try:
        yield
    finally:
        _THREADS.reset(before)


def find_spans(path: Path, start: int, size: int, digest: Any) -> tuple[tuple[Span, ...], int]:
    """Scan the rows of a table in parallel. Return the spans and the byte offset where the table ends.

    The rows begin at byte `start`, and the file has `size` bytes. The SHA-256 of each scanned part is added to
    `digest`.
    """
    parts: list[Span] = []
    table_stop: int | None = None
    with ThreadPoolExecutor(_THREADS.get()) as pool:
        ranges = _split_at_lines(path, start, size)
        for part, table_stop, part_digest in pool.map(lambda bounds: _scan(path, *bounds), ranges):
            digest.update(part_digest)
            if part.rows:
                parts.append(part)
            if table_stop is not None:
                break  # cancels scans that were not started yet
    first_rows = accumulate((part.rows for part in parts), initial=0)
    stops = [part.start for part in parts[1:]] + [min(parts[-1].stop, size)]
    spans = tuple(
        Span(path, part.start, stop, first_row, part.rows)
        for part, stop, first_row in zip(parts, stops, first_rows, strict=False)
    )
    return spans, size if table_stop is None else table_stop


def _split_at_lines(path: Path, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Split a file from byte `start` on. Each range has complete lines and about `fragment_bytes` bytes."""
    target = fragment_bytes(size - start, FRAGMENT_BYTES)
    with open_to_read(path) as file:
        while start < size:
            stop = min(start + target, size)
            file.seek(stop - 1)
            rest = file.readline(LONGEST_LINE + 1)
            if len(rest) > LONGEST_LINE:
                raise _long_line_error(path, stop)
            stop += len(rest) - 1
            yield start, stop
            start = stop


def _scan(path: Path, start: int, stop: int) -> tuple[Span, int | None, bytes]:
    """Scan a byte range for rows.

    Return the span of the rows, the offset of the end of the table, and the SHA-256 of the bytes. If the table
    continues after the range, the offset is None.
    """
    rows, first, last_stop, offset, table_stop = 0, 0, 0, start, None
    digest = hashlib.sha256()
    with open_to_read(path) as file:
        file.seek(start)
        for block in read_lines(file, stop - start):
            if b"\0" in block:
                raise line_error(path, offset + block.index(b"\0"), _NUL)
            starts, length = find_rows(block, path, offset)
            if starts.size:
                first = first if rows else offset + int(starts[0])
                last_stop = offset + block.index(b"\n", int(starts[-1])) + 1
                rows += starts.size
            digest.update(block[:length])
            offset += length
            if length < len(block):
                table_stop = offset
                break
    return Span(path, first, last_stop, 0, rows), table_stop, digest.digest()

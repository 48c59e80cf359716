"""The lines of a STAR table's rows: which lines are rows, where a table ends, stretches of rows to work on.

A line is blank, a comment (``#``), structure (``data_name``, ``loop_``, ``_label``) or a row. A line that merely
begins like structure, such as ``data_001.mrc 12.0 7.5``, is a row.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError, RunError
from dask_dedup.storage.files import open_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any, BinaryIO

    from numpy.typing import NDArray

#: A stretch of rows has about so many bytes: several fit in memory, yet few tasks do the job.
FRAGMENT_BYTES = 32 * 2**20
#: So much is looked at in one go: what NumPy makes of it stays in the processor's cache.
BLOCK_BYTES = 2**20
#: A line longer than this is taken for a sign that the file is no STAR file.
LONGEST_LINE = 2**20
#: More threads than processors, or many of them, mostly wait for the interpreter's lock.
_THREADS = min(4, os.cpu_count() or 1)
#: Stretches looked at ahead of the one that is waited for.
_AHEAD = 4 * _THREADS

_ROW, _SPACE, _NEWLINE, _COMMENT, _DOUBTFUL = range(5)
_KIND = np.full(256, _ROW, dtype=np.uint8)
_KIND[:33] = _SPACE
_KIND[10] = _NEWLINE
_KIND[ord("#")] = _COMMENT
_KIND[[ord(character) for character in "dDlL_;"]] = _DOUBTFUL

_ENDS_ROWS = re.compile(
    rb"(?i:data_\S*|loop_)\s*(?:#.*)?"
    rb"|_\S+(?:\s+(?:'.*'|\".*\"|[^\s#]\S*))?\s*(?:#.*)?"
)


#: What stands between values, to every part of the reader.
BLANKS = bytes(range(33))


def is_structure(line: bytes) -> bool:
    """Tell whether a line among rows ends them; `line` has no newline."""
    return _ENDS_ROWS.fullmatch(line.strip(BLANKS)) is not None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive rows: the bytes from the first row's line to the end of the last one's.

    Blank lines and comments among the rows belong to the row before them.
    """

    start: int
    stop: int
    rows: int


def whole_lines(file: BinaryIO, length: int) -> Iterator[bytes]:
    """Give the next `length` bytes of a file in blocks of whole lines, each ended by a newline.

    The last line gets its newline here if the file has none.
    """
    while length > 0:
        block = file.read(min(BLOCK_BYTES, length))
        if not block:
            raise RunError(f"{file.name}: has become shorter meanwhile; run again")
        if not block.endswith(b"\n"):
            block += file.readline(length - len(block)) if len(block) < length else b""
        length -= len(block)
        yield block if block.endswith(b"\n") else block + b"\n"


def find_rows(block: bytes, path: Path, at: int) -> tuple[NDArray[np.intp], int]:
    """Tell which lines are rows.

    Parameters
    ----------
    block : bytes
        Whole lines, each ended by a newline.
    path, at : Path, int
        Where the block lies, for messages.

    Returns
    -------
    starts : (rows,) intp
        Of the rows' lines in the block.
    stop : int
        Start of the line that ends the table; the length of the block if none does.
    """
    characters = np.frombuffer(block, dtype=np.uint8)
    newlines = np.flatnonzero(characters == 10)
    starts = np.concatenate([[0], newlines[:-1] + 1])
    too_long = newlines - starts >= LONGEST_LINE
    if too_long.any():
        raise _endless(path, at + int(starts[too_long.argmax()]))
    first = starts.copy()
    kind = _KIND[characters[first]]
    indented = np.flatnonzero(kind == _SPACE)
    while indented.size:
        first[indented] += 1
        kind[indented] = _KIND[characters[first[indented]]]
        indented = indented[kind[indented] == _SPACE]
    stop = len(block)
    for line in _doubtful_lines(characters, first, kind).tolist():
        if characters[starts[line]] == ord(";"):
            raise at_line(path, at + int(starts[line]), "a text field (;) is not supported here")
        if is_structure(block[first[line] : newlines[line]]):
            stop = int(starts[line])
            starts, kind = starts[:line], kind[:line]
            break
    return starts[(kind == _ROW) | (kind == _DOUBTFUL)], stop


def line_number(path: Path, at: int) -> int:
    """Give the number, from 1, of the line that holds a byte."""
    number = 1
    with open_to_read(path) as file:
        while at > 0 and (block := file.read(min(BLOCK_BYTES, at))):
            number += block.count(b"\n")
            at -= len(block)
    return number


def line_of_row(path: Path, stretch: tuple[int, int], row: int) -> int:
    """Give the number, from 1, of the line that holds a row, counted from 0 in its stretch."""
    at, stop = stretch
    with open_to_read(path) as file:
        file.seek(at)
        for block in whole_lines(file, stop - at):
            starts, _ = find_rows(block, path, at)
            if row < starts.size:
                return line_number(path, at + int(starts[row]))
            row -= starts.size
            at += len(block)
    raise IndexError(row)


def at_line(path: Path, at: int, what: str) -> InputError:
    """Make the error about the line that holds a byte."""
    return InputError(f"{path}: line {line_number(path, at)}: {what}")


def _doubtful_lines(
    characters: NDArray[np.uint8], first: NDArray[np.intp], kind: NDArray[np.uint8]
) -> NDArray[np.intp]:
    """Narrow the lines that begin like structure; a first column of ``data/1.mrc`` makes them many."""
    lines = np.flatnonzero(kind == _DOUBTFUL)
    begin = characters[first[lines]]
    fifth = characters[np.minimum(first[lines] + 4, characters.size - 1)]
    keyword = (begin != ord("_")) & (begin != ord(";"))
    return np.asarray(lines[~keyword | (fifth == ord("_"))])


@dataclass(frozen=True, slots=True)
class _Part:
    """What one thread found.

    Attributes
    ----------
    rows : int
    first, last_stop : int
        Start of the first row's line, end of the last one's.
    table_stop : int or None
        Where the table ends, if it ends here.
    digest : bytes
    """

    rows: int
    first: int
    last_stop: int
    table_stop: int | None
    digest: bytes


def find_stretches(
    path: Path, start: int, size: int, digest: Any
) -> tuple[tuple[Stretch, ...], int]:
    """Look at the table whose rows begin at `start`, in parallel.

    Parameters
    ----------
    path : Path
    start, size : int
        Where the first row's line begins, and the size of the file.
    digest : hashlib object
        Updated by the SHA-256 of each stretch.

    Returns
    -------
    stretches : tuple of Stretch
    stop : int
        Where the table ends, what follows it begins.
    """
    parts: list[_Part] = []
    cuts = _cuts(path, start, size)
    with ThreadPoolExecutor(_THREADS) as pool:
        running = deque(pool.submit(_look_at, path, *cut) for cut in islice(cuts, _AHEAD))
        while running:
            part = running.popleft().result()
            digest.update(part.digest)
            if part.rows:
                parts.append(part)
            if part.table_stop is not None:
                for future in running:
                    future.cancel()
                break
            running.extend(pool.submit(_look_at, path, *cut) for cut in islice(cuts, 1))
    stops = [part.first for part in parts[1:]] + [min(parts[-1].last_stop, size)]
    stretches = tuple(
        Stretch(part.first, stop, part.rows) for part, stop in zip(parts, stops, strict=True)
    )
    return stretches, size if part.table_stop is None else part.table_stop


def _cuts(path: Path, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut a range of a file at line ends into parts of about `FRAGMENT_BYTES`."""
    with open_to_read(path) as file:
        while start < size:
            stop = min(start + FRAGMENT_BYTES, size)
            file.seek(stop - 1)
            rest = file.readline(LONGEST_LINE + 1)
            if len(rest) > LONGEST_LINE:
                raise _endless(path, stop)
            stop += len(rest) - 1
            yield start, stop
            start = stop


def _look_at(path: Path, start: int, stop: int) -> _Part:
    rows, first, last_stop, at = 0, 0, 0, start
    digest = hashlib.sha256()
    with open_to_read(path) as file:
        file.seek(start)
        for block in whole_lines(file, stop - start):
            if b"\0" in block:
                raise at_line(path, at + block.index(b"\0"), "a NUL byte; the file is damaged")
            starts, table_stop = find_rows(block, path, at)
            if starts.size:
                first = first if rows else at + int(starts[0])
                last_stop = at + block.index(b"\n", int(starts[-1])) + 1
                rows += starts.size
            if table_stop < len(block):
                digest.update(block[:table_stop])
                return _Part(rows, first, last_stop, at + table_stop, digest.digest())
            digest.update(block)
            at += len(block)
    return _Part(rows, first, last_stop, None, digest.digest())


def check_line(path: Path, at: int, line: bytes) -> None:
    """Refuse a line that no STAR file has."""
    if len(line) > LONGEST_LINE:
        raise _endless(path, at)
    if b"\0" in line:
        raise at_line(path, at, "a NUL byte; the file is damaged")


def _endless(path: Path, at: int) -> InputError:
    return at_line(path, at, f"longer than {LONGEST_LINE} bytes, which no row of a STAR file is")

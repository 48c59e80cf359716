"""Lines of pick files: find the start of tables, the lines with picks, and the end of the picks.

A file has a header, lines, and a tail. A line is a pick unless it is blank or a comment (``#``). Other lines are
copied to the kept and to the rejected file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, pairwise
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formats.base import changed_error, opening
from dask_dedup.storage.files import open_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

#: Maximum size of a slice. A larger file has several slices.
SLICE_BYTES = 8 * 2**20
#: A file with a longer line is no pick file.
LONGEST_LINE = 2**20

_NEWLINE, _SPACE, _COMMENT = ord("\n"), ord(" "), ord("#")
#: A line that ends a STAR table: the start of a block, or a label with at most one value. Rows have more values.
_STRUCTURE = re.compile(
    rb"^[ \t]*(?:data_\S*|loop_|_\S+(?:[ \t]+(?:'[^'\n]*'|\"[^\"\n]*\"|[^\s#]\S*))?)[ \t]*(?:#[^\n]*)?\r?$",
    re.MULTILINE | re.IGNORECASE,
)

#: The start of a ``data_`` block with one table: name and labels. The rows follow.
_LOOP = re.compile(
    rb"[ \t]*data_(\S*)(?:[ \t][^\n]*)?\r?\n(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*loop_[^\n]*\n"
    rb"((?:[ \t]*(?:_\S+[ \t]*)?(?:#[^\n]*)?\r?\n)+)",
    re.IGNORECASE,
)
_LABELS = re.compile(rb"^[ \t]*_(\S+)", re.MULTILINE)
#: The format is detected from this many bytes at the beginning of a file.
HEAD_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Span:
    """Byte range of complete lines of a file, and the number of picks in these lines."""

    start: int
    stop: int
    rows: int


def read_head(path: Path) -> bytes:
    """Read the first bytes of a file, to detect its format."""
    with opening(path), open_to_read(path) as file:
        return file.read(HEAD_BYTES)


@lru_cache(maxsize=16)  # several formats look at each file
def star_loops(head: bytes) -> tuple[tuple[str, tuple[str, ...], int], ...]:
    """Return the tables at the beginning of a STAR file: block name, labels and first byte of the rows."""
    found = []
    lower, start = head.lower(), 0
    # A search for the complete pattern would be tried at every row.
    while (start := lower.find(b"data_", start)) >= 0:
        line = head.rfind(b"\n", 0, start) + 1
        loop = _LOOP.match(head, line) if not head[line:start].strip() else None
        if loop:
            labels = tuple(label.decode(errors="replace") for label in _LABELS.findall(loop[2]))
            found.append((loop[1].decode(errors="replace"), labels, loop.end()))
        start = loop.end() if loop else head.find(b"\n", start) + 1 or len(head)
    return tuple(found)


def first_row(head: bytes, start: int = 0) -> bytes:
    """Return the first line from byte `start` on that is not blank and not a comment. Outer blanks are removed."""
    while start < len(head):
        stop = head.find(b"\n", start) + 1 or len(head)
        line = head[start:stop].strip()
        if line and not line.startswith(b"#"):
            return line
        start = stop
    return b""


def find_lines(block: bytes) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Find the lines of a block, and the lines that are picks.

    Returns
    -------
    starts : (lines,) intp
        First byte of each line. The last line may lack its newline.
    is_pick : (lines,) bool
    """
    characters = np.frombuffer(block, dtype=np.uint8)
    newlines = np.flatnonzero(characters == _NEWLINE)
    stops = newlines + 1
    if not stops.size or stops[-1] < len(block):
        stops = np.append(stops, len(block))
    starts = np.empty_like(stops)
    starts[:1] = 0
    starts[1:] = stops[:-1]
    # `first` is the index of the first character of a line that is no blank. If the line is blank, it is in a later
    # line.
    not_blank = np.flatnonzero(characters > _SPACE)
    index = np.searchsorted(not_blank, starts)
    if index.size and index[-1] == not_blank.size:
        not_blank = np.append(not_blank, len(block))
    first = not_blank[index]
    is_pick = first < stops
    if b"#" in block:
        is_pick[is_pick] = characters[first[is_pick]] != _COMMENT
    return starts, is_pick


def check_text(block: bytes, name: str | Path) -> None:
    """Raise `InputError` if a file has NUL bytes."""
    if b"\0" in block:
        raise InputError(
            f"{name}: has NUL bytes: a binary file, a damaged file, or UTF-16 text. Save it as UTF-8."
        )


def cut_table(text: bytes) -> bytes:
    """Return the rows of a STAR table. `text` begins with the rows, and can continue after the table."""
    end = _STRUCTURE.search(text) if b"_" in text else None
    return text[: end.start()] if end else text


def pick_lines(block: bytes, starts: NDArray[np.intp], is_pick: NDArray[np.bool_]) -> bytes:
    """Return the lines of a block that are picks. Each ends with a newline."""
    block = block if block.endswith(b"\n") else block + b"\n"
    if is_pick.all():
        return block
    return b"".join(compress(split_lines(block, starts), is_pick.tolist()))


def split_lines(block: bytes, starts: NDArray[np.intp]) -> list[bytes]:
    """Split a block into its lines, which keep their newlines."""
    bounds = [*starts.tolist(), len(block)]
    return [block[start:stop] for start, stop in pairwise(bounds)]


def find_spans(
    file: BufferedReader, head: bytes, start: int, digest: Any, *, star: bool, whole: bool
) -> list[Span]:
    """Find the picks of a file, in spans of about `SLICE_BYTES`. Add the bytes after `head` to `digest`.

    Parameters
    ----------
    file : file
        The open file. Its position is after `head`.
    head : bytes
        The first bytes of the file, at most `SLICE_BYTES`.
    start : int
        First byte of the lines.
    star : bool
        Whether a line such as ``data_name`` or ``_label`` ends the picks.
    whole : bool
        Whether the file must have a single span.
    """
    spans: list[Span] = []
    offset, block = start, head[start:]
    more = len(head) >= SLICE_BYTES
    while True:
        if more:
            rest = file.read() if whole else file.readline(LONGEST_LINE)
            digest.update(rest)
            block += rest
            if not whole and rest and not rest.endswith(b"\n") and len(rest) == LONGEST_LINE:
                raise InputError(
                    f"{file.name}: a line is longer than {LONGEST_LINE:,} bytes, so this is no pick file. Leave the "
                    "file out, or export the picks again."
                )
        check_text(block, file.name)
        rows = cut_table(block) if star else block
        end, block = len(rows) < len(block), rows
        if block:
            starts, is_pick = find_lines(block)
            picks = np.flatnonzero(is_pick)
            if picks.size:
                last = int(picks[-1]) + 1
                stop = int(starts[last]) if last < starts.size else len(block)
                spans.append(Span(offset, offset + stop, int(picks.size)))
        offset += len(block)
        following = b"" if end or not more else file.read(SLICE_BYTES)
        digest.update(following)
        if not following:
            break
        block, more = following, len(following) == SLICE_BYTES
    for rest in iter(lambda: file.read(SLICE_BYTES), b""):
        digest.update(rest)
    # Comments between two spans belong to the first of them.
    stops = [span.start for span in spans[1:]] + [span.stop for span in spans[-1:]]
    return [Span(s.start, stop, s.rows) for s, stop in zip(spans, stops, strict=True)]


def read_span(path: Path, start: int, stop: int) -> bytes:
    """Read a byte range of a file. Raise `RunError` if the file is shorter."""
    try:
        with open_to_read(path, buffering=0) as file:
            file.seek(start)
            block: bytes = file.read(stop - start) if stop > start else b""
    except FileNotFoundError as error:
        raise changed_error(path) from error
    if len(block) != stop - start:
        raise changed_error(path)
    return block


def read_picks(path: Path, start: int, stop: int) -> bytes:
    """Read the picks in a byte range of a file, as lines. Each line ends with a newline."""
    block = read_span(path, start, stop)
    return pick_lines(block, *find_lines(block))


def number_lines(path: Path, start: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the line number, from 1, and the text of each pick of a block. The block begins at byte `start`."""
    before = read_span(path, 0, start).count(b"\n") if start else 0
    starts, is_pick = find_lines(block) if block else (np.empty(0, int), np.empty(0, bool))
    for number, (line, pick) in enumerate(
        zip(split_lines(block, starts), is_pick.tolist(), strict=True), before + 1
    ):
        if pick:
            yield number, line

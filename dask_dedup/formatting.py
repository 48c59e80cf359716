"""Format numbers, names, durations and small tables as text."""

from __future__ import annotations

import shlex
import time
from html import escape
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SINGULAR = {"have": "has", "are": "is", "were": "was", "occur": "occurs", "span": "spans"}


def counted(number: int, noun: str, verb_phrase: str = "") -> str:
    """Format a count with its noun and an optional verb phrase, in the singular if the count is 1.

    Examples
    --------
    >>> counted(2, "row", "have no uid"), counted(1, "row", "have no uid")
    ('2 rows have no uid', '1 row has no uid')
    >>> counted(1_000, "micrograph")
    '1,000 micrographs'
    """
    if number == 1:
        verb, _, rest = verb_phrase.partition(" ")
        verb_phrase = f"{_SINGULAR.get(verb, verb)} {rest}".strip()
    return f"{number:,} {noun}{'s' if number != 1 else ''} {verb_phrase}".rstrip()


def number_range(least: float, greatest: float, *, form: str = "g") -> str:
    """Format two numbers as a range, or as one number if both have the same text.

    Examples
    --------
    >>> number_range(0.5, 2), number_range(1.35, 1.3500001)
    ('0.5 to 2', '1.35')
    """
    return " to ".join(dict.fromkeys((f"{least:{form}}", f"{greatest:{form}}")))


def printable(text: str, length: int = 2000) -> str:
    r"""Escape line breaks and control characters. Replace the middle of text over `length` characters by ``...``.

    Examples
    --------
    >>> print(printable("mic\n\x1b[2J.mrc"))
    mic\n\x1b[2J.mrc
    >>> printable("micrograph" * 10, 20)
    'micrograph ... micrograph'
    """
    if len(text) > length:
        text = f"{text[: length // 2]} ... {text[-(length // 2) :]}"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def short_names(paths: Sequence[str], least: int = 1) -> list[str]:
    """Shorten paths to their last parts. Keep the smallest number of parts, from `least` on, that distinguishes them.

    Examples
    --------
    >>> short_names(["J7/extract/particles.cs", "J8/extract/particles.cs"])
    ['J7/extract/particles.cs', 'J8/extract/particles.cs']
    >>> short_names(["picks/blob", "picks/template"])
    ['blob', 'template']
    """
    parts = [PurePath(path).parts for path in paths]
    for depth in range(least, max(least, *map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number} {path}" for number, path in enumerate(paths, start=1)]


def duration(seconds: float) -> str:
    """Format seconds as text with one or two units, such as ``2 h 5 min``.

    Examples
    --------
    >>> duration(9.2), duration(75), duration(7500)
    ('9 s', '1 min 15 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(seconds: float) -> str:
    """Format a time in seconds since 1970 as local time, with the date unless it is today."""
    then, today = time.localtime(seconds), time.localtime()
    same_day = then[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", then)


def shell_command(verb: str, path: object, *flags: str) -> str:
    """Return the shell command of dask-dedup for a path. A path that begins with ``-`` is not read as an option.

    Examples
    --------
    >>> shell_command("clean", "my result"), shell_command("clean", "-out")
    ("dask-dedup clean 'my result'", 'dask-dedup clean -- -out')
    """
    dashes = ["--"] if str(path).startswith("-") else []
    return shlex.join(["dask-dedup", verb, *flags, *dashes, str(path)])


def html_table(caption: str, rows: Mapping[str, object], report: Path | None = None) -> str:
    """Format `rows` (name to value) as an HTML table for notebooks. All text is escaped.

    If the report is a local file, the last row is a link to it.

    Examples
    --------
    >>> html_table("Run <1>", {"kept": 5})
    '<table><caption>Run &lt;1&gt;</caption><tr><th>kept</th><td>5</td></tr></table>'
    """
    cells = {name: escape(str(value)) for name, value in rows.items()}
    # A notebook calls this for each result that it shows. It must not wait for an object store.
    if isinstance(report, type(Path())) and report.exists():
        path = escape(str(report))
        cells["report"] = f'<a href="{path}">{path}</a>'
    lines = (f"<tr><th>{escape(name)}</th><td>{cell}</td></tr>" for name, cell in cells.items())
    return f"<table><caption>{escape(caption)}</caption>{''.join(lines)}</table>"

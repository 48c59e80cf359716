"""Numbers, names and durations as text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SINGULAR = {"have": "has", "are": "is", "lie": "lies", "occur": "occurs", "take": "takes"}


def counted(number: int, noun: str, says: str = "") -> str:
    """Put a number before its noun, and what is said of so many.

    Examples
    --------
    >>> counted(2, "row", "have no uid"), counted(1, "row", "have no uid")
    ('2 rows have no uid', '1 row has no uid')
    >>> counted(1_000, "micrograph")
    '1,000 micrographs'
    """
    if number == 1:
        verb, _, rest = says.partition(" ")
        says = f"{_SINGULAR.get(verb, verb)} {rest}".strip()
    return f"{number:,} {noun}{'s' if number != 1 else ''}{' ' if says else ''}{says}"


#: Of a message that quotes a file at length, so many characters are shown at either end.
_SHOWN = 1000


def printable(text: str) -> str:
    r"""Show text on one line: names come from files, and may hold what a terminal obeys.

    Examples
    --------
    >>> print(printable("mic\n\x1b[2J.mrc"))
    mic\n\x1b[2J.mrc
    """
    if len(text) > 2 * _SHOWN:
        text = f"{text[:_SHOWN]} ... {text[-_SHOWN:]}"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def duration(seconds: float) -> str:
    """Write a duration with one or two units.

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


def html_table(caption: str, rows: Mapping[str, object], report: Path | None = None) -> str:
    """Return an HTML table of names and values, for notebooks. All text is escaped.

    Parameters
    ----------
    caption : str
    rows : mapping of str to object
    report : Path, optional
        A last row links to it if it exists.

    Examples
    --------
    >>> html_table("Run <1>", {"kept": 5})
    '<table><caption>Run &lt;1&gt;</caption><tr><th>kept</th><td>5</td></tr></table>'
    """
    cells = {name: escape(str(value)) for name, value in rows.items()}
    if report is not None and report.exists():
        path = escape(str(report))
        cells["report"] = f'<a href="{path}">{path}</a>'
    lines = (f"<tr><th>{escape(name)}</th><td>{cell}</td></tr>" for name, cell in cells.items())
    return f"<table><caption>{escape(caption)}</caption>{''.join(lines)}</table>"

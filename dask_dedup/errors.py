"""What can go wrong, and whose turn it is then.

::

    DedupError
    ├── InputError    (ValueError)    the tables or the options are wrong; exit code 2
    │   └── OutputExistsError         the output place is taken; exit code 2
    └── RunError      (RuntimeError)  the run itself failed; exit code 1

A message is one sentence or two: what is wrong, where (file, column, row), what to do.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def counted(number: int, noun: str) -> str:
    """Count things, one of which has no s.

    Examples
    --------
    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def causes(error: BaseException, *, contexts: bool = False) -> Iterator[BaseException]:
    """Give an error and those it came from, each once: some libraries raise one from itself.

    Parameters
    ----------
    error : BaseException
    contexts : bool
        Also those that were being handled when another was raised.
    """
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (each.__context__ if contexts else None)


def is_of_the_system(error: BaseException) -> bool:
    """Tell whether a failure to read is a disk's or a server's, and not of what the file holds: it may pass."""
    return isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)


class DedupError(Exception):
    """Root of every error this package raises on purpose."""

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(DedupError, ValueError):
    """The input tables or the parameters are wrong; nothing was written."""


class OutputExistsError(InputError):
    """The output place holds something that is not this run's."""


class RunError(DedupError, RuntimeError):
    """The run failed half-way; no result was committed."""

"""The exceptions of dask-dedup.

::

    DedupError
    ├── InputError    (ValueError)    the tables or the parameters are wrong; exit code 2
    │   └── OutputExistsError         the output folder holds something else; exit code 2
    └── RunError      (RuntimeError)  the run failed; exit code 1

A message is one or two sentences: what is wrong, where (file, column, row), what to do.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dask_dedup.formatting import printable
from dask_dedup.hints import Hint, as_keyword, find_hints, spell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class DedupError(Exception):
    """Base class of all errors that this package raises on purpose.

    ``str(error)`` shows parameters as Python keywords; `spelled` shows them in another form.
    """

    @property
    def raw(self) -> str:
        """The message with its parameters still marked up, as `hints.spell` expects it."""
        return super().__str__()

    @property
    def hints(self) -> list[Hint]:
        """The parameters named in the message, with the suggested values."""
        return find_hints(self.raw)

    def spelled(self, spelling: Callable[[Hint], str]) -> str:
        """Return the message on one line. `spelling` formats each parameter."""
        return printable(spell(self.raw, spelling))

    def __str__(self) -> str:
        return self.spelled(as_keyword)


class InputError(DedupError, ValueError):
    """The input tables or the parameters are wrong. Nothing was written."""


class OutputExistsError(InputError):
    """The output folder holds something other than this run."""


class RunError(DedupError, RuntimeError):
    """The run failed. No result was committed."""


def causes(error: BaseException, *, contexts: bool = False) -> Iterator[BaseException]:
    """Yield an error and its chain of causes, each once. A cycle ends the chain.

    With `contexts`, follow ``__context__`` where there is no ``__cause__``.
    """
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (each.__context__ if contexts else None)


def is_system_error(error: BaseException) -> bool:
    """Return whether a read failed because of a disk or server (maybe temporarily), not because of the file."""
    return isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)

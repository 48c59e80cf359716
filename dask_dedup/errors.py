"""The exceptions of dask-dedup.

::

    DedupError
    ├── InputError    (ValueError)    the tables or the parameters are wrong; exit code 2
    │   └── OutputExistsError         the output folder has another run or other files; exit code 2
    └── RunError      (RuntimeError)  the run failed; exit code 1

A message has one or two sentences, with the error, its location (file, column, row) and advice.
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

    ``str(error)`` shows parameters as Python keywords. `spelled` shows parameters in another form.
    """

    @property
    def raw(self) -> str:
        """The message with marked-up parameters (see `hints.parameter`), as input for `hints.spell`."""
        return super().__str__()

    @property
    def hints(self) -> list[Hint]:
        """The parameters in the message, with suggested values, in order of appearance."""
        return find_hints(self.raw)

    def spelled(self, spelling: Callable[[Hint], str]) -> str:
        """Return the message on one line, with each parameter formatted by `spelling`."""
        return printable(spell(self.raw, spelling))

    def __str__(self) -> str:
        return self.spelled(as_keyword)


class InputError(DedupError, ValueError):
    """Error in the input tables or the parameters. Nothing was written."""


class OutputExistsError(InputError):
    """Error for an output folder that is used by another run or holds other files."""


class RunError(DedupError, RuntimeError):
    """Error that made a run fail. No result was committed."""


def causes(error: BaseException, *, contexts: bool = False) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that cause, and so on. No error is yielded twice.

    With `contexts`, follow ``__context__`` where there is no ``__cause__``.
    """
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (each.__context__ if contexts else None)


def is_system_error(error: BaseException) -> bool:
    """Return whether the disk or server caused an error. Return False for missing and damaged files."""
    return isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)

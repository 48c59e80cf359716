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

from dask_dedup.formatting import printable
from dask_dedup.messages import Hint, as_keyword, find_hints, spell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
    """Root of every error this package raises on purpose.

    The text spells parameters as the Python API does; `spelled` spells them otherwise.
    """

    @property
    def hints(self) -> list[Hint]:
        """The parameters that the message names, with the values it suggests."""
        return find_hints(super().__str__())

    def spelled(self, spelling: Callable[[Hint], str]) -> str:
        """Return the message on one line, its parameters spelled by a function."""
        return printable(spell(super().__str__(), spelling))

    def __str__(self) -> str:
        return self.spelled(as_keyword)


class InputError(DedupError, ValueError):
    """The input tables or the parameters are wrong; nothing was written."""


class OutputExistsError(InputError):
    """The output place holds something that is not this run's."""


class RunError(DedupError, RuntimeError):
    """The run failed half-way; no result was committed."""

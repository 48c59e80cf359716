"""What can go wrong, and whose turn it is then.

::

    DedupError
    ├── InputError    (ValueError)    the tables or the options are wrong; exit code 2
    │   └── OutputExistsError         the output place is taken; exit code 2
    └── RunError      (RuntimeError)  the run itself failed; exit code 1

A message is one sentence or two: what is wrong, where (file, column, row), what to do.
"""


class DedupError(Exception):
    """Root of every error this package raises on purpose."""


class InputError(DedupError, ValueError):
    """The input tables or the parameters are wrong; nothing was written."""


class OutputExistsError(InputError):
    """The output place holds something that is not this run's."""


class RunError(DedupError, RuntimeError):
    """The run failed half-way; no result was committed."""

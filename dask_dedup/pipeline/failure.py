"""Convert the errors of a run to one-line messages."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dask_dedup.errors import DedupError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def translate_errors() -> Iterator[None]:
    """Return a context manager that converts unexpected errors to `RunError` with a one-line message."""
    try:
        yield
    except DedupError:
        raise
    except OSError as error:
        if type(error).__module__.startswith("distributed"):
            raise RunError(
                f"the connection to the cluster was lost ({error}). Run the same command again."
            ) from error
        where = f"{error.filename}: " if error.filename else ""
        raise RunError(
            f"{where}{error.strerror or error}. Fix this and run the same command again."
        ) from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise RunError(
            f"the run failed, nothing was committed ({type(error).__name__}: {reason})"
        ) from error

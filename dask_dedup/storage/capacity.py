"""Room to write: what is said where there is none left, with the place and the way out."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.errors import RunError
from dask_dedup.formatting import counted
from dask_dedup.storage.paths import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What a system says where a file does not fit: full disk, quota used up, file larger than allowed.
DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: A disk with room for fewer files than this is told of by its files and not by its bytes.
FEW_FILES = 100


@contextmanager
def disk_full_errors(place: Path) -> Iterator[None]:
    """Name the place, and what to do, if what is written there does not fit.

    Parameters
    ----------
    place : Path
        For an object store that is this machine's temporary folder: what goes there is made here.

    Raises
    ------
    RunError
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_ERRORS:
            raise
        raise RunError(disk_full_message(place, error.errno)) from error


def disk_full_message(place: Path, number: int | None) -> str:
    """Say that nothing more can be written in a place, by the number of the system's error."""
    what = "free some room there, or choose another place"
    if is_remote(place):
        place = Path(tempfile.gettempdir())
        what = "free some room there, or set TMPDIR to another folder"
    if number == errno.EFBIG:
        return (
            f"{place}: a file there would be larger than this process may write; "
            "raise that limit (ulimit -f) and run the same command again"
        )
    if number == errno.EDQUOT:
        return f"{place}: your quota there is used up; {what}, and run the same command again"
    return f"{place}: the disk is too full{_left(place)}; {what}, and run the same command again"


def _left(place: Path) -> str:
    """Say how much room there is, now that what was not finished is removed."""
    nearest = next((path for path in (place, *place.absolute().parents) if path.exists()), None)
    if nearest is None:
        return ""
    files = os.statvfs(nearest)
    if files.f_files and files.f_favail < FEW_FILES:
        return f" (it has room for {counted(files.f_favail, 'file')} more, which is not enough)"
    usage = shutil.disk_usage(nearest)
    return (
        f" ({usage.free / 1e6:,.1f} of {usage.total / 1e6:,.1f} MB are free, which is not enough)"
    )

"""Errors about a full disk or too little memory, with advice."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError, RunError
from dask_dedup.formatting import counted
from dask_dedup.storage.paths import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Errors for a full disk, a used up quota, and a file larger than the process may write.
DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: If fewer files than this can be created, the message has their number instead of the free bytes.
_FEW_FILES = 100
#: Maximum share of the machine's memory for rows. While rows are split, there are two copies of them.
_MEMORY_SHARE = 0.5


class DiskFullError(RunError):
    """Error about a full disk, disk quota or file size limit."""


@contextmanager
def disk_full_errors(folder: Path) -> Iterator[None]:
    """Raise `DiskFullError` if a write to a folder fails because the disk is full.

    For an object store, the message names the temporary folder, where files are written first.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_ERRORS:
            raise
        raise DiskFullError(_disk_full_message(folder, error.errno)) from error


def _disk_full_message(folder: Path, number: int | None) -> str:
    advice = "Free some space or choose another output folder"
    if is_remote(folder):
        folder = Path(tempfile.gettempdir())
        advice = "Free some space or set TMPDIR to another folder"
    what = f"the disk is full{_free_space(folder)}"
    if number == errno.EDQUOT:
        what = "your disk quota is used up"
    elif number == errno.EFBIG:
        what = "a file is larger than this process may write"
        advice = "Raise the limit (ulimit -f)"
    return f"{folder}: {what}. {advice}, then run the same command again."


def _free_space(folder: Path) -> str:
    nearest = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    if nearest is None:
        return ""
    disk = os.statvfs(nearest)
    if disk.f_files and disk.f_favail < _FEW_FILES:
        return f" (only {counted(disk.f_favail, 'more file')} can be created)"
    free, total = (blocks * disk.f_frsize / 1e6 for blocks in (disk.f_bavail, disk.f_blocks))
    return f" ({free:,.1f} of {total:,.1f} MB free)"


def check_fits(what: str, rows: int, size: float, advice: str) -> None:
    """Raise `InputError` if rows of `size` bytes in total do not fit into memory at once.

    `what` is the file, or a part of the file, for the message.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > _MEMORY_SHARE * memory:
        raise InputError(
            f"{what} has {rows:,} rows, which take {size / 2**30:,.0f} GiB of memory at once; {advice}"
        )

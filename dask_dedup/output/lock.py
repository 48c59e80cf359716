"""A file lock on a local output folder. The operating system releases the lock when the process ends."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dask_dedup.errors import OutputExistsError
from dask_dedup.output.layout import LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY = (errno.EAGAIN, errno.EACCES)

log = logging.getLogger("dask_dedup")


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Lock an output folder within the context. Raise `OutputExistsError` if another run holds the lock.

    A missing folder is created, and removed at the end if it is empty. On a file system without locks the run
    continues without a lock. This is safe, because only one of two concurrent runs can create the manifest.
    """
    made = not output.exists()
    file = _lock(output)
    try:
        yield
    finally:
        # The file is removed while it is locked. Otherwise another run could lock a file that is removed next.
        (output / LOCK).unlink(missing_ok=True)
        os.close(file)
        if made and output.is_dir() and not any(output.iterdir()):
            output.rmdir()


def find_holder(output: Path) -> str | None:
    """Return the run that has locked a folder, such as "process 123 on node7, since 12:30", or None."""
    try:
        # Read-only, because the run may belong to another user.
        file = os.open(output / LOCK, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return _read(file) if error.errno in _BUSY else None
    finally:
        os.close(file)
    return None


def _lock(output: Path) -> int:
    path = output / LOCK
    while True:
        output.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # the previous run has just removed the folder
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                who = _read(file)
                os.close(file)
                raise held_error(output, who) from error
            log.debug("%s: no locks on this file system (%s)", output, error.strerror)
        if _in_place(file, path):
            break
        os.close(file)
    since = datetime.now(UTC).astimezone().isoformat(sep=" ", timespec="seconds")
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    # The lock works without the note, and the next write reports a full disk.
    with suppress(OSError):
        os.truncate(file, 0)
        os.write(file, json.dumps(note).encode())
    return file


def held_error(output: Path, holder: str) -> OutputExistsError:
    """Return the `OutputExistsError` about an output folder that another run has locked."""
    return OutputExistsError(
        f"{output}: another run is writing there ({holder}). Wait for it, or choose another folder."
    )


def _in_place(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _read(file: int) -> str:
    try:
        note = json.loads(os.pread(file, 1_000, 0))
        return f"process {note['pid']} on {note['host']}, since {note['since']}"
    except (ValueError, KeyError, TypeError):
        return "just started"

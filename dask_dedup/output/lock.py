"""One run at a time in an output place: a lock that the system takes back however its holder ends."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dask_dedup.errors import OutputExistsError
from dask_dedup.storage.paths import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = ".dask-dedup-lock"
_BUSY = (errno.EAGAIN, errno.EACCES)

log = logging.getLogger("dask_dedup")


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold an output folder, which is made if need be and removed if it is empty at the end.

    Where the file system knows no locks the run goes on without one: what it writes is put into place by
    rename, and of two runs only one can create the manifest.

    Raises
    ------
    OutputExistsError
        If another run holds it.
    """
    if is_remote(output):
        # The run's mark keeps two from each other's files, and only one can create the manifest.
        yield
        return
    made = not output.exists()
    file = _take(output)
    try:
        yield
    finally:
        # Removed while it is held: whoever waits at the old file sees that it is no longer the one in place.
        (output / LOCK).unlink(missing_ok=True)
        os.close(file)
        if made and output.is_dir() and not any(output.iterdir()):
            output.rmdir()


def holder(output: Path) -> str | None:
    """Tell who holds an output folder: "process 123 on node7, since 12:30"; None if nobody does."""
    if is_remote(output):
        return None
    try:
        # To look at it takes no right to write: who asks may be another user than who holds it.
        file = os.open(output / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return _read(file) if error.errno in _BUSY else None
    finally:
        os.close(file)
    return None


def _take(output: Path) -> int:
    path = output / LOCK
    while True:
        output.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # the one before has just removed the folder it had made
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                who = _read(file)
                os.close(file)
                raise busy(output, who) from error
            log.debug("%s: no locks here (%s)", output, error.strerror)
        if _in_place(file, path):
            break
        os.close(file)
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
    try:
        os.truncate(file, 0)
        os.write(file, json.dumps(note).encode())
    except OSError:
        # It serves without the note, which says but who holds it; what follows says it if the disk is full.
        log.debug("%s: nothing can be written there", path)
    return file


def busy(output: Path, who: str) -> OutputExistsError:
    """Say that another run is at work in a place."""
    return OutputExistsError(
        f"--output {output}: another run is writing there ({who}); wait for its end, or choose another place"
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
        return "it has just begun"


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(sep=" ", timespec="seconds")

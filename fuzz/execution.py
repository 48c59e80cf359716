"""One execution: a file is opened, read, split and joined again, and must end well or in an error for people."""

from __future__ import annotations

import resource
import signal
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formats import format_of, load, open_table, read
from dask_dedup.formats.cryosparc import cs, csg  # noqa: F401 - here, so that no child imports them anew
from dask_dedup.formats.parquet import writer
from dask_dedup.formats.star import table as star  # noqa: F401 - here, so that no child imports them anew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_dedup.formats import ParticleTable

#: An execution that takes more processor seconds than this hangs.
HANG_SECONDS = 5.0
#: The files are tiny, so one that makes the process grow by this much is a bomb.
GROWTH_BYTES = 256 * 2**20
#: Tables of more rows than this are opened and read, but not split.
SPLIT_ROWS = 100_000
#: A claim of so many rows is not read: a sound file may hold them.
READ_ROWS = 20_000_000


class HangError(BaseException):
    """An execution took too long; not an Exception, so that nothing on the way takes it for one."""


@dataclass(frozen=True)
class Outcome:
    """How an execution ended.

    Attributes
    ----------
    kind : str
        ``accepted``, ``refused``, or what was found.
    where : str
        What tells one finding from another.
    text : str
        The message, or the traceback.
    """

    kind: str
    where: str = ""
    text: str = ""

    @property
    def is_finding(self) -> bool:
        """Whether somebody has to look at it."""
        return self.kind not in ("accepted", "refused")


def execute(path: Path, scratch: Path) -> Outcome:
    """Open a file, read all of it, split it, join the parts and read them again."""
    before = _peak()
    try:
        with _limited(HANG_SECONDS):
            _use(path, scratch)
        outcome = Outcome("accepted")
    except InputError as error:
        outcome = _judge(error)
    except HangError as error:
        outcome = Outcome("hang", _where(error), traceback.format_exc())
    except Exception as error:  # noqa: BLE001 - whatever else is raised is a finding
        outcome = Outcome(type(error).__name__, _where(error), traceback.format_exc())
    grown = _peak() - before
    if grown > GROWTH_BYTES and not outcome.is_finding:
        return Outcome("memory", outcome.text[:60], f"grew by {grown / 2**20:.0f} MiB; {outcome}")
    return outcome


def _judge(error: InputError) -> Outcome:
    message = str(error)
    if not message.isprintable():
        return Outcome("unprintable message", _where(error), repr(message))
    return Outcome("refused", text=message)


def _use(path: Path, scratch: Path) -> None:
    table = open_table(path)
    if table.rows > READ_ROWS:
        return
    for fragment in table.fragments:
        part = read(table, fragment, table.schema.names)
        part.validate(full=True)
        assert part.num_rows == fragment.rows, f"{part.num_rows} rows of {fragment.rows}"
    if table.rows > SPLIT_ROWS:
        return
    kept, rejected = scratch / "kept", scratch / "rejected"
    wanted = 0
    pieces: tuple[list[Path], list[Path]] = ([], [])
    for fragment in table.fragments:
        keep = np.arange(fragment.rows) % 3 > 0
        wanted += int(keep.sum())
        files = [scratch / f"{name}-{fragment.number}" for name in ("kept", "rejected")]
        payload = load(table, fragment)
        if table.format == "parquet":
            writer.split(payload.rows, keep, table.schema, *files)  # type: ignore[attr-defined]
        else:
            payload.split(keep, *files)
        for outcome, file in zip(pieces, files, strict=True):
            outcome.append(file)
    if table.format == "parquet":
        found = [
            sum(open_table(piece.rename(piece.with_suffix(".parquet"))).rows for piece in outcome)
            for outcome in pieces
        ]
    else:
        found = []
        for folder, outcome, rows in zip(
            (kept, rejected), pieces, (wanted, table.rows - wanted), strict=True
        ):
            folder.mkdir()
            found.append(_joined(table, outcome, rows, folder))
    assert found == [wanted, table.rows - wanted], f"{found} rows of {table.rows} after the split"


def _joined(table: ParticleTable, pieces: list[Path], rows: int, folder: Path) -> int:
    """Join pieces and count the rows of the file that results, read as an input."""
    name = Path(table.path).name
    format_of(table).assemble(table, pieces, rows, folder, name)
    again = open_table(folder / name)
    for fragment in again.fragments:
        read(again, fragment, again.schema.names)
    return again.rows


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise HangError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _where(error: BaseException) -> str:
    """Name the lines that lead to an error: of this project the innermost, then the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "dask_dedup" in frame.filename] or list(frames)
    names = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in (ours[-1], frames[-1])]
    return " ".join(dict.fromkeys(names))

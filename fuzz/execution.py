"""One execution: open, read, split and join a file. It must succeed or raise an `InputError`."""

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
from dask_dedup.formats import (
    is_writable,
    native_format,
    open_table,
    output_name,
    read,
    write_lists,
)
from dask_dedup.formats.coordinates import table as picks  # noqa: F401 - imported once, before the fork
from dask_dedup.formats.coordinates.picker import picker_name
from dask_dedup.formats.cryosparc import cs, csg  # noqa: F401 - imported once, before the fork
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.parquet import writer
from dask_dedup.formats.parquet.encoding import SAMPLE_ROWS, choose_encodings
from dask_dedup.formats.star import table as star  # noqa: F401 - imported once, before the fork

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_dedup.formats import ParticleTable

#: An execution that takes more processor time than this is a hang.
HANG_SECONDS = 5.0
#: The files are tiny, so it is a finding if the memory of the process grows by more than this.
GROWTH_BYTES = 256 * 2**20
#: Tables with more rows than this are opened and read, but not split.
SPLIT_ROWS = 100_000
#: Tables with more rows than this are only opened. A small valid file can have so many rows.
READ_ROWS = 20_000_000


class HangError(BaseException):
    """An execution took too long. The class is not an Exception, so that no handler catches it."""


@dataclass(frozen=True)
class Outcome:
    """How an execution ended.

    Attributes
    ----------
    kind : str
        ``accepted``, ``refused``, or the kind of finding.
    where : str
        The lines of code of an error. Findings with the same `kind` and `where` are counted together.
    text : str
        The message, or the traceback.
    """

    kind: str
    where: str = ""
    text: str = ""

    @property
    def is_finding(self) -> bool:
        """Whether the outcome needs attention."""
        return self.kind not in ("accepted", "refused")


def execute(path: Path, scratch: Path) -> Outcome:
    """Open a file, read all of it, split it, join the parts and read the results."""
    before = _peak()
    try:
        with _limited(HANG_SECONDS):
            _use(path, scratch)
        outcome = Outcome("accepted")
    except InputError as error:
        outcome = _judge(error)
    except HangError as error:
        outcome = Outcome("hang", _where(error), traceback.format_exc())
    except Exception as error:  # noqa: BLE001 - any other error is a finding
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
        rows = read(table, fragment, table.schema.names)
        rows.validate(full=True)
        assert rows.num_rows == fragment.rows, f"{rows.num_rows} rows of {fragment.rows}"
    if table.rows > SPLIT_ROWS:
        return
    kept, rejected = scratch / "kept", scratch / "rejected"
    wanted = 0
    parts: tuple[list[Path], list[Path]] = ([], [])
    for fragment in table.fragments:
        keep = np.arange(fragment.rows) % 3 > 0
        wanted += int(keep.sum())
        files = [scratch / f"{name}-{fragment.number}" for name in ("kept", "rejected")]
        if not is_writable(table):
            rows = read(table, fragment, table.schema.names)
            is_parquet = table.format == "parquet"
            sample = parquet.read_sample(table, SAMPLE_ROWS) if is_parquet else None
            encodings = choose_encodings(table.schema, "auto", sample)
            writer.split(rows, keep, table.schema, encodings, *files)
        else:
            native_format(table).split(table, fragment, keep, *files)
        for outcome, file in zip(parts, files, strict=True):
            outcome.append(file)
    if not is_writable(table):
        found = [
            sum(open_table(part.rename(part.with_suffix(".parquet"))).rows for part in outcome)
            for outcome in parts
        ]
    else:
        found = []
        for folder, outcome, rows in zip(
            (kept, rejected), parts, (wanted, table.rows - wanted), strict=True
        ):
            folder.mkdir()
            found.append(_joined(table, outcome, rows, folder))
    assert found == [wanted, table.rows - wanted], f"{found} rows of {table.rows} after the split"


def _joined(table: ParticleTable, parts: list[Path], rows: int, folder: Path) -> int:
    """Join part files, and read the result as an input. Return its number of rows."""
    name = output_name(table, picker_name(table.path))
    target = folder / name
    target.parent.mkdir(exist_ok=True)
    native_format(table).assemble(table, parts, rows, target.parent, target.name)
    lists = write_lists(table, target.parent, target.name, target.parent)
    if table.format == "coordinates" and table.detail.lists:
        target = target.parent / lists[0].path
    again = open_table(target)
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
    """Return the innermost line of an error in this project, and its innermost line in any module."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "dask_dedup" in frame.filename] or list(frames)
    names = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in (ours[-1], frames[-1])]
    return " ".join(dict.fromkeys(names))

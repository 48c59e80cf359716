"""The files that the manifest of a finished run lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file listed in the manifest of a finished run.

    Attributes
    ----------
    path : Path
    dataset : str
        "particles_kept", "particles_rejected", "duplicates" or "votes".
    source : int
        Ordinal of the input; -1 for a file with the particles of all inputs.
    fragment : int or None
        Number of the fragment; None for a file that is not Parquet.
    holds_rows : bool
        False for the files that accompany a table of several files.
    rows, bytes : int
    sha256 : str
    """

    path: Path
    dataset: str
    source: int
    fragment: int | None
    holds_rows: bool
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """The output files of one fragment, or of one input that was written in its native format.

    Attributes
    ----------
    source : int
        Ordinal of the input.
    kept, rejected : tuple of Path
        Empty if the rows of the result are read from the input; see `FinishedRun.reads_inputs`.
    duplicates : tuple of Path
        One row for each rejected particle, in the same order.
    votes : tuple of Path
        The votes for the particles that are not duplicates; empty if votes were not counted.
    """

    source: int
    kept: tuple[Path, ...]
    rejected: tuple[Path, ...]
    duplicates: tuple[Path, ...]
    votes: tuple[Path, ...]

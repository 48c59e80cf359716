"""Checkpoints of written fragments, validated when a run resumes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from dask_dedup.dedup.decide import DecisionCounts
from dask_dedup.formats import OutputFile
from dask_dedup.output.layout import checkpoint_name
from dask_dedup.output.manifest import CHECKSUM, checksum_ok, with_checksum
from dask_dedup.storage.files import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.formats import Fragment


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Counts of the pairs of a rejected row and its winner.

    Attributes
    ----------
    same_uid : int
        Pairs with the same uid.
    across_halves : int
        Pairs of particles in different half-sets.
    by_row_order : int
        Pairs that differ in rank only because of the row number.
    by_winner : tuple of int
        Pairs by the input of the winner.
    distances : tuple of int
        Pairs by distance, in equal bins from 0 to the separation.
    """

    same_uid: int = 0
    across_halves: int = 0
    by_row_order: int = 0
    by_winner: tuple[int, ...] = ()
    distances: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class VoteCounts:
    """Counts of the representatives of a fragment.

    Attributes
    ----------
    by_votes : tuple of (int, int, int)
        A number of votes, the representatives with this number of votes, and the kept representatives among them.
    by_pickers : tuple of (int, int, int)
        The same for sets of pickers. Each picker is a bit. Empty if `Voting.lists_sets` is False.
    unseen : int
        Representatives that are rejected, or kept, because too few pickers have particles on the micrograph.
    voters : tuple of int
        Votes by the input of the nearest voter.
    coincident : tuple of (int, int, int)
        Two inputs, and the votes from particles of the first input at exactly the position of a particle of the second.
    """

    by_votes: tuple[tuple[int, int, int], ...]
    by_pickers: tuple[tuple[int, int, int], ...]
    unseen: int
    voters: tuple[int, ...]
    coincident: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class FragmentCheckpoint:
    """Counts and files of a fragment that has been written.

    Attributes
    ----------
    fragment, source, rows, kept, rejected : int
    outvoted : int
        Rows that are rejected for their votes.
    pairs : PairCounts
    votes : VoteCounts or None
        None if votes are not counted.
    sample : str
        Hash of the report's sample.
    counts : DecisionCounts
        Counts for the micrographs that are entirely in the fragment.
    files : dict of str to tuple of OutputFile
        Parquet files, by table.
    pieces : dict of str to str
        SHA-256 of each STAR or CryoSPARC part file, and of the file of notes for the report (`pipeline.notes`), by path
        in the staging folder.
    """

    fragment: int
    source: int
    rows: int
    kept: int
    rejected: int
    outvoted: int = 0
    pairs: PairCounts = field(default_factory=PairCounts)
    votes: VoteCounts | None = None
    sample: str = ""
    counts: DecisionCounts = field(default_factory=DecisionCounts)
    files: dict[str, tuple[OutputFile, ...]] = field(default_factory=dict)
    pieces: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Serialise the checkpoint to JSON text that includes a checksum."""
        return json.dumps(with_checksum(asdict(self)))


#: The counts in a checkpoint.
_COUNTS = {"pairs": PairCounts, "votes": VoteCounts, "counts": DecisionCounts}


def read_checkpoint(staging: Path, fragment: Fragment) -> FragmentCheckpoint | None:
    """Read a fragment's checkpoint. Return None if it is damaged or belongs to another fragment."""
    try:
        values = json.loads(read_bytes(staging / checkpoint_name(fragment.number)))
        if not checksum_ok(values):
            return None
        del values[CHECKSUM]
        for name, kind in _COUNTS.items():
            if values[name]:
                values[name] = kind(**{key: _as_tuple(each) for key, each in values[name].items()})
        values["files"] = {
            table: tuple(OutputFile(**file) for file in files)
            for table, files in values["files"].items()
        }
        found = FragmentCheckpoint(**values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    of_fragment = (fragment.number, fragment.source, fragment.rows)
    return found if (found.fragment, found.source, found.rows) == of_fragment else None


def _as_tuple(value: Any) -> Any:
    """Convert a list, and the lists in it, to tuples."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value

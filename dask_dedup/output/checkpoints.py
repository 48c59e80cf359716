"""Checkpoints of written fragments, validated when a run resumes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from dask_dedup.dedup.decide import DecisionCounts
from dask_dedup.formats import OutputFile
from dask_dedup.output.layout import checkpoint_name
from dask_dedup.output.manifest import CHECKSUM, checksum_ok, with_checksum
from dask_dedup.storage.files import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.formats import Fragment


@dataclass(frozen=True, slots=True)
class FragmentCheckpoint:
    """Counts and files of a fragment that has been written.

    Attributes
    ----------
    fragment, source, rows, kept, rejected : int
    same_uid : int
        Rejected rows whose winner has the same uid.
    across_halves : int
        Rejected rows whose winner is in the other half-set.
    counts : DecisionCounts
        Counts for the micrographs that are entirely in the fragment.
    files : dict of str to OutputFile
        Parquet files, by table.
    pieces : dict of str to str
        SHA-256 of each STAR or CryoSPARC part file, by its path in the staging folder.
    """

    fragment: int
    source: int
    rows: int
    kept: int
    rejected: int
    same_uid: int
    across_halves: int
    counts: DecisionCounts
    files: dict[str, OutputFile]
    pieces: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Serialize the checkpoint to JSON text that includes a checksum."""
        return json.dumps(with_checksum(asdict(self)))


def read_checkpoint(staging: Path, fragment: Fragment) -> FragmentCheckpoint | None:
    """Read a fragment's checkpoint. Return None if it is damaged or belongs to another fragment."""
    try:
        values = json.loads(read_bytes(staging / checkpoint_name(fragment.number)))
        if not checksum_ok(values):
            return None
        del values[CHECKSUM]
        values["counts"] = DecisionCounts.from_dict(values["counts"])
        values["files"] = {table: OutputFile(**file) for table, file in values["files"].items()}
        found = FragmentCheckpoint(**values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    of_fragment = (fragment.number, fragment.source, fragment.rows)
    return found if (found.fragment, found.source, found.rows) == of_fragment else None

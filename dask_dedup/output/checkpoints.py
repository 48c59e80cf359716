"""Per-fragment checkpoints, validated on resume."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Self

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
    """A written fragment: its counts and its files.

    Attributes
    ----------
    fragment, source, rows, kept, rejected : int
    same_uid : int
        Rejected rows whose winner has the same uid.
    across_halves : int
        Rejected rows whose winner is in the other half-set.
    counts : DecisionCounts
        Of the micrographs that lie whole in the fragment.
    files : dict of str to OutputFile
        Parquet files, by table.
    pieces : dict of str to str
        SHA-256 of each piece of a native table, by its path in the staging folder.
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
        """Return the content of the checkpoint file."""
        return json.dumps(with_checksum(asdict(self)))

    @classmethod
    def from_json(cls, text: bytes) -> Self | None:
        """Read a checkpoint file; return None if it is damaged."""
        try:
            values = json.loads(text)
            if not checksum_ok(values):
                return None
            del values[CHECKSUM]
            counts = DecisionCounts.from_dict(values["counts"])
            files = {table: OutputFile(**file) for table, file in values["files"].items()}
            return cls(**{**values, "counts": counts, "files": files})
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def read_checkpoint(staging: Path, fragment: Fragment) -> FragmentCheckpoint | None:
    """Read the checkpoint of a fragment; return None if it is damaged or of another fragment."""
    found = FragmentCheckpoint.from_json(read_bytes(staging / checkpoint_name(fragment.number)))
    if found is None:
        return None
    same = (found.fragment, found.source, found.rows) == (
        fragment.number,
        fragment.source,
        fragment.rows,
    )
    return found if same else None

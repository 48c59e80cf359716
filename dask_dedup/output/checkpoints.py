"""Receipts: what writing a fragment came to, on disk as soon as its files are there, believed only with them."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dask_dedup.dedup.decide import DecisionCounts
from dask_dedup.formats import OutputFile
from dask_dedup.output.checksum import CHECKSUM, checksum_ok
from dask_dedup.storage.files import list_files, read_bytes
from dask_dedup.storage.paths import is_remote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_dedup.formats import Fragment

#: Folder, in the staging one, that holds them.
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True)
class FragmentCheckpoint:
    """What writing a fragment came to.

    Attributes
    ----------
    fragment, source, rows, kept, rejected : int
    same_uid : int
        Rejected rows whose winner has the same uid: one particle given twice.
    across_halves : int
        Rejected rows whose winner is in the other half-set.
    counts : DecisionCounts
        Of the micrographs that live whole in the fragment.
    files : dict of str to OutputFile
        Parquet files, by folder of the output.
    pieces : dict of str to str
        Parts of files in the inputs' own formats: the SHA-256 of each, by its path in the staging folder.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the receipt's file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a receipt of what `to_dict` gave, by way of JSON."""
        files = {folder: OutputFile(**file) for folder, file in values["files"].items()}
        return cls(
            **{**values, "counts": DecisionCounts.from_dict(values["counts"]), "files": files}
        )

    def holds(self, staging: Path, sizes: Mapping[str, int] | None) -> bool:
        """Tell whether all its files are there, to the byte; where sizes are given, that has to do."""
        if sizes is not None:
            files = {f"{folder}/{file.path}": file.bytes for folder, file in self.files.items()}
            return all(sizes.get(path) == size for path, size in files.items()) and all(
                path in sizes for path in self.pieces
            )
        digests = {f"{folder}/{file.path}": file.sha256 for folder, file in self.files.items()}
        return all(
            (staging / path).is_file() and digest_of(staging / path) == digest
            for path, digest in (digests | self.pieces).items()
        )


def checkpoint_name(number: int) -> str:
    """Name the receipt of a fragment, in the staging folder."""
    return f"{CHECKPOINTS}/{number:05d}.json"


def find_checkpoints(staging: Path, fragments: Sequence[Fragment]) -> list[FragmentCheckpoint]:
    """Give the receipts that an earlier attempt left, of fragments that need not be written again."""
    names = {file.name for file in _list(staging)}
    there = [part for part in fragments if Path(checkpoint_name(part.number)).name in names]
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda fragment: _read(staging, fragment), there)
        found = [checkpoint for checkpoint in read if checkpoint]
        sizes = _sizes(staging, found) if is_remote(staging) else None
        holding = pool.map(lambda checkpoint: checkpoint.holds(staging, sizes), found)
        return [checkpoint for checkpoint, holds in zip(found, holding, strict=True) if holds]


def count_checkpoints(staging: Path) -> int:
    """Count the receipts in a staging folder, whether they hold or not."""
    return len(_list(staging))


def _list(staging: Path) -> list[Path]:
    return [*list_files(staging / CHECKPOINTS)]


def _sizes(staging: Path, checkpoints: Sequence[FragmentCheckpoint]) -> dict[str, int]:
    """Give the sizes of a run's files in an object store: what is there is whole, so it need not be read."""
    run_token = staging.name.rpartition("-")[2]
    folders = {folder for checkpoint in checkpoints for folder in checkpoint.files}
    homes = {folder: staging.parent / folder / run_token for folder in folders}
    homes |= {
        folder: staging / folder
        for checkpoint in checkpoints
        for folder in {Path(path).parts[0] for path in checkpoint.pieces}
    }
    return {
        f"{folder}/{file.relative_to(home).as_posix()}": size
        for folder, home in homes.items()
        for file, size in list_files(home).items()
    }


def digest_of(path: Path) -> str:
    """Give the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(staging: Path, fragment: Fragment) -> FragmentCheckpoint | None:
    text = read_bytes(staging / checkpoint_name(fragment.number))
    try:
        values = json.loads(text)
        if not checksum_ok(values):
            return None
        checkpoint = FragmentCheckpoint.from_dict(
            {key: values[key] for key in values if key != CHECKSUM}
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        # Cut short by a crash of the machine; the fragment is written again.
        return None
    mine = (checkpoint.fragment, checkpoint.source, checkpoint.rows)
    return checkpoint if mine == (fragment.number, fragment.source, fragment.rows) else None

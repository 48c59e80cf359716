"""Receipts: what writing a fragment came to, on disk as soon as its files are there, believed only with them."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dask_dedup.dedup.decide import Tally
from dask_dedup.formats import Written
from dask_dedup.output.checksum import SEAL, is_whole
from dask_dedup.storage.files import list_files, read_bytes
from dask_dedup.storage.paths import is_remote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_dedup.formats import Fragment

#: Folder, in the staging one, that holds them.
RECEIPTS = "receipts"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What writing a fragment came to.

    Attributes
    ----------
    fragment, source, rows, kept, rejected : int
    same_uid : int
        Rejected rows whose winner has the same uid: one particle given twice.
    across_halves : int
        Rejected rows whose winner is in the other half-set.
    tally : Tally
        Of the micrographs that live whole in the fragment.
    files : dict of str to Written
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
    tally: Tally
    files: dict[str, Written]
    pieces: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the receipt's file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a receipt of what `to_dict` gave, by way of JSON."""
        files = {folder: Written(**file) for folder, file in values["files"].items()}
        return cls(**{**values, "tally": Tally.from_dict(values["tally"]), "files": files})

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


def receipt_name(number: int) -> str:
    """Name the receipt of a fragment, in the staging folder."""
    return f"{RECEIPTS}/{number:05d}.json"


def find_receipts(staging: Path, fragments: Sequence[Fragment]) -> list[Receipt]:
    """Give the receipts that an earlier attempt left, of fragments that need not be written again."""
    names = {file.name for file in _list(staging)}
    there = [part for part in fragments if Path(receipt_name(part.number)).name in names]
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda fragment: _read(staging, fragment), there)
        found = [receipt for receipt in read if receipt]
        sizes = _sizes(staging, found) if is_remote(staging) else None
        holding = pool.map(lambda receipt: receipt.holds(staging, sizes), found)
        return [receipt for receipt, holds in zip(found, holding, strict=True) if holds]


def count_receipts(staging: Path) -> int:
    """Count the receipts in a staging folder, whether they hold or not."""
    return len(_list(staging))


def _list(staging: Path) -> list[Path]:
    return [*list_files(staging / RECEIPTS)]


def _sizes(staging: Path, receipts: Sequence[Receipt]) -> dict[str, int]:
    """Give the sizes of a run's files in an object store: what is there is whole, so it need not be read."""
    mark = staging.name.rpartition("-")[2]
    folders = {folder for receipt in receipts for folder in receipt.files}
    homes = {folder: staging.parent / folder / mark for folder in folders}
    homes |= {
        folder: staging / folder
        for receipt in receipts
        for folder in {Path(path).parts[0] for path in receipt.pieces}
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


def _read(staging: Path, fragment: Fragment) -> Receipt | None:
    text = read_bytes(staging / receipt_name(fragment.number))
    try:
        values = json.loads(text)
        if not is_whole(values):
            return None
        receipt = Receipt.from_dict({key: values[key] for key in values if key != SEAL})
    except (ValueError, TypeError, KeyError, AttributeError):
        # Cut short by a crash of the machine; the fragment is written again.
        return None
    mine = (receipt.fragment, receipt.source, receipt.rows)
    return receipt if mine == (fragment.number, fragment.source, fragment.rows) else None

"""Compare the files of two finished runs byte by byte."""

from __future__ import annotations

import filecmp
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_dedup.formatting import counted
from dask_dedup.output.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Comparison:
    """Outcome of a comparison.

    Attributes
    ----------
    files, bytes : int
        Number and size of the files of the first result.
    differing : list of str
        Paths of files with different bytes, or only in one of the results.
    """

    files: int
    bytes: int
    differing: list[str]

    def __str__(self) -> str:
        if self.differing:
            return f"the results differ in {', '.join(self.differing)}"
        return f"identical byte for byte: {counted(self.files, 'file')}, {self.bytes / 1e6:,.1f} MB, in both results"


def compare_results(one: Path, other: Path) -> Comparison:
    """Compare all tables of two results in local folders. Reads every byte."""
    ours, theirs = _paths(one), _paths(other)
    differing = [
        path
        for path in sorted(ours | theirs)
        if path not in ours & theirs or not filecmp.cmp(one / path, other / path, shallow=False)
    ]
    return Comparison(len(ours), sum((one / path).stat().st_size for path in ours), differing)


def _paths(folder: Path) -> set[str]:
    return {entry["path"] for entry in read_manifest(folder)["outputs"]}

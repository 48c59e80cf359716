"""Type of an input that has only some of the pick files in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class NamedFiles(str):
    """Pick files that are one input. As text, it is a pattern that matches the files, and their number.

    Attributes
    ----------
    folder : Path
        Output names are relative to this folder.
    files : tuple of str
    """

    __slots__ = ("files", "folder")
    folder: Path
    files: tuple[str, ...]

    @classmethod
    def of(cls, text: str, folder: str | Path, files: Sequence[str | Path]) -> Self:
        """Return the input with the text `text` and these files."""
        self = cls(text)
        self.folder, self.files = at(folder), tuple(map(str, files))
        return self

"""Details of the files of a table of picks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_dedup.formats.base import FileSlice
    from dask_dedup.formats.coordinates.column_map import Layout
    from dask_dedup.formats.coordinates.pick_list import PickList


@dataclass(frozen=True, slots=True)
class Member:
    """One pick file of a table.

    Attributes
    ----------
    path : str
    name : str
        Path of the file in the output.
    micrograph : str
        Name of the micrograph. Used if the file has no column with micrographs.
    layout : int
        Index of the file's layout, or -1 for a file without picks.
    bytes, rows : int
    start, stop : int
        Byte range of the lines with picks. Equal without picks.
    """

    path: str
    name: str
    micrograph: str
    layout: int
    bytes: int
    rows: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class CoordinatesDetail:
    """The pick files of a table.

    Attributes
    ----------
    members : tuple of Member
        The pick files.
    layouts : tuple of Layout
    lists : tuple of PickList
    tomograms : bool
        Whether the picks are in tomograms.
    tree : str
        Name of the output folder for the files. Empty for a single file.
    notes : tuple of str
        Notes about ignored files.
    names : tuple of (str, str)
        Number and name of each tomogram, if the files have numbers.
    writable : bool
        Whether the files can be written.
    named : bool
        Whether the input is `NamedFiles`. In this case, the table's `path` is not a path.
    adds_shifts : bool
        Whether shifts in the files are added to positions.
    companions : tuple of (str, str)
        Path of each other file that is needed to read the pick files, and the suffix of the copy in the output.
    """

    members: tuple[Member, ...]
    layouts: tuple[Layout, ...]
    lists: tuple[PickList, ...] = ()
    tomograms: bool = False
    tree: str = ""
    notes: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    writable: bool = True
    named: bool = False
    adds_shifts: bool = True
    companions: tuple[tuple[str, str], ...] = ()


def member_of(part: FileSlice) -> int:
    """Return the index of the pick file that a slice of a fragment belongs to."""
    return part.blocks[2]

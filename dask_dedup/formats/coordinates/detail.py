"""What is known of the files of a table of picks."""

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
        Its path in the output.
    micrograph : str
        Used if the file has no column with micrographs.
    layout : int
        Index of its layout.
    bytes, rows : int
    start, stop : int
        Byte range of the lines with picks; equal if there are none.
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
        In the order of their names.
    layouts : tuple of Layout
    lists : tuple of PickList
    tomograms : bool
        Whether the picks are in tomograms.
    tree : str
        Name of the output folder for the files; empty for a single file.
    notes : tuple of str
        What was ignored.
    names : tuple of (str, str)
        Names of micrographs, by the number that stands for them in the files.
    writable : bool
        Whether the files can be written.
    named : bool
        Whether the files are named one by one: the path of the table is no path.
    adds_shifts : bool
        Whether shifts in the files are added to positions.
    companions : tuple of (str, str)
        Path of each file that the pick files cannot be read without, and what follows the name of its copy.
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

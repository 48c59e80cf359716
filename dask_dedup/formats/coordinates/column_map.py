"""Column maps: what the columns of a program's pick files mean.

A column map has a function that recognises the header of a file and names each column by its role:

==================================  =====================================================================
role                                meaning
==================================  =====================================================================
``x``, ``y``, ``z``                 position, in pixels; a corner if there are also ``width`` and ``height``
``width``, ``height``               size of the box, in pixels; half of it is added to x and y
``shift_x``, ``shift_y``, ...       shift in pixels, which is added
``score``                           higher is better; -999 and ``<NA>`` mean that there is none
``filament``                        number of the filament
``micrograph``                      name of the micrograph or tomogram; by default the name of the file
``pixel_size``                      pixel size of the positions, in angstrom
==================================  =====================================================================

Other columns keep their names, and become columns of the table.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from dask_dedup.formats.coordinates.lines import first_row, star_loops
from dask_dedup.formats.coordinates.values import is_numeric

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from dask_dedup.formats.coordinates.tomogram_tables import TomogramTables

    #: Returns the header of a file that begins with these bytes, None if the file is of another format.
    Recognise = Callable[[bytes, Path], "Header | None"]
    #: Returns the columns of a complete file by role, as arrays, None if the file is of another format.
    Parse = Callable[[bytes, Path], Mapping[str, Any] | None]
    #: Factors from the stored coordinates to pixels, one per axis, and the pixel size, which may be unknown.
    Scale = tuple[tuple[float, ...], float | None]
    #: Returns the scale of the picks in a file that are in the named tomogram, and the table of tomograms that has it.
    FindScale = Callable[[TomogramTables, Path, str], tuple[Scale, Path | None]]

ROLES = frozenset(
    {
        *("x", "y", "z", "width", "height", "shift_x", "shift_y", "shift_z"),
        *("score", "filament", "micrograph", "pixel_size"),
    }
)
MICROGRAPH, TOMOGRAM = "rlnMicrographName", "rlnTomoName"
COORDINATES = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
SCORE, FILAMENT = "rlnAutopickFigureOfMerit", "rlnHelicalTubeID"
PIXEL_SIZE_2D, PIXEL_SIZE_3D = "rlnMicrographPixelSize", "rlnTomoTiltSeriesPixelSize"


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a pick file. Files of one program usually share one.

    Attributes
    ----------
    map : str
        Name of the column map.
    columns : tuple of str
        The role of each column, or its name if it has no role; empty for columns that are not read.
    delimiter : str
        Between the columns; empty for any number of blanks.
    scale : tuple of float
        Factors from the stored coordinates to pixels, one per axis.
    pixel_size : float or None
        Pixel size of the positions in angstrom, if the format fixes it.
    text : tuple of str
        Columns without a role whose values are text.
    """

    map: str
    columns: tuple[str, ...]
    delimiter: str = ""
    scale: tuple[float, ...] = ()
    pixel_size: float | None = None
    text: tuple[str, ...] = ()

    @property
    def extra(self) -> tuple[str, ...]:
        """Columns that have no role."""
        return tuple(name for name in self.columns if name and name not in ROLES)

    @property
    def has_z(self) -> bool:
        """Whether the picks have three coordinates."""
        return "z" in self.columns


@dataclass(frozen=True, slots=True)
class Header:
    """A recognised header: the layout of the file and the first byte of its data lines."""

    layout: Layout
    start: int = 0


def _never(head: bytes, path: Path) -> Header | None:  # noqa: ARG001
    return None


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """A format with one pick per line, or with picks in a document that is read as a whole.

    Attributes
    ----------
    name : str
        Of the format, for messages.
    extensions : tuple of str
        In lower case, with the dot.
    recognise : function
    expected : str
        What such a file looks like. If not empty, a file with the extension must be in this format.
    star : bool
        Whether the file is in STAR format, in which other blocks can follow the picks.
    helix : bool
        Whether lines that begin with ``#helix`` begin a new filament.
    parse : function, optional
        Reads a document. Lines are not looked for.
    find_elements : function, optional
        Returns the start and stop byte of each pick of a document. Without it, the format is read only.
    numbered : bool
        Whether the column with tomograms has their numbers.
    find_scale : function, optional
        Finds the scale of picks that depends on their tomogram.
    shifts : tuple of str
        Names of the shifts, for messages.
    pixel_size : str
        Where files have the pixel size of their positions, for messages.
    by_run : bool
        Whether each tomogram has its own folder, with files of the same names.
    """

    name: str
    extensions: tuple[str, ...]
    recognise: Recognise = _never
    expected: str = ""
    star: bool = False
    _: KW_ONLY
    helix: bool = False
    parse: Parse | None = None
    find_elements: Callable[[bytes], list[tuple[int, int]]] | None = None
    numbered: bool = False
    find_scale: FindScale | None = None
    shifts: tuple[str, ...] = ()
    pixel_size: str = ""
    by_run: bool = False

    @property
    def writable(self) -> bool:
        """Whether files of this format can be written."""
        return self.parse is None or self.find_elements is not None


def star_map(
    name: str,
    roles: Mapping[str, str],
    *,
    needs: Sequence[str] = ("x", "y"),
    refuses: Sequence[str] = (),
    block: str | None = None,
    extensions: Sequence[str] = (".star",),
    expected: str = "",
    pixel_size: float | None = None,
    numbered: bool = False,
) -> ColumnMap:
    """Return the column map of a STAR format.

    Parameters
    ----------
    name : str
    roles : mapping of str to str
        Role of each label. The label has no leading underscore.
    needs : sequence of str
        Roles or labels that a table of this format has.
    refuses : sequence of str
        Labels that it does not have.
    block : str, optional
        Name of its block, without ``data_``; by default any.
    pixel_size : float, optional
        Of the positions, if fixed.
    numbered : bool
        Whether the column with tomograms has their numbers.
    """

    def recognise(head: bytes, path: Path) -> Header | None:  # noqa: ARG001
        for found, labels, start in star_loops(head):
            columns = with_roles(labels, roles)
            if block not in (None, found) or not {*columns, *labels}.issuperset(needs):
                continue
            if set(refuses) & set(labels):
                return None
            columns = _without_empty_roles(columns, first_row(head, start).split())
            return Header(Layout(name, columns, pixel_size=pixel_size), start)
        return None

    shifts = tuple(label for label, role in roles.items() if role.startswith("shift_"))
    sizes = [label for label, role in roles.items() if role == "pixel_size"]
    return ColumnMap(
        *(name, tuple(extensions), recognise, expected),
        star=True,
        numbered=numbered,
        shifts=shifts,
        pixel_size=" or ".join(sizes),
    )


def number_map(
    name: str,
    extensions: Sequence[str],
    columns: Sequence[str],
    counts: Sequence[int],
    expected: str = "",
) -> ColumnMap:
    """Return the column map of files without a header, whose lines have one of these counts of numbers."""

    def recognise(head: bytes, path: Path) -> Header | None:  # noqa: ARG001
        values = first_row(head).split()
        if len(values) not in counts or not all(map(is_numeric, values)):
            return None
        return Header(Layout(name, tuple(columns[: len(values)])))

    return ColumnMap(name, tuple(extensions), recognise, expected)


def with_roles(labels: Sequence[str], roles: Mapping[str, str]) -> tuple[str, ...]:
    """Return the role of each label, else the label. Of several labels with a role, the first in `roles` has it."""
    label_of: dict[str, str] = {}
    for label, role in roles.items():
        if label in labels:
            label_of.setdefault(role, label)
    role_of = {label: role for role, label in label_of.items()}
    return tuple(role_of.get(label, label) for label in labels)


def _without_empty_roles(columns: tuple[str, ...], values: Sequence[bytes]) -> tuple[str, ...]:
    """Return the columns with "" for those whose first value is ``<NA>``, except positions, boxes and the score."""
    if len(values) != len(columns) or b"<NA>" not in values:
        return columns
    return tuple(
        "" if value == b"<NA>" and name in ROLES - {"score", "x", "y", "width", "height"} else name
        for name, value in zip(columns, values, strict=True)
    )


def centre(
    layout: Layout, axis: int, values: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the centres along one axis, in pixels: (n,) float64.

    `values` are the columns by role. Half of a box is added to its corner, and shifts are added.
    """
    centres = values["xyz"[axis]]
    if layout.scale:
        centres = centres * layout.scale[axis]
    size = values.get(("width", "height", "")[axis])
    if size is not None:
        centres = centres + size / 2
    shift = values.get(f"shift_{'xyz'[axis]}")
    return centres if shift is None else centres + shift

"""Column maps: the meaning of the columns in the pick files of a program.

A column map has a function that recognises the header of a file and returns the role of each column:

==================================  =====================================================================
role                                meaning
==================================  =====================================================================
``x``, ``y``, ``z``                 position, in pixels; a corner if there are also ``width`` and ``height``
``width``, ``height``               size of the box, in pixels; half of it is added to x and y
``shift_x``, ``shift_y``, ...       shift in pixels, added to the position
``score``                           higher is better; -999 and ``<NA>`` mean that there is none
``filament``                        number of the filament
``micrograph``                      name of the micrograph or tomogram; by default the name of the file
``pixel_size``                      pixel size of the positions, in angstrom
==================================  =====================================================================

Columns without a role become columns of the table, with unchanged names.
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

    #: Returns the header of a file that begins with these bytes, or None if the file has another format.
    Recognise = Callable[[bytes, Path], "Header | None"]
    #: Returns the columns of a complete file as arrays, by role, or None if the file has another format.
    Parse = Callable[[bytes, Path], Mapping[str, Any] | None]
    #: One factor per axis that converts stored coordinates to pixels, and the pixel size (None if unknown).
    Scale = tuple[tuple[float, ...], float | None]
    #: Returns the scale of a file's picks in a tomogram, and the table of tomograms with this scale. The text is the
    #: name of the tomogram.
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
    """The columns of a pick file. Files of the same program usually have equal layouts.

    Attributes
    ----------
    map : str
        Name of the column map.
    columns : tuple of str
        The role of each column. Columns without a role have their name. Columns that are not read are empty.
    delimiter : str
        Text between two columns. Empty means any number of blanks.
    scale : tuple of float
        One factor per axis that converts stored coordinates to pixels. Empty if they are in pixels.
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
        """Columns without a role."""
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
    """A format of pick files. Files have one pick per line, or are documents such as JSON that are read as a whole.

    Attributes
    ----------
    name : str
        Name of the format, for messages.
    extensions : tuple of str
        File extensions in lower case, with the dot.
    recognise : function
    expected : str
        Description of a valid file, for messages. If not empty, all files with the extension must have this format.
    star : bool
        Whether the format is STAR. In a STAR file, other blocks can follow the picks.
    helix : bool
        Whether a line that begins with ``#helix`` starts a new filament.
    parse : function, optional
        Reads a document. Formats with one pick per line have none.
    find_elements : function, optional
        Returns the start and stop byte of each pick of a document. Without this function, documents are read only.
    numbered : bool
        Whether tomograms have numbers instead of names.
    find_scale : function, optional
        Returns the scale of picks. Only for formats with a scale that depends on the tomogram.
    shifts : tuple of str
        Names of the shifts, for messages.
    pixel_size : str
        Column or other source of the pixel size in the files, for messages.
    by_run : bool
        Whether each tomogram has a folder, and the files in these folders have the same names.
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
        Role of each label. Labels have no leading underscore.
    needs : sequence of str
        Roles or labels that a table of this format must have.
    refuses : sequence of str
        Labels that a table of this format must not have.
    block : str, optional
        Name of the block with the table, without ``data_``. By default, any block.
    pixel_size : float, optional
        Pixel size of the positions, if the format fixes it.
    numbered : bool
        Whether tomograms have numbers instead of names.
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
    """Return the column map of files without a header. Each line has only numbers. `counts` are the valid counts."""

    def recognise(head: bytes, path: Path) -> Header | None:  # noqa: ARG001
        values = first_row(head).split()
        if len(values) not in counts or not all(map(is_numeric, values)):
            return None
        return Header(Layout(name, tuple(columns[: len(values)])))

    return ColumnMap(name, tuple(extensions), recognise, expected)


def with_roles(labels: Sequence[str], roles: Mapping[str, str]) -> tuple[str, ...]:
    """Replace each label by its role. Labels without a role stay.

    If several labels have the same role, only the first of them in `roles` is replaced.
    """
    label_of: dict[str, str] = {}
    for label, role in roles.items():
        if label in labels:
            label_of.setdefault(role, label)
    role_of = {label: role for role, label in label_of.items()}
    return tuple(role_of.get(label, label) for label in labels)


def _without_empty_roles(columns: tuple[str, ...], values: Sequence[bytes]) -> tuple[str, ...]:
    """Replace roles by "" if the first value of the column is ``<NA>``. Positions, boxes and the score stay."""
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

    `values` are the columns by role. The centre is the position, plus half the size of a box, plus the shift.
    """
    centres = values["xyz"[axis]]
    if layout.scale:
        centres = centres * layout.scale[axis]
    size = values.get(("width", "height", "")[axis])
    if size is not None:
        centres = centres + size / 2
    shift = values.get(f"shift_{'xyz'[axis]}")
    return centres if shift is None else centres + shift

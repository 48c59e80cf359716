"""CSV files and other text tables with named columns.

The role of a column depends on its name, or on the parameter `columns`. If there are no names
and no parameter, a table must have two columns: x and y. In a list of tomograms, tables without names have three or
six columns: x, y, z and angles.
"""

from __future__ import annotations

import codecs
import csv
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.coordinates.column_map import ROLES, ColumnMap, Header, Layout, number_map
from dask_dedup.formats.coordinates.lines import first_row
from dask_dedup.formats.coordinates.values import is_numeric
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_DELIMITERS = "\t,;|"
#: Names of columns by role, in lower case. The unit ``[a]`` is angstrom.
_NAMES = {
    **{
        axis: (
            *(axis, f"{axis}-coordinate", f"{axis}_coordinate", f"{axis}_coord"),
            f"coordinate_{axis}",
            *(f"{axis} [a]", f"coordinate{axis}", f"rlncoordinate{axis}", f"center_{axis}"),
            *(f"centre_{axis}", f"{axis}_center", f"c{axis}", f"pos_{axis}", f"location_{axis}"),
        )
        for axis in "xyz"
    },
    "score": (
        *("score", "confidence", "rlnautopickfigureofmerit", "fom", "cc", "ncc", "lccmax", "prob"),
    ),
    "micrograph": (
        *("micrograph", "micrograph_name", "rlnmicrographname", "image_name", "image", "filename"),
        *("file_name", "tomogram", "tomo_name", "rlntomoname", "tomo_id", "run_name"),
    ),
    "filament": ("filament", "filament_id", "filamentid", "rlnhelicaltubeid", "ids"),
}
#: Names of columns with sizes of boxes, in lower case. In tables with such columns, x and y can be corners.
_WIDTHS, _HEIGHTS = {"width", "w", "box_width"}, {"height", "h", "box_height"}
_CENTRES = ("cent", "cx")
_ROLE_OF = {name: role for role, names in _NAMES.items() for name in names}
_ANGSTROM = "x [a]"


def _recognise(head: bytes, path: Path) -> Header | None:
    return _read_header(head, path, {})


def _read_header(head: bytes, path: Path, given: Mapping[str, str]) -> Header | None:
    names, delimiter = _split_first_row(head)
    if not names:
        return None
    if all(is_numeric(name.encode()) for name in names):
        commented = _names_in_comment(head, len(names), delimiter)
        if commented and (not given or set(given.values()) <= {*commented}):
            return _named(commented, given, path, delimiter, 0)
        if given:
            roles = _roles_by_number(names, given, path)
        elif len(names) == 2:
            roles = ("x", "y")
        elif len(names) == 3:
            wanted = parameter("columns", "x=1,y=2,z=3")
            raise InputError(
                f"{path}: has three columns without names, which can be x, y, z or x, y, score. Pass {wanted}, or "
                "other roles."
            )
        else:
            return None
        return Header(Layout(DELIMITED.name, roles, delimiter))
    start = head.find(b"\n", head.index(first_row(head))) + 1 or len(head)
    return _named(names, given, path, delimiter, start)


def _names_in_comment(head: bytes, count: int, delimiter: str) -> list[str]:
    """Return the column names in the last comment before the first row. Return [] unless there are `count` names.

    NumPy writes the header of a table as a comment.
    """
    before = head[: head.index(first_row(head))].decode(errors="replace").splitlines()
    comment = next((line.strip() for line in reversed(before) if line.strip()), "").lstrip("#")
    for each in dict.fromkeys((delimiter, *_DELIMITERS, "")):
        names = _split(comment.strip(), each)
        if len(names) == count and {"x", "y"} <= {_ROLE_OF.get(name.lower()) for name in names}:
            return names
    return []


def _named(
    names: Sequence[str], given: Mapping[str, str], path: Path, delimiter: str, start: int
) -> Header | None:
    """Return the header of a table with these column names. The rows begin at byte `start`."""
    columns = _roles_by_name(names, given, path)
    if not {"x", "y"} <= set(columns):
        return None
    if not given:
        _check_boxes(names, columns, path)
    angstrom = names[columns.index("x")].lower() == _ANGSTROM
    return Header(
        Layout(DELIMITED.name, columns, delimiter, pixel_size=1.0 if angstrom else None), start
    )


def _check_boxes(names: Sequence[str], columns: Sequence[str], path: Path) -> None:
    """Raise InputError if a table has sizes of boxes, and it is unknown whether x and y are centres or corners."""
    lower = [name.lower() for name in names]
    sizes = [names[lower.index(name)] for name in lower if name in _WIDTHS | _HEIGHTS]
    x, y = names[columns.index("x")], names[columns.index("y")]
    if len(sizes) < 2 or any(text in x.lower() for text in _CENTRES):
        return
    score = f",score={names[columns.index('score')]}" if "score" in columns else ""
    centres, corners = (
        f"x={x},y={y}{more}{score}" for more in ("", f",width={sizes[0]},height={sizes[1]}")
    )
    raise InputError(
        f"{path}: has the size of boxes ({', '.join(sizes)}), so {x} and {y} can be centres or corners. Pass "
        f"{parameter('columns', centres)} for centres, or {parameter('columns', corners)} for corners."
    )


def explain_unknown(path: Path, head: bytes) -> str | None:
    """Return a message about a text table if its column names are unknown. Return None for other files."""
    names, _ = _split_first_row(head)
    if path.suffix.lower() not in DELIMITED.extensions or len(names) < 2:
        return None
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    numbered = all(is_numeric(name.encode()) for name in names)
    wanted = "x=1,y=2,score=3" if numbered and len(names) > 2 else f"x={names[0]},y={names[1]}"
    what = (
        f"{len(names)} columns without names" if numbered else f"columns of unknown names ({shown})"
    )
    return f"{path}: has {what}. Define x and y, for example {parameter('columns', wanted)}."


def _split_first_row(head: bytes) -> tuple[list[str], str]:
    """Return the values in the first row, and the delimiter between them."""
    text = first_row(head).removeprefix(codecs.BOM_UTF8).decode(errors="replace")
    delimiter = next((each for each in _DELIMITERS if each in text), "")
    return _split(text, delimiter), delimiter


def _split(text: str, delimiter: str) -> list[str]:
    if not delimiter:
        return text.split()
    try:
        return [value.strip() for value in next(csv.reader([text], delimiter=delimiter))]
    except csv.Error:
        return []


def _roles_by_name(names: Sequence[str], given: Mapping[str, str], path: Path) -> tuple[str, ...]:
    """Return the role of each column, or its name if it has no role. Each role is used for only one column."""
    role_of = {name: role for role, name in given.items()}
    missing = [name for name in role_of if name not in names]
    if missing:
        raise InputError(f"{path}: has no column {missing[0]}. Use one of {', '.join(names)}.")
    columns: list[str] = []
    for name in names:
        role = role_of.get(name) if given else _ROLE_OF.get(name.lower())
        if role is None and given and name in ROLES:
            # The user chose another column for this role. The blank distinguishes the name from the role.
            role = f"{name} "
        columns.append(role if role and role not in columns else name if name not in ROLES else "")
    return tuple(columns)


def _roles_by_number(
    values: Sequence[str], given: Mapping[str, str], path: Path
) -> tuple[str, ...]:
    """Return the role of each column of a table without names. Columns are numbered from 1."""
    columns = [f"column_{number}" for number in range(1, len(values) + 1)]
    for role, number in given.items():
        if not number.isdecimal() or not 1 <= int(number) <= len(values):
            raise InputError(
                f"{path}: the columns have no names. Use their numbers, 1 to {len(values)}, not {number!r}."
            )
        columns[int(number) - 1] = role
    return tuple(columns)


def with_columns(given: Mapping[str, str]) -> ColumnMap:
    """Return the column map of text tables with columns that the user defines.

    Parameters
    ----------
    given : mapping of str to str
        Column name or number for each role, such as ``{"x": "cx", "y": "cy", "score": "p"}``.
    """
    unknown = next((role for role in given if role not in ROLES), None)
    if unknown or not {"x", "y"} <= given.keys():
        problem = f"{unknown} is no role" if unknown else "x and y are needed"
        raise InputError(
            f"{parameter('columns')}: {problem}. Roles are {', '.join(sorted(ROLES))}."
        )

    def recognise(head: bytes, path: Path) -> Header | None:
        return _read_header(head, path, given)

    return ColumnMap(DELIMITED.name, DELIMITED.extensions, recognise)


DELIMITED = ColumnMap("text table", (".csv", ".tsv", ".txt"), _recognise)
#: Text files in a list of tomograms.
LISTED = number_map(
    DELIMITED.name, DELIMITED.extensions, ("x", "y", "z", "rot", "tilt", "psi"), (3, 6)
)

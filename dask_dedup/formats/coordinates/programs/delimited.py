"""CSV files and other text tables with named columns.

Columns get their roles by the names that programs use, or by a mapping from the user. A table without names has
two or three columns: x, y and z.
"""

from __future__ import annotations

import codecs
import csv
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.coordinates.column_map import ROLES, ColumnMap, Header, Layout, first_row
from dask_dedup.formats.coordinates.values import is_numeric
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_DELIMITERS = "\t,;|"
#: Names of columns by role, in lower case. Names in the text of a unit stand for angstrom.
_NAMES = {
    **{
        axis: (
            *(
                axis,
                f"{axis}-coordinate",
                f"{axis}_coordinate",
                f"{axis}_coord",
                f"coordinate_{axis}",
            ),
            *(f"{axis} [a]", f"coordinate{axis}", f"rlncoordinate{axis}", f"center_{axis}"),
            *(f"centre_{axis}", f"{axis}_center", f"c{axis}", f"pos_{axis}", f"location_{axis}"),
        )
        for axis in "xyz"
    },
    "score": (
        "score",
        "confidence",
        "rlnautopickfigureofmerit",
        "fom",
        "cc",
        "ncc",
        "lccmax",
        "prob",
    ),
    "micrograph": (
        *("micrograph", "micrograph_name", "rlnmicrographname", "image_name", "image", "filename"),
        *("file_name", "tomogram", "tomo_name", "rlntomoname", "tomo_id", "run_name"),
    ),
    "filament": ("filament", "filament_id", "filamentid", "rlnhelicaltubeid", "ids"),
}
_ROLE_OF = {name: role for role, names in _NAMES.items() for name in names}
_ANGSTROM = "x [a]"


def _recognise(head: bytes, path: Path) -> Header | None:
    return _read_header(head, path, {})


def _read_header(head: bytes, path: Path, given: Mapping[str, str]) -> Header | None:
    line = first_row(head).removeprefix(codecs.BOM_UTF8)
    text = line.decode(errors="replace")
    delimiter = next((each for each in _DELIMITERS if each in text), "")
    names = _split(text, delimiter)
    if not names:
        return None
    if all(is_numeric(name.encode()) for name in names):
        if given:
            roles = _roles_by_number(names, given, path)
        elif len(names) in (2, 3):
            roles = tuple("xyz"[: len(names)])
        else:
            return None
        return Header(Layout(DELIMITED.name, roles, delimiter))
    start = min(head.index(line) + len(line), len(head))
    start = head.find(b"\n", start) + 1 or len(head)
    columns = _roles_by_name(names, given, path)
    if not {"x", "y"} <= set(columns):
        return None
    angstrom = any(name.lower() == _ANGSTROM for name in names)
    return Header(
        Layout(DELIMITED.name, columns, delimiter, pixel_size=1.0 if angstrom else None), start
    )


def _split(text: str, delimiter: str) -> list[str]:
    if not delimiter:
        return text.split()
    try:
        return [value.strip() for value in next(csv.reader([text], delimiter=delimiter))]
    except csv.Error:
        return []


def _roles_by_name(names: Sequence[str], given: Mapping[str, str], path: Path) -> tuple[str, ...]:
    """Return the role of each column, else its name. The first column with a role has it."""
    role_of = {name: role for role, name in given.items()}
    missing = [name for name in role_of if name not in names]
    if missing:
        raise InputError(f"{path}: has no column {missing[0]}. Its columns are {', '.join(names)}.")
    columns: list[str] = []
    for name in names:
        role = role_of.get(name) if given else _ROLE_OF.get(name.lower())
        if role is None and given and name in ROLES:
            role = f"{name} "  # is no role, because the user named another column
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
    """Return the column map of tables in which the user names the columns.

    Parameters
    ----------
    given : mapping of str to str
        Role to column name or number, such as ``{"x": "cx", "y": "cy", "score": "p"}``.
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

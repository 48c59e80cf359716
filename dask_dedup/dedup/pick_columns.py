"""The parameter `columns`: the columns with positions and scores of picks in text tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_dedup.dedup.per_input import PerInput, normalize
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter


def parse_columns(text: str) -> dict[str, str]:
    """Return the name or number of each column by role, given ``ROLE=COLUMN,ROLE=COLUMN``.

    Examples
    --------
    >>> parse_columns("x=cx,y=cy,score=p")
    {'x': 'cx', 'y': 'cy', 'score': 'p'}
    """
    columns: dict[str, str] = {}
    for part in str(text).split(","):
        role, equals, column = (word.strip() for word in part.partition("="))
        if not (role and equals and column) or role in columns:
            raise InputError(
                f"{parameter('columns')} is {text!r}; it must be x=COLUMN,y=COLUMN,score=COLUMN, with each "
                "role once."
            )
        columns[role] = column
    return columns


def normalize_columns(given: Any) -> PerInput[str]:
    """Return the value of the parameter as (input, text) pairs, each text in one spelling. Raise InputError if invalid.

    Examples
    --------
    >>> normalize_columns({"x": "cx", "y": "cy"}), normalize_columns({"a.txt": "x=1, y=2"})
    ((('', 'x=cx,y=cy'),), (('a.txt', 'x=1,y=2'),))
    """
    if isinstance(given, Mapping) and {"x", "y"} <= given.keys():  # for all inputs
        given = {"": given}
    return PerInput((path, _as_text(each)) for path, each in normalize("columns", given))


def _as_text(columns: Any) -> str:
    if isinstance(columns, Mapping):
        columns = ",".join(f"{role}={column}" for role, column in columns.items())
    return ",".join(f"{role}={column}" for role, column in parse_columns(columns).items())

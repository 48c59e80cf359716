"""The parameter `columns`: which columns of a text table have the positions and scores of picks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def as_text(columns: Any) -> str:
    """Return columns by role, or their text, as text in one spelling. Raise InputError for other text."""
    if isinstance(columns, Mapping):
        columns = ",".join(f"{role}={column}" for role, column in columns.items())
    return ",".join(f"{role}={column}" for role, column in parse_columns(columns).items())


def for_all_inputs(columns: Any) -> Any:
    """Return columns by role, such as {"x": "cx", "y": "cy"}, as text. Return other values unchanged."""
    roles = isinstance(columns, Mapping) and {"x", "y"} <= columns.keys()
    return as_text(columns) if roles else columns

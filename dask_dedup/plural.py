"""Numbers with the noun and the verb that go with them."""

from __future__ import annotations

_SINGULAR = {"have": "has", "are": "is", "lie": "lies", "occur": "occurs", "take": "takes"}


def counted(number: int, noun: str, says: str = "") -> str:
    """Put a number before its noun, and what is said of so many.

    Examples
    --------
    >>> counted(2, "row", "have no uid"), counted(1, "row", "have no uid")
    ('2 rows have no uid', '1 row has no uid')
    >>> counted(1_000, "micrograph")
    '1,000 micrographs'
    """
    if number == 1:
        verb, _, rest = says.partition(" ")
        says = f"{_SINGULAR.get(verb, verb)} {rest}".strip()
    return f"{number:,} {noun}{'s' if number != 1 else ''}{' ' if says else ''}{says}"

"""Rules that change micrograph names before they are compared: ``s/PATTERN/REPLACEMENT/``, and a map of names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

_FORM = "write it as s/PATTERN/REPLACEMENT/, with the flags g (all matches) and i (any case)"
#: A group, an escaped character or the whole match in a replacement.
_REFERENCE = re.compile(r"\\(.)|&", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rename:
    """A substitution as in ``sed -E``, which replaces the first match, or all matches, of a regular expression.

    Attributes
    ----------
    pattern : re.Pattern
    parts : tuple of str or int
        The replacement: text, and numbers of groups.
    count : int
        Number of matches to replace; 0 for all.
    """

    pattern: re.Pattern[str]
    parts: tuple[str | int, ...]
    count: int

    def __call__(self, name: str) -> str:
        """Return the changed name."""

        def replacement(match: re.Match[str]) -> str:
            return "".join(p if isinstance(p, str) else match[p] or "" for p in self.parts)

        return self.pattern.sub(replacement, name, count=self.count)


@lru_cache(maxsize=256)
def parse_rename(text: str) -> Rename:
    r"""Parse a substitution. Any character may be used instead of the slash.

    Examples
    --------
    >>> parse_rename(r"s/_10\.00Apx$//")("TS_01_10.00Apx")
    'TS_01'
    >>> parse_rename(r"s|.*(FoilHole_\d+)_Data.*|grids/\1|")("J2/FoilHole_86_Data_80.mrc")
    'grids/FoilHole_86'
    """

    def wrong(why: str) -> InputError:
        return InputError(f"{parameter('rename_micrographs')} {text!r}: {why}.")

    if (
        not isinstance(text, str)
        or len(text) < 4
        or text[0] != "s"
        or text[1].isalnum()
        or text[1] in "\\ \n"
    ):
        raise wrong(_FORM)
    mark = text[1]
    fields = _split(text[2:], mark)
    if len(fields) != 3 or set(fields[2]) - set("gi"):
        raise wrong(_FORM)
    source, target, flags = fields
    try:
        pattern = re.compile(source, re.IGNORECASE if "i" in flags else 0)
    except re.error as error:
        raise wrong(f"{source!r} is no regular expression ({error})") from error
    parts: list[str | int] = []
    end = 0
    for found in _REFERENCE.finditer(target):
        escaped = found[1]
        parts += [target[end : found.start()]]
        parts += [0 if escaped is None else int(escaped) if escaped.isdecimal() else escaped]
        end = found.end()
    parts += [target[end:]]
    groups = [part for part in parts if isinstance(part, int) and part > pattern.groups]
    if groups:
        raise wrong(
            f"\\{groups[0]} stands for a group in parentheses that {source!r} does not have"
        )
    return Rename(pattern, tuple(parts), 0 if "g" in flags else 1)


def _split(text: str, mark: str) -> list[str]:
    r"""Split at each `mark` without a backslash before it. Remove the backslash of an escaped `mark`."""
    fields, position = [""], 0
    while position < len(text):
        letter = text[position]
        if letter == "\\" and position + 1 < len(text):
            following = text[position + 1]
            fields[-1] += following if following == mark else letter + following
            position += 2
            continue
        if letter == mark:
            fields.append("")
        else:
            fields[-1] += letter
        position += 1
    return fields


@dataclass(frozen=True, slots=True)
class MicrographMap:
    """Map of old to new micrograph names, applied after `rename_micrographs`.

    Attributes
    ----------
    pairs : tuple of (str, str)
        Old and new name.
    path : str
        File that the names were read from, or "".
    """

    pairs: tuple[tuple[str, str], ...] = ()
    path: str = ""

    @classmethod
    def of(cls, given: Any) -> Self:
        """Make a map from None, a mapping {old name: new name}, a `MicrographMap`, or the result of `to_dict`.

        Raises
        ------
        InputError
            If a name is empty or not text, or one old name has two new names.
        """
        if isinstance(given, cls):
            return given
        path = ""
        if isinstance(given, Mapping) and set(given) == {"pairs", "path"}:
            given, path = given["pairs"], given["path"]
        name = parameter("micrograph_map")
        if isinstance(given, str):
            raise InputError(
                f"{name} is a text; pass a mapping, or read_micrograph_map({given!r})."
            )
        pairs = tuple((given.items() if isinstance(given, Mapping) else given) or ())
        seen: dict[str, str] = {}
        for old, new in pairs:
            if not (isinstance(old, str) and isinstance(new, str) and old and new):
                raise InputError(f"{name} has {old!r} and {new!r}; both must be names.")
            if seen.setdefault(old, new) != new:
                raise InputError(
                    f"{path or name}: {old} has two new names, {seen[old]} and {new}. Remove one."
                )
        return cls(tuple((old, new) for old, new in pairs), path)

    def to_dict(self) -> dict[str, Any] | None:
        """Return the map as a dict for JSON, or None if it is empty."""
        if not self.pairs:
            return None
        return {"pairs": [list(pair) for pair in self.pairs], "path": self.path}

"""Values of a parameter that may differ between inputs.

They are stored as a tuple of (input, value) pairs. The input is a path as the user wrote it.
An empty text means every input without a pair.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

Value = TypeVar("Value")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
#: Parameters with pickers, given by their names or by the paths of inputs.
NAMED_PICKERS = ("found_by", "not_found_by")


class PerInput(tuple[tuple[str, Value], ...]):
    """Table of (input, value) pairs with look-up by input.

    Examples
    --------
    >>> pairs = normalize("micrograph_pixel_size", {"": 1.5, "b.star": 2.0})
    >>> pairs.values_for("./b.star"), pairs.value_for("c.star")
    ([2.0], 1.5)
    """

    @cached_property
    def _by_input(self) -> dict[str, list[Value]]:
        values: dict[str, list[Value]] = {}
        for key, value in self:
            values.setdefault(key, []).append(value)
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        return PerInput, (tuple(self),)

    def names(self, path: str) -> bool:
        """Return whether the input `path` has values besides the values for all inputs."""
        return bool(path) and as_input(path) in self._by_input

    def values_for(self, path: str) -> list[Value]:
        """Return the values for the input `path`, or else the values for all inputs."""
        return self._by_input.get(as_input(path), self._by_input.get("", []))

    def value_for(self, path: str) -> Value | None:
        """Return the value for the input `path`, or None if it has none."""
        return next(iter(self.values_for(path)), None)


def normalize(name: str, given: Any, *, repeatable: bool = False) -> PerInput[Any]:
    """Return the value of the parameter `name` as (input, value) pairs, in the given order.

    Parameters
    ----------
    name : str
        Name of the parameter, for messages.
    given : object
        None, a value, a mapping {input: value}, or the result of an earlier call.
    repeatable : bool
        Whether an input may have a list of values instead of a single value.

    Raises
    ------
    InputError
        If an input has two values.

    Examples
    --------
    >>> normalize("micrograph_pixel_size", 1.5)
    (('', 1.5),)
    >>> normalize("micrograph_pixel_size", {"a.star": 1.5, "./b.star": 2.0})
    (('a.star', 1.5), ('b.star', 2.0))
    >>> normalize("rename_micrographs", ["s/a/b/", "s/c/d/"], repeatable=True)
    (('', 's/a/b/'), ('', 's/c/d/'))
    """
    if given is None:
        return PerInput()
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, list | tuple) and all(map(_is_pair, given)):
        pairs = list(given)
    else:
        pairs = [("", given)]
    found: list[tuple[str, Any]] = []
    for key, value in pairs:
        values = value if repeatable and isinstance(value, list | tuple) else [value]
        found += [(as_input(key), each) for each in values]
    if not repeatable:
        inputs = Counter(key for key, _ in found)
        twice = next((key for key, count in inputs.items() if count > 1), None)
        if twice is not None:
            raise InputError(
                f"{parameter(name)} is given twice for {twice or 'all inputs'}. Give it once."
            )
    return PerInput(found)


def split_input(text: str, inputs: Sequence[str]) -> tuple[str, str]:
    """Split ``INPUT=value`` at the last ``=`` after a path in `inputs`. Other text is a value for all inputs.

    Examples
    --------
    >>> split_input("runs/a=b.star=1.5", ["runs/a=b.star"])
    ('runs/a=b.star', '1.5')
    >>> split_input("s/=/-/", ["a.star"])
    ('', 's/=/-/')
    """
    known = {as_input(path): path for path in inputs}
    end = len(text)
    while (end := text.rfind("=", 0, end)) > 0:
        if as_input(text[:end]) in known:
            return known[as_input(text[:end])], text[end + 1 :]
    return "", text


def is_picker_name(text: str) -> bool:
    """Return whether a text can be the name of a picker: letters, digits, ``_`` and ``-``."""
    return _NAME.fullmatch(text) is not None


def named_twice_error(picker: str) -> InputError:
    """Return the error for a picker in both `found_by` and `not_found_by`."""
    found, not_found = map(parameter, NAMED_PICKERS)
    return InputError(f"{found} and {not_found} both have {picker}. Drop one of them.")


def _is_pair(each: object) -> bool:
    return isinstance(each, list | tuple) and len(each) == 2 and isinstance(each[0], str)


def as_input(path: object) -> str:
    """Return a path as text, in one spelling: ``./a.star`` is ``a.star``. URIs stay as they are."""
    text = str(path)
    return text if "://" in text or not text else str(PurePath(text))

"""Parameters in messages. The Python API shows them as keywords, the command line as flags.

The library writes ``f"Fix the rows, or pass {parameter('invalid', 'reject')}."``. The Python API shows
``invalid='reject'``, the command line shows the flag.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# Private-use characters. Names and messages do not contain them, and `printable` escapes them elsewhere.
_START, _END = "\ue000", "\ue001"
_MENTION = re.compile(f"{_START}([a-z_]+)(?:=([^{_END}]*))?{_END}")


class Hint(NamedTuple):
    """A parameter in a message, with an optional suggested value as text."""

    parameter: str
    text: str | None = None

    @property
    def value(self) -> Any:
        """The suggested value as a Python object. Text that is no Python literal remains text."""
        try:
            return ast.literal_eval(self.text or "")
        except (ValueError, SyntaxError):
            return self.text


def parameter(name: str, value: object = None) -> str:
    """Return marked-up text for a parameter in a message.

    `value` is an optional suggested value: text, a number, True, a tuple, or {input: value}.
    """
    return f"{_START}{name}{'' if value is None else f'={value}'}{_END}"


def find_hints(text: str) -> list[Hint]:
    """Return the parameters in a marked-up message, in order of appearance.

    Examples
    --------
    >>> find_hints(f"Fix the rows, or pass {parameter('invalid', 'reject')}.")
    [Hint(parameter='invalid', text='reject')]
    """
    return [Hint(*mention.groups()) for mention in _MENTION.finditer(text)]


def as_keyword(hint: Hint) -> str:
    """Format a parameter as a Python argument: ``name=value``, or ``name`` if no value is suggested.

    Examples
    --------
    >>> as_keyword(Hint("invalid", "reject")), as_keyword(Hint("seed", "0")), as_keyword(Hint("seed"))
    ("invalid='reject'", 'seed=0', 'seed')
    """
    return hint.parameter if hint.text is None else f"{hint.parameter}={hint.value!r}"


def spell(text: str, spelling: Callable[[Hint], str] = as_keyword) -> str:
    """Replace each marked-up parameter of a message by the text that `spelling` returns for it.

    Examples
    --------
    >>> spell(f"{parameter('seed')} is -1; it must be at least 0")
    'seed is -1; it must be at least 0'
    """
    return _MENTION.sub(lambda mention: spelling(Hint(*mention.groups())), text)


class Message(str):
    """Message that shows parameters as Python keywords. The attribute `raw` holds the marked-up message."""

    raw: str

    def __new__(cls, raw: str) -> Message:
        """Spell parameters in `raw` as Python arguments. If `raw` is already a `Message`, return it."""
        if isinstance(raw, Message):
            return raw
        message = super().__new__(cls, spell(raw))
        message.raw = raw
        return message

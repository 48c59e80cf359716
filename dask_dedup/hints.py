"""Messages that name parameters, spelled as keywords by the Python API and as flags by the command line.

The library writes ``f"Fix the rows, or pass {parameter('invalid', 'reject')}."``. The Python API shows
``invalid='reject'``, the command line shows the flag.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# Private-use characters: no name or message contains them, and `printable` escapes them elsewhere.
_START, _END = "\ue000", "\ue001"
_MENTION = re.compile(f"{_START}([a-z_]+)(?:=([^{_END}]*))?{_END}")


class Hint(NamedTuple):
    """A parameter named in a message, and the text of a value to suggest."""

    parameter: str
    text: str | None = None

    @property
    def value(self) -> Any:
        """The suggested value: a number, True, a tuple, or else the text."""
        try:
            return ast.literal_eval(self.text or "")
        except (ValueError, SyntaxError):
            return self.text


def parameter(name: str, value: object = None) -> str:
    """Return a mention of a parameter to put into a message.

    The value to suggest, if any, is text, a number, True or a tuple.
    """
    return f"{_START}{name}{'' if value is None else f'={value}'}{_END}"


def find_hints(text: str) -> list[Hint]:
    """Return the parameters that a message mentions, in order.

    Examples
    --------
    >>> find_hints(f"Fix the rows, or pass {parameter('invalid', 'reject')}.")
    [Hint(parameter='invalid', text='reject')]
    """
    return [Hint(*mention.groups()) for mention in _MENTION.finditer(text)]


def as_keyword(hint: Hint) -> str:
    """Return a parameter as the Python API spells it.

    Examples
    --------
    >>> as_keyword(Hint("invalid", "reject")), as_keyword(Hint("seed", "0")), as_keyword(Hint("seed"))
    ("invalid='reject'", 'seed=0', 'seed')
    """
    return hint.parameter if hint.text is None else f"{hint.parameter}={hint.value!r}"


def spell(text: str, spelling: Callable[[Hint], str] = as_keyword) -> str:
    """Return a message with its parameters spelled out.

    Examples
    --------
    >>> spell(f"{parameter('seed')} is -1; it must be at least 0")
    'seed is -1; it must be at least 0'
    """
    return _MENTION.sub(lambda mention: spelling(Hint(*mention.groups())), text)


class Message(str):
    """A message as text, spelled for the Python API; `raw` keeps the mentions for other interfaces."""

    raw: str

    def __new__(cls, raw: str) -> Message:
        """Return `raw` spelled for the Python API; a message stays as it is."""
        if isinstance(raw, Message):
            return raw
        message = super().__new__(cls, spell(raw))
        message.raw = raw
        return message

"""Read the text of a CryoSPARC ``.csg`` group, and change it for a subset.

::

    created: 2024-05-01 12:00:00.000000
    group: {name: particles, title: All particles, type: particle, ...}
    results:
      blob:
        metafile: '>J42_particles.cs'       # > means: in the folder of this file
        num_items: 456024
        type: particle.blob
      ...
    version: v4.4.1

Only numbers of items and file names are replaced; every other character stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from dask_dedup.errors import InputError
from dask_dedup.storage.files import open_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: Real groups have a few kilobytes.
MAX_BYTES = 2**18


@dataclass(frozen=True, slots=True)
class GroupFile:
    """The text of a group, with the positions of what a subset changes.

    Attributes
    ----------
    text : str
    metafiles : tuple of (str, str)
        For each result (``location``, ``blob``, ...) the file it points to, as written.
    names : tuple of (int, int, str)
        Start and end of each file name in the text, and the name.
    counts : tuple of (int, int)
        Start and end of each ``num_items`` in the text.
    """

    text: str
    metafiles: tuple[tuple[str, str], ...]
    names: tuple[tuple[int, int, str], ...]
    counts: tuple[tuple[int, int], ...]

    def with_subset(self, rows: int, names: Mapping[str, str]) -> str:
        """Return the text for a subset of the items.

        Parameters
        ----------
        rows : int
            Number of items.
        names : mapping of str to str
            For each file, as written, the name of the new file in the folder of the new group.
        """
        edits = [(start, end, str(rows)) for start, end in self.counts]
        edits += [
            (start, end, "'>" + names[entry].replace("'", "''") + "'")
            for start, end, entry in self.names
            if entry != ">" + names[entry]
        ]
        text = self.text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text


def read_group(path: Path) -> GroupFile:
    """Read a group; YAML tags are ignored.

    Raises
    ------
    InputError
        If it is too long for a group, or no group.
    """
    with open_to_read(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: not a CryoSPARC group: longer than {MAX_BYTES:,} bytes")
    try:
        text = content.decode()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = getattr(error, "problem", None) or "not YAML"
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f" (line {line + 1})"
        raise InputError(f"{path}: not a readable CryoSPARC group: {reason}{where}") from error
    results = _value(root, "results")
    if not isinstance(results, yaml.MappingNode) or not results.value:
        raise InputError(
            f"{path}: not a CryoSPARC group: it has no results that point to .cs files"
        )
    metafiles, names = [], {}
    for key, entry in results.value:
        node = _value(entry, "metafile")
        if node is None:
            raise InputError(f"{path}: the result {key.value} has no metafile")
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            raise InputError(f"{path}: the metafile of the result {key.value} is not text")
        metafiles.append((str(key.value), node.value))
        names[_span(node, text)] = node.value
    counts = {_span(node, text) for node in _values_of(root, "num_items")}
    return GroupFile(
        text=text,
        metafiles=tuple(metafiles),
        names=tuple((start, end, entry) for (start, end), entry in names.items()),
        counts=tuple(sorted(counts)),
    )


def _span(node: yaml.Node, text: str) -> tuple[int, int]:
    """Return start and end of a node in the text, without the line end of a block scalar."""
    start: int = node.start_mark.index
    return start, start + len(text[start : node.end_mark.index].rstrip())


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _values_of(root: yaml.Node, key: str) -> Iterator[yaml.ScalarNode]:
    """Return the numbers under a key, at any depth; an alias is visited once."""
    seen = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                if name.value == key and isinstance(value, yaml.ScalarNode):
                    yield value
                waiting.append(value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)

"""CryoSPARC ``.csg`` groups: YAML files that list a main ``.cs`` file and its passthrough files, joined on uid.

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

In the output, only the item counts and file names of this text are replaced.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import yaml

from dask_dedup.arrow import to_numpy
from dask_dedup.errors import InputError
from dask_dedup.formats.base import InputFile, ParticleTable, StoredSchema, opening
from dask_dedup.formats.cryosparc.arrow_columns import arrow_schema
from dask_dedup.formats.cryosparc.cs import CsDetail, GroupText, Member, make_fragments, open_file
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.storage.files import open_to_read, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dask_dedup.formats.cryosparc.cs import CsFile

    #: Name of a result, and YAML node with the path of its file.
    _Result = tuple[str, yaml.ScalarNode]

#: Maximum size of a group file. Real groups have a few kilobytes.
MAX_BYTES = 2**18
_SAME = "The files of a group must contain the same particles."


def open_table(path: Path, source: int, *, allow_outside: bool = False) -> ParticleTable:
    """Open a ``.csg`` group and join its ``.cs`` files on uid.

    The field ``location/...`` is read from the file of the result ``location``. If this file lacks the field, it is
    read from the first file that has it. The main file is the first listed file that is not a passthrough.

    Parameters
    ----------
    path : Path
    source : int
    allow_outside : bool
        Whether the group may point to files outside its folder.
    """
    with opening(path):
        text, root = _read_text(path)
        status = status_of(path)
    results = _find_results(path, root)
    path_of = _find_metafiles(path, results, allow_outside=allow_outside)
    # The sort is stable, so the first listed file that is no passthrough is the main file.
    paths = sorted(dict.fromkeys(path_of.values()), key=lambda file: "passthrough" in file.name)
    files = [open_file(file) for file in paths]
    main, *others = files
    members = (Member(main), *(Member(file, _match_rows(main, file)) for file in others))
    schemas = [arrow_schema(file.dtype) for file in files]
    file_of_result = {name: paths.index(path_of[node.value]) for name, node in results}
    member_of: dict[str, int] = {}
    for number, schema in enumerate(schemas):
        for name in schema.names:
            member_of.setdefault(name, number)
            if name != "uid" and file_of_result.get(name.split("/")[0]) == number:
                member_of[name] = number
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    info = InputFile.of(path, status, 0, fingerprint)
    edits: dict[tuple[int, int], str | None] = {}
    for _, node in results:
        name = path_of[node.value].name
        if node.value != ">" + name:
            edits[_span(node, text)] = "'>" + name.replace("'", "''") + "'"
    edits |= {_span(count, text): None for count in _find_counts(root)}
    group = GroupText(text, tuple((*span, new) for span, new in sorted(edits.items())))
    return ParticleTable(
        format="csg",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(
            pa.schema([schemas[number].field(name) for name, number in member_of.items()])
        ),
        # Rows of the other files are not counted, because these files have the same particles.
        files=(info, main.info, *(replace(file.info, rows=0) for file in others)),
        fragments=make_fragments(files, source),
        detail=CsDetail(members, member_of, group),
    )


def _read_text(path: Path) -> tuple[str, yaml.Node | None]:
    """Read a ``.csg`` file and return its text and its YAML root node."""
    with open_to_read(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: not a CryoSPARC group: longer than {MAX_BYTES:,} bytes")
    try:
        text = content.decode()
        return text, yaml.compose(text, Loader=yaml.SafeLoader)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = getattr(error, "problem", None) or "not YAML"
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        location = "" if line is None else f" (line {line + 1})"
        raise InputError(f"{path}: not a readable CryoSPARC group: {reason}{location}") from error


def _find_results(path: Path, root: yaml.Node | None) -> list[_Result]:
    """Return the name and the ``metafile`` node of each result in a group, such as ``location``."""
    results = _value(root, "results")
    if not isinstance(results, yaml.MappingNode) or not results.value:
        raise InputError(
            f"{path}: not a CryoSPARC group: it has no results that point to .cs files"
        )
    found = []
    for key, entry in results.value:
        node = _value(entry, "metafile")
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            raise InputError(f"{path}: the result {key.value} has no metafile, or it is not text")
        found.append((str(key.value), node))
    return found


def _find_counts(root: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Yield the YAML node of each ``num_items`` value, at any depth. An aliased node is searched once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                if name.value == "num_items" and isinstance(value, yaml.ScalarNode):
                    yield value
            waiting += [value for _, value in node.value]
        else:
            waiting += node.value


def _span(node: yaml.Node, text: str) -> tuple[int, int]:
    """Return the start and end of a YAML node in `text`, in characters, without trailing white space."""
    start: int = node.start_mark.index
    return start, start + len(text[start : node.end_mark.index].rstrip())


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _find_metafiles(group: Path, results: list[_Result], *, allow_outside: bool) -> dict[str, Path]:
    """Map each ``metafile`` entry of a group to a path. Entries for the same file get the same path."""
    by_target: dict[Path, Path] = {}
    path_of: dict[str, Path] = {}
    for result, node in results:
        file = find_metafile(group, result, node.value, allow_outside=allow_outside)
        path_of[node.value] = by_target.setdefault(file.resolve(), file)
    names = [file.name for file in by_target.values()]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"{group}: points to {names.count(name)} files named {name}. Rename them: the output has one "
                "folder for all files of a group."
            )
    return path_of


def find_metafile(group: Path, result: str, entry: str, *, allow_outside: bool = False) -> Path:
    """Return the path of the ``.cs`` file for a ``metafile`` entry of a group.

    A leading ``>`` in `entry` means the group's folder. Without `allow_outside`, files outside this folder raise
    `InputError`.
    """
    points = f"{group}: the result {result} points to"
    name = entry.removeprefix(">")
    if not name or not name.isprintable():
        raise InputError(f"{points} {entry!r}, which is not a file name")
    folder = group.parent
    try:
        target = (folder / name).resolve()
        inside, is_file = target.is_relative_to(folder.resolve()), target.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{points} {entry}, which cannot be opened") from error
    if not (inside or allow_outside):
        raise InputError(
            f"{points} {entry}, outside the group's folder. "
            f"If you trust this file, use {parameter('allow_outside')}."
        )
    if not is_file:
        raise InputError(f"{points} {entry}, which does not exist or is not a file")
    # In object stores, ".." has no meaning, so the path must be resolved before it is used.
    return target if ".." in Path(name).parts else folder / name


def _match_rows(main: CsFile, other: CsFile) -> NDArray[np.integer] | None:
    """Match the rows of two files by uid. Return `Member.order` for `other`: (n,) integers, or None."""
    if main.rows != other.rows:
        raise InputError(
            f"{other.path}: has {counted(other.rows, 'particle')}, but {main.path} has {main.rows:,}. {_SAME}"
        )
    mine, others = _uids(main), _uids(other)
    if np.array_equal(mine, others):
        return None
    my_order, other_order = np.argsort(mine, kind="stable"), np.argsort(others, kind="stable")
    ordered = mine[my_order]
    if not np.array_equal(ordered, others[other_order]):
        missing = int((~np.isin(mine, others)).sum())
        extra = int((~np.isin(others, mine)).sum())
        raise InputError(
            f"{other.path}: lacks {missing:,} of the {counted(main.rows, 'particle')} of {main.path} and has "
            f"{counted(extra, 'other')} (compared by uid). {_SAME}"
        )
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        raise InputError(
            f"{other.path}: its rows have another order than the rows of {main.path} and cannot be matched: "
            f"the uid {repeated[0]} occurs more than once"
        )
    order: NDArray[np.integer] = np.empty(main.rows, np.uint32 if main.rows < 2**32 else np.int64)
    order[my_order] = other_order
    return order


def _uids(file: CsFile) -> NDArray[np.uint64]:
    if "uid" not in (file.dtype.names or ()) or file.dtype["uid"].kind not in "ui":
        raise InputError(
            f"{file.path}: has no integer field uid, by which the files of a group are joined"
        )
    return to_numpy(file.read(range(file.rows), ["uid"]).column("uid")).astype(np.uint64)

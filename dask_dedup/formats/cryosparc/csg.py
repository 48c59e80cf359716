"""CryoSPARC ``.csg`` groups: a main file and its passthrough files, joined on uid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import to_numpy
from dask_dedup.errors import InputError
from dask_dedup.formats.base import (
    InputFile,
    OutputFile,
    ParticleTable,
    StoredSchema,
    opening,
    write_blocks,
)
from dask_dedup.formats.cryosparc.cs import (
    Member,
    Members,
    assemble_members,
    make_fragments,
    open_file,
    read,
    split,
)
from dask_dedup.formats.cryosparc.fields import arrow_schema
from dask_dedup.formats.cryosparc.group_file import GroupFile, read_group
from dask_dedup.formatting import counted
from dask_dedup.messages import parameter
from dask_dedup.storage.files import status_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats.cryosparc.record_file import RecordFile

__all__ = ["assemble", "find_metafile", "open_table", "read", "split"]

_SAME = "The files of a group must contain the same particles."


@dataclass(frozen=True, slots=True)
class Group(Members):
    """The files of a group and its text.

    Attributes
    ----------
    text : GroupFile
    names : dict of str to str
        For each file, as the group writes it, its name without folders.
    """

    text: GroupFile
    names: dict[str, str]


def open_table(path: Path, source: int, *, allow_outside: bool = False) -> ParticleTable:
    """Open a group and join its files on uid.

    A field comes from the file that the result of its name points to (``location`` for ``location/...``), else
    from the main file: the first one listed that is not a passthrough.

    Parameters
    ----------
    path : Path
    source : int
    allow_outside : bool
        Whether the group may point to files outside its folder.

    Raises
    ------
    InputError
        If the group points out of its folder, or to files that are missing, damaged, or hold other particles.
    """
    with opening(path):
        text = read_group(path)
        status = status_of(path)
    path_of = _find_metafiles(path, text, allow_outside=allow_outside)
    # A stable sort: the first file listed stays first.
    paths = sorted(dict.fromkeys(path_of.values()), key=lambda file: "passthrough" in file.name)
    files = [open_file(file) for file in paths]
    main, *others = files
    members = (Member(main), *(Member(file, _match_rows(main, file)) for file in others))
    schemas = [arrow_schema(file.dtype, file.path) for file in files]
    file_of_result = {result: paths.index(path_of[entry]) for result, entry in text.metafiles}
    member_of: dict[str, int] = {}
    for number, schema in enumerate(schemas):
        for name in schema.names:
            member_of.setdefault(name, number)
            if name != "uid" and file_of_result.get(name.split("/")[0]) == number:
                member_of[name] = number
    fingerprint = hashlib.sha256(text.text.encode()).hexdigest()
    info = InputFile(str(path), status.st_size, status.st_mtime_ns, 0, fingerprint)
    return ParticleTable(
        format="csg",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(
            pa.schema([schemas[number].field(name) for name, number in member_of.items()])
        ),
        # Only the main file counts rows: the others hold the same particles.
        files=(info, main.info, *(replace(file.info, rows=0) for file in others)),
        fragments=make_fragments(files, source),
        detail=Group(
            members, member_of, text, {entry: file.name for entry, file in path_of.items()}
        ),
    )


def _find_metafiles(group: Path, text: GroupFile, *, allow_outside: bool) -> dict[str, Path]:
    """Return the file of each entry of a group; entries that lead to the same file get the same path."""
    by_target: dict[Path, Path] = {}
    path_of: dict[str, Path] = {}
    for result, entry in text.metafiles:
        file = find_metafile(group, result, entry, allow_outside=allow_outside)
        path_of[entry] = by_target.setdefault(file.resolve(), file)
    names = [file.name for file in by_target.values()]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"{group}: points to {names.count(name)} files named {name}. Rename them: the output has one "
                "folder for all files of a group."
            )
    return path_of


def find_metafile(group: Path, result: str, entry: str, *, allow_outside: bool = False) -> Path:
    """Find a file that a group points to.

    Parameters
    ----------
    group : Path
        The ``.csg``.
    result : str
        The result that points there, for messages.
    entry : str
        As written; a leading ``>`` means: in the group's folder.
    allow_outside : bool
        Whether the file may be outside the group's folder.

    Raises
    ------
    InputError
        If it is outside, or does not exist.
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
    # Object stores know no "..": there the path must be resolved.
    return target if ".." in Path(name).parts else folder / name


def _match_rows(main: RecordFile, other: RecordFile) -> NDArray[np.integer] | None:
    """Find, for each row of the main file, the row of the other file with the same uid.

    Returns
    -------
    (n,) integers, or None
        None if both have the same order.
    """
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
            f"{other.path}: its rows are in another order than those of {main.path} and cannot be matched: "
            f"the uid {repeated[0]} occurs more than once"
        )
    order: NDArray[np.integer] = np.empty(main.rows, np.uint32 if main.rows < 2**32 else np.int64)
    order[my_order] = other_order
    return order


def _uids(file: RecordFile) -> NDArray[np.uint64]:
    if "uid" not in (file.dtype.names or ()) or file.dtype["uid"].kind not in "ui":
        raise InputError(
            f"{file.path}: has no integer field uid, by which the files of a group are joined"
        )
    return to_numpy(file.read(range(file.rows), ["uid"]).column("uid")).astype(np.uint64)


def assemble(
    table: ParticleTable, parts: Sequence[Path], rows: int, folder: Path, name: str
) -> list[OutputFile]:
    """Write the files of the subset under their own names, and the group `name` that points to them.

    The rows of passthrough files are in the main file's order.
    """
    group: Group = table.detail
    files = assemble_members(group, parts, rows, folder)
    text = group.text.with_subset(rows, group.names).encode()
    return [*files, write_blocks(folder / name, rows, [text])]

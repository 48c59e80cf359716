"""CryoSPARC ``.csg`` groups: a main file and its passthrough files, joined on uid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.errors import DedupError, InputError
from dask_dedup.formats.base import Fragment, InputFile, OutputFile, ParticleTable, StoredSchema
from dask_dedup.formats.cryosparc.cs import cut, open_file
from dask_dedup.formats.cryosparc.fields import arrow_schema
from dask_dedup.formats.cryosparc.group_file import GroupFile, read_group
from dask_dedup.formatting import counted
from dask_dedup.storage.files import status_of
from dask_dedup.storage.paths import at, is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.formats.cryosparc.csdat import CsdatFile
    from dask_dedup.formats.cryosparc.npy import NpyFile

#: Uids are compared so many at a time.
_COMPARED_ROWS = 2**18


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A file of a group.

    Attributes
    ----------
    file : NpyFile or CsdatFile
    order : (n,) integers, or None
        For each row of the main file the row of this one with the same uid; None if the rows are in
        the main file's order.
    """

    file: NpyFile | CsdatFile
    order: NDArray[np.integer] | None = None

    @property
    def name(self) -> str:
        """The file's name without folders."""
        return at(self.file.path).name

    def rows(self, fragment: Fragment) -> range | NDArray[np.integer]:
        """Tell which rows of the file belong to a fragment."""
        rows = range(fragment.first_row, fragment.first_row + fragment.rows)
        return rows if self.order is None else self.order[rows.start : rows.stop]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The files of a group, the main one first.

    Attributes
    ----------
    members : tuple of Member
    home : dict of str to int
        For each field the number of the member it is read from.
    text : GroupFile
    names : dict of str to str
        For each file, as the group writes it, its name without folders.
    """

    members: tuple[Member, ...]
    home: dict[str, int]
    text: GroupFile
    names: dict[str, str]


def open_table(path: Path, source: int, *, allow_outside: bool = False) -> ParticleTable:
    """Open a group and join its files on uid.

    Fields come from the file that the result of their name points to (``location`` for
    ``location/...``), else from the main file, which is the first listed that is no passthrough.

    Parameters
    ----------
    path : Path
    source : int
    allow_outside : bool
        Whether the group may point to files outside its folder.

    Raises
    ------
    InputError
        If the group points out of its folder or at files that are missing, damaged, or hold other
        particles.
    """
    try:
        text = read_group(path)
        status = status_of(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    by_target: dict[Path, Path] = {}
    places: dict[str, Path] = {}
    for result, entry in text.metafiles:
        place = find_metafile(path, result, entry, allow_outside=allow_outside)
        places[entry] = by_target.setdefault(place.resolve(), place)
    # A stable sort: among equals, the first listed stays first.
    distinct = sorted(by_target.values(), key=lambda place: "passthrough" in place.name)
    names = [place.name for place in distinct]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"{path}: points to {names.count(name)} files named {name}, which would become one "
                "in the output; rename them"
            )
    homes = {result: distinct.index(places[entry]) for result, entry in text.metafiles}
    info = InputFile(
        path=str(path),
        bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
        rows=0,
        fingerprint=hashlib.sha256(text.text.encode()).hexdigest(),
    )
    table_names = {entry: place.name for entry, place in places.items()}
    return _join(path, source, distinct, homes, text, table_names, (info,))


def find_metafile(group: Path, result: str, entry: str, *, allow_outside: bool = False) -> Path:
    """Find the file a group points to.

    Parameters
    ----------
    group : Path
        The ``.csg``.
    result : str
        Which of its results points there, for messages.
    entry : str
        As written; a leading ``>`` means: beside the group.
    allow_outside : bool
        Whether it may lie outside the group's folder.

    Raises
    ------
    InputError
        If it lies outside, or does not exist.
    """
    name = entry.removeprefix(">")
    if not name or not name.isprintable():
        raise InputError(f"{group}: its result {result} points to {entry!r}, which names no file")
    folder = group.parent
    try:
        place = (folder / name).resolve()
        inside = place.is_relative_to(folder.resolve())
        if not inside and not allow_outside:
            raise InputError(
                f"{group}: its result {result} points to {entry}, outside the folder of the group; "
                "if you trust it, use --allow-outside"
            )
        if not place.is_file():
            raise InputError(
                f"{group}: its result {result} points to {entry}, which is missing or no file"
            )
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, DedupError):
            raise
        raise InputError(
            f"{group}: its result {result} points to {entry}, which cannot be followed"
        ) from error
    # An object store knows no way up: what is asked for there has to be spelt out.
    return place if is_remote(folder) else folder / name


def _join(
    path: Path,
    source: int,
    places: Sequence[Path],
    homes: Mapping[str, int],
    text: GroupFile,
    names: dict[str, str],
    infos: tuple[InputFile, ...],
) -> ParticleTable:
    files = [open_file(place) for place in places]
    main = files[0]
    members = [Member(main), *(Member(file, _order(main, file)) for file in files[1:])]
    schemas = [arrow_schema(file.dtype, file.path) for file in files]
    home: dict[str, int] = {}
    for number, schema in enumerate(schemas):
        for name in schema.names:
            home.setdefault(name, number)
            if name != "uid" and homes.get(name.split("/")[0]) == number:
                home[name] = number
    return ParticleTable(
        format="csg",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(
            pa.schema([schemas[number].field(name) for name, number in home.items()])
        ),
        files=(*infos, main.info, *(_companion(file.info) for file in files[1:])),
        fragments=cut(
            main,
            sum(file.row_bytes for file in files),
            source,
            whole=any(file.whole for file in files),
        ),
        detail=Group(tuple(members), home, text, names),
    )


def _companion(info: InputFile) -> InputFile:
    """Tell of a file whose rows are the main file's particles, so they count as none of their own."""
    return InputFile(info.path, info.bytes, info.modified_ns, 0, info.fingerprint)


def _order(main: NpyFile | CsdatFile, other: NpyFile | CsdatFile) -> NDArray[np.integer] | None:
    """Find for each row of the main file the row of the other with the same uid.

    Returns
    -------
    (n,) integers, or None
        None if both have the same order.
    """
    if main.rows != other.rows:
        raise InputError(
            f"{other.path}: has {counted(other.rows, 'particle')}, but {main.path} has {main.rows}; "
            "the files of a group must hold the same ones"
        )
    if all(
        np.array_equal(mine, others) for mine, others in zip(_uids(main), _uids(other), strict=True)
    ):
        return None
    mine, others = (np.concatenate(list(_uids(file))) for file in (main, other))
    my_order, other_order = np.argsort(mine, kind="stable"), np.argsort(others, kind="stable")
    ordered = mine[my_order]
    if not np.array_equal(ordered, others[other_order]):
        missing = np.flatnonzero(~np.isin(mine, others))
        extra = np.flatnonzero(~np.isin(others, mine))
        raise InputError(
            f"{other.path}: lacks {missing.size} of the {counted(main.rows, 'particle')} of {main.path}, "
            f"and has {counted(extra.size, 'other')} (compared by uid); "
            "the files of a group must hold the same ones"
        )
    if (ordered[1:] == ordered[:-1]).any():
        twice = ordered[1:][ordered[1:] == ordered[:-1]][0]
        raise InputError(
            f"{other.path}: its rows are in another order than those of {main.path}, and cannot be "
            f"matched, because the uid {twice} occurs more than once"
        )
    order: NDArray[np.integer] = np.empty(main.rows, np.uint32 if main.rows < 2**32 else np.int64)
    order[my_order] = other_order
    return order


def _uids(file: NpyFile | CsdatFile) -> Iterator[NDArray[np.uint64]]:
    if "uid" not in (file.dtype.names or ()) or file.dtype["uid"].kind not in "ui":
        raise InputError(f"{file.path}: has no field uid by which the files of a group are joined")
    for first in range(0, file.rows, _COMPARED_ROWS):
        rows = range(first, min(first + _COMPARED_ROWS, file.rows))
        yield file.read(rows, ["uid"]).column("uid").to_numpy().astype(np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class GroupPayload:
    """A fragment of a group; its records are read as they are asked for, a batch at a time."""

    group: Group
    fragment: Fragment

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Give columns by name, text as dictionaries."""
        found: dict[str, pa.ChunkedArray] = {}
        for number, member in enumerate(self.group.members):
            here = [name for name in names if self.group.home[name] == number]
            if here:
                part = member.file.read(member.rows(self.fragment), here)
                found.update(zip(here, part.columns, strict=True))
        return pa.table([found[name] for name in names], names=list(names))

    def split(self, keep: NDArray[np.bool_], kept: Path, rejected: Path) -> None:
        """Write the kept and the rejected records of each file, in the main file's order.

        The main file's pieces have the names given, the others' end in ``.1``, ``.2`` and so on.
        """
        for number, member in enumerate(self.group.members):
            member.file.split(
                member.rows(self.fragment), keep, _piece(kept, number), _piece(rejected, number)
            )


def _piece(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Read columns of a fragment by name; text comes as dictionaries."""
    return load(table, fragment).columns(columns)


def load(table: ParticleTable, fragment: Fragment) -> GroupPayload:
    """Give a fragment, whose rows are read when they are asked for."""
    return GroupPayload(table.detail, fragment)


def assemble(
    table: ParticleTable, pieces: Sequence[Path], rows: int, folder: Path, name: str
) -> list[OutputFile]:
    """Write the subset's files, under their own names, and the group `name` that points to them.

    The passthrough files' rows come in the main file's order.
    """
    group: Group = table.detail
    written = [
        member.file.assemble(
            [_piece(piece, number) for piece in pieces], rows, folder / member.name
        )
        for number, member in enumerate(group.members)
    ]
    content = group.text.with_subset(rows, group.names).encode()
    (folder / name).write_bytes(content)
    return [*written, OutputFile(name, rows, len(content), hashlib.sha256(content).hexdigest())]

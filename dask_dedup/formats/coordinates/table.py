"""Tables of picks: one pick file, a folder of pick files, or a list of them.

The columns are those of RELION, with centres in pixels:

- ``rlnMicrographName``, for tomograms ``rlnTomoName``: from a column, the list or the file name;
- ``rlnCoordinateX``, ``rlnCoordinateY``, for tomograms ``rlnCoordinateZ``;
- ``rlnAutopickFigureOfMerit``: the score, NaN if there is none;
- ``rlnHelicalTubeID``: the filament, if the format has one;
- ``rlnMicrographPixelSize`` or ``rlnTomoTiltSeriesPixelSize``, if the format fixes the pixel size;
- all other columns, with unchanged names.
"""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.base import (
    FileSlice,
    Fragment,
    InputFile,
    ParticleTable,
    StoredSchema,
    opening,
    read_whole,
)
from dask_dedup.formats.coordinates.damaged import check_unread, no_picks_error
from dask_dedup.formats.coordinates.detail import CoordinatesDetail, Member
from dask_dedup.formats.coordinates.detection import is_pattern, matches
from dask_dedup.formats.coordinates.folder import (
    PickPath,
    check_files,
    check_folders,
    choose_files,
    find_files,
    micrograph_of,
)
from dask_dedup.formats.coordinates.lines import SLICE_BYTES, read_head
from dask_dedup.formats.coordinates.pick_file import PickFile, open_file
from dask_dedup.formats.coordinates.pick_list import PickList, find_list, is_list, read_list
from dask_dedup.formats.coordinates.programs import MAP_OF, MAPS, maps_of
from dask_dedup.formats.coordinates.programs.delimited import LISTED, explain_unknown
from dask_dedup.formats.coordinates.programs.dynamo import NAMES_EXTENSION, read_names
from dask_dedup.formats.coordinates.reader import read, read_text, schema_of
from dask_dedup.formats.coordinates.sets import check_sets
from dask_dedup.formats.coordinates.tomogram_scales import scale_files
from dask_dedup.formats.coordinates.writer import assemble, split, write_lists
from dask_dedup.formats.unsupported import describe_unsupported
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.storage.files import exists, is_file, status_of
from dask_dedup.storage.walk import FoundFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_dedup.formats.coordinates.column_map import ColumnMap, Layout
    from dask_dedup.formats.coordinates.named_files import NamedFiles

__all__ = [
    "assemble",
    "open_named",
    "open_table",
    "read",
    "read_text",
    "split",
    "write_lists",
]

#: Maximum number of rows in a fragment with several slices.
_FRAGMENT_ROWS = 100_000
#: Number of files per task of a thread.
_BATCH = 64
_THREADS = 4


def open_table(
    path: Path,
    source: int,
    columns: Mapping[str, str] | None = None,
    *,
    allow_empty: bool = False,
) -> ParticleTable:
    """Open a pick file, a folder of pick files, or a list of them. Every file is read once.

    Parameters
    ----------
    path : Path
    source : int
    columns : mapping of str to str, optional
        Names or numbers of the columns in text tables, by role, such as ``{"x": "cx", "y": "cy"}``.
    allow_empty : bool
        Whether all files of a folder may be empty.

    Raises
    ------
    InputError
        If a file cannot be read, or the files are from several pickers.
    """
    maps = maps_of(columns)
    with opening(path):
        if is_pattern(path) and not exists(path):
            root, found = matches(path)
            if not found:
                raise InputError(f"{path}: no file has a name like this. Correct the pattern.")
            return _open_found(path, root, found, source, maps)
        folder = stat.S_ISDIR(status_of(path).st_mode)
    if folder:
        listed = find_list(path)
        if listed is None:
            return _open_folder(path, source, maps, allow_empty=allow_empty)
        return _open_list(path, listed, source)
    head = read_head(path)
    if is_list(path, head):
        return _open_list(path, path, source)
    opened = open_file(PickPath(path, path.name, micrograph_of(path.name)), maps)
    if opened is None:
        explained = explain_unknown(path, head)
        raise InputError(explained or describe_unsupported(path, ".star, .cs, .csg, pick files"))
    return _make_table(path, source, [opened], names=read_names(path))


def _open_folder(
    folder: Path, source: int, maps: Sequence[ColumnMap], *, allow_empty: bool
) -> ParticleTable:
    """Open the pick files in a folder. If the folder itself has none, open the pick files in its sub-folders."""
    here, below, notes = find_files(folder)
    used, opened = here, _open_files(here, maps)
    empty = len(opened)
    if not any(file.layout for file in opened):
        used, opened = below, _open_files(below, maps)
        empty += len(opened)
        picks = [(file.pick_path, file.layout.map) for file in opened if file.layout]
        check_folders(folder, [path for path, _ in picks], [name for _, name in picks])
    elif below:
        notes.append(f"{counted(len(below), 'file')} in sub-folders ignored")
    if not any(file.layout for file in opened):
        if not (allow_empty and 0 < empty == len(here) + len(below)):
            raise no_picks_error(folder, [*here, *below], empty)
        used, opened = [*here, *below], _open_files([*here, *below], maps)
    return _make_folder(folder, folder, source, used, opened, notes)


def open_named(
    named: NamedFiles,
    source: int,
    columns: Mapping[str, str] | None = None,
    *,
    allow_empty: bool = False,
) -> ParticleTable:
    """Open `NamedFiles`. See `open_table` for the parameters."""
    found = [
        FoundFile(path, path.relative_to(named.folder).as_posix(), is_file(path))
        for path in map(Path, named.files)
    ]
    table = _open_found(
        *(Path(named), named.folder, found, source, maps_of(columns)), allow_empty=allow_empty
    )
    return replace(table, path=str(named), detail=replace(table.detail, named=True))


def _open_found(
    path: Path,
    root: Path,
    found: Sequence[FoundFile],
    source: int,
    maps: Sequence[ColumnMap],
    *,
    allow_empty: bool = False,
) -> ParticleTable:
    """Open pick files below the folder `root`."""
    files, notes = choose_files(found)
    opened = _open_files(files, maps)
    empty = allow_empty and len(opened) == len(files)
    if not (empty or any(file.layout for file in opened)):
        raise no_picks_error(path, files, len(opened))
    return _make_folder(path, root, source, files, opened, notes)


def _make_folder(
    path: Path,
    root: Path,
    source: int,
    files: Sequence[PickPath],
    opened: Sequence[PickFile],
    notes: list[str],
) -> ParticleTable:
    """Make the table of the pick files below the folder `root`."""
    used = {file.pick_path.name for file in opened}
    unknown = [each for each in files if each.name not in used]
    check_unread(root, opened, unknown)
    if unknown:
        what = f"{counted(len(unknown), 'file')} of no known format ignored"
        notes.append(f"{what} ({unknown[0].name}, ...)")
    formats = [file.layout.map if file.layout else None for file in opened]
    check_files(path, [file.pick_path for file in opened], formats)
    table = _make_table(path, source, opened, tree=root.absolute().name, notes=notes)
    check_sets(table)
    return table


def _open_list(path: Path, listed: Path, source: int) -> ParticleTable:
    """Open the pick files in the list `listed`. `path` is the list or its job folder."""
    picks = read_list(listed)
    opened = _open_files(picks.files, (LISTED, *MAPS) if picks.tomograms else MAPS)
    if len(opened) < len(picks.files):
        used = {file.pick_path.name for file in opened}
        first = next(each for each in picks.files if each.name not in used)
        raise InputError(
            f"{listed}: {first.path} is not a pick file of a known format. Remove its row, or export it as STAR."
        )
    notes = []
    here, below, _ = find_files(listed.parent)
    names = {each.name for each in picks.files} | {each.name for each in picks.lists}
    old = [each for each in (*here, *below) if each.name not in names]
    if old:
        notes.append(f"{counted(len(old), 'file')} not in the list ignored ({old[0].name}, ...)")
    return _make_table(
        *(path, source, opened),
        tree=listed.absolute().parent.name,
        lists=picks.lists,
        notes=notes,
        tomograms=picks.tomograms,
    )


def _open_files(paths: Sequence[PickPath], maps: Sequence[ColumnMap] = MAPS) -> list[PickFile]:
    """Open files in parallel. Files of an unknown format are left out."""

    def open_batch(first: int) -> list[PickFile]:
        opened = (open_file(each, maps) for each in paths[first : first + _BATCH])
        return [file for file in opened if file is not None]

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(chain.from_iterable(pool.map(open_batch, range(0, len(paths), _BATCH))))


def _make_table(
    path: Path,
    source: int,
    opened: Sequence[PickFile],
    *,
    tree: str = "",
    lists: tuple[PickList, ...] = (),
    notes: Sequence[str] = (),
    tomograms: bool = False,
    names: tuple[tuple[str, str], ...] = (),
) -> ParticleTable:
    opened, scale_tables = scale_files(path, opened)
    number_of: dict[Layout, int] = {}
    members = []
    for file in opened:
        layout = -1
        if file.layout is not None and file.spans:
            layout = number_of.setdefault(file.layout, len(number_of))
        start, stop = (file.spans[0].start, file.spans[-1].stop) if file.spans else (0, 0)
        members.append(
            Member(
                path=file.info.path,
                name=file.pick_path.name,
                micrograph=file.pick_path.micrograph,
                layout=layout,
                bytes=file.info.bytes,
                rows=file.info.rows,
                start=start,
                stop=stop,
            )
        )
    layouts = tuple(number_of)
    tomograms = tomograms or any(layout.has_z for layout in layouts)
    if len({layout.has_z for layout in layouts}) > 1:
        with_z = next(file for file in opened if file.layout and file.layout.has_z)
        raise InputError(
            f"{path}: some files have z coordinates, such as {with_z.info.path}, and other files have not. If the "
            f"third column of a text table is not z, pass {parameter('columns', 'x=...,y=...,score=...')}. Otherwise "
            "put the files into two folders."
        )
    companions = _find_companions(path, scale_tables)
    detail = CoordinatesDetail(
        tuple(members),
        layouts,
        lists,
        tomograms=tomograms,
        tree=tree,
        notes=tuple(notes),
        names=names,
        writable=all(MAP_OF[layout.map].writable for layout in layouts),
        companions=tuple((info.path, suffix) for info, suffix in companions),
    )
    return ParticleTable(
        format="coordinates",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(schema_of(layouts, tomograms=tomograms)),
        files=(
            *(file.info for file in opened),
            *(each.info for each in lists),
            *(info for info, _ in companions),
        ),
        fragments=_make_fragments(opened, source),
        detail=detail,
    )


def _find_companions(path: Path, tomograms: Sequence[Path]) -> list[tuple[InputFile, str]]:
    """Return other files that are needed to read the pick files, each with the suffix of its copy in the output."""
    found = [(table, "_tomograms.star") for table in tomograms]
    # For each tomogram, the first table with this tomogram is used. So the names of copies must keep the order.
    if len(found) > 1:
        found = [(table, f"_{n:03}{suffix}") for n, (table, suffix) in enumerate(found, 1)]
    if read_names(path):
        found.append((path.with_suffix(NAMES_EXTENSION), NAMES_EXTENSION))
    return [(read_whole(file)[1], suffix) for file, suffix in found]


def _make_fragments(files: Sequence[PickFile], source: int) -> tuple[Fragment, ...]:
    """Group the lines of all files into fragments of at most `SLICE_BYTES` or `_FRAGMENT_ROWS`."""
    groups: list[list[FileSlice]] = [[]]
    size = rows = 0
    for number, file in enumerate(files):
        first_row = 0
        for span in file.spans:
            length = span.stop - span.start
            if groups[-1] and (size + length > SLICE_BYTES or rows + span.rows > _FRAGMENT_ROWS):
                groups.append([])
                size = rows = 0
            blocks = (span.start, span.stop, number)
            groups[-1].append(FileSlice(file.info.path, first_row, span.rows, blocks))
            first_row += span.rows
            size, rows = size + length, rows + span.rows
    fragments = []
    first_row = 0
    for number, slices in enumerate(groups):
        rows = sum(part.rows for part in slices)
        fragments.append(Fragment(number, source, first_row, rows, tuple(slices)))
        first_row += rows
    return tuple(fragments)

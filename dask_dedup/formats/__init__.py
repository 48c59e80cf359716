"""Open, read and write particle tables: STAR, CryoSPARC, Parquet and pick files.

Each format has a module that follows the protocol `base.Format` or `base.NativeFormat`.
"""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.base import (
    EmptyTableError,
    FileSlice,
    Format,
    Fragment,
    NativeFormat,
    OutputFile,
    ParticleTable,
    StoredSchema,
    by_source,
    opening,
)
from dask_dedup.formats.coordinates import optimisation_set
from dask_dedup.formats.coordinates import table as pick_table
from dask_dedup.formats.coordinates.description import (
    describe_picks,
    find_notes,
    has_scores,
    is_binned,
    named_files,
    names_of_files,
    pixel_size_source,
    score_label,
    shifts_of,
)
from dask_dedup.formats.coordinates.detection import detect, is_pattern
from dask_dedup.formats.coordinates.grouping import GroupedInput, group_files
from dask_dedup.formats.coordinates.named_files import NamedFiles
from dask_dedup.formats.coordinates.picker import distinct_name
from dask_dedup.formats.coordinates.programs.delimited import DELIMITED
from dask_dedup.formats.coordinates.relion_job import JobMicrographs, micrographs_of_job
from dask_dedup.formats.cryosparc import cs
from dask_dedup.formats.parquet import table as parquet_table
from dask_dedup.formats.parquet.keys import with_common_types
from dask_dedup.formats.repeated_inputs import check_paths, check_pick_files
from dask_dedup.formats.star import table as star_table
from dask_dedup.hints import parameter
from dask_dedup.storage.files import is_folder, status_of
from dask_dedup.storage.table_version import split_version

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pyarrow as pa

    from dask_dedup.dedup.params import DedupParams

__all__ = [
    "FileSlice",
    "Fragment",
    "GroupedInput",
    "JobMicrographs",
    "NamedFiles",
    "OutputFile",
    "ParticleTable",
    "StoredSchema",
    "by_source",
    "describe_picks",
    "find_notes",
    "group_files",
    "has_scores",
    "is_binned",
    "is_tree",
    "is_writable",
    "micrographs_of_job",
    "named_files",
    "names_of_files",
    "native_format",
    "open_table",
    "open_tables",
    "output_name",
    "pixel_size_source",
    "read",
    "read_text",
    "score_label",
    "shifts_of",
    "with_texts",
    "write_lists",
]

_SUFFIXES = {".star": "star", ".cs": "cs", ".csg": "csg"}
_NATIVE: dict[str, NativeFormat] = {
    "star": star_table,
    "cs": cs,
    "csg": cs,
    "coordinates": pick_table,
    "optimisation_set": optimisation_set,
}
_FORMATS: dict[str, Format] = {"parquet": parquet_table, **_NATIVE}


def open_table(
    path: str | Path,
    source: int = 0,
    *,
    allow_outside: bool = False,
    allow_empty: bool = False,
    columns: Mapping[str, str] | None = None,
    shifts: bool = True,
    picks: bool = True,
) -> ParticleTable:
    """Open a particle table: list its files, read its schema, split its rows into fragments.

    Parameters
    ----------
    path : str, Path or NamedFiles
        One of:

        - a ``.star``, ``.cs``, ``.csg``, Parquet or pick file;
        - a folder of Parquet files. The folder may be hive-partitioned;
        - a Delta table. ``PATH?version=3`` selects an older version;
        - a folder, a list, or a pattern (``picks/*.box``) of pick files.
    source : int
        Number of the input, from 0.
    allow_outside : bool
        Whether a ``.csg`` may point to files outside its folder.
    allow_empty : bool
        Whether all pick files of a folder may be empty.
    columns : mapping of str to str, optional
        For pick files in text tables: the name or number of the column for each role, such as x, y, z and score.
    shifts : bool
        Whether shifts in pick files are added to positions.
    picks : bool
        Whether STAR files and folders may be pick files.
    """
    table = _open_table(
        *(path, source),
        allow_outside=allow_outside,
        allow_empty=allow_empty,
        columns=columns,
        picks=picks,
    )
    if table.format == "coordinates" and not shifts:
        table = replace(table, detail=replace(table.detail, adds_shifts=False))
    return table


def _open_table(
    path: str | Path,
    source: int,
    *,
    allow_outside: bool,
    allow_empty: bool,
    columns: Mapping[str, str] | None,
    picks: bool,
) -> ParticleTable:
    if isinstance(path, NamedFiles):
        return pick_table.open_named(path, source, columns, allow_empty=allow_empty)
    with opening(path):
        location, version = split_version(path)
        try:
            mode = status_of(location).st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            if is_pattern(location):
                return pick_table.open_table(location, source, columns)
            no_bucket = "bucket" in str(error.strerror)
            reason = error.strerror if no_bucket else "no such file or folder"
            raise InputError(f"{path}: {reason}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            f"{path}: neither a file nor a folder. Save the table to a file: it is read more than once."
        )
    folder = stat.S_ISDIR(mode)
    with opening(path):
        is_result = folder and is_folder(location / "particles_kept")
    if is_result:
        raise InputError(
            f"{path}: this is the result of a run. Pass one of its tables, such as {path}/particles_kept."
        )
    name = "parquet" if folder else _SUFFIXES.get(location.suffix.lower(), "parquet")
    if name in ("parquet", "star") and picks:
        name = detect(location, folder=folder) or name
    if name == "parquet":
        return replace(parquet_table.open_table(location, source, version), path=str(path))
    if version is not None:
        raise InputError(f"{path}: only Delta tables have versions. Pass {location}.")
    if name == "csg":
        from dask_dedup.formats.cryosparc import csg  # imports yaml

        return csg.open_table(location, source, allow_outside=allow_outside)
    if name == "coordinates":
        return pick_table.open_table(location, source, columns, allow_empty=allow_empty)
    return _NATIVE[name].open_table(location, source)


def open_tables(
    paths: Sequence[str | Path],
    params: DedupParams,
    *,
    names: Mapping[str, str] | None = None,
    allow_outside: bool = False,
) -> tuple[list[ParticleTable], list[int]]:
    """Open the tables of several inputs, numbered from 0. `names` maps inputs to the names of their pickers.

    STAR files without a table are left out, and their indices in `paths` are also returned. Programs write such
    files for micrographs without picks. If all inputs are such files, raise the error about the first file.
    """
    check_paths(paths)
    tables: list[ParticleTable] = []
    empty: dict[int, EmptyTableError] = {}
    for number, path in enumerate(paths):
        try:
            table = open_table(
                *(path, len(tables)),
                allow_outside=allow_outside,
                columns=params.columns_of(str(path)),
                shifts=params.adds_shifts,
            )
            tables.append(replace(table, picker=(names or {}).get(str(path), "")))
        except EmptyTableError as error:
            empty[number] = error
    if not tables:
        raise next(iter(empty.values()))
    _check_columns(tables, params)
    check_pick_files(tables)
    return with_common_types(tables), list(empty)


def _check_columns(tables: Sequence[ParticleTable], params: DedupParams) -> None:
    """Raise InputError if the parameter `columns` does not apply.

    It does not apply to an input that is no text table, or if no input is a text table.
    """
    others = [table.path for table in tables if not _is_text_table(table)]
    named = next((path for path in others if params.names_input("columns", path)), None)
    if named is not None:
        raise InputError(
            f"{named}: no text table, so {parameter('columns')} cannot apply. Leave it out for this input."
        )
    if params.columns and len(others) == len(tables):
        raise InputError(
            f"{parameter('columns')} is for text tables of picks (.csv, .tsv, .txt), but no input is one."
        )


def _is_text_table(table: ParticleTable) -> bool:
    return table.format == "coordinates" and any(
        layout.map == DELIMITED.name for layout in table.detail.layouts
    )


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Read the named columns of a fragment. Text is dictionary-encoded."""
    return _FORMATS[table.format].read(table, fragment, columns)


def read_text(
    table: ParticleTable, fragment: Fragment, columns: Sequence[str]
) -> dict[str, pa.Array]:
    """Read columns of a fragment as the text in the file. For binary formats, return no columns.

    Computed values are not in the file. They are null.
    """
    read_columns = getattr(_FORMATS[table.format], "read_text", None)
    return read_columns(table, fragment, columns) if read_columns else {}


def with_texts(table: ParticleTable, columns: Collection[str]) -> ParticleTable:
    """Return a STAR table whose `columns` are text, exactly as written. Return other tables unchanged.

    STAR files do not define the types of columns. Other formats store exact numbers.
    """
    if table.format != "star" or not columns:
        return table
    return star_table.with_texts(table, columns)


def native_format(table: ParticleTable) -> NativeFormat:
    """Return the module that writes the format of `table`. The format must be writable (see `is_writable`)."""
    return _NATIVE[table.format]


def is_writable(table: ParticleTable) -> bool:
    """Return whether the output can have the format of the input table."""
    if table.format != "coordinates":
        return table.format != "parquet"
    return bool(table.detail.writable)


def is_tree(table: ParticleTable) -> bool:
    """Return whether the output of a table has several files: pick files, or particles and their optimisation set."""
    return table.format == "optimisation_set" or (
        table.format == "coordinates" and table.detail.writable and bool(table.detail.tree)
    )


def output_name(table: ParticleTable, picker: str, taken: Collection[str] = ()) -> str:
    """Return the name of a table's output in the input's format: a file, or a folder of pick files.

    The folder is named after the picker. If `taken` has this name, a number is added.
    """
    if table.format != "coordinates":
        return Path(table.path).name
    folder = distinct_name(picker, taken)
    return folder if table.detail.tree else f"{folder}/{Path(table.path).name}"


def write_lists(table: ParticleTable, folder: Path, name: str, final: Path) -> list[OutputFile]:
    """Write the lists of the pick files that were written as `name` in `folder`. Return [] for other tables.

    After the run, the files are moved to the folder `final`. The lists have these final paths.
    """
    write = getattr(_FORMATS[table.format], "write_lists", None)
    return write(table, folder, name, final) if write else []

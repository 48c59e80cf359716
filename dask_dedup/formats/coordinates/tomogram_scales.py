"""Convert positions that depend on the size or binning of their tomogram. A table of tomograms has these values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.coordinates.lines import read_picks
from dask_dedup.formats.coordinates.programs import MAP_OF
from dask_dedup.formats.coordinates.tomogram_tables import TomogramTables
from dask_dedup.formats.coordinates.values import RowError, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_dedup.formats.coordinates.column_map import Layout, Scale
    from dask_dedup.formats.coordinates.pick_file import PickFile


def scale_files(path: Path, opened: Sequence[PickFile]) -> tuple[list[PickFile], list[Path]]:
    """Return the files of the input `path` with scales in their layouts, and the used tables of tomograms.

    Raises
    ------
    InputError
        If a tomogram has no size, or if a file has picks in tomograms of different sizes.
    """
    tables = TomogramTables()
    used: set[Path | None] = set()
    scales: dict[str, tuple[Scale, Path | None]] = {}
    scaled = []
    for file in opened:
        layout = file.layout
        find_scale = MAP_OF[layout.map].find_scale if layout else None
        if layout is None or find_scale is None:
            scaled.append(file)
            continue
        names = _tomograms_of(file, layout)
        for name in names:
            scale, table = find_scale(tables, file.pick_path.path, name)
            other, other_table = scales.setdefault(name, (scale, table))
            if scale != other:
                raise InputError(
                    f"{path}: {name} has different sizes or pixel sizes in {other_table or 'no table'} and "
                    f"{table or 'no table'}. Pass the folders of the pick files as two inputs."
                )
            if scale != scales[names[0]][0]:
                raise InputError(
                    f"{file.pick_path.path}: {names[0]} and {name} differ in size or pixel size. Split the file into "
                    "one for each tomogram."
                )
            used.add(table)
        if names:
            factors, pixel_size = scales[names[0]][0]
            file = replace(file, layout=replace(layout, scale=factors, pixel_size=pixel_size))
        scaled.append(file)
    return scaled, [table for table in tables.found() if table in used]


def _tomograms_of(file: PickFile, layout: Layout) -> list[str]:
    """Return the names of the tomograms in a pick file. Return [] if a row is invalid. The reader raises the error."""
    names: dict[str, None] = {}
    for span in file.spans:
        lines = read_picks(file.pick_path.path, span.start, span.stop)
        table = Table(lines, layout.columns, layout.delimiter, span.rows)
        try:
            column = table.columns(["micrograph"])["micrograph"]
        except RowError:
            return []
        names |= dict.fromkeys(name.strip("'\"") for name in column.unique().to_pylist())
    return list(names)

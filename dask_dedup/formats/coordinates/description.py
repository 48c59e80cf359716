"""Describe pick files: formats, positions, scores, shifts, pixel sizes. For other tables, results are empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.arrow import to_numpy
from dask_dedup.formats.coordinates.column_map import SCORE
from dask_dedup.formats.coordinates.programs import MAP_OF
from dask_dedup.formats.coordinates.programs.copick import COPICK
from dask_dedup.formats.coordinates.programs.cryolo import CBOX, CBOX_OLD
from dask_dedup.formats.coordinates.programs.relion import ANNOTATIONS
from dask_dedup.formats.coordinates.reader import read, read_box_sizes
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.storage.files import is_folder
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from dask_dedup.formats.base import ParticleTable
    from dask_dedup.formats.coordinates.column_map import Layout
    from dask_dedup.formats.coordinates.detail import CoordinatesDetail

IN_ANGSTROM = "positions in angstrom"
#: Name of the score in each format, except for formats with RELION's column.
_SCORE_NAMES = {
    CBOX.name: "confidence (CBOX)",
    CBOX_OLD.name: "confidence (CBOX)",
    "EMAN boxes": "score (5th column of EMAN boxes)",
    "topaz": "score of topaz",
    "Dynamo table": "cc of Dynamo (column 10)",
    "copick picks": "score of copick",
    "pytom-match-pick": "rlnLCCmax",
    "STOPGAP motive list": "score of STOPGAP",
    "EM motive list": "score of the EM motive list",
}
_RELION_SCORES = ("RELION STAR", "RELION annotations", "Warp template matching")
#: crYOLO's default threshold for the confidence of boxes.
_THRESHOLD = 0.5


def describe_picks(table: ParticleTable, known: tuple[int, float, float]) -> str:
    """Describe a table of picks in one line: format, micrographs, meaning of the positions, range of the scores.

    Return an empty text for other tables. `known` is the number of micrographs with picks, the minimum score and the
    maximum score.

    Examples
    --------
    ``crYOLO CBOX, 997 micrographs, corners, box 180 px, scores 0.30 to 0.90``
    """
    if table.format != "coordinates":
        return ""
    detail: CoordinatesDetail = table.detail
    if not detail.layouts:
        return f"{counted(len(detail.members), 'file')} without picks"
    empty = sum(not member.rows for member in detail.members)
    number, low, high = known
    parts = [
        " and ".join(dict.fromkeys(layout.map for layout in detail.layouts)),
        counted(number + empty, "tomogram" if detail.tomograms else "micrograph"),
        _positions(table),
        f"scores {low:.2f} to {high:.2f}" if np.isfinite(low) else "no scores",
    ]
    if empty:
        parts.append(f"{counted(empty, 'file')} without picks")
    if not detail.writable:
        parts.append("read only")
    return ", ".join(parts)


def _layouts(table: ParticleTable) -> tuple[Layout, ...]:
    """Return the layouts of pick files. Return () for other tables."""
    layouts: tuple[Layout, ...] = table.detail.layouts if table.format == "coordinates" else ()
    return layouts


def has_scores(table: ParticleTable) -> bool:
    """Return whether a table can have scores. Return False for pick files in a format without scores."""
    return table.format != "coordinates" or any(
        "score" in layout.columns for layout in _layouts(table)
    )


def score_label(table: ParticleTable, column: str | None) -> str:
    """Return the name that the score column has in the files of a table. Without scores, return an empty text.

    Examples
    --------
    ``confidence (CBOX)``, ``score of topaz``
    """
    if column != SCORE or table.format != "coordinates":
        return column or ""
    labels: dict[str, None] = {}
    for layout in _layouts(table):
        if "score" in layout.columns:
            label = SCORE if layout.map in _RELION_SCORES else "score of the picks"
            labels[_SCORE_NAMES.get(layout.map, label)] = None
    return " and ".join(labels)


def _positions(table: ParticleTable) -> str:
    """Describe the positions in the first file with picks."""
    detail: CoordinatesDetail = table.detail
    layout = detail.layouts[0]
    if any(layout.scale):
        return "fractions of the volume"
    text = "centres in angstrom" if pixel_size_source(table) == IN_ANGSTROM else "centres"
    sizes = read_box_sizes(table)
    if sizes.size and sizes.any():
        least, greatest = float(sizes.min()), float(sizes.max())
        size = f"{least:g}" if least == greatest else f"{least:g} to {greatest:g}"
        text = f"corners, box {size} px"
    elif shifts := shifts_of(table):
        text = f"{text} with shifts ({' '.join(shifts)})"
    elif any(name.startswith("shift_") for name in layout.columns):
        text = f"{text} without shifts"
    pixel_size = layout.pixel_size
    return f"{text}, {pixel_size:g} A per pixel" if pixel_size not in (None, 1.0) else text


def shifts_of(table: ParticleTable) -> tuple[str, ...]:
    """Return the names of the shifts in pick files that are added to positions."""
    if table.format != "coordinates" or not table.detail.adds_shifts:
        return ()
    names: dict[str, None] = {}
    for layout in _layouts(table):
        roles = [name for name in layout.columns if name.startswith("shift_")]
        names |= dict.fromkeys(roles and (MAP_OF[layout.map].shifts or roles))
    return tuple(names)


def pixel_size_source(table: ParticleTable) -> str:
    """Return the source of the pixel size in pick files, or an empty text if they have no pixel size."""
    sources: dict[str, None] = {}
    for layout in _layouts(table):
        if layout.pixel_size == 1.0 or layout.map == COPICK.name:
            sources[IN_ANGSTROM] = None
        elif layout.pixel_size or "pixel_size" in layout.columns:
            sources[MAP_OF[layout.map].pixel_size or "column of the pixel size"] = None
    return "; ".join(sources)


def is_binned(table: ParticleTable) -> bool:
    """Return whether positions in pick files are in pixels of binned tomograms with an unknown pixel size."""
    return any(
        layout.map == ANNOTATIONS.name and not layout.pixel_size for layout in _layouts(table)
    )


def names_of_files(table: ParticleTable) -> list[str] | None:
    """Return the micrograph names from file names or the list of pick files.

    Return None for other tables, and for pick files with a column of micrographs.
    """
    if table.format != "coordinates":
        return None
    detail: CoordinatesDetail = table.detail
    if not detail.lists and any("micrograph" in layout.columns for layout in detail.layouts):
        return None
    return [member.micrograph for member in detail.members]


def named_files(table: ParticleTable) -> list[str]:
    """Return the pick files of a `NamedFiles` input. Return [] for other inputs."""
    if table.format != "coordinates" or not table.detail.named:
        return []
    return [member.path for member in table.detail.members]


def find_notes(table: ParticleTable) -> tuple[list[str], list[str]]:
    """Return notes about ignored files in an input of picks, and warnings about its picks."""
    if table.format != "coordinates":
        return [], []
    return [f"{table.path}: {note}" for note in table.detail.notes], _find_warnings(table)


def _find_warnings(table: ParticleTable) -> list[str]:
    """Return a list with one warning if a table has boxes below crYOLO's default threshold, else []."""
    detail: CoordinatesDetail = table.detail
    if not {layout.map for layout in detail.layouts} & {CBOX.name, CBOX_OLD.name}:
        return []
    below = 0
    for fragment in table.fragments:
        scores = to_numpy(read(table, fragment, [SCORE])[SCORE])
        below += int(np.count_nonzero(scores < _THRESHOLD))
    if not below:
        return []
    advice = parameter("min_score", {table.path: _THRESHOLD})
    parents = at(detail.members[0].path).absolute().parents
    sibling_folders = [parents[1] / name for name in ("EMAN", "STAR") if len(parents) > 1]
    folders = " or ".join(str(each) for each in sibling_folders if is_folder(each))
    if folders:
        advice = f"{folders}, which crYOLO wrote with its threshold, or {advice}"
    return [
        f"{table.path}: {below:,} of {table.rows:,} boxes have a confidence below {_THRESHOLD}. CBOX files contain "
        f"all boxes. To leave out boxes below crYOLO's threshold, pass {advice}."
    ]

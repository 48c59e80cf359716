"""Describe a table of picks in one line, as `inspect` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.arrow import to_numpy
from dask_dedup.formats.coordinates.column_map import MICROGRAPH, SCORE, TOMOGRAM
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
    from dask_dedup.formats.coordinates.detail import CoordinatesDetail

IN_ANGSTROM = "positions in angstrom"
#: What the formats call their score, if it is not the column of RELION.
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
#: Boxes below this confidence are counted.
_THRESHOLD = 0.5


def describe(table: ParticleTable, known: tuple[int, float, float] | None = None) -> str:
    """Describe a table of picks: format, micrographs, meaning of the positions, range of the scores.

    `known` has the number of micrographs with picks, and the least and greatest score, if they were counted.

    Examples
    --------
    ``crYOLO CBOX, 997 micrographs, corners, box 180 px, scores 0.30 to 0.90``
    """
    detail: CoordinatesDetail = table.detail
    if not detail.layouts:
        return f"{counted(len(detail.members), 'file')} without picks"
    formats = dict.fromkeys(layout.map for layout in detail.layouts)
    name = TOMOGRAM if detail.tomograms else MICROGRAPH
    empty = sum(not member.rows for member in detail.members)
    if known is None:
        number, low, high = _survey(table, name)
    else:
        number, low, high = known[0] + empty, *known[1:]
    parts = [
        " and ".join(formats),
        counted(number, "tomogram" if detail.tomograms else "micrograph"),
        _positions(table),
        f"scores {low:.2f} to {high:.2f}" if np.isfinite(low) else "no scores",
    ]
    if empty:
        parts.append(f"{counted(empty, 'file')} without picks")
    if not detail.writable:
        parts.append("read only")
    return ", ".join(parts)


def score_label(table: ParticleTable, column: str) -> str:
    """Return the name of a score column as the pick files have it.

    Examples
    --------
    ``confidence (CBOX)``, ``score of topaz``
    """
    if column != SCORE:
        return column
    labels: dict[str, None] = {}
    for layout in table.detail.layouts:
        if "score" in layout.columns:
            label = SCORE if layout.map in _RELION_SCORES else "score of the picks"
            labels[_SCORE_NAMES.get(layout.map, label)] = None
    return " and ".join(labels)


def _survey(table: ParticleTable, name: str) -> tuple[int, float, float]:
    """Return the number of micrographs, with those of empty files, and the least and greatest score."""
    detail: CoordinatesDetail = table.detail
    names = {member.micrograph for member in detail.members if not member.rows}
    low, high = np.inf, -np.inf
    for fragment in table.fragments:
        rows = read(table, fragment, [name, SCORE])
        for chunk in rows[name].chunks:
            names.update(chunk.dictionary.to_pylist())
        scores = to_numpy(rows[SCORE])
        scores = scores[np.isfinite(scores)]
        if scores.size:
            low, high = min(low, float(scores.min())), max(high, float(scores.max()))
    return len(names), low, high


def _positions(table: ParticleTable) -> str:
    """Describe what the positions are, by the first file with picks."""
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
    detail: CoordinatesDetail = table.detail
    if not detail.adds_shifts:
        return ()
    names: dict[str, None] = {}
    for layout in detail.layouts:
        roles = [name for name in layout.columns if name.startswith("shift_")]
        names |= dict.fromkeys(roles and (MAP_OF[layout.map].shifts or roles))
    return tuple(names)


def pixel_size_source(table: ParticleTable) -> str:
    """Return where the pixel size of the positions comes from, if pick files have it. Else return an empty text."""
    detail: CoordinatesDetail = table.detail
    sources: dict[str, None] = {}
    for layout in detail.layouts:
        if layout.pixel_size == 1.0 or layout.map == COPICK.name:
            sources[IN_ANGSTROM] = None
        elif layout.pixel_size or "pixel_size" in layout.columns:
            sources[MAP_OF[layout.map].pixel_size or "column of the pixel size"] = None
    return "; ".join(sources)


def is_binned(table: ParticleTable) -> bool:
    """Return whether positions are in pixels of binned tomograms of an unknown pixel size."""
    layouts = table.detail.layouts
    return any(layout.map == ANNOTATIONS.name and not layout.pixel_size for layout in layouts)


def find_warnings(table: ParticleTable) -> list[str]:
    """Return a warning if a table has boxes below the threshold that crYOLO applies to its other output."""
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
    beside = [parents[1] / name for name in ("EMAN", "STAR") if len(parents) > 1]
    folders = " or ".join(str(each) for each in beside if is_folder(each))
    if folders:
        advice = f"{folders}, which crYOLO wrote with its threshold, or {advice}"
    return [
        f"{table.path}: {below:,} of {table.rows:,} boxes have a confidence below {_THRESHOLD}. CBOX files hold "
        f"all boxes. To leave out those below crYOLO's threshold, pass {advice}."
    ]

"""RELION: STAR files with the picks of one micrograph or tomogram. crYOLO also writes such files.

Annotations of RELION 5 (``Picks/job010/annotations/TS_01_particles.star``) are in pixels of the binned tomogram.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.formats.coordinates.column_map import ColumnMap, Header, Layout, star_map
from dask_dedup.formats.coordinates.lines import star_loops
from dask_dedup.formats.coordinates.tomogram_tables import BINNING, PIXEL_SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.formats.coordinates.column_map import Scale
    from dask_dedup.formats.coordinates.tomogram_tables import TomogramTables

#: Labels of particle tables. `formats.star` reads particle tables, with their optics groups and shifts.
_OF_PARTICLES = (
    *("rlnImageName", "rlnOpticsGroup", "rlnMagnification"),
    *(f"rlnOrigin{axis}{unit}" for axis in "XYZ" for unit in ("", "Angst")),
)
_ROLES = {
    "rlnCoordinateX": "x",
    "rlnCoordinateY": "y",
    "rlnCoordinateZ": "z",
    "rlnAutopickFigureOfMerit": "score",
    "rlnHelicalTubeID": "filament",
}

RELION = star_map(
    "RELION STAR",
    _ROLES,
    refuses=(*_OF_PARTICLES, "rlnMicrographName", "rlnTomoName", "rlnDetectorPixelSize"),
)


def _recognise_annotations(head: bytes, path: Path) -> Header | None:
    if path.absolute().parent.name != ANNOTATIONS_FOLDER:
        return None
    roles = {**_ROLES, "rlnTomoName": "micrograph"}
    for _, labels, start in star_loops(head):
        columns = tuple(roles.get(label, label) for label in labels)
        if not {"x", "y", "z", "micrograph"} <= set(columns):
            continue
        return Header(Layout(ANNOTATIONS.name, columns), start)
    return None


def _find_scale(tables: TomogramTables, path: Path, tomogram: str) -> tuple[Scale, Path | None]:
    """Return the pixel size of a binned tomogram."""
    found = tables.find(path, tomogram, (PIXEL_SIZE, BINNING))
    if found is None:
        return ((), None), None
    (pixel_size, binning), table = found
    return ((), pixel_size * binning), table


ANNOTATIONS_FOLDER = "annotations"
ANNOTATIONS = ColumnMap(
    *("RELION annotations", (".star",), _recognise_annotations),
    star=True,
    find_scale=_find_scale,
    pixel_size="binned tomograms",
)

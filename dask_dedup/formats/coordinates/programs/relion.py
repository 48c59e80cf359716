"""RELION: picks of one micrograph in a STAR file. crYOLO writes such files, too."""

from __future__ import annotations

from dask_dedup.formats.coordinates.column_map import star_map

#: Particle tables are read by `formats.star`, which knows optics groups and shifts.
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

"""crYOLO: CBOX files and ``.coords`` files.

CBOX files are STAR files since version 1.8. Before, they had five or seven columns. In CBOX files, x and y are
corners, and z is a centre.
"""

from __future__ import annotations

from dask_dedup.formats.coordinates.column_map import number_map, star_map

CBOX = star_map(
    "crYOLO CBOX",
    {
        "CoordinateX": "x",
        "CoordinateY": "y",
        "CoordinateZ": "z",
        "Width": "width",
        "Height": "height",
        "Confidence": "score",
        "filamentid": "filament",
    },
    block="cryolo",
    needs=("x", "y", "width", "height"),
    extensions=(".cbox",),
    expected="a block data_cryolo with boxes, or lines of 5 or 7 numbers",
)
CBOX_OLD = number_map(
    "crYOLO CBOX (before 1.8)",
    (".cbox",),
    ("x", "y", "width", "height", "score", "EstWidth", "EstHeight"),
    (5, 7),
    CBOX.expected,
)
COORDS = number_map(
    "coordinates",
    (".coords",),
    ("x", "y", "z", "filament"),
    (3, 4),
    "lines of x, y, z and, for filaments, a number",
)

"""pytom-match-pick: particles of a tomogram, in voxels.

The column rlnDetectorPixelSize is the voxel size. A column rlnMagnification is not needed.
"""

from __future__ import annotations

from dask_dedup.formats.coordinates.column_map import star_map

PYTOM = star_map(
    "pytom-match-pick",
    {
        "rlnCoordinateX": "x",
        "rlnCoordinateY": "y",
        "rlnCoordinateZ": "z",
        "rlnLCCmax": "score",
        "rlnDetectorPixelSize": "pixel_size",
        "rlnTomoName": "micrograph",
        "rlnMicrographName": "micrograph",
    },
    needs=("x", "y", "z", "score", "pixel_size", "micrograph"),
    refuses=("rlnMagnification", "rlnImageName"),
)

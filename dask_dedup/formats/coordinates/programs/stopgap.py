"""STOPGAP: motive lists. Positions and shifts are in voxels of the tomogram. Shifts are added to positions."""

from __future__ import annotations

from dask_dedup.formats.coordinates.column_map import star_map

STOPGAP = star_map(
    "STOPGAP motive list",
    {
        **{f"orig_{axis}": axis for axis in "xyz"},
        **{f"{axis}_shift": f"shift_{axis}" for axis in "xyz"},
        "score": "score",
        "tomo_num": "micrograph",
    },
    block="stopgap_motivelist",
    needs=("x", "y", "z"),
    numbered=True,
)

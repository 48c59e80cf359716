"""Conversions: write the particles of all inputs in one format. The inputs may have different formats.

- ``star``: one STAR file of RELION with optics groups;
- ``relion-coordinates``: one coordinate file per micrograph, and the list that RELION's Extract reads.

If possible, text of the inputs is copied unchanged. Positions in other units than pixels of the micrograph, and
corners of boxes, are converted to centres in pixels of the micrograph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.conversion.coordinates import CoordinatesConversion
    from dask_dedup.conversion.star import StarConversion
    from dask_dedup.formats import ParticleTable
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary

    #: A conversion is pickled for the workers of a cluster. `split` writes the rows of a fragment to part files.
    #: `assemble` joins the part files of all fragments.
    Conversion = StarConversion | CoordinatesConversion

__all__ = ["CONVERSIONS", "make_conversion"]

CONVERSIONS = ("star", "relion-coordinates")


def make_conversion(
    output_format: str,
    inputs: Inputs,
    summaries: Sequence[ScanSummary],
    exposures: ParticleTable | None,
) -> tuple[Conversion | None, list[str]]:
    """Return the conversion for an output format, and warnings. Without a conversion, return None and no warnings.

    Parameters
    ----------
    output_format : str
    inputs : Inputs
    summaries : sequence of ScanSummary
        Scan summaries of all fragments.
    exposures : ParticleTable, optional
        The micrograph table.

    Raises
    ------
    InputError
        If the inputs cannot be converted.
    """
    if output_format == "star":
        from dask_dedup.conversion.star import make_star

        return make_star(inputs, summaries, exposures)
    if output_format == "relion-coordinates":
        from dask_dedup.conversion.coordinates import make_coordinates

        return make_coordinates(inputs, summaries, exposures)
    return None, []

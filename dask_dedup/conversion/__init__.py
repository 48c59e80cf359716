"""Conversions: the particles of all inputs in one format, whatever the formats of the inputs.

- ``star``: one STAR file of RELION with optics groups;
- ``relion-coordinates``: one coordinate file per micrograph, and the list that RELION's Extract reads.

Text of the inputs is copied unchanged where possible. Positions that are not centres in pixels of the micrograph
are converted.
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

    #: A conversion is pickled for the workers of a cluster. `split` writes the rows of a fragment to part files, and
    #: `assemble` joins those of all fragments.
    Conversion = StarConversion | CoordinatesConversion

__all__ = ["CONVERSIONS", "make_conversion"]

CONVERSIONS = ("star", "relion-coordinates")


def make_conversion(
    output_format: str,
    inputs: Inputs,
    summaries: Sequence[ScanSummary],
    exposures: ParticleTable | None,
) -> tuple[Conversion | None, list[str]]:
    """Return the conversion for an output format, None for formats that are none. Also return warnings.

    Parameters
    ----------
    output_format : str
    inputs : Inputs
    summaries : sequence of ScanSummary
        Of all fragments.
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

"""Computation of particle centres in angstrom.

``centre = (coordinate - shift / psize_mic) * psize_mic``, in float64, with the shift in angstrom and
the pixel size of each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def pixels_from_fractions(fraction: Floats, shape: Floats) -> Floats:
    """Convert (n, d) fractions to pixels. `shape` is the shape of the micrograph (ny, nx) or tomogram (nz, ny, nx)."""
    return fraction * shape[:, ::-1]


def centres_in_angstrom(pixels: Floats, psize_mic: Floats, shift: Floats | None = None) -> Floats:
    """Convert (n, d) positions in pixels to angstrom, and subtract the shift in angstrom."""
    size = psize_mic[:, np.newaxis]
    if shift is None:
        return pixels * size
    # In place, because new arrays would take most of the time.
    centres = shift / size
    np.subtract(pixels, centres, out=centres)
    centres *= size
    return centres


def rotate_subtomogram_shift(shift: Floats, angles: Floats) -> Floats:
    """Rotate (n, 3) shifts from the sub-tomogram frame to the tomogram frame.

    ``A @ shift``, where RELION's matrix A of (rot, tilt, psi) in degrees is the transpose of
    SciPy's ``Rotation.from_euler("ZYZ", ...)``.
    """
    from scipy.spatial.transform import Rotation

    if not len(shift):
        return shift
    return np.asarray(Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply(shift))

"""Particle centres in angstrom, from arrays to arrays.

``centre = (coordinate - shift * psize_shift / psize_mic) * psize_mic``, in float64, with the pixel
sizes of each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def pixels_from_fractions(fraction: Floats, shape: Floats) -> Floats:
    """Return (n, 2) micrograph pixels for CryoSPARC's fractional centres; `shape` is (ny, nx)."""
    return fraction * shape[:, ::-1]


def centres_in_angstrom(
    pixels: Floats,
    psize_mic: Floats,
    shift: Floats | None = None,
    psize_shift: Floats | None = None,
) -> Floats:
    """Return (n, d) centres in angstrom.

    Parameters
    ----------
    pixels : (n, d) float64
        Coordinates in pixels of `psize_mic`.
    psize_mic : (n,) float64
        Angstrom.
    shift : (n, d) float64, optional
        Alignment shift to subtract, in pixels of `psize_shift`.
    psize_shift : (n,) float64, optional
        Angstrom; 1 for shifts in angstrom.
    """
    size = psize_mic[:, np.newaxis]
    if shift is None or psize_shift is None:
        return pixels * size
    return (pixels - shift * psize_shift[:, np.newaxis] / size) * size


def rotate_subtomogram_shift(shift: Floats, angles: Floats) -> Floats:
    """Return (n, 3) shifts of rotated sub-tomograms in the frame of the tomogram.

    ``A @ shift``, where RELION's matrix A of (rot, tilt, psi) in degrees is the transpose of
    SciPy's ``Rotation.from_euler("ZYZ", ...)``.
    """
    from scipy.spatial.transform import Rotation

    if not len(shift):
        return shift
    return np.asarray(Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply(shift))

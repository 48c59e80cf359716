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
    """Return micrograph pixels for CryoSPARC's fractional centres.

    Parameters
    ----------
    fraction : (n, 2) float64
        ``center_x_frac``, ``center_y_frac``.
    shape : (n, 2) float64
        ``micrograph_shape``, as (ny, nx).

    Returns
    -------
    (n, 2) float64
        x, y in micrograph pixels.
    """
    return fraction * shape[:, ::-1]


def centres_in_angstrom(
    pixels: Floats,
    psize_mic: Floats,
    shift: Floats | None = None,
    psize_shift: Floats | None = None,
) -> Floats:
    """Return centres for coordinates in micrograph (or tomogram) pixels.

    Parameters
    ----------
    pixels : (n, d) float64
        Coordinates in micrograph pixels.
    psize_mic : (n,) float64
        Micrograph pixel size, angstrom.
    shift : (n, d) float64, optional
        Alignment shift in pixels of `psize_shift`, to subtract: CryoSPARC ``alignments*/shift``
        (column 0 is x) or RELION ``rlnOrigin*``.
    psize_shift : (n,) float64, optional
        Angstrom; 1 for shifts in angstrom.

    Returns
    -------
    (n, d) float64
        Angstrom.
    """
    size = psize_mic[:, np.newaxis]
    if shift is None or psize_shift is None:
        return pixels * size
    return (pixels - shift * psize_shift[:, np.newaxis] / size) * size


def rotate_subtomogram_shift(shift: Floats, angles: Floats) -> Floats:
    """Return shifts in the frame of the tomogram for shifts in that of rotated sub-tomograms.

    ``A @ shift``, where RELION's matrix A of (rot, tilt, psi) is the transpose of SciPy's
    ``Rotation.from_euler("ZYZ", ...)``.

    Parameters
    ----------
    shift : (n, 3) float64
        Angstrom.
    angles : (n, 3) float64
        ``rlnTomoSubtomogramRot``, ``Tilt``, ``Psi``, degrees.

    Returns
    -------
    (n, 3) float64
        Angstrom.
    """
    from scipy.spatial.transform import Rotation

    if not len(shift):
        return shift
    return np.asarray(Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply(shift))

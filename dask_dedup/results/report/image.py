"""Find and read the image of a micrograph."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Maximum number of pixels along the longer side.
MAX_PIXELS = 1_500
#: Percentiles of the binned image that are drawn black and white.
CONTRAST = (2.0, 98.0)

_STACK_NUMBER = re.compile(r"^\d+@")


@dataclass(frozen=True, slots=True)
class MicrographImage:
    """The binned image of a micrograph.

    Attributes
    ----------
    pixels : (h, w) float32
        The first row is at y = 0.
    shape : tuple of int
        (ny, nx) before binning.
    low, high : float
        Grey values that are drawn black and white.
    """

    pixels: NDArray[np.float32]
    shape: tuple[int, int]
    low: float
    high: float


def find_image(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the path of an MRC file that a table names, in some folders or above them.

    The name is as stored: with a ``>`` (CryoSPARC), or a number and ``@`` (stacks of RELION).
    """
    stored = Path(_STACK_NUMBER.sub("", name.lstrip(">")))
    if stored.suffix.lower() != ".mrc":
        return None
    above = dict.fromkeys(path for folder in folders for path in (folder, *folder.parents))
    candidates = [*(path / stored for path in above), *(path / stored.name for path in folders)]
    if stored.is_absolute():
        candidates.insert(0, stored)
    # os.path.isfile is False for impossible names, too.
    return next((path for path in candidates if os.path.isfile(path)), None)  # noqa: PTH113


def read_image(path: Path) -> MicrographImage:
    """Read an MRC file, binned to at most `MAX_PIXELS`, without holding all of it in memory."""
    import mrcfile

    with warnings.catch_warnings():
        # Faults of the header do not matter for a background.
        warnings.simplefilter("ignore")
        with mrcfile.mmap(path, mode="r", permissive=True) as file:
            data = file.data
            if data is None:
                raise ValueError("it contains no image")
            data = data[0] if data.ndim == 3 and len(data) == 1 else data
            if data.ndim != 2 or not data.size or np.iscomplexobj(data):
                raise ValueError(f"it is not a single image (its shape is {data.shape})")
            shape = (int(data.shape[0]), int(data.shape[1]))
            pixels = _binned(data, -(-max(shape) // MAX_PIXELS))
    usable = pixels[np.isfinite(pixels)]
    if not usable.size:
        raise ValueError("it contains no finite value")
    low, high = np.percentile(usable, CONTRAST).tolist()
    return MicrographImage(pixels, shape, low, high if high > low else low + 1.0)


def _binned(data: NDArray[np.generic], factor: int) -> NDArray[np.float32]:
    """Return averages of squares of `factor` pixels, without incomplete squares at the edges."""
    height, width = data.shape[0] // factor, data.shape[1] // factor
    rows = np.empty((height, width), dtype=np.float32)
    for row in range(height):
        strip = np.asarray(data[row * factor : (row + 1) * factor, : width * factor], np.float32)
        rows[row] = strip.reshape(factor, width, factor).mean(axis=(0, 2))
    return rows

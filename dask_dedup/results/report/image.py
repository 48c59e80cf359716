"""Find and read the image of a micrograph."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


def find_image(name: str, folders: Iterable[Path]) -> Path | None:
    """Return the path of an MRC file that a table names, or None.

    Parameters
    ----------
    name : str
        As stored: with a ``>`` (CryoSPARC), or a number and ``@`` (stacks of RELION).
    folders : iterable of Path
        Folders to search, with the folders above them.
    """
    stored = Path(_STACK_NUMBER.sub("", name.lstrip(">")))
    if stored.suffix.lower() != ".mrc" or "\0" in name:
        return None
    return next((path for path in _candidates(stored, folders) if _is_file(path)), None)


def _candidates(stored: Path, folders: Iterable[Path]) -> Iterator[Path]:
    if stored.is_absolute():
        yield stored
    for folder in folders:
        if not stored.is_absolute():
            yield from (above / stored for above in (folder, *folder.parents))
        yield folder / stored.name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # The name may be too long for the file system.
        return False


def read_image(path: Path) -> MicrographImage:
    """Read an MRC file, binned to at most `MAX_PIXELS`, without holding all of it in memory.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or is not a single image.
    """
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

"""The image of a micrograph, where it can be found and read."""

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

#: Pixels along the longer side of a picture's background, at most.
LARGEST = 1_500
#: Contrast runs between these percentiles of the binned image.
CONTRAST = (2.0, 98.0)

_STACK_NUMBER = re.compile(r"^\d+@")


@dataclass(frozen=True, slots=True)
class MicrographImage:
    """A micrograph's image, binned.

    Attributes
    ----------
    pixels : (h, w) float32
        The first row is that of y = 0.
    shape : tuple of int
        (ny, nx) before binning.
    low, high : float
        Grey values to be drawn black and white.
    """

    pixels: NDArray[np.float32]
    shape: tuple[int, int]
    low: float
    high: float


def find_image(name: str, folders: Iterable[Path]) -> Path | None:
    """Find an MRC file by the name a table gives it, from each folder and from those above it.

    Parameters
    ----------
    name : str
        As stored: CryoSPARC puts ``>`` before it, RELION a number and ``@`` where it is a stack.
    folders : iterable of Path
        Where tables lie and where the run was started.
    """
    stored = Path(_STACK_NUMBER.sub("", name.lstrip(">")))
    if stored.suffix.lower() != ".mrc" or "\0" in name:
        return None
    return next((path for path in _places(stored, folders) if _is_file(path)), None)


def _places(stored: Path, folders: Iterable[Path]) -> Iterator[Path]:
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
        # A name may be longer than the file system takes.
        return False


def read_image(path: Path) -> MicrographImage:
    """Read an MRC file, binned to at most `LARGEST` pixels; only what is needed is in memory.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or holds no single image.
    """
    import mrcfile

    with warnings.catch_warnings():
        # The header's oddities do not matter to a background.
        warnings.simplefilter("ignore")
        with mrcfile.mmap(path, mode="r", permissive=True) as file:
            data = file.data
            if data is None:
                raise ValueError("holds no image")
            data = data[0] if data.ndim == 3 and len(data) == 1 else data
            if data.ndim != 2 or not data.size or np.iscomplexobj(data):
                raise ValueError(f"holds no single image (its shape is {data.shape})")
            shape = (int(data.shape[0]), int(data.shape[1]))
            pixels = _binned(data, -(-max(shape) // LARGEST))
    usable = pixels[np.isfinite(pixels)]
    if not usable.size:
        raise ValueError("holds no finite value")
    low, high = np.percentile(usable, CONTRAST).tolist()
    return MicrographImage(pixels, shape, low, high if high > low else low + 1.0)


def _binned(data: NDArray[np.generic], factor: int) -> NDArray[np.float32]:
    """Average squares of `factor` pixels; what is over at the far edges is left out."""
    height, width = data.shape[0] // factor, data.shape[1] // factor
    rows = np.empty((height, width), dtype=np.float32)
    for row in range(height):
        strip = np.asarray(data[row * factor : (row + 1) * factor, : width * factor], np.float32)
        rows[row] = strip.reshape(factor, width, factor).mean(axis=(0, 2))
    return rows

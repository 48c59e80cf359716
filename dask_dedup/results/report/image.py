"""Find the image of a micrograph, and make a small JPEG picture of it."""

from __future__ import annotations

import base64
import io
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

#: Pixels along the longer side of a picture, and the quality of its JPEG.
SIDE, QUALITY = 512, 60
#: Limits of a page: images, their pixels in all before they are made smaller, and their characters in base64.
MOST_IMAGES, MOST_PIXELS, MOST_CHARACTERS = 12, 400_000_000, 1_100_000
#: Percentiles of the smaller image that are drawn as black and as white.
CONTRAST = (2.0, 98.0)
#: Bytes of an image that are read at a time.
_STRIP_BYTES = 8 * 2**20

_STACK_NUMBER = re.compile(r"^\d+@")


@dataclass(frozen=True, slots=True)
class MicrographImage:
    """The image of a micrograph, made smaller.

    Attributes
    ----------
    uri : str
        JPEG as a data URI. The first row is at y = 0.
    shape : tuple of int
        (ny, nx) of the file.
    """

    uri: str
    shape: tuple[int, int]


class Images:
    """Reader of images, up to a fixed number of pixels and bytes, so that every machine makes the same page.

    `folders` are searched, with their parents.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self.images, self.pixels, self.characters = 0, 0, 0
        #: The number of images beyond the limits, and messages about images that cannot be read.
        self.left_out, self.problems = 0, list[str]()

    def read(self, name: str) -> MicrographImage | None:
        """Return the image of the micrograph with the stored name `name`, or None."""
        path = find_image(name, self.folders)
        if path is None:
            return None
        if self.images == MOST_IMAGES:
            self.left_out += 1
            return None
        try:
            found = read_image(path, MOST_PIXELS - self.pixels)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            self.problems.append(f"The image {path} cannot be read: {reason}.")
            return None
        if found is None or self.characters + len(found.uri) > MOST_CHARACTERS:
            self.left_out += 1
            return None
        self.images += 1
        self.pixels += found.shape[0] * found.shape[1]
        self.characters += len(found.uri)
        return found


def find_image(name: str, folders: Sequence[Path]) -> Path | None:
    """Find the MRC file of a micrograph by its stored name. Search `folders` and their parents.

    CryoSPARC may put ``>`` before the name, and RELION an image number and ``@``.
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


def read_image(path: Path, most_pixels: int = MOST_PIXELS) -> MicrographImage | None:
    """Read an MRC image and make it smaller. Return None if it has more than `most_pixels`."""
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
            if shape[0] * shape[1] > most_pixels:
                return None
            pixels = average(data, -(-max(shape) // SIDE))
    return MicrographImage(_jpeg(_grey(pixels)), shape)


def average(data: NDArray[np.generic], factor: int) -> NDArray[np.float32]:
    """Average each square of `factor` x `factor` pixels. Drop incomplete squares at the edges."""
    height, width = data.shape[0] // factor, data.shape[1] // factor
    if not (height and width):
        return np.asarray(data, dtype=np.float32)
    rows = np.empty((height, width), dtype=np.float32)
    starts = np.arange(0, width * factor, factor)
    strip = max(1, _STRIP_BYTES // (4 * factor * data.shape[1]))
    for top in range(0, height, strip):
        bottom = min(top + strip, height)
        some = np.asarray(data[top * factor : bottom * factor, : width * factor], np.float32)
        some = some.reshape(bottom - top, factor, width * factor).sum(axis=1)
        rows[top:bottom] = np.add.reduceat(some, starts, axis=1)
    rows /= np.float32(factor * factor)
    return rows


def _grey(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    usable = pixels[np.isfinite(pixels)]
    if not usable.size:
        raise ValueError("it contains no finite value")
    low, high = np.percentile(usable, CONTRAST).tolist()
    scaled = (np.nan_to_num(pixels, nan=low) - low) / (high - low if high > low else 1.0)
    return np.asarray(255 * scaled.clip(0, 1), dtype=np.uint8)


def _jpeg(grey: NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(grey).save(file, "jpeg", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

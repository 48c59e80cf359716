"""Invalid rows: those that cannot be compared with others, and why."""

from __future__ import annotations

from enum import IntFlag, auto
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Reason(IntFlag):
    """Why a row cannot be compared; one that has several reasons is counted under the first of these."""

    MICROGRAPH = auto()
    UNKNOWN_MICROGRAPH = auto()
    POSITION = auto()
    SHIFT = auto()
    ANGLE = auto()
    PIXEL_SIZE = auto()
    SHAPE = auto()
    TOO_FAR = auto()
    UID = auto()
    SOURCE = auto()


def count_reasons(invalid: NDArray[np.uint16]) -> dict[str, int]:
    """Count invalid rows by their first reason, in lower case; valid ones (0) are not counted.

    Examples
    --------
    >>> count_reasons(np.array([0, 1, 4, 4 + 256], np.uint16))
    {'micrograph': 1, 'position': 2}
    """
    lowest = invalid & (~invalid + np.uint16(1))
    bits, counts = np.unique(lowest[lowest != 0], return_counts=True)
    return {
        (Reason(bit).name or "").lower(): count
        for bit, count in zip(bits.tolist(), counts.tolist(), strict=True)
    }

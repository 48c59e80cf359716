"""Find filament (tube) numbers with segments of several filaments, as in files joined without new numbers.

The track length of a segment is its distance from the start of its filament, along the filament. A number belongs to
several filaments if the track restarts. There are two signs of a restart:

- Two segments have the same track length, and the rows between them have other track lengths.
- Two consecutive segments of the track are farther apart than the difference of their track lengths allows.

Copies of a segment in consecutive rows, as written by symmetry expansion, are no restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.arrays import ArrayTable, begins_run, dtypes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.picks import Picks

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

#: Track lengths with a smaller difference are equal, angstrom.
_SAME = 1e-2
#: Alignment and rounding move segments by up to this distance (angstrom) plus the spacing of segments.
_SLACK = 10.0


@dataclass(frozen=True, slots=True)
class Tubes(ArrayTable):
    """Table of the tubes in a fragment: their first and last segment, and whether their tracks restart.

    Attributes
    ----------
    micrograph : (n,) uint64
    label : (n,) int64
        Micrograph key and filament, as in `Picks`.
    restarts : (n,) bool
    spacing : (n,) float64
        Median distance of segments along the track, angstrom; 0 for single segments.
    first, last : (n,) float64
        Minimum and maximum track length, angstrom.
    first_x, first_y, first_z, last_x, last_y, last_z : (n,) float64
        Centres of the segments with these track lengths. NaN if centres are not in angstrom.
    """

    micrograph: NDArray[np.uint64]
    label: NDArray[np.int64]
    restarts: Mask
    spacing: Floats
    first: Floats
    last: Floats
    first_x: Floats
    first_y: Floats
    first_z: Floats
    last_x: Floats
    last_y: Floats
    last_z: Floats


Tubes.dtypes = dtypes_of(Tubes, "u8", "i8", "?", *["f8"] * 9)


def find_tubes(picks: Picks, track: Floats, *, in_angstrom: bool) -> Tubes:
    """Summarise the tubes among the picks of a fragment. `track` has the track length of each pick, (n,).

    `in_angstrom` is whether track lengths and centres are both in angstrom. Otherwise distances are not compared.
    """
    picks, track = _select(picks, track)
    if not len(picks):
        return Tubes.concatenate([])
    centres = np.column_stack([picks.x, picks.y, picks.z])
    if not in_angstrom:
        centres[:] = np.nan
    order, number = _by_tube(picks.micrograph, picks.label, track)
    track, centres = track[order], centres[order]
    start = np.flatnonzero(begins_run(number))
    last = np.append(start[1:], number.size) - 1
    # Index of each segment among the rows of its tube.
    row = np.empty(order.size, dtype=np.intp)
    by_row = np.lexsort([order, number])
    row[by_row] = np.arange(order.size)
    same_tube = number[1:] == number[:-1]
    step = np.diff(track)
    restart = same_tube & (step < _SAME) & (np.diff(row) > 1)
    spacing = _median_step(number[1:][same_tube & (step >= _SAME)], step, same_tube, start.size)
    far = np.sqrt((np.diff(centres, axis=0) ** 2).sum(axis=1))
    restart |= same_tube & (far > step + spacing[number[1:]] + _SLACK)
    restarts = np.zeros(start.size, dtype=bool)
    restarts[number[1:][restart]] = True
    return Tubes(
        picks.micrograph[order][start],
        picks.label[order][start],
        restarts,
        spacing,
        track[start],
        track[last],
        *centres[start].T,
        *centres[last].T,
    )


def _select(picks: Picks, track: Floats) -> tuple[Picks, Floats]:
    usable = (picks.invalid == 0) & (picks.label >= 0) & np.isfinite(track)
    return picks.take(usable), track[usable]


def _by_tube(
    micrograph: NDArray[np.uint64], label: NDArray[np.int64], track: Floats
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sort by tube, then track, then row. Return the row numbers, and the tube number of each row."""
    order = np.lexsort([track, label, micrograph])
    new = begins_run(label[order]) | begins_run(micrograph[order])
    return order, np.cumsum(new) - 1


def _median_step(number: NDArray[np.intp], step: Floats, same_tube: Mask, tubes: int) -> Floats:
    """Return the median non-zero distance between neighbouring segments of each tube, or 0 if there is none."""
    steps = step[same_tube & (step >= _SAME)]
    order = np.lexsort([steps, number])
    count = np.bincount(number, minlength=tubes)
    middle = np.cumsum(count) - count + count // 2
    spacing = np.zeros(tubes)
    spacing[count > 0] = steps[order][middle[count > 0]]
    return spacing


def find_restarts(parts: Sequence[Tubes]) -> list[tuple[int, int]]:
    """Return the tubes with tracks that restart as (micrograph, label), given the tubes of all fragments."""
    tubes = Tubes.concatenate(parts)
    order, number = _by_tube(tubes.micrograph, tubes.label, tubes.first)
    tubes = tubes.take(order)
    restarts = tubes.restarts.copy()
    same_tube = number[1:] == number[:-1]
    one, other = (
        np.column_stack([getattr(tubes, f"{end}_{axis}") for axis in "xyz"])
        for end in ("first", "last")
    )
    long = tubes.last - tubes.first >= _SAME
    again = (np.diff(tubes.first) < _SAME) & long[1:] & long[:-1]
    for a, track_a in ((one, tubes.first), (other, tubes.last)):
        for b, track_b in ((one, tubes.first), (other, tubes.last)):
            far = np.sqrt(((a[1:] - b[:-1]) ** 2).sum(axis=1))
            allowed = np.abs(track_a[1:] - track_b[:-1]) + _SLACK
            again |= far > allowed + np.maximum(tubes.spacing[1:], tubes.spacing[:-1])
    restarts[1:] |= same_tube & again
    pairs = zip(tubes.micrograph[restarts].tolist(), tubes.label[restarts].tolist(), strict=True)
    return list(dict.fromkeys(pairs))

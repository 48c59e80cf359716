"""The micrographs that the page embeds, and their picks as arrays for the script."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dask_dedup.dedup.rank import splitmix64
from dask_dedup.formatting import printable
from dask_dedup.results.report.image import Images, MicrographImage

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from dask_dedup.results.report.subject import Subject

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

#: Maximum numbers of embedded micrographs, of embedded picks, and of embedded picks on one micrograph.
MOST_MICROGRAPHS, MOST_PICKS, MOST_ON_ONE = 40, 40_000, 5_000
#: Numbers of embedded micrographs with the largest, and with the smallest share rejected.
WORST, BEST = 8, 4
#: The least side of a window, as a fraction of the side of the field.
_LEAST_SHARE = 1e-4
#: Picks may be outside the micrograph by this fraction of its size.
_OUTSIDE = 0.02
#: The value for no winner on the page, and the bit of a kept pick.
_NONE, _KEPT = 0xFFFF, 0x8000
#: Maximum number of characters in a name.
_NAME = 500
#: Positions are stored as whole numbers of steps. Each axis has this many steps.
_STEPS = 65_535


class View(NamedTuple):
    """A rectangle that is drawn: least x and y, width and height, in the unit of the centres."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class EmbeddedMicrograph:
    """A micrograph in the page.

    Attributes
    ----------
    row : int
        Row number in ``contents.choice``.
    name, short : str
    picks : (n,) intp
        The embedded picks, as row numbers in the sample.
    number, rejected : int
        Number of all picks of the micrograph, and of its rejected picks.
    field : View
    is_micrograph : bool
        Whether the field is the micrograph, and not only the area with picks.
    image : MicrographImage or None
    """

    row: int
    name: str
    short: str
    picks: Indices
    number: int
    rejected: int
    field: View
    is_micrograph: bool
    image: MicrographImage | None

    @property
    def is_window(self) -> bool:
        """Whether only the picks in a window are embedded."""
        return self.picks.size < self.number


@dataclass(frozen=True, slots=True)
class Viewer:
    """The micrographs in the page, and the number of the first one to show.

    Attributes
    ----------
    micrographs : list of EmbeddedMicrograph
    first : int
    images : Images
    is_typical : bool
        Whether the micrograph shown first has the median share rejected.
    left_out : tuple of str
        Short names of the micrographs that the user asked for, but that do not fit on the page.
    """

    micrographs: list[EmbeddedMicrograph]
    first: int
    images: Images
    is_typical: bool = False
    left_out: tuple[str, ...] = ()


def make_viewer(subject: Subject, named: Collection[int] = ()) -> Viewer:
    """Choose the micrographs to embed. `named` are keys that the user asked for."""
    contents = subject.contents
    start = Path(subject.manifest["directory"])
    tables = [start / entry["path"] for entry in subject.manifest["inputs"]]
    images = Images(list(dict.fromkeys([start, *(table.parent for table in tables)])))
    if subject.run.no_distances_because or not len(contents.sample):
        return Viewer([], 0, images)
    at = np.searchsorted(contents.micrographs, contents.choice.keys)
    number = (contents.kept + contents.rejected)[at]
    rejected = contents.rejected[at]
    chosen, typical = choose(contents.choice.keys, number, rejected, named)
    micrographs = [_embed(subject, row, number, rejected, images) for row in chosen]
    asked = [row for row, key in enumerate(contents.choice.keys.tolist()) if key in {*named}]
    first = typical if typical in chosen else next(row for row in chosen if row in asked)
    left_out = sorted(subject.short_names[row] for row in asked if row not in chosen)
    return Viewer(micrographs, chosen.index(first), images, first == typical, tuple(left_out))


def choose(
    keys: NDArray[np.uint64],
    number: NDArray[np.int64],
    rejected: NDArray[np.int64],
    named: Collection[int] = (),
) -> tuple[list[int], int]:
    """Choose the micrographs with the largest and the smallest share rejected, and others at random.

    Returns
    -------
    chosen : list of int
        Row numbers, from the largest share rejected to the smallest.
    typical : int
        The micrograph with the median share. It is not chosen if the micrographs of `named` fill the page.
    """
    share = rejected / np.maximum(number, 1)
    order = np.lexsort((keys, -number, -share)).tolist()
    typical = order[len(order) // 2]
    asked = [row for row in order if int(keys[row]) in named]
    others = np.argsort(splitmix64(keys)).tolist()
    wanted = [*asked, typical, *order[:WORST], *order[::-1][:BEST], *others]
    chosen: dict[int, None] = {}
    picks = 0
    for row in wanted:
        size = min(int(number[row]), MOST_ON_ONE)
        if row in chosen or len(chosen) == MOST_MICROGRAPHS or picks + size > MOST_PICKS:
            continue
        chosen[row] = None
        picks += size
    return [row for row in order if row in chosen], typical


def _embed(
    subject: Subject,
    row: int,
    number: NDArray[np.int64],
    rejected: NDArray[np.int64],
    images: Images,
) -> EmbeddedMicrograph:
    contents = subject.contents
    picks = np.flatnonzero(subject.micrograph == row)
    points = subject.positions[picks]
    field, is_micrograph = find_field(points, *_size(subject, row))
    stored = contents.names.get(int(contents.choice.keys[row]))
    image = images.read(stored.name or stored.path) if stored else None
    if image is not None:
        field, is_micrograph, image = _fit(subject, row, image, field, is_micrograph, images)
    if picks.size > MOST_ON_ONE:
        inside, field = busiest_window(points, ~contents.sample.kept[picks], field)
        picks, image = picks[inside], None
    return EmbeddedMicrograph(
        row=row,
        name=printable(contents.name_of(int(contents.choice.keys[row])), _NAME),
        short=subject.short_names[row],
        picks=picks,
        number=int(number[row]),
        rejected=int(rejected[row]),
        field=field,
        is_micrograph=is_micrograph,
        image=image,
    )


def _size(subject: Subject, row: int) -> tuple[float, float]:
    sampled = subject.contents.sampled
    at = np.searchsorted(sampled.key, subject.contents.choice.keys[row])
    return float(sampled.width[at]), float(sampled.height[at])


def _fit(
    subject: Subject,
    row: int,
    image: MicrographImage,
    field: View,
    is_micrograph: bool,
    images: Images,
) -> tuple[View, bool, MicrographImage | None]:
    """Return the field of the image if the size of the micrograph is not known; else compare both sizes."""
    sampled = subject.contents.sampled
    at = np.searchsorted(sampled.key, subject.contents.choice.keys[row])
    pixel = float(sampled.psize[at]) if subject.unit == "Å" else 1.0
    height, width = image.shape[0] * pixel, image.shape[1] * pixel
    if not is_micrograph:
        inside = field.left >= -_OUTSIDE * width and field.top >= -_OUTSIDE * height
        inside &= field.left + field.width <= (1 + _OUTSIDE) * width
        inside &= field.top + field.height <= (1 + _OUTSIDE) * height
        if np.isfinite(pixel) and subject.unit and inside:
            return View(0.0, 0.0, width, height), True, image
        images.problems.append("An image was left out, because some picks are outside it.")
        return field, is_micrograph, None
    ratio = field.width / field.height * image.shape[0] / image.shape[1]
    if not 0.98 < ratio < 1.02 or (np.isfinite(pixel) and not 0.98 < field.width / width < 1.02):
        known = f"{field.width / pixel:.0f} x {field.height / pixel:.0f}"
        images.problems.append(
            f"An image has {image.shape[1]} x {image.shape[0]} pixels, but the micrograph has {known}. "
            "It is not shown."
        )
        return field, is_micrograph, None
    return field, is_micrograph, image


def find_field(points: Floats, width: float, height: float) -> tuple[View, bool]:
    """Return the field to draw, and whether it is the micrograph.

    The micrograph begins at 0, or has 0 in its middle (centred coordinates). If its size is not known, or picks are
    outside it, the field is the area with picks.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.array([width, height])
    if np.isfinite(size).all():
        for corner in (np.zeros(2), -size / 2):
            slack = _OUTSIDE * size
            if (low >= corner - slack).all() and (high <= corner + size + slack).all():
                left, top = corner.tolist()
                return View(left, top, width, height), True
    corner = np.minimum(low, 0.0) if (high - low > 0.3 * high).all() else low
    size = np.maximum(high - corner, 1e-9)
    margin = 0.02 * size.max()
    left, top = (corner - np.where(corner < 0, margin, 0)).tolist()
    right, bottom = (high + margin).tolist()
    return View(left, top, right - left, bottom - top), False


def busiest_window(
    points: Floats, rejected: NDArray[np.bool_], field: View
) -> tuple[NDArray[np.bool_], View]:
    """Return a mask of the picks in the window with the most rejected picks, and the window.

    The mask has at most `MOST_ON_ONE` picks. If the smallest window has more, the mask has the first of these.
    """
    corner, size = np.array(field[:2]), np.array(field[2:])
    share = np.sqrt(MOST_ON_ONE / len(points)) * 0.9
    while True:
        half = size * share / 2
        # Complex numbers are sorted by x, then y, and faster than rows.
        cells = np.floor((points - corner) / half) @ (1, 1j)
        distinct, counts = np.unique(
            cells[rejected] if rejected.any() else cells, return_counts=True
        )
        cell = distinct[np.argmax(counts)]
        middle = corner + (np.array([cell.real, cell.imag]) + 0.5) * half
        low = np.clip(middle - half, corner, corner + size - 2 * half)
        inside = ((points >= low) & (points <= low + 2 * half)).all(axis=1)
        if share < _LEAST_SHARE:  # many picks at one position
            inside[np.flatnonzero(inside)[MOST_ON_ONE:]] = False
        if np.count_nonzero(inside) <= MOST_ON_ONE:
            return inside, View(*low.tolist(), *(2 * half).tolist())
        share *= 0.8


def pack(subject: Subject, shown: EmbeddedMicrograph) -> dict[str, Any]:
    """Return a micrograph for the script: numbers, and its picks as arrays in base64, the widest type first."""
    sample, picks = subject.contents.sample, shown.picks
    few = sample.take(picks)
    index_of = np.full(len(sample), _NONE, dtype=np.int64)
    index_of[picks] = np.arange(picks.size)
    winner = subject.winner[picks]
    x, y = subject.positions[picks].T
    left, top, width, height = shown.field
    bits, before = few.kept.astype(np.uint32), (few.kept | few.outvoted).astype(np.uint32)
    if subject.analysis is not None:
        bits = subject.analysis.bits[picks]
        before = (
            bits if subject.analysis.before_votes is None else subject.analysis.before_votes[picks]
        )
    arrays = [
        few.uid.astype("<u8") if subject.has_uids else few.row.astype("<u4"),
        few.score.astype("<f4"),
        few.distance.astype("<f4"),
        bits.astype("<u4"),
        *([before.astype("<u4")] if subject.params.votes_decide else []),
        _scaled(x, left, width),
        _scaled(y, top, height),
        np.where(winner >= 0, index_of[winner], _NONE).astype("<u2"),
        (subject.picker[picks] | np.where(few.kept, _KEPT, 0)).astype("<u2"),
        *([few.votes.astype("<u2")] if subject.votes else []),
    ]
    found: dict[str, Any] = {
        "n": shown.name,
        "s": shown.short,
        "w": _round(width),
        "h": _round(height),
        "c": shown.number,
        "r": shown.rejected,
        "p": int(picks.size),
    }
    if not subject.contents.choice.whole[shown.row]:
        found["f"] = 1
    if subject.is_tomogram:
        low, high = float(few.z.min(initial=0)), float(few.z.max(initial=1))
        found |= {"z": [_round(low), _round(high)]}
        arrays.append(_scaled(few.z, low, high - low))
    if subject.params.ignore_within_filament:
        _, number = np.unique(few.label, return_inverse=True)
        arrays.append(np.where(few.label >= 0, number.clip(max=_NONE - 1), _NONE).astype("<u2"))
    data = b"".join(array.tobytes() for array in arrays)
    found["d"] = base64.b64encode(data).decode()
    if shown.image:
        found["i"] = shown.image.uri
    return found


def _scaled(values: Floats, low: float, size: float) -> NDArray[np.uint16]:
    steps = np.rint((values - low) / (size or 1.0) * _STEPS)
    return np.asarray(np.clip(steps, 0, _STEPS), dtype="<u2")


def _round(value: float) -> float:
    return float(f"{value:.7g}")

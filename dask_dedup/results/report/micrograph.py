"""Draw an example micrograph to scale: kept particles on the left, rejected ones on the right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.patches import Rectangle

from dask_dedup.formatting import printable
from dask_dedup.results.report.example import NO_WINNER
from dask_dedup.results.report.picture import (
    FAINT,
    FIELD,
    INK,
    KEPT,
    REJECTED,
    Picture,
    make_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from dask_dedup.results.report.example import Example

    Floats = NDArray[np.float64]
    Window = tuple[float, float, float, float]

#: In inches.
WIDTH = 10.0
#: More circles than this are pixels in the SVG file, to limit its size.
MAX_VECTORS = 1_000
#: Length of the scale bar as a fraction of the field's width.
_BAR = 0.2
#: If circles are smaller than this part of the field's width, a window `_WINDOW_CIRCLES` circles wide
#: is shown larger.
_SEEN, _WINDOW_CIRCLES, _WINDOW_ASPECT = 0.03, 25.0, 0.55


def make_picture(key: str, example: Example, separation: float) -> Picture:
    """Draw and describe a micrograph. For `separation`, see `draw_micrograph`."""
    title = (
        f"Micrograph {printable(example.name, 80)} ({example.why}): {len(example.kept):,} particles kept, "
        f"{len(example.rejected):,} rejected."
    )
    return Picture(key, title, draw_micrograph(example, separation), _describe(example, separation))


def draw_micrograph(example: Example, separation: float) -> Figure:
    """Draw the kept and the rejected particles of a micrograph side by side.

    Particles are circles of diameter `separation`, in angstrom: duplicates touch or overlap. If
    `separation` is 0 or the unit is not angstrom, particles are dots.
    """
    width, height = example.field
    diameter = separation if example.unit == "A" else 0.0
    # Very wide or very high fields are clipped to a readable shape.
    aspects = [float(np.clip(height / width, 0.3, 1.6))]
    window = _crowded_window(example, diameter)
    if window:
        aspects.append(_WINDOW_ASPECT)
    drawn = make_figure(WIDTH, WIDTH / 2 * sum(aspects) + 0.75)
    rows = drawn.subplots(len(aspects), 2, squeeze=False, height_ratios=aspects)
    for (left, right), view in zip(rows, (None, window), strict=False):
        _draw_pair(left, right, example, diameter, view)
    won = np.unique(example.winner[example.winner != NO_WINNER]).size
    (left, right), joined = rows[0], ", joined to their winners" if won else ""
    winners = f" ({won:,} winners, bold)" if won else ""
    left.set_title(f"kept: {len(example.kept):,}{winners}", color=KEPT)
    right.set_title(f"rejected: {len(example.rejected):,}{joined}", color=REJECTED)
    if window:
        x, y, x_span, y_span = window
        for axes in (left, right):
            axes.add_patch(Rectangle((x, y), x_span, y_span, fill=False, ec=INK, lw=1, zorder=4))
    drawn.suptitle(f"{printable(example.name, 80)} ({example.why})", x=0.01, ha="left", fontsize=10)
    return drawn


def _crowded_window(example: Example, diameter: float) -> Window | None:
    """Choose a window to enlarge, with many rejected particles. Return None if no enlargement is needed."""
    width, height = example.field
    if not diameter or not len(example.rejected) or diameter > width * _SEEN:
        return None
    x_span = min(width, diameter * _WINDOW_CIRCLES)
    y_span = min(height, x_span * _WINDOW_ASPECT)
    cells = np.floor(example.rejected / (x_span / 2, y_span / 2)).astype(np.int64)
    distinct, number = np.unique(cells, axis=0, return_counts=True)
    x, y = (distinct[np.argmax(number)] + 0.5) * (x_span / 2, y_span / 2) - (x_span / 2, y_span / 2)
    x, y = np.clip(x, 0, width - x_span), np.clip(y, 0, height - y_span)
    return float(x), float(y), x_span, y_span


def _draw_pair(
    left: Axes, right: Axes, example: Example, diameter: float, window: Window | None
) -> None:
    """Draw kept particles on the axes `left`, and rejected particles on `right`. `window` limits the view."""
    won = np.unique(example.winner[example.winner != NO_WINNER])
    others = np.setdiff1d(np.arange(len(example.kept)), won)
    for axes in (left, right):
        _draw_field(axes, example, window or (0.0, 0.0, *example.field))
    _draw_picks(left, example.kept[others], diameter, KEPT, width=0.8)
    _draw_picks(left, example.kept[won], diameter, KEPT, width=2.0)
    _draw_picks(right, example.kept[won], diameter, KEPT, width=0.6, style="--")
    _draw_lines(right, example)
    _draw_picks(right, example.rejected, diameter, REJECTED, width=1.2)


def _draw_field(axes: Axes, example: Example, window: Window) -> None:
    width, height = example.field
    x, y, x_span, y_span = window
    axes.set_xlim(x, x + x_span)
    # As in RELION, the first row of the image (y = 0) is at the top.
    axes.set_ylim(y + y_span, y)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(FIELD)
    for spine in axes.spines.values():
        spine.set_visible(True)
    image = example.image
    if image is not None:
        grey: dict[str, Any] = {"cmap": "gray", "vmin": image.low, "vmax": image.high}
        extent = (0, width, height, 0)
        axes.imshow(image.pixels, extent=extent, origin="upper", alpha=0.8, **grey)
    _draw_bar(axes, example.unit, window)


def _draw_bar(axes: Axes, stored: str, window: Window) -> None:
    """Draw a scale bar with a round length in nanometres or pixels."""
    left, top, width, height = window
    if stored == "fraction":
        return
    per_unit, unit = (0.1, "nm") if stored == "A" else (1.0, stored)
    target = width * per_unit * _BAR
    power = 10.0 ** np.floor(np.log10(target))
    length = max(step for step in (1, 2, 5, 10) if step * power <= target * 1.0001) * power
    x, y = left + width * 0.03, top + height * 0.955
    ends = [x, x + length / per_unit]
    for colour, thickness in (("white", 6), ("black", 3)):
        axes.plot(ends, [y, y], color=colour, lw=thickness, solid_capstyle="butt", zorder=5)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0}
    label: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8, "bbox": box}
    axes.text(sum(ends) / 2, y - height * 0.012, f"{length:g} {unit}", zorder=5, **label)


def _draw_picks(
    axes: Axes, points: Floats, diameter: float, colour: str, width: float, style: str = "-"
) -> None:
    if not len(points):
        return
    many = len(points) > MAX_VECTORS
    if not diameter:
        size = 10.0 if style == "-" else 4.0
        x, y = points.T
        axes.scatter(x, y, s=size * width, color=colour, lw=0, rasterized=many, zorder=3)
        return
    circles = EllipseCollection(
        [diameter],
        [diameter],
        [0.0],
        units="xy",
        offsets=points,
        offset_transform=axes.transData,
        facecolors="none",
        edgecolors=colour,
        linewidths=width,
        linestyles=style,
        rasterized=many,
        zorder=3,
    )
    axes.add_collection(circles)


def _draw_lines(axes: Axes, example: Example) -> None:
    """Draw a line from each rejected particle to its winner."""
    rows = np.flatnonzero(example.winner != NO_WINNER)
    ends = np.stack([example.rejected[rows], example.kept[example.winner[rows]]], axis=1)
    many = rows.size > MAX_VECTORS
    colour = FAINT if example.image is None else REJECTED
    axes.add_collection(LineCollection(list(ends), colors=colour, linewidths=0.8, rasterized=many))


def _describe(example: Example, separation: float) -> str:
    parts = []
    if example.unit == "A" and separation:
        parts.append(
            f"The diameter of a circle is the separation, {separation:g} Å: particles whose circles "
            "touch or overlap are duplicates."
        )
        if _crowded_window(example, separation):
            parts.append("Below: the framed window.")
    else:
        parts.append("Dots are the stored particle centres.")
    if example.is_projection:
        parts.append("The view is along z, so circles of particles far apart in z may overlap.")
    parts.append("The y axis points down, as in RELION.")
    if not example.field_known:
        parts.append(
            "The shape of the micrograph is not known; the field is the extent of the picks."
        )
    note = example.image_note
    parts.append(f"{note[0].upper()}{note[1:]}.")
    return " ".join(parts)

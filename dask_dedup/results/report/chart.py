"""Charts as SVG text.

An SVG has no viewBox: grid lines, ticks and texts have coordinates in per cent, so text keeps its size at any width.
Only the data are in a nested SVG that is stretched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from dask_dedup.results.report.ticks import make_ticks, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

#: The largest value is drawn at this fraction of the height.
_HEADROOM = 0.94
#: The coordinates of the data are from 0 to this value.
_SIDE = 1000.0
_NOTHING = Markup()


@dataclass(frozen=True, slots=True)
class Axis:
    """The range of an axis and its labelled values. If `per_cent` is True, labels show fractions in per cent."""

    low: float
    high: float
    ticks: tuple[float, ...]
    per_cent: bool = False

    @classmethod
    def over(cls, low: float, high: float, most: int = 5) -> Axis:
        """Make an axis with round ticks."""
        return cls(low, high, tuple(make_ticks(low, high, most)))

    @classmethod
    def counts(cls, greatest: float, most: int = 4) -> Axis:
        """Make an axis from 0 for counts up to `greatest`; labels are whole numbers."""
        high = max(1.0, greatest) / _HEADROOM
        ticks = make_ticks(0.0, max(high, 2.0), most)
        whole = tuple(tick for tick in ticks if tick == round(tick) and tick <= high)
        return cls(0.0, high, whole)

    def position(self, value: float) -> str:
        """Return the position of a value from the left, in per cent."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def height(self, value: float) -> str:
        """Return the position of a value from the top, in per cent."""
        return f"{100 - 100 * (value - self.low) / (self.high - self.low):.2f}%"

    def label(self, value: float) -> str:
        """Return the label of a tick."""
        return f"{100 * value:.12g}%" if self.per_cent else show(value)


def draw_chart(
    x: Axis,
    y: Axis,
    height: int,
    label: str,
    *,
    name: str = "",
    data: Markup = _NOTHING,
    marks: Markup = _NOTHING,
    below: Markup = _NOTHING,
) -> Markup:
    """Return a chart as SVG.

    Parameters
    ----------
    x, y : Axis
    height : int
        Pixels.
    label : str
        A sentence for readers who do not see the chart.
    name : str
        The id of the element.
    data : Markup
        Shapes in the coordinates of `steps` and `curve`.
    marks, below : Markup
        Shapes in per cent, above and below the data.
    """
    parts = [below]
    for tick in y.ticks:
        at = y.height(tick)
        parts.append(
            Markup(
                '<line class="grid" x2="100%" y1="{0}" y2="{0}"/>'
                '<text class="yt" x="-8" y="{0}" dy=".35em">{1}</text>'
            ).format(at, y.label(tick))
        )
    parts.append(Markup('<line class="base" x2="100%" y1="100%" y2="100%"/>'))
    for number, tick in enumerate(x.ticks):
        parts.append(
            Markup('<text class="xt{}" x="{}" y="100%" dy="1.45em">{}</text>').format(
                " t2" if number % 2 else "", x.position(tick), x.label(tick)
            )
        )
    if data:
        parts.append(
            Markup(
                '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%" height="100%">{}</svg>'
            ).format(data)
        )
    parts.append(marks)
    return Markup('<svg class="plot" height="{}" role="img" aria-label="{}"{}>{}</svg>').format(
        height,
        label,
        Markup(' id="{}"').format(name) if name else "",
        Markup().join(parts),
    )


def steps(counts: ArrayLike, y: Axis) -> str:
    """Return the path of a histogram of equal bins that fills the width."""
    heights = _SIDE - _SIDE * np.asarray(counts, dtype=np.float64) / y.high
    rights = _SIDE * np.arange(1, heights.size + 1) / max(1, heights.size)
    body = "".join(
        f"V{_short(top)}H{_short(right)}"
        for top, right in zip(heights.clip(min=0).tolist(), rights.tolist(), strict=True)
    )
    return f"M0 1000{body}V1000"


def curve(xs: Sequence[float], ys: Sequence[float], x: Axis, y: Axis) -> str:
    """Return the path of a line through points."""
    points = (
        f"{_short(_SIDE * (px - x.low) / (x.high - x.low))} {_short(_SIDE - _SIDE * py / y.high)}"
        for px, py in zip(xs, ys, strict=True)
    )
    return "M" + "L".join(points)


def path(kind: str, d: str, name: str = "") -> Markup:
    """Return a path element of the class `kind`."""
    named = Markup(' id="{}"').format(name) if name else ""
    return Markup('<path class="{}"{} d="{}"/>').format(kind, named, d)


def dots(x: Axis, y: Axis, points: Sequence[tuple[float, float]], titles: Sequence[str]) -> Markup:
    """Return a dot for each point, with its title."""
    # `Markup.format` would take six times as long.
    return Markup(
        "".join(
            f'<circle class="dot" r="4" cx="{x.position(px)}" cy="{y.height(py)}">'
            f"<title>{escape(title)}</title></circle>"
            for (px, py), title in zip(points, titles, strict=True)
        )
    )


def vertical(x: Axis, value: float, kind: str, text: str = "") -> Markup:
    """Return a vertical line at a value of the x axis, with a text to its right."""
    line = Markup('<line class="{0}" x1="{1}" x2="{1}" y1="-6" y2="100%"/>').format(
        kind, x.position(value)
    )
    if not text:
        return line
    return line + Markup('<text class="lab" x="{}" dx="5" y="5">{}</text>').format(
        x.position(value), text
    )


def band(x: Axis, left: float, right: float, text: str) -> tuple[Markup, Markup]:
    """Return a shaded range of the x axis, and its label."""
    right = min(right, x.high)
    share = 100 * (right - left) / (x.high - x.low)
    shade = Markup('<rect class="band" x="{}" width="{:.2f}%" height="100%"/>').format(
        x.position(left), share
    )
    label = Markup('<text x="{}" y="58%" dx="-7" text-anchor="end">{}</text>').format(
        x.position(right), text
    )
    return shade, label


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")

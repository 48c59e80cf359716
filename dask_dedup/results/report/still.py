"""A micrograph as SVG, for paper and for browsers without JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from dask_dedup.results.report.ticks import round_step
from dask_dedup.results.report.viewer import View

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from dask_dedup.results.report.subject import Subject
    from dask_dedup.results.report.viewer import EmbeddedMicrograph

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

#: Width of the picture, and least radius of circles.
_WIDTH, LEAST_RADIUS = 1000.0, 3.5
#: An enlarged window is this many separations wide, or has about this many picks.
_WINDOW_SEPARATIONS, _WINDOW_PICKS = 16.0, 25.0
#: Lines to winners are drawn if circles have at least this radius.
_LINES_FROM = 8.0
#: Arm of a cross as a fraction of the radius of a circle.
_ARM = 0.35
#: Length of the scale bar as a fraction of the width.
_BAR = 0.09


def _scale(view: View) -> float:
    """Return the scale of the picture: its units per unit of the centres."""
    return _WIDTH / view.width


def _in_picture(points: ArrayLike, view: View) -> Floats:
    """Return the positions of points in the picture of a view."""
    return np.asarray((points - np.array([view.left, view.top])) * _scale(view))


def draw_still(subject: Subject, shown: EmbeddedMicrograph) -> list[Markup]:
    """Draw a whole micrograph. If picks are small on it, also draw an enlarged part with many rejected picks."""
    sample = subject.contents.sample
    points = subject.positions[shown.picks]
    whole = shown.field
    counts = f"{shown.number - shown.rejected:,} kept, {shown.rejected:,} rejected"
    label = f"{subject.image_kind.capitalize()} {shown.name}: {counts}."
    window = busiest_part(points, ~sample.kept[shown.picks], whole, subject.separation)
    pictures = [_draw(subject, shown, points, whole, label, window)]
    if window is not None:
        enlarged = f"The framed part of the {subject.image_kind}, enlarged."
        pictures.append(_draw(subject, shown, points, window, enlarged))
    return pictures


def busiest_part(points: Floats, rejected: Bools, whole: View, separation: float) -> View | None:
    """Return the part with the most rejected picks, or None if picks are large enough in the whole picture."""
    span = max(
        separation * _WINDOW_SEPARATIONS,
        float(np.sqrt(whole.width * whole.height * _WINDOW_PICKS / len(points))),
    )
    if span > 0.6 * min(whole.width, whole.height):
        return None
    corner = np.array([whole.left, whole.top])
    cells = np.floor((points - corner) / (span / 2)).astype(np.int64)
    distinct, counts = np.unique(
        cells[rejected] if rejected.any() else cells, axis=0, return_counts=True
    )
    low = corner + distinct[np.argmax(counts)] * span / 2 - span / 4
    farthest = corner + np.array([whole.width - span, whole.height - span])
    left, top = np.clip(low, corner, farthest).tolist()
    return View(left, top, span, span)


def _draw(
    subject: Subject,
    shown: EmbeddedMicrograph,
    points: Floats,
    view: View,
    label: str,
    frame: View | None = None,
) -> Markup:
    sample, picks = subject.contents.sample, shown.picks
    scale = _scale(view)
    height = min(2 * _WIDTH, view.height * scale)
    positions = _in_picture(points, view)
    radius = max(subject.separation / 2 * scale, LEAST_RADIUS)
    inside: Bools = np.asarray(
        ((positions > -radius) & (positions < (_WIDTH + radius, height + radius))).all(axis=1)
    )
    parts = [_image(shown, view)]
    kept, outvoted = sample.kept[picks], sample.outvoted[picks]
    outcomes = {"r": ~kept & ~outvoted, "v": outvoted, "k": kept}
    for kind, rows in outcomes.items():
        for picker in subject.pickers:
            some = inside & rows & (subject.picker[picks] == picker.number)
            if some.any():
                shapes = (_crosses if kind == "v" else _circles)(positions[some], radius)
                parts.append(
                    Markup('<path class="{} {}" d="{}"/>').format(picker.colour, kind, shapes)
                )
    if radius >= _LINES_FROM or not subject.separation:
        parts.append(_lines(subject, shown, positions, inside))
    if frame is not None:
        (x, y), side = _in_picture([frame.left, frame.top], view), frame.width * scale
        parts.append(
            Markup(
                '<rect class="win" x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}"/>'
            ).format(x, y, side, side)
        )
    parts.append(_scale_bar(subject.unit, view, height))
    return Markup('<svg viewBox="0 0 1000 {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        height, label, Markup().join(parts)
    )


def _image(shown: EmbeddedMicrograph, view: View) -> Markup:
    if shown.image is None:
        return Markup()
    left, top, width, height = shown.field
    (x, y), scale = _in_picture([left, top], view), _scale(view)
    return Markup(
        '<image href="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" '
        'preserveAspectRatio="none" opacity=".75"/>'
    ).format(shown.image.uri, x, y, width * scale, height * scale)


def _circles(positions: Floats, radius: float) -> str:
    r, d = f"{radius:.1f}", f"{2 * radius:.1f}"
    arcs = f"a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0-{d} 0"
    return "".join(f"M{x - radius:.1f} {y:.1f}{arcs}" for x, y in positions.tolist())


def _crosses(positions: Floats, radius: float) -> str:
    arm = max(radius * _ARM, LEAST_RADIUS)
    stroke = f"l{2 * arm:.1f} {2 * arm:.1f}m0-{2 * arm:.1f}l-{2 * arm:.1f} {2 * arm:.1f}"
    return "".join(f"M{x - arm:.1f} {y - arm:.1f}{stroke}" for x, y in positions.tolist())


def _lines(subject: Subject, shown: EmbeddedMicrograph, positions: Floats, inside: Bools) -> Markup:
    index_of = np.full(len(subject.contents.sample), -1, dtype=np.intp)
    index_of[shown.picks] = np.arange(shown.picks.size)
    winner = subject.winner[shown.picks]
    won = np.where(winner >= 0, index_of[winner], -1)
    rows = np.flatnonzero(inside & (won >= 0))
    if not rows.size:
        return Markup()
    ends = np.hstack([positions[rows], positions[won[rows]]]).tolist()
    d = "".join(f"M{a:.1f} {b:.1f}L{c:.1f} {e:.1f}" for a, b, c, e in ends)
    return Markup('<path class="tie" d="{}"/>').format(d)


def _scale_bar(unit: str, view: View, height: float) -> Markup:
    if not unit:
        return Markup()
    length, text = scale_bar(unit, view)
    return Markup(
        '<path class="sbar" d="M30 {:.0f}h{:.0f}"/><text x="30" y="{:.0f}">{}</text>'
    ).format(height - 30, length * _scale(view), height - 48, text)


def scale_bar(unit: str, view: View) -> tuple[float, str]:
    """Return the length of a scale bar in the unit of the centres, Å or px, and its text."""
    length = round_step(view.width * _BAR, steps=(1.0, 2.0, 5.0, 10.0))
    if unit == "px":
        return length, f"{length:g} px"
    return length, f"{length / 10:g} nm" if length >= 10 else f"{length:g} Å"

"""A micrograph with its kept and rejected picks as PNG files, for programs that show no SVG."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from dask_dedup.errors import DedupError, RunError
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.report.still import LEAST_RADIUS, busiest_part, scale_bar
from dask_dedup.results.report.subject import Subject
from dask_dedup.results.report.viewer import make_viewer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.pipeline.result import RunResult
    from dask_dedup.results.report.viewer import EmbeddedMicrograph, View

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

#: Colours of the page in light mode: for pickers (the last one for all others), text and backgrounds.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a828b")
_INK, _SOFT, _BACKGROUND, _PAPER = "#1b1e22", "#535a63", "#f3f4f5", "#ffffff"
#: Opacity of kept picks (0 to 255).
_FILL = 140
#: Pixels: side of a view and of the tile, margins, and text.
_SIDE, _TILE, _MARGIN, _TEXT = 800, 480, 16, 20
#: Maximum number of characters in the name of a picker.
_NAME = 24
#: Views are drawn larger by this factor and then reduced, so that edges are smooth.
_FINER = 2


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of an example.

    Attributes
    ----------
    whole : Path
        PNG file of the micrograph with a legend. If picks are small on it, an enlarged part is next to it.
    tile : Path
        PNG file of the enlarged part alone, or else of the micrograph.
    caption : str
    """

    whole: Path
    tile: Path
    caption: str


def save_pictures(result: RunResult, folder: Path) -> Pictures | None:
    """Save the pictures of the micrograph that the report shows first. Return None if it shows no micrograph.

    Raises
    ------
    RunError
        If the pictures cannot be drawn.
    """
    try:
        return _save(result, folder)
    except DedupError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise RunError(f"the picture cannot be drawn ({type(error).__name__}: {reason})") from error


def _save(result: RunResult, folder: Path) -> Pictures | None:
    run = open_finished_run(result.output)
    contents = result.report_contents
    if contents is None:
        from dask_dedup.results.report.datasets import read_contents

        contents = read_contents(run, ())
    subject = Subject(run, contents)
    viewer = make_viewer(subject)
    if not viewer.micrographs:
        return None
    shown = viewer.micrographs[viewer.first]
    whole = shown.field
    part = busiest_part(
        subject.positions[shown.picks],
        ~contents.sample.kept[shown.picks],
        whole,
        subject.separation,
    )
    pictures = Pictures(
        folder / "example.png",
        folder / "tile.png",
        f"{shown.short}: {shown.number - shown.rejected:,} {subject.noun}s kept, {shown.rejected:,} rejected",
    )
    views = [_draw(subject, shown, whole, _SIDE, part)]
    views += [_draw(subject, shown, part, views[0].height)] if part else []
    _with_legend(subject, views, pictures.caption).save(pictures.whole)
    _draw(subject, shown, part or whole, _TILE).save(pictures.tile)
    return pictures


def _draw(
    subject: Subject,
    shown: EmbeddedMicrograph,
    view: View,
    side: int,
    frame: View | None = None,
) -> Image.Image:
    """Draw the picks in a view, and `frame` as a rectangle. The longer side has `side` pixels."""
    scale = _FINER * side / max(view.width, view.height)
    size = round(view.width * scale), round(view.height * scale)
    picture = _background(shown, view, size)
    layer = Image.new("RGBA", size)
    pen = ImageDraw.Draw(layer)
    positions = (subject.positions[shown.picks] - (view.left, view.top)) * scale
    radius = max(subject.separation / 2 * scale, LEAST_RADIUS * size[0] / 1000)
    width = max(_FINER, round(radius / 8))
    kept, picker = subject.contents.sample.kept[shown.picks], subject.picker[shown.picks]
    inside = np.all((positions > -radius) & (positions < np.add(size, radius)), axis=1)
    for row in np.flatnonzero(inside & kept).tolist() + np.flatnonzero(inside & ~kept).tolist():
        colour = _COLOURS[min(int(picker[row]), len(_COLOURS) - 1)]
        corners = [*(positions[row] - radius).tolist(), *(positions[row] + radius).tolist()]
        fill = (*ImageColor.getrgb(colour), _FILL) if kept[row] else None
        pen.ellipse(corners, fill=fill, outline=colour, width=width)
    if frame is not None:
        left, top = ((frame.left - view.left) * scale, (frame.top - view.top) * scale)
        pen.rectangle(
            (left, top, left + frame.width * scale, top + frame.height * scale),
            outline=_INK,
            width=2 * _FINER,
        )
    _draw_scale_bar(pen, subject.unit, view, scale, size)
    picture.paste(layer, mask=layer)
    return picture.resize((size[0] // _FINER, size[1] // _FINER), Image.Resampling.LANCZOS)


def _background(shown: EmbeddedMicrograph, view: View, size: tuple[int, int]) -> Image.Image:
    """Return the background of a view: the image of the micrograph in paler colours, or one plain colour."""
    background = Image.new("RGB", size, _BACKGROUND)
    if shown.image is None:
        return background
    content = base64.b64decode(shown.image.uri.partition(",")[2])
    image = Image.open(io.BytesIO(content)).convert("RGB")
    left, top, width, height = shown.field
    across, down = image.width / width, image.height / height
    part = (
        *((view.left - left) * across, (view.top - top) * down),
        *((view.left - left + view.width) * across, (view.top - top + view.height) * down),
    )
    enlarged = image.resize(size, Image.Resampling.BICUBIC, box=part)
    return Image.blend(background, enlarged, 0.75)


def _draw_scale_bar(
    pen: ImageDraw.ImageDraw, unit: str, view: View, scale: float, size: tuple[int, int]
) -> None:
    if not unit:
        return
    length, text = scale_bar(unit, view)
    margin, bottom = _MARGIN * _FINER, size[1] - _MARGIN * _FINER
    font = ImageFont.load_default(_TEXT * _FINER)
    pen.line((margin, bottom, margin + length * scale, bottom), fill=_INK, width=4 * _FINER)
    pen.text(
        (margin, bottom - 6 * _FINER),
        text,
        font=font,
        anchor="ls",
        fill=_INK,
        stroke_width=2 * _FINER,
        stroke_fill=_PAPER,
    )


def _with_legend(subject: Subject, views: list[Image.Image], caption: str) -> Image.Image:
    """Put views side by side, a caption above and the colours of pickers below."""
    line = _TEXT + _MARGIN
    width = sum(view.width for view in views) + _MARGIN * (len(views) + 1)
    height = max(view.height for view in views) + 2 * _MARGIN + 3 * line
    picture = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(_TEXT)
    pen.text((_MARGIN, _MARGIN), caption, font=font, fill=_INK)
    left = _MARGIN
    for view in views:
        picture.paste(view, (left, _MARGIN + line))
        left += view.width + _MARGIN
    top, left = height - 2 * line, _MARGIN
    text = "filled: kept; empty: rejected"
    if subject.draws_circles:
        text += f"; each circle is {subject.separation / 10:g} nm wide, the separation"
    names = [picker.name[:_NAME] for picker in subject.pickers[: len(_COLOURS) - 1]]
    names += ["others"] if len(subject.pickers) > len(names) else []
    for colour, name in zip(_COLOURS, names, strict=False):
        pen.ellipse((left, top + 4, left + _TEXT - 4, top + _TEXT), fill=colour)
        pen.text((left + _TEXT + 4, top), name, font=font, fill=_INK)
        left += _TEXT + 4 + round(font.getlength(name)) + 2 * _MARGIN
    pen.text((_MARGIN, top + line), text, font=font, fill=_SOFT)
    return picture

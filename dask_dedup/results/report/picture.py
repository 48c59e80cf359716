"""Pictures of the report: colours, matplotlib settings, and image files."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Blue and vermillion of the palette of Okabe and Ito, which differ in greyscale and for
#: colour-blind readers.
KEPT, REJECTED = "#0072B2", "#D55E00"
INK, FAINT, FIELD = "#222222", "#9a9a9a", "#f4f4f2"
DOTS_PER_INCH = 200
#: Width of the pictures on the page in pixels, and the maximum number of characters of all of
#: them; further pictures are only in `plots/`.
PAGE_WIDTH, PAGE_BUDGET = 1_600, 3_500_000

#: Settings of matplotlib.
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    # Names come from the data and may have dollar signs.
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    # The same figure gives the same bytes.
    "svg.hashsalt": "dask-dedup",
    "svg.fonttype": "path",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the report, or the reason for its absence.

    Attributes
    ----------
    key : str
        Name of the files.
    title : str
        Description of the picture, also its alternative text.
    figure : matplotlib.figure.Figure or None
    note : str
        A note for the reader, or why there is no figure.
    """

    key: str
    title: str
    figure: Figure | None = None
    note: str = ""


def make_figure(width: float, height: float) -> Figure:
    """Return an empty figure. The size is in inches."""
    return Figure(figsize=(width, height), facecolor="white")


def draw_files(figure: Figure) -> dict[str, bytes]:
    """Draw a figure as PNG and SVG. Return {suffix: bytes of the file}."""
    png, svg = io.BytesIO(), io.BytesIO()
    # Computed once here; a figure with its own layout engine would do it for each file.
    ConstrainedLayoutEngine().execute(figure)
    figure.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    figure.savefig(svg, format="svg", dpi=DOTS_PER_INCH, metadata={"Date": None})
    return {".png": png.getvalue(), ".svg": svg.getvalue()}


def embed(pngs: Sequence[bytes]) -> list[str]:
    """Convert PNG files to JPEG data URIs. Leave a URI empty if the total would exceed `PAGE_BUDGET`."""
    uris, left = [], PAGE_BUDGET
    for png in pngs:
        jpeg = io.BytesIO()
        with Image.open(io.BytesIO(png)) as image:
            image.thumbnail((PAGE_WIDTH, 10 * PAGE_WIDTH))
            image.convert("RGB").save(jpeg, "jpeg", quality=85, optimize=True)
        uri = f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"
        uris.append(uri if len(uri) <= left else "")
        left -= len(uris[-1])
    return uris

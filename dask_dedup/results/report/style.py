"""Colours and settings of all figures; colours differ in greyscale and for colour-blind readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from contextlib import ContextDecorator

#: Blue and vermillion of the palette of Okabe and Ito.
KEPT, REJECTED = "#0072B2", "#D55E00"
INK, FAINT, FIELD = "#222222", "#9a9a9a", "#f4f4f2"

_SETTINGS: dict[Any, Any] = {
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


#: Decorator: draw or save with these settings, without changing the user's.
in_style: ContextDecorator = rc_context(_SETTINGS)


def figure(width: float, height: float) -> Figure:
    """Return an empty figure; the size is in inches."""
    return Figure(figsize=(width, height), facecolor="white")

"""The plots of the live page. As long as there is nothing to draw, a sentence is shown instead of a plot."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import (
    Column,
    ColumnDataSource,
    CustomJSTickFormatter,
    Div,
    LinearAxis,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.plotting import figure
from distributed.dashboard.utils import update

from dask_dedup.monitoring.dashboard.plugin import view_run
from dask_dedup.monitoring.progress import DOING, Progress

KEPT, REJECTED, NEUTRAL = "#0072B2", "#D55E00", "#999999"
FLEX = {"flex": "1 1 330px", "min-width": "300px", "max-width": "620px"}
#: Largest number of shuffle partitions with a bar.
BARS = 200
_BYTES = ["shuffled picks", "input files"]
#: Format of numbers, such as 20,000 and 2.5 M.
_NUMBER = """
const millions = Math.abs(tick) >= 1e6;
const shown = millions ? tick / 1e6 : tick;
return (+shown.toPrecision(3)).toLocaleString("en") + (millions ? " M" : "");
"""
#: Format of sizes, such as 20 kB and 2.5 GB.
_SIZE = """
const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.abs(tick) || 1) / 3)));
return +(tick / 1000 ** power).toPrecision(3) + " " + ["B", "kB", "MB", "GB", "TB"][power];
"""


class Panel:
    """A plot, or a sentence with the reason why there is no plot.

    Attributes
    ----------
    root : bokeh Column
    plot : bokeh figure
    source : ColumnDataSource
    """

    def __init__(self, title: str, columns: dict[str, list[Any]], **options: Any) -> None:
        self.title = title
        self.source = ColumnDataSource({name: [] for name in columns})
        self.plot = _plot(title, **options)
        self.note = Div(text="", visible=False, sizing_mode="stretch_width")
        self.root: Column = column(self.note, self.plot, sizing_mode="stretch_width", styles=FLEX)

    def show(self, columns: dict[str, list[Any]], reason: str) -> None:
        """Draw the columns. With a reason, show the reason instead of the plot."""
        self.note.text = f"<b style='font-size:13px'>{self.title}</b><br>{reason}"
        self.note.visible, self.plot.visible = bool(reason), not reason
        if not reason:
            update(self.source, columns)


def plot_data(view: dict[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """Map plot name to the plot's data: a dict of Bokeh columns."""
    stages = view["stages"]
    seconds, rows, kept, rejected = np.array(view["curve"], dtype=float).reshape(-1, 4).T
    # The last point may be the end of the run, with no work since the point before.
    worked = np.diff(rows) > 0
    speed = (np.diff(rows) / np.maximum(np.diff(seconds), 1e-3))[worked]
    edges = np.linspace(0, 1, len(view["by_fraction"]) + 1).tolist()
    partitions = view["partition_rows"][:BARS]
    return {
        "stages": {
            "doing": [each["doing"] for each in stages],
            "done": [
                each["rows"] / each["total_rows"] if each["total_rows"] else 0.0 for each in stages
            ],
            "text": [
                f"{each['rows']:,} of {each['total_rows']:,}"
                if each["total_rows"]
                else "nothing to do"
                for each in stages
            ],
        },
        "speed": {"seconds": seconds[1:][worked].tolist(), "speed": speed.tolist()},
        "outcome": {
            "seconds": seconds.tolist(),
            "kept": kept.tolist(),
            "rejected": rejected.tolist(),
        },
        "fractions": {"left": edges[:-1], "right": edges[1:], "number": view["by_fraction"]},
        "partitions": {"partition": list(range(1, len(partitions) + 1)), "rows": partitions},
        "bytes": {"kind": _BYTES, "bytes": [view["moved_bytes"], view["payload_bytes"]]},
    }


def find_reasons(view: dict[str, Any]) -> dict[str, str]:
    """Map the name of each plot or table without content to the reason."""
    ended = {
        "finished": "The run has finished without these numbers.",
        "failed": "The run failed before this step.",
        "lost": "The driver was lost before this step.",
    }.get(view["status"], "")
    empty = {}
    # A line needs two points.
    if len({point[1] for point in view["curve"]} - {0}) < 2:
        empty["speed"] = "Too few tasks have finished for a curve."
    if not view["slowest"]:
        empty["slowest"] = empty["speed"] = ended or "No task has finished yet."
    if not view["kept"] + view["rejected"]:
        empty["outcome"] = (
            ended or "Nothing is written yet: first, particles are counted and compared."
        )
    if not view["decided_micrographs"]:
        empty["fractions"] = empty["densest"] = ended or "No micrograph is decided yet."
    if not view["partition_rows"]:
        empty["partitions"] = (
            "Nothing has to be shuffled: each micrograph is in one fragment of the tables."
            if view["micrographs"]
            else ended or "Not known yet: first, all particles are counted."
        )
        empty["bytes"] = empty["partitions"]
    return empty


def make_panels() -> dict[str, Panel]:
    """Return the plots by name, in their order on the page."""
    data = plot_data(view_run(Progress()))

    def panel(name: str, title: str, x: str = "", y: str = "", **options: Any) -> Panel:
        return Panel(title, data[name], x=x, y=y, **options)

    stages = panel("stages", "Fraction done per stage", y_range=[*DOING.values()][::-1])
    for right, colour in ((1, "#eeeeee"), ("done", "#7fb8d9")):
        stages.plot.hbar("doing", right=right, height=0.7, color=colour, source=stages.source)
    stages.plot.text(
        *(0.02, "doing"),
        text="text",
        text_font_size="12px",
        text_baseline="middle",
        source=stages.source,
    )
    speed = panel("speed", "Particles per second, all stages", "seconds", "particles / s")
    speed.plot.line("seconds", "speed", color=NEUTRAL, line_width=2, source=speed.source)
    outcome = panel("outcome", "Particles written", "seconds", "particles")
    for name, colour, dash in (("kept", KEPT, "solid"), ("rejected", REJECTED, "dashed")):
        style = {"color": colour, "line_dash": dash, "line_width": 2, "legend_label": name}
        outcome.plot.line("seconds", name, source=outcome.source, **style)
    outcome.plot.legend.location = "top_left"
    outcome.plot.legend.background_fill_alpha = 0.5
    fractions = panel(
        *("fractions", "Micrographs by fraction rejected", "fraction rejected", "micrographs")
    )
    sides = {"left": "left", "right": "right", "top": "number", "bottom": 0}
    fractions.plot.quad(**sides, color=REJECTED, line_color="white", source=fractions.source)
    partitions = panel(
        *("partitions", "Picks per shuffle partition, largest first", "partition", "picks")
    )
    bars = {"x": "partition", "top": "rows", "width": 0.85}
    partitions.plot.vbar(**bars, color=NEUTRAL, source=partitions.source)
    volume = panel("bytes", "Bytes", y_range=_BYTES[::-1])
    volume.plot.hbar("kind", right="bytes", height=0.5, color=NEUTRAL, source=volume.source)
    volume.plot.xaxis.formatter = CustomJSTickFormatter(code=_SIZE)
    volume.plot.xaxis.ticker.desired_num_ticks = 3
    volume.plot.x_range.start = 0
    for each in (stages, fractions):
        each.plot.x_range = Range1d(0, 1)
        each.plot.xaxis.formatter = NumeralTickFormatter(format="0%")
    for each in (speed, outcome, fractions, partitions):
        each.plot.y_range.start = 0
    # The plots begin at the start of the run, although no tasks finish while the workers start.
    for each in (speed, outcome):
        each.plot.x_range.start = 0
    for axis in (fractions.plot.yaxis, partitions.plot.xaxis, partitions.plot.yaxis):
        axis.ticker.min_interval = 1
    return {
        "stages": stages,
        "speed": speed,
        "outcome": outcome,
        "fractions": fractions,
        "partitions": partitions,
        "bytes": volume,
    }


def _plot(title: str, x: str = "", y: str = "", **options: Any) -> Any:
    plot = figure(
        title=title,
        height=230,
        toolbar_location=None,
        tools="",
        sizing_mode="stretch_width",
        x_axis_label=x or None,
        y_axis_label=y or None,
        **options,
    )
    plot.outline_line_color = None
    plot.grid.grid_line_alpha = 0.4
    for axis in plot.select(LinearAxis):
        axis.formatter = CustomJSTickFormatter(code=_NUMBER)
    return plot

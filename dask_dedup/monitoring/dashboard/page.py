"""The live page: a Bokeh document that is redrawn every second."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, Div, LinearAxis, NumeralTickFormatter, Range1d
from bokeh.plotting import figure
from distributed.dashboard.components import DashboardComponent, add_periodic_callback
from distributed.dashboard.components.scheduler import env
from distributed.dashboard.utils import update

from dask_dedup.monitoring.dashboard.plugin import DedupPlugin, make_view, view_run
from dask_dedup.monitoring.progress import DOING, Progress

if TYPE_CHECKING:
    from bokeh.document import Document
    from distributed import Scheduler

KEPT, REJECTED, NEUTRAL = "#0072B2", "#D55E00", "#999999"
_BYTES = ["shuffled picks", "input files"]
#: Milliseconds between two updates.
INTERVAL = 1_000
#: Characters to show of a name from the data, from its end.
NAME_LENGTH = 60
#: Number of shuffle partitions with a bar.
BARS = 200
_FLEX = {"flex": "1 1 330px", "min-width": "300px", "max-width": "620px"}
_TABLE = "style='border-collapse:collapse;font-size:13px;width:100%'"
_CELL = "padding:2px 10px 2px 0;border-bottom:1px solid #ddd;"


class DedupPage(DashboardComponent):  # type: ignore[misc]
    """The live page of one visitor."""

    def __init__(self, plugin: DedupPlugin) -> None:
        self.plugin = plugin
        self.headline = Div(text="", sizing_mode="stretch_width")
        self.micrographs = Div(text="", styles=_FLEX)
        self.tasks = Div(text="", styles=_FLEX)
        self.sources = {
            name: ColumnDataSource({column: [] for column in columns})
            for name, columns in _plot_data(view_run(Progress())).items()
        }
        wrap = {"flex-wrap": "wrap", "gap": "14px"}
        self.root = column(
            self.headline,
            row(*_plots(self.sources), sizing_mode="stretch_width", styles=wrap),
            row(self.micrographs, self.tasks, sizing_mode="stretch_width", styles=wrap),
            sizing_mode="stretch_width",
            styles={"padding": "0 12px", "box-sizing": "border-box", "max-width": "100vw"},
        )

    def update(self) -> None:
        """Update the page with the current numbers."""
        view = make_view(self.plugin)
        self.headline.text = _headline(view)
        if "run" not in view:
            return
        for name, columns in _plot_data(view).items():
            update(self.sources[name], columns)
        self.micrographs.text = _table(
            "Densest micrographs",
            ("micrograph", "picks", "rejected"),
            [(_short(m["name"]), f"{m['picks']:,}", f"{m['rejected']:,}") for m in view["densest"]],
        )
        self.tasks.text = _table(
            "Slowest tasks",
            ("task", "particles", "seconds"),
            [
                (f"{task['doing']} {task['number']}", f"{task['rows']:,}", f"{task['seconds']:.2f}")
                for task in view["slowest"]
            ],
        )


def _plot_data(view: dict[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """Map plot name to the plot's data: a dict of Bokeh columns."""
    stages = view["stages"]
    seconds, rows, kept, rejected = np.array(view["curve"], dtype=float).reshape(-1, 4).T
    speed = np.diff(rows) / np.maximum(np.diff(seconds), 1e-3)
    edges = np.linspace(0, 1, len(view["by_fraction"]) + 1).tolist()
    partitions = view["partition_rows"][:BARS]
    return {
        "stages": {
            "doing": [s["doing"] for s in stages],
            "done": [s["rows"] / s["total_rows"] if s["total_rows"] else 1.0 for s in stages],
        },
        "speed": {"seconds": seconds[1:].tolist(), "speed": speed.tolist()},
        "outcome": {
            "seconds": seconds.tolist(),
            "kept": kept.tolist(),
            "rejected": rejected.tolist(),
        },
        "fractions": {"left": edges[:-1], "right": edges[1:], "number": view["by_fraction"]},
        "partitions": {"partition": list(range(1, len(partitions) + 1)), "rows": partitions},
        "bytes": {"kind": _BYTES, "bytes": [view["moved_bytes"], view["payload_bytes"]]},
    }


def _plots(sources: dict[str, ColumnDataSource]) -> list[Any]:
    """Return the Bokeh plots in their order on the page."""
    stages = _plot("Fraction done per stage", y_range=[*DOING.values()][::-1])
    for right, colour in ((1, "#eeeeee"), ("done", KEPT)):
        stages.hbar("doing", right=right, height=0.7, color=colour, source=sources["stages"])
    stages.xaxis.formatter = NumeralTickFormatter(format="0%")
    speed = _plot("Particles per second, all stages", "seconds", "particles / s")
    speed.line("seconds", "speed", color=NEUTRAL, line_width=2, source=sources["speed"])
    outcome = _plot("Particles written", "seconds", "particles")
    for name, colour, dash in (("kept", KEPT, "solid"), ("rejected", REJECTED, "dashed")):
        style = {"color": colour, "line_dash": dash, "line_width": 2, "legend_label": name}
        outcome.line("seconds", name, source=sources["outcome"], **style)
    outcome.legend.location = "top_left"
    outcome.legend.background_fill_alpha = 0.5
    fractions = _plot("Micrographs by fraction rejected", "fraction rejected", "micrographs")
    sides = {"left": "left", "right": "right", "top": "number", "bottom": 0}
    fractions.quad(**sides, color=REJECTED, line_color="white", source=sources["fractions"])
    partitions = _plot("Picks per shuffle partition, largest first", "partition", "picks")
    bars = {"x": "partition", "top": "rows", "width": 0.85}
    partitions.vbar(**bars, color=NEUTRAL, source=sources["partitions"])
    volume = _plot("Bytes", y_range=_BYTES[::-1])
    volume.hbar("kind", right="bytes", height=0.5, color=NEUTRAL, source=sources["bytes"])
    volume.xaxis.formatter = NumeralTickFormatter(format="0.0 b")
    volume.xaxis.ticker.desired_num_ticks = 3
    stages.x_range = fractions.x_range = Range1d(0, 1)
    volume.x_range.start = 0
    for plot in (speed, outcome, fractions, partitions):
        plot.y_range.start = 0
    return [stages, speed, outcome, fractions, partitions, volume]


def _plot(title: str, x: str = "", y: str = "", **options: Any) -> Any:
    plot = figure(
        title=title,
        height=230,
        toolbar_location=None,
        tools="",
        sizing_mode="stretch_width",
        styles=_FLEX,
        x_axis_label=x or None,
        y_axis_label=y or None,
        **options,
    )
    plot.outline_line_color = None
    plot.grid.grid_line_alpha = 0.4
    for axis in plot.select(LinearAxis):
        axis.formatter = NumeralTickFormatter(format="0,0.[00]a")
    return plot


def _headline(view: dict[str, Any]) -> str:
    lines = [
        f"<div style='font-size:20px;font-weight:600;margin:10px 0 4px'>{escape(view['headline'])}</div>"
    ]
    if "run" in view:
        lost = f", {view['lost_workers']:,} lost" if view["lost_workers"] else ""
        facts = [
            f"kept <b style='color:{KEPT}' id='kept'>{view['kept']:,}</b>",
            f"rejected <b style='color:{REJECTED}' id='rejected'>{view['rejected']:,}</b>",
            f"of {view['rows']:,} particles on {view['micrographs']:,} micrographs",
            f"{view['workers']:,} workers{lost}, {view['threads']:,} threads",
            f"repeated tasks: {view['repeats']:,}",
            f"output: {escape(_short(view['output']))}",
        ]
        lines.append(f"<div style='font-size:14px'>{' · '.join(facts)}</div>")
    return "".join(lines)


def _table(title: str, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Format rows as an HTML table. The text of all cells is escaped."""

    def line(cells: tuple[str, ...], tag: str) -> str:
        html = []
        for number, cell in enumerate(cells):
            side = "right;white-space:nowrap" if number else "left;overflow-wrap:anywhere"
            html.append(f"<{tag} style='{_CELL}text-align:{side}'>{escape(cell)}</{tag}>")
        return f"<tr>{''.join(html)}</tr>"

    body = "".join(line(cells, "td") for cells in rows)
    return f"<b style='font-size:13px'>{title}</b><table {_TABLE}>{line(heads, 'th')}{body}</table>"


def _short(name: str) -> str:
    shown = "".join(char if char.isprintable() else "�" for char in name)
    return shown if len(shown) <= NAME_LENGTH else f"…{shown[1 - NAME_LENGTH :]}"


def dedup_doc(scheduler: Scheduler, extra: dict[str, Any], doc: Document) -> None:
    """Add the live page to a new visitor's Bokeh document, in the layout of Dask's own pages."""
    plugin: DedupPlugin = scheduler.plugins[DedupPlugin.name]
    page = DedupPage(plugin)
    page.update()
    add_periodic_callback(doc, page, INTERVAL)
    doc.title = "Dask: duplicate particles"
    doc.add_root(page.root)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)

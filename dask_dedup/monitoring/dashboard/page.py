"""The live page: a Bokeh document that is redrawn every second."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, Div, NumeralTickFormatter, Range1d
from bokeh.plotting import figure
from distributed.dashboard.components import DashboardComponent, add_periodic_callback
from distributed.dashboard.components.scheduler import env
from distributed.dashboard.utils import update

from dask_dedup.monitoring.dashboard.view import make_view
from dask_dedup.monitoring.progress import DOING

if TYPE_CHECKING:
    from bokeh.document import Document
    from distributed import Scheduler

    from dask_dedup.monitoring.dashboard.plugin import DedupPlugin

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
    """The page of one visitor.

    Parameters
    ----------
    plugin : DedupPlugin
    """

    def __init__(self, plugin: DedupPlugin) -> None:
        self.plugin = plugin
        self.headline = Div(text="", sizing_mode="stretch_width")
        self.micrographs = Div(text="", styles=_FLEX)
        self.tasks = Div(text="", styles=_FLEX)
        self.sources: dict[str, ColumnDataSource] = {}
        plots = [
            self._stages(),
            self._speed(),
            self._outcome(),
            self._fractions(),
            self._partitions(),
            self._bytes(),
        ]
        wrap = {"flex-wrap": "wrap", "gap": "14px"}
        self.root = column(
            self.headline,
            row(*plots, sizing_mode="stretch_width", styles=wrap),
            row(self.micrographs, self.tasks, sizing_mode="stretch_width", styles=wrap),
            sizing_mode="stretch_width",
            styles={"padding": "0 12px", "box-sizing": "border-box", "max-width": "100vw"},
        )

    def _source(self, name: str, *columns: str) -> ColumnDataSource:
        self.sources[name] = ColumnDataSource({column: [] for column in columns})
        return self.sources[name]

    def _stages(self) -> Any:
        doing = list(DOING.values())
        plot = _plot("Fraction done per stage", y_range=doing[::-1], x_range=Range1d(0, 1))
        source = self._source("stages", "doing", "one", "done")
        plot.hbar("doing", right="one", height=0.7, color="#eeeeee", source=source)
        plot.hbar("doing", right="done", height=0.7, color=KEPT, source=source)
        plot.xaxis.formatter = NumeralTickFormatter(format="0%")
        return plot

    def _speed(self) -> Any:
        plot = _plot("Particles per second, all stages", "seconds", "particles / s")
        plot.line(
            "seconds",
            "speed",
            color=NEUTRAL,
            line_width=2,
            source=self._source("speed", "seconds", "speed"),
        )
        plot.y_range.start = 0
        return plot

    def _outcome(self) -> Any:
        plot = _plot("Particles written", "seconds", "particles")
        source = self._source("outcome", "seconds", "kept", "rejected")
        for name, colour, dash in (("kept", KEPT, "solid"), ("rejected", REJECTED, "dashed")):
            style = {"color": colour, "line_dash": dash, "line_width": 2, "legend_label": name}
            plot.line("seconds", name, source=source, **style)
        plot.legend.location = "top_left"
        plot.legend.background_fill_alpha = 0.5
        plot.y_range.start = 0
        return plot

    def _fractions(self) -> Any:
        plot = _plot("Micrographs by fraction rejected", "fraction rejected", "micrographs")
        source = self._source("fractions", "left", "right", "number")
        sides = {"left": "left", "right": "right", "top": "number", "bottom": 0}
        plot.quad(**sides, color=REJECTED, line_color="white", source=source)
        plot.x_range = Range1d(0, 1)
        plot.y_range.start = 0
        return plot

    def _partitions(self) -> Any:
        plot = _plot("Picks per shuffle partition, largest first", "partition", "picks")
        plot.vbar(
            "partition",
            top="rows",
            width=0.85,
            color=NEUTRAL,
            source=self._source("partitions", "partition", "rows"),
        )
        plot.y_range.start = 0
        return plot

    def _bytes(self) -> Any:
        plot = _plot("Bytes", y_range=_BYTES[::-1])
        plot.hbar(
            "kind",
            right="bytes",
            height=0.5,
            color=NEUTRAL,
            source=self._source("bytes", "kind", "bytes"),
        )
        plot.xaxis.formatter = NumeralTickFormatter(format="0.0 b")
        plot.x_range.start = 0
        plot.xaxis.ticker.desired_num_ticks = 3
        return plot

    def update(self) -> None:
        """Draw the current numbers."""
        view = make_view(self.plugin)
        self.headline.text = _headline(view)
        if "run" not in view:
            return
        stages, curve = view["stages"], np.array(view["curve"], dtype=float).reshape(-1, 4)
        done = [s["rows"] / s["total_rows"] if s["total_rows"] else 1.0 for s in stages]
        self._draw("stages", doing=[s["doing"] for s in stages], one=[1.0] * len(stages), done=done)
        seconds, rows = curve[:, 0], curve[:, 1]
        speed = np.diff(rows) / np.maximum(np.diff(seconds), 1e-3)
        self._draw("speed", seconds=seconds[1:].tolist(), speed=speed.tolist())
        self._draw(
            "outcome",
            seconds=seconds.tolist(),
            kept=curve[:, 2].tolist(),
            rejected=curve[:, 3].tolist(),
        )
        edges = np.linspace(0, 1, len(view["by_fraction"]) + 1).tolist()
        self._draw("fractions", left=edges[:-1], right=edges[1:], number=view["by_fraction"])
        partitions = view["partition_rows"][:BARS]
        self._draw("partitions", partition=list(range(1, len(partitions) + 1)), rows=partitions)
        self._draw("bytes", kind=_BYTES, bytes=[view["moved_bytes"], view["payload_bytes"]])
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

    def _draw(self, name: str, **columns: list[Any]) -> None:
        update(self.sources[name], columns)


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
    for axis in (*plot.xaxis, *plot.yaxis):
        if not options.get("y_range") or axis in plot.xaxis:
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
    """Return an HTML table with all cells escaped."""

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
    """Fill the document of a new visitor, in the layout of Dask's pages."""
    plugin: DedupPlugin = scheduler.plugins["dask-dedup"]
    page = DedupPage(plugin)
    page.update()
    add_periodic_callback(doc, page, INTERVAL)
    doc.title = "Dask: duplicate particles"
    doc.add_root(page.root)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)

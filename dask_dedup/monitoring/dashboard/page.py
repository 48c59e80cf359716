"""The live page: a Bokeh document that is updated every second."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bokeh.layouts import column, row
from bokeh.models import Div
from distributed.dashboard.components import DashboardComponent, add_periodic_callback
from distributed.dashboard.components.scheduler import env

from dask_dedup.formatting import clock, counted, shell_command
from dask_dedup.monitoring.dashboard.plots import (
    FLEX,
    KEPT,
    REJECTED,
    find_reasons,
    make_panels,
    plot_data,
)
from dask_dedup.monitoring.dashboard.plugin import REPORT, DedupPlugin, Visitor, make_view

if TYPE_CHECKING:
    from bokeh.document import Document
    from distributed import Scheduler

#: Milliseconds between two updates.
INTERVAL = 1_000
#: Longest name from the data on the page, in characters. Longer names are shortened at their start.
NAME_LENGTH = 60
_TABLE = "style='border-collapse:collapse;font-size:13px;width:100%'"
_CELL = "padding:2px 10px 2px 0;border-bottom:1px solid #ddd;"
#: The browser shows the note if three requests in a row fail. A single failure is not enough, because a busy scheduler
#: may be slow to answer. The page is loaded again only after refused connections, because a new scheduler does not know
#: the old page.
_TEMPLATE = """
{% extends "simple.html" %}
{% block content %}
<style>
#not-connected {
  display: none; margin: 8px 12px; padding: 8px 12px; border-left: 4px solid #b00020; background: #fdecea;
}
</style>
<div id="not-connected">
This page is no longer updated: its scheduler has ended or cannot be reached since <span></span>. The numbers below are
the last numbers of the run. The links do not work, but the paths are right.</div>
<script>
(() => {
  const note = document.getElementById("not-connected"), time = note.querySelector("span");
  let failures = 0, refused = 0, since = "";
  const check = async () => {
    let answers = false;
    try {
      answers = (await fetch("json/dedup.json", {signal: AbortSignal.timeout(15000)})).ok;
    } catch (error) {
      if (error.name != "TimeoutError") refused += 1;
    }
    if (answers && refused >= 3) location.reload();
    if (answers) failures = refused = 0;
    else if (++failures == 1) since = new Date().toLocaleTimeString("en-GB");
    time.textContent = since;
    note.style.display = failures >= 3 ? "block" : "none";
    setTimeout(check, 3000);
  };
  setTimeout(check, 3000);
})();
</script>
{{ super() }}
{% endblock %}
"""


class DedupPage(DashboardComponent):  # type: ignore[misc]
    """The live page of one visitor."""

    def __init__(self, plugin: DedupPlugin) -> None:
        self.plugin = plugin
        self.visitor = Visitor()
        plugin.visitors.add(self.visitor)
        self.headline = Div(text="", sizing_mode="stretch_width")
        self.tables = {name: Div(text="", styles=FLEX) for name in ("densest", "slowest", "runs")}
        self.panels = make_panels()
        wrap = {"flex-wrap": "wrap", "gap": "14px"}
        self.body = [
            row(*children, sizing_mode="stretch_width", styles=wrap, visible=False)
            for children in (
                [panel.root for panel in self.panels.values()],
                list(self.tables.values()),
            )
        ]
        self.root = column(
            self.headline,
            *self.body,
            sizing_mode="stretch_width",
            styles={"padding": "0 12px", "box-sizing": "border-box", "max-width": "100vw"},
        )

    def update(self) -> None:
        """Update the page with the current numbers."""
        view = make_view(self.plugin)
        self.headline.text = _headline(view)
        for part in self.body:
            part.visible = "run" in view
        if "run" in view:
            reasons, data = find_reasons(view), plot_data(view)
            for name, panel in self.panels.items():
                panel.show(data[name], reasons.get(name, ""))
            for name, text in _tables(view, reasons).items():
                self.tables[name].text = text
            self.tables["runs"].visible = len(view["runs"]) > 1
        self.visitor.shown, self.visitor.updated = self.plugin.shown, time.monotonic()


def _tables(view: dict[str, Any], reasons: dict[str, str]) -> dict[str, str]:
    """Map the name of each table to its HTML."""
    return {
        "densest": _table(
            "Densest micrographs",
            ("micrograph", "picks", "rejected"),
            [(_short(m["name"]), f"{m['picks']:,}", f"{m['rejected']:,}") for m in view["densest"]],
            reasons.get("densest"),
        ),
        "slowest": _table(
            "Slowest tasks",
            ("task", "particles", "seconds"),
            [
                (f"{task['doing']} {task['number']}", f"{task['rows']:,}", f"{task['seconds']:.2f}")
                for task in view["slowest"]
            ],
            reasons.get("slowest"),
        ),
        "runs": _table(
            "Runs on this cluster",
            ("run", "started", "state"),
            [
                (_short(each["output"]), clock(each["started_at"]), each["status"])
                for each in view["runs"]
            ],
        ),
    }


def _headline(view: dict[str, Any]) -> str:
    colour = "#b00020" if view["status"] in ("failed", "lost") or view.get("stall") else "inherit"
    style = f"font-size:20px;font-weight:600;margin:10px 0 4px;color:{colour}"
    lines = [f"<div id='headline' style='{style}'>{escape(view['headline'])}</div>"]
    workers = counted(view["workers"], "worker")
    if view["paused_workers"]:
        workers += f" ({view['paused_workers']:,} paused: memory full)"
    if view.get("lost_workers"):
        workers += f", {view['lost_workers']:,} lost"
    facts = [workers, counted(view["threads"], "thread")]
    if "run" in view:
        facts = [
            f"kept <b style='color:{KEPT}' id='kept'>{view['kept']:,}</b>",
            f"rejected <b style='color:{REJECTED}' id='rejected'>{view['rejected']:,}</b>",
            f"of {view['rows']:,} particles on {view['micrographs']:,} micrographs",
            *facts,
            f"started {clock(view['started_at'])}",
            f"output: {escape(_short(view['output']))}",
            *_report(view),
        ]
        if view["repeats"]:
            facts.insert(-1, counted(view["repeats"], "repeated task"))
    lines.append(f"<div style='font-size:14px'>{' · '.join(facts)}</div>")
    return "".join(lines)


def _report(view: dict[str, Any]) -> list[str]:
    """Return HTML with a link to the report of a finished run, and the path of the report."""
    if view["status"] != "finished":
        return []
    path = view["report"]
    if not path:
        return [f"report: not written yet ({escape(shell_command('report', view['output']))})"]
    link = f"{REPORT.lstrip('/')}?run={quote(view['run'])}"
    return [f"<a id='report' href='{escape(link)}'>report</a>: {escape(path)}"]


def _table(
    title: str, heads: tuple[str, ...], rows: list[tuple[str, ...]], reason: str | None = None
) -> str:
    """Format rows as an HTML table. If there are no rows, show the reason. The text of all cells is escaped."""
    shown = f"<b style='font-size:13px'>{title}</b>"
    if reason:
        return f"{shown}<br>{reason}"

    def line(cells: tuple[str, ...], tag: str) -> str:
        html = []
        for number, cell in enumerate(cells):
            side = "right;white-space:nowrap" if number else "left;overflow-wrap:anywhere"
            html.append(f"<{tag} style='{_CELL}text-align:{side}'>{escape(cell)}</{tag}>")
        return f"<tr>{''.join(html)}</tr>"

    body = "".join(line(cells, "td") for cells in rows)
    return f"{shown}<table {_TABLE}>{line(heads, 'th')}{body}</table>"


def _short(name: str) -> str:
    shown = "".join(char if char.isprintable() else "�" for char in name)
    return shown if len(shown) <= NAME_LENGTH else f"…{shown[1 - NAME_LENGTH :]}"


def dedup_doc(scheduler: Scheduler, extra: dict[str, Any], doc: Document) -> None:
    """Add the live page to a new visitor's Bokeh document, in the layout of Dask's own pages."""
    plugin: DedupPlugin = scheduler.plugins[DedupPlugin.name]
    page = DedupPage(plugin)
    page.update()
    add_periodic_callback(doc, page, INTERVAL)
    config = getattr(doc, "config", None)
    if config and "notify_connection_status" in config.properties():
        # The note in the template has more details than Bokeh's note, and older versions of Bokeh have no note.
        config.notify_connection_status = False
    doc.title = "Dask: duplicate particles"
    doc.add_root(page.root)
    doc.template = env.from_string(_TEMPLATE)
    doc.template_variables.update(extra)

"""Dask preload that adds a live page: ``dask scheduler --preload dask_dedup.monitoring.dashboard``.

Adds to the scheduler's dashboard:

- ``/dedup``: the live page, which needs Bokeh
- ``/json/dedup.json``: the same numbers as JSON
- ``/dedup-report``: the report of a finished run
- ``/metrics``: metrics with names ``dask_dedup_*``, which need prometheus_client

A run needs neither library.
"""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask

from dask_dedup.monitoring.dashboard.plugin import REPORT, DedupPlugin, make_view
from dask_dedup.monitoring.progress import PAGE_METADATA

if TYPE_CHECKING:
    from distributed import Scheduler

PAGE, JSON = "/dedup", "/json/dedup.json"
#: Name of a report's file. No other file is served.
PAGE_NAME = "report.html"
#: Optional libraries, and the missing feature without each library.
LIBRARIES = {"bokeh": "no live page", "prometheus_client": "no metrics"}


def installed(name: str) -> bool:
    """Return whether a Python library is installed."""
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:
        # Raised for a stub in sys.modules.
        return False


def dask_setup(scheduler: Scheduler) -> None:
    """Add the live page, its JSON numbers and the metrics to a scheduler. Dask calls this on preload."""
    if DedupPlugin.name in scheduler.plugins:
        return
    plugin = DedupPlugin(scheduler)
    scheduler.add_plugin(plugin)
    _add_routes(scheduler, plugin)
    if installed("prometheus_client"):
        from dask_dedup.monitoring.dashboard.metrics import COLLECTOR

        COLLECTOR.plugin = plugin
    if installed("bokeh"):
        certificate = dask.config.get("distributed.scheduler.dashboard.tls.cert")
        page = {"path": PAGE, "https": bool(certificate)}
        scheduler.set_metadata(keys=[PAGE_METADATA], value=page)


def _add_routes(scheduler: Scheduler, plugin: DedupPlugin) -> None:
    from tornado.web import HTTPError, RequestHandler

    class Json(RequestHandler):  # type: ignore[misc]
        def get(self, *_: Any) -> None:
            self.write(make_view(plugin))

    class Report(RequestHandler):  # type: ignore[misc]
        async def get(self, *_: Any) -> None:
            run = plugin.runs.get(self.get_query_argument("run", ""))
            path = Path(run.report if run else "")
            if path.name != PAGE_NAME:
                raise HTTPError(404, reason="No such report")
            try:
                content = await asyncio.to_thread(path.read_bytes)
            except OSError as error:
                self.set_status(404)
                self.set_header("Content-Type", "text/plain; charset=utf-8")
                self.write(f"{path}: the scheduler cannot read the report ({error.strerror}).")
                return
            self.write(content)

    application = getattr(scheduler, "http_application", None)
    if application is not None:
        application.add_handlers(r".*", [(JSON, Json), (REPORT, Report)])


# Dask reads its list of pages when it creates a scheduler, before it calls `dask_setup`.
if installed("bokeh"):
    from distributed.dashboard.scheduler import applications

    from dask_dedup.monitoring.dashboard.page import dedup_doc

    # The second name adds the page to Dask's menu and to JupyterLab's extension.
    applications[PAGE] = applications["/individual-dedup"] = dedup_doc

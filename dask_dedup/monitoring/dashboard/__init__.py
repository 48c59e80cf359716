"""The live page of a scheduler: ``dask scheduler --preload dask_dedup.monitoring.dashboard``.

Adds ``/dedup`` to the scheduler's dashboard, ``/json/dedup.json`` with the same figures, and
``dask_dedup_*`` to its ``/metrics``. Without Bokeh there is no page, without prometheus_client no
metrics; a run does not need either.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import dask

from dask_dedup.monitoring.dashboard.plugin import Board

if TYPE_CHECKING:
    from distributed import Scheduler

PAGE, JSON = "/dedup", "/json/dedup.json"
#: Where a client finds out that the scheduler has the page.
METADATA = "dask-dedup-page"
#: And that it is served by https, which the client's own configuration need not say.
HTTPS = "dask-dedup-https"


def missing() -> list[str]:
    """Name the optional libraries that are not installed."""
    return [name for name in ("bokeh", "prometheus_client") if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:
        # A module that stands in for a missing one.
        return False


def _add_pages() -> None:
    """Add the page to those of every scheduler that is made from now on in this process."""
    from distributed.dashboard.scheduler import applications

    from dask_dedup.monitoring.dashboard.page import dedup_doc

    # The second name puts it into Dask's menu and before JupyterLab's extension.
    applications[PAGE] = applications["/individual-dedup"] = dedup_doc


def dask_setup(scheduler: Scheduler) -> None:
    """Set up a scheduler; called by Dask when it preloads this module."""
    if Board.name in scheduler.plugins:
        return
    board = Board()
    board.scheduler = scheduler
    scheduler.add_plugin(board)
    _add_json(scheduler, board)
    if _installed("prometheus_client"):
        from dask_dedup.monitoring.dashboard.metrics import register

        register(board)
    if _installed("bokeh"):
        scheduler.set_metadata(keys=[METADATA], value=PAGE)
        certificate = dask.config.get("distributed.scheduler.dashboard.tls.cert")
        scheduler.set_metadata(keys=[HTTPS], value=bool(certificate))


def _add_json(scheduler: Scheduler, board: Board) -> None:
    from tornado.web import RequestHandler

    from dask_dedup.monitoring.dashboard.view import view_of

    class Json(RequestHandler):  # type: ignore[misc]
        def get(self, *_: Any) -> None:
            self.write(view_of(board))

    application = getattr(scheduler, "http_application", None)
    if application is not None:
        application.add_handlers(r".*", [(JSON, Json)])


# Dask reads its list of pages when a scheduler is made, before it calls `dask_setup`.
if _installed("bokeh"):
    _add_pages()

"""Prometheus metrics on the scheduler's ``/metrics``, read from the board when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from dask_dedup.monitoring.progress import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from dask_dedup.monitoring.dashboard.plugin import Board


class BoardCollector:
    """Gives the figures of a board; no label depends on the data.

    Parameters
    ----------
    board : Board
    """

    def __init__(self, board: Board) -> None:
        self.board = board

    def collect(self) -> Iterator[Metric]:
        """Give every metric, as it is now."""
        totals, run = self.board.totals, self.board.current
        yield _counter("particles", "Particles written", "outcome", totals, "kept", "rejected")
        yield _counter("tasks", "Fragments or buckets done, each once", "stage", totals, *STAGES)
        yield _counter(
            "runs", "Runs that came to their end", "status", totals, "finished", "failed"
        )
        for name, key, text in (
            ("moved_bytes", "moved_bytes", "Bytes of picks that left their fragment"),
            ("repeats", "repeats", "Tasks that did work that was done already"),
            ("lost_workers", "lost_workers", "Workers that left in the midst of a run"),
        ):
            yield CounterMetricFamily(f"dask_dedup_{name}", text, value=totals[key])
        running = run if run is not None and run.status == "running" else None
        for name, text, value in (
            ("running", "Whether a run goes on", 1 if running else 0),
            (
                "expected_particles",
                "Particles of the run that goes on",
                running.rows if running else 0,
            ),
            (
                "progress_ratio",
                "Share of its work that is done",
                running.fraction if running else 0,
            ),
        ):
            yield GaugeMetricFamily(f"dask_dedup_{name}", text, value=value)


def _counter(
    name: str, text: str, label: str, totals: dict[str, int], *keys: str
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"dask_dedup_{name}", text, labels=[label])
    for key in keys:
        family.add_metric([key], totals[key])
    return family


_registered: list[BoardCollector] = []


def register(board: Board) -> None:
    """Let this process give the figures of a board; of a later board after that."""
    if _registered:
        _registered[0].board = board
        return
    _registered.append(BoardCollector(board))
    REGISTRY.register(_registered[0])

"""Prometheus metrics of runs, on the scheduler's ``/metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from dask_dedup.monitoring.progress import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from dask_dedup.monitoring.dashboard.plugin import DedupPlugin


class DedupCollector:
    """Reads the metrics from a plugin. No label depends on the data.

    Parameters
    ----------
    plugin : DedupPlugin
    """

    def __init__(self, plugin: DedupPlugin) -> None:
        self.plugin = plugin

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its current value."""
        totals, run = self.plugin.totals, self.plugin.current
        yield _counter("particles", "Particles written", "outcome", totals, "kept", "rejected")
        yield _counter("tasks", "Fragments or shuffle partitions done", "stage", totals, *STAGES)
        yield _counter("runs", "Runs that ended", "status", totals, "finished", "failed")
        for name, key, text in (
            ("moved_bytes", "moved_bytes", "Bytes of shuffled picks"),
            ("repeats", "repeats", "Tasks that ran again after their work was done"),
            ("lost_workers", "lost_workers", "Workers lost during a run"),
        ):
            yield CounterMetricFamily(f"dask_dedup_{name}", text, value=totals[key])
        running = run if run is not None and run.status == "running" else None
        for name, text, value in (
            ("running", "1 during a run", 1 if running else 0),
            (
                "expected_particles",
                "Particles of the current run",
                running.rows if running else 0,
            ),
            (
                "progress_ratio",
                "Fraction of the current run's work that is done",
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


_registered: list[DedupCollector] = []


def register(plugin: DedupPlugin) -> None:
    """Add the metrics of a plugin to this process; they replace those of an earlier plugin."""
    if _registered:
        _registered[0].plugin = plugin
        return
    _registered.append(DedupCollector(plugin))
    REGISTRY.register(_registered[0])

"""Prometheus metrics of runs, on the scheduler's ``/metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from dask_dedup.monitoring.dashboard.plugin import DedupPlugin
from dask_dedup.monitoring.progress import ENDS, STAGES, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

#: States in which a run counts as ended.
_ENDED = (*ENDS, "lost")


class DedupCollector:
    """Prometheus collector for the runs that a `DedupPlugin` records. All label values are constants."""

    def __init__(self, plugin: DedupPlugin) -> None:
        self.plugin = plugin

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its current value."""
        run = self.plugin.current
        totals = self.plugin.totals
        if run is None or run.status != "running":
            run = Progress()
        for name, text, label, keys in (
            ("particles", "Particles written", "outcome", ("kept", "rejected")),
            ("tasks", "Fragments or shuffle partitions done", "stage", STAGES),
            ("runs", "Runs that ended, or whose driver was lost", "status", _ENDED),
        ):
            family = CounterMetricFamily(f"dask_dedup_{name}", text, labels=[label])
            for key in keys:
                family.add_metric([key], totals[key])
            yield family
        for name, text in (
            ("moved_bytes", "Bytes of shuffled picks"),
            ("repeats", "Tasks that ran again after their work was done"),
            ("lost_workers", "Workers lost during a run"),
        ):
            yield CounterMetricFamily(f"dask_dedup_{name}", text, value=totals[name])
        for name, text, value in (
            ("running", "1 during a run", int(run.status == "running")),
            ("expected_particles", "Particles of the current run", run.rows),
            ("progress_ratio", "Fraction of the current run's work that is done", run.fraction),
        ):
            yield GaugeMetricFamily(f"dask_dedup_{name}", text, value=value)


#: The registry of a process accepts each metric only once. So another scheduler in this process replaces the plugin.
COLLECTOR = DedupCollector(DedupPlugin())
REGISTRY.register(COLLECTOR)

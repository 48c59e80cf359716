"""A cluster that stops working: a warning within 10 s, a countdown, and an error at the end."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import dask
import pytest

from dask_dedup import RunError
from dask_dedup.formatting import duration
from dask_dedup.monitoring.progress import Progress, describe
from dask_dedup.pipeline.executors import watchdog
from dask_dedup.pipeline.executors.watchdog import Watchdog

STARTED = {
    "kind": "started",
    "output": "out",
    "executor": "there",
    "inputs": [],
    "rows": 1000,
    "bytes": 1,
    "fragments": 10,
}


class FakeCluster:
    """A client and a clock. `workers` maps the name of a worker to its status."""

    def __init__(self):
        self.now = 1000.0
        self.workers = {"a": "running", "b": "running"}
        self.answers = self.hears = True
        self.last_seen = 0.0
        self.cluster = None
        self.scheduler = SimpleNamespace(address="tcp://node1:8786")

    def nthreads(self, callback_timeout):
        if not self.answers:
            self.now += callback_timeout
            raise TimeoutError
        return dict.fromkeys(self.workers, 1)

    def scheduler_info(self, n_workers):
        assert n_workers == -1
        if self.hears:
            self.last_seen = self.now
        known = {"last_seen": self.last_seen}
        return {
            "workers": {name: {"status": status, **known} for name, status in self.workers.items()}
        }


@pytest.fixture
def there(monkeypatch, caplog):
    # Other tests may have set a lower level.
    caplog.set_level(logging.WARNING, "dask_dedup")
    cluster = FakeCluster()
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: cluster.now))
    return cluster


def no_workers(cluster):
    cluster.workers = {}


def paused(cluster):
    cluster.workers = dict.fromkeys(cluster.workers, "paused")


def silent(cluster):
    cluster.hears = False


def mute(cluster):
    cluster.answers = False


FAULTS = pytest.mark.parametrize(
    ("fault", "warning", "error"),
    [
        (no_workers, "the cluster at tcp://node1:8786 has no workers", "has had no workers for"),
        (paused, "all workers of the cluster at tcp://node1:8786 are paused", "have been paused"),
        (silent, "no worker of the cluster at tcp://node1:8786 answers", "has answered for"),
        (mute, "the scheduler at tcp://node1:8786 does not answer", "has not answered for"),
    ],
)


def check_every_second(dog, cluster, until):
    """Check until a condition holds, and return the seconds this takes."""
    began = cluster.now
    while not until():
        cluster.now += 1.0
        dog.check()
        assert cluster.now - began < 3600
    return cluster.now - began


@FAULTS
def test_a_warning_within_10_seconds_and_an_error_at_the_end(there, caplog, fault, warning, error):
    stalls = []
    with dask.config.set({watchdog.NO_WORKERS: "2 minutes"}):
        dog = Watchdog(there, lambda *stall: stalls.append(stall))
        for _ in range(60):
            there.now += 1.0
            dog.check()
        assert not caplog.records
        # A task finishes shortly before.
        dog.finished()
        fault(there)
        began = there.now
        seconds = check_every_second(dog, there, lambda: caplog.records)
        assert seconds <= 10
        (line,) = caplog.messages
        assert line.startswith(warning)
        assert line.endswith("unless this changes.")
        with pytest.raises(RunError, match=error):
            check_every_second(dog, there, lambda: False)
    limit = 60 if fault is mute else 120
    assert limit < there.now - began <= limit + 12
    assert len(caplog.messages) == 1
    left = [seconds for _, seconds in stalls]
    assert left == sorted(left, reverse=True)
    assert left[0] > limit - 12
    assert left[-1] < 10


@FAULTS
def test_a_cluster_that_works_again(there, caplog, fault, warning, error):
    caplog.set_level("INFO", "dask_dedup")
    stalls = []
    dog = Watchdog(there, lambda *stall: stalls.append(stall))
    fault(there)
    check_every_second(dog, there, lambda: caplog.records)
    there.workers, there.answers, there.hears = {"c": "running"}, True, True
    check_every_second(dog, there, lambda: len(caplog.records) == 2)
    assert caplog.messages[-1] == "the cluster works again"
    assert stalls[-1] == ("", 0.0)
    for _ in range(1000):
        there.now += 1.0
        dog.check()


def test_a_lost_worker_is_named_within_10_seconds(there, caplog):
    dog = Watchdog(there, lambda *_: None)
    check_every_second(dog, there, lambda: there.now > 1010)
    del there.workers["b"]
    assert check_every_second(dog, there, lambda: caplog.records) <= 10
    assert caplog.messages == [
        "1 of 2 workers was lost (b). Its tasks are repeated now, on 1 worker."
    ]
    check_every_second(dog, there, lambda: there.now > 1100)
    assert len(caplog.messages) == 1


def test_workers_that_are_replaced_are_named_as_lost(there, caplog):
    dog = Watchdog(there, lambda *_: None)
    there.workers = dict.fromkeys("abcd", "running")
    check_every_second(dog, there, lambda: there.now > 1010)
    dog.start()  # of the next stage
    there.workers = dict.fromkeys("efgh", "running")
    check_every_second(dog, there, lambda: caplog.records)
    assert caplog.messages == [
        "4 of 4 workers were lost (a, b, c, ...). Their tasks are repeated now, on 4 workers."
    ]


def test_workers_that_are_all_lost_are_named_once(there, caplog):
    dog = Watchdog(there, lambda *_: None)
    check_every_second(dog, there, lambda: there.now > 1010)
    there.workers = {}
    check_every_second(dog, there, lambda: there.now > 1030)
    there.workers = {"c": "running"}
    check_every_second(dog, there, lambda: there.now > 1050)
    (line,) = caplog.messages
    assert "has no workers" in line


def test_a_paused_worker_is_named_once_within_10_seconds(there, caplog):
    dog = Watchdog(there, lambda *_: None)
    check_every_second(dog, there, lambda: there.now > 1010)
    there.workers["b"] = "paused"
    assert check_every_second(dog, there, lambda: caplog.records) <= 10
    assert caplog.messages == [
        "1 of 2 workers is paused because its memory is full (b). The others work on, and it continues as soon as "
        "memory is free."
    ]
    for status in ("running", "paused", "running"):
        there.workers["b"] = status
        began = there.now
        check_every_second(dog, there, lambda began=began: there.now > began + 30)
    assert len(caplog.messages) == 1


def test_a_short_pause_is_not_named(there, caplog):
    dog = Watchdog(there, lambda *_: None)
    for second in range(100):
        there.workers["b"] = "paused" if second % 10 < 2 else "running"
        there.now += 1.0
        dog.check()
    assert not caplog.records


def test_a_restart_of_all_workers_is_not_a_stall(there, caplog):
    dog = Watchdog(there, lambda *_: None)
    for _ in range(100):
        there.workers = {} if there.now % 10 < 4 else {"a": "running"}
        there.now += 1.0
        dog.check()
    assert not caplog.records


def test_progress_counts_down():
    progress = Progress()
    progress.note(STARTED, 0.0)
    progress.note({"kind": "stalled", "reason": "no workers", "seconds_left": 290.0}, 100.0)
    assert progress.seconds_to_stop(150.0) == 240.0
    assert progress.seconds_to_stop(500.0) == 0.0
    progress.note({"kind": "stalled", "reason": "no workers", "seconds_left": 1e6})
    shown = describe(progress)
    assert shown.startswith(f"stops in {duration(1e6)}: no workers (0% counting: 0 of 1,000")
    progress.note({"kind": "stalled", "reason": "", "seconds_left": 0.0})
    assert "stops" not in describe(progress)

"""Faults on a cluster: the run finishes without the lost part, or stops soon with a clear message."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import dask
import pytest
from distributed import CancelledError, Client
from distributed.comm import CommClosedError
from tables import relion, write_file
from test_output import data, hidden
from test_resume import make_input

from dask_dedup import RunError, run
from dask_dedup.cluster.connect import start_local
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.particles.micrographs.names import hash_texts
from dask_dedup.pipeline import stages
from dask_dedup.pipeline.executors import distributed, watchdog
from dask_dedup.pipeline.executors.finished_tasks import FinishedTasks

HERE = Path(__file__).parent
#: Seconds to wait for anything.
LONG = 120.0
#: The error after a number of lost workers. Dask blames every task that they had, so any fragment may be named.
KILLED_WHILE_WRITING = (
    r"workers were killed while running tasks such as writing \S+batch-\d+.parquet rows 0 to 19"
)


@pytest.fixture(autouse=True)
def many_fragments(monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


class Cluster:
    """A scheduler and workers in processes that can be killed."""

    def __init__(self, folder, fault, *, nanny, memory, environment):
        self.folder = folder
        self.options = ["--nanny" if nanny else "--no-nanny", "--memory-limit", memory]
        self.environment = {**os.environ, "FAULT": fault, "PYTHONPATH": str(HERE), **environment}
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0"
        )
        self.workers = []

    def _start(self, kind, *options):
        words = [sys.executable, "-m", "dask", kind, *options]
        file = self.folder / "scheduler.json"
        words += ["--scheduler-file", str(file)]
        return subprocess.Popen(
            words, env=self.environment, stderr=subprocess.DEVNULL, cwd=self.folder
        )

    def add_workers(self, number):
        for _ in range(number):
            options = ["--nthreads", "1", "--preload", "faulty_worker", "--dashboard-address", ":0"]
            self.workers.append(self._start("worker", *options, *self.options))
        return self

    def stop(self):
        for process in (*self.workers, self.scheduler):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@contextmanager
def cluster(folder, fault="slow", *, workers=2, nanny=False, memory="auto", **environment):
    """Start a cluster, and return it with a client."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        there = Cluster(folder, fault, nanny=nanny, memory=memory, environment=environment)
        stack.callback(there.stop)
        wait_for((folder / "scheduler.json").exists)
        there.add_workers(workers)
        client = Client(
            scheduler_file=str(folder / "scheduler.json"), set_as_default=False, timeout=LONG
        )
        stack.callback(client.close, timeout=2)
        client.wait_for_workers(workers, timeout=LONG)
        yield there, client


def wait_for(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def when_checkpoints(out, number, action):
    """Return a listener that acts when a number of fragments are written."""
    seen = []

    def on_event(event):
        if event["kind"] == "written":
            seen.append(event)
            if len(seen) == number:
                action()

    return on_event


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_another_worker_does_the_work_of_a_lost_worker(tmp_path, out, how):
    source = make_input("scrambled", tmp_path)
    run(source, tmp_path / "whole")
    # Long enough for the other worker, which a busy machine may keep from answering for seconds.
    settings = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "15s"}
    with cluster(tmp_path / "cluster", **settings) as (there, client):
        on_event = when_checkpoints(out, 2, lambda: there.workers[0].send_signal(how))
        run(source, out, client=client, on_event=on_event)
    assert data(out) == data(tmp_path / "whole")
    assert hidden(out) == []


@pytest.mark.slow
def test_without_workers_the_run_stops_and_resumes_when_there_are_some(
    tmp_path, out, monkeypatch, caplog
):
    source = make_input("scrambled", tmp_path)
    run(source, tmp_path / "whole")
    monkeypatch.setattr(watchdog, "CHECK_SECONDS", 0.2)
    with cluster(tmp_path / "cluster", workers=1) as (there, client):
        on_event = when_checkpoints(out, 3, there.workers[0].kill)
        with (
            dask.config.set({watchdog.NO_WORKERS: "20s"}),
            pytest.raises(RunError, match="has had no workers for"),
        ):
            run(source, out, client=client, on_event=on_event)
        assert "particles are written so far. Run the same command to resume" in caplog.text
        there.add_workers(1)
        client.wait_for_workers(1, timeout=LONG)
        caplog.clear()
        caplog.set_level("INFO", "dask_dedup")
        run(source, out, client=client)
    assert "resuming: " in caplog.text
    assert data(out) == data(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_stops_when_all_workers_stay_paused(tmp_path, out, monkeypatch):
    monkeypatch.setattr(watchdog, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(watchdog, "IDLE_SECONDS", 1.0)
    source = make_input("scrambled", tmp_path)

    def pause(dask_worker):
        dask_worker.memory_manager.memory_pause_fraction = 0.0001

    def status(dask_worker):
        return dask_worker.status.name

    with (
        cluster(tmp_path / "cluster") as (_, client),
        dask.config.set({watchdog.NO_WORKERS: "2s"}),
    ):
        client.run(pause)
        wait_for(lambda: set(client.run(status).values()) == {"paused"})
        with pytest.raises(RunError, match=r"have been paused for .* memory is full"):
            run(source, out, client=client)
    assert not out.exists()


@pytest.mark.slow
def test_a_run_stops_when_the_scheduler_is_lost(tmp_path, out):
    source = make_input("scrambled", tmp_path)
    with cluster(tmp_path / "cluster") as (there, client):
        on_event = when_checkpoints(out, 2, there.scheduler.kill)
        began = time.monotonic()
        with pytest.raises(RunError, match="was lost or dropped the work"):
            run(source, out, client=client, on_event=on_event)
        assert time.monotonic() - began < LONG
    run(source, tmp_path / "whole")
    run(source, out)
    assert data(out) == data(tmp_path / "whole")


@pytest.mark.parametrize("reason", [ConnectionResetError(104, "reset"), CancelledError()])
def test_a_scheduler_that_is_lost_while_a_result_is_fetched_is_named(reason):
    error = reason
    if isinstance(reason, OSError):
        error = CommClosedError("in <TCP>")
        error.__cause__ = reason

    def result(timeout):
        raise error

    client = SimpleNamespace(scheduler=SimpleNamespace(address="tcp://node1:8786"))
    tasks = FinishedTasks(client, lambda *_: None)
    with pytest.raises(RunError, match="scheduler at tcp://node1:8786 was lost or dropped"):
        tasks._result(SimpleNamespace(result=result), "writing", None)


@pytest.mark.slow
def test_a_run_stops_when_the_scheduler_freezes(tmp_path, out, monkeypatch):
    monkeypatch.setattr(watchdog, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(watchdog, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(watchdog, "SILENT_SECONDS", 2.0)
    source = make_input("scrambled", tmp_path)
    with cluster(tmp_path / "cluster") as (there, client):
        on_event = when_checkpoints(out, 2, lambda: there.scheduler.send_signal(signal.SIGSTOP))
        with pytest.raises(RunError, match="has not answered for"):
            run(source, out, client=client, on_event=on_event)


@pytest.mark.slow
def test_a_task_that_kills_every_worker_names_a_fragment_of_these_workers(tmp_path, out):
    source = make_input("parquet", tmp_path)
    settings = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    with (
        cluster(tmp_path / "cluster", "kill", nanny=True, **settings) as (_, client),
        pytest.raises(RunError, match=f"^2 {KILLED_WHILE_WRITING}"),
    ):
        run(source, out, client=client)


class TestAWorkerThatUsesTooMuchMemory:
    """Its nanny kills it at 95 % of its limit, and starts another."""

    pytestmark = pytest.mark.slow
    LIMIT = "800MB"

    def test_does_no_harm_if_it_happens_once(self, tmp_path, out):
        source = make_input("scrambled", tmp_path)
        run(source, tmp_path / "whole")
        with cluster(tmp_path / "cluster", "memory-once", nanny=True, memory=self.LIMIT) as (
            _,
            client,
        ):
            before = set(client.run(os.getpid).values())
            run(source, out, client=client)
            ((_, ended),) = client.get_events("worker-restart-memory")
            client.wait_for_workers(2, timeout=LONG)
            after = set(client.run(os.getpid).values())
        assert before - after == {ended["pid"]}
        assert ended["rss"] > 0.95 * 800e6
        assert data(out) == data(tmp_path / "whole")
        assert hidden(out) == []

    def test_stops_the_run_with_the_name_of_a_fragment_if_it_always_happens(self, tmp_path, out):
        source = make_input("parquet", tmp_path)
        program = (
            "from dask_dedup.formats.parquet import table as parquet; parquet.FRAGMENT_BYTES = 1; "
        )
        program += (
            "from dask_dedup.pipeline.executors import batching as groups; groups.TASK_ROWS = 1; "
        )
        program += "from dask_dedup.cli import main; main()"
        words = ["run", source, "--output", out, "--workers", "2", "--threads-per-worker", "1"]
        words += ["--memory-limit", self.LIMIT]
        preload = {"DASK_DISTRIBUTED__WORKER__PRELOAD": "faulty_worker", "PYTHONPATH": str(HERE)}
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            env={**os.environ, "FAULT": "memory", **preload},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        line = done.stderr.splitlines()[-1]
        assert done.returncode == 1, done.stderr
        assert re.match(f"dask-dedup: 4 {KILLED_WHILE_WRITING}, probably out of memory", line), line
        run(source, out)
        run(source, tmp_path / "whole")
        assert data(out) == data(tmp_path / "whole")


class TestATaskThatAlwaysFails:
    @pytest.fixture
    def source(self, tmp_path):
        return write_file(relion(100), tmp_path / "in.parquet", row_group_size=20)

    @pytest.fixture(params=["threads", "cluster"])
    def client(self, request):
        """No client, or a cluster in this process, which sees what a test patches."""
        with ExitStack() as stack:
            yield None if request.param == "threads" else start_local(stack, 1, 2)

    @pytest.fixture
    def bad_micrograph(self, source, monkeypatch):
        name = parquet.pq.read_table(source)["rlnMicrographName"][50].as_py()
        key = hash_texts([name])[0]
        real = stages.decide

        def decide(picks, *parameters):
            if (picks.micrograph == key).any():
                raise MemoryError("Unable to allocate 99 GiB")
            return real(picks, *parameters)

        monkeypatch.setattr(stages, "decide", decide)
        return name

    def test_it_names_the_micrograph_and_the_file(self, source, out, client, bad_micrograph):
        with pytest.raises(RunError) as caught:
            run(source, out, client=client)
        line = str(caught.value)
        assert f"micrograph {bad_micrograph} (" in line
        assert f"{source} row " in line
        assert "not enough memory" in line
        assert not out.exists()


def test_many_fragments_are_written_by_few_tasks(tmp_path, out, monkeypatch):
    source = make_input("scrambled", tmp_path)
    run(source, tmp_path / "whole")
    monkeypatch.setattr(distributed, "MOST_WRITERS", 3)
    with ExitStack() as stack:
        run(source, out, client=start_local(stack, 1, 2))
    assert data(out) == data(tmp_path / "whole")

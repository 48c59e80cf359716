import os
from contextlib import ExitStack
from types import SimpleNamespace

import dask
import psutil
import pytest
from tables import cryosparc, write_file

from dask_dedup import DedupParams, InputError, RunError, run
from dask_dedup.cluster import connect as cluster
from dask_dedup.cluster import handshake
from dask_dedup.cluster import preload as malloc
from dask_dedup.monitoring.progress import Progress
from dask_dedup.pipeline.executors import select
from dask_dedup.pipeline.executors.threads import ThreadExecutor

UNUSED_ADDRESS = "tcp://127.0.0.1:9"


@pytest.fixture
def inputs(tmp_path):
    return [
        write_file(cryosparc(300, seed=seed), tmp_path / f"{seed}.parquet", row_group_size=50)
        for seed in (1, 2)
    ]


def digests(result):
    return {entry["path"]: entry["sha256"] for entry in result.manifest["outputs"]}


@pytest.mark.parametrize(("rows", "cores"), [(1_000, 64), (10**9, select.MOST_THREADS)])
def test_work_that_threads_can_do_needs_no_cluster(monkeypatch, rows, cores):
    monkeypatch.setattr(select, "available_cores", lambda: cores)
    with ExitStack() as stack:
        assert isinstance(select.choose_executor(stack, None, rows), ThreadExecutor)


def test_an_asynchronous_client_is_refused():
    client = SimpleNamespace(asynchronous=True)
    with ExitStack() as stack, pytest.raises(InputError, match="the Dask client is asynchronous"):
        select.choose_executor(stack, client, 1_000)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (4, 4), (64, select.MOST_THREADS)])
def test_threads_are_as_many_as_cores_up_to_a_limit(monkeypatch, cores, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert ThreadExecutor().threads == threads


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_local_cluster_gives_the_bytes_of_threads(inputs, tmp_path, workers):
    params = DedupParams(min_separation=60)
    here = run(inputs, tmp_path / "here", params)
    with ExitStack() as stack:
        client = cluster.start_local(stack, workers, 1)
        there = run(inputs, tmp_path / "there", params, client)
    assert digests(there) == digests(here)


@pytest.mark.slow
def test_a_large_run_on_many_cores_starts_a_local_cluster(inputs, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(select, "THREADS_ROWS", 100)
    monkeypatch.setattr(select, "MOST_THREADS", 0)
    caplog.set_level("INFO", "dask_dedup")
    result = run(inputs, tmp_path / "out")
    assert result.rows == 600
    assert "running on the Dask cluster" in caplog.text


@pytest.mark.slow
def test_on_event_receives_the_final_event_of_each_run_on_a_cluster(inputs, tmp_path):
    with ExitStack() as stack:
        client = cluster.start_local(stack, 1, 2)
        for number in range(10):
            received = []
            run(inputs, tmp_path / str(number), client=client, on_event=received.append)
            assert received[-1]["kind"] == "finished"


class TestMoreMovesThanFits:
    """A cluster is started if the picks that move do not fit in memory."""

    @pytest.fixture
    def started(self, monkeypatch):
        """Clients of the clusters that were started; they stay open for questions."""
        clients = []
        with ExitStack() as longer:
            start = cluster.start_local
            monkeypatch.setattr(
                select, "start_local", lambda _: clients.append(start(longer, 1, 2)) or clients[-1]
            )
            yield clients

    def test_few_picks_move_between_threads(self, inputs, tmp_path, monkeypatch, started):
        monkeypatch.setattr(select, "MOVING_BYTES", 2**40)
        run(inputs, tmp_path / "out")
        assert not started

    def test_many_picks_that_fit_move_between_threads(self, inputs, tmp_path, monkeypatch, started):
        monkeypatch.setattr(select, "THREADS_ROWS", 100)
        run(inputs, tmp_path / "out")
        assert not started

    @pytest.mark.slow
    def test_the_bytes_are_those_of_threads(self, inputs, tmp_path, monkeypatch, started):
        here = run(inputs, tmp_path / "here")
        monkeypatch.setattr(select, "THREADS_ROWS", 100)
        monkeypatch.setattr(select, "MOVING_BYTES", 2**40)
        there = run(inputs, tmp_path / "there")
        assert len(started) == 1
        assert here.manifest["plan"]["moving_rows"] == 600
        assert digests(there) == digests(here)

    @pytest.mark.slow
    def test_listeners_receive_every_event_once(self, inputs, tmp_path, monkeypatch, started):
        monkeypatch.setattr(select, "THREADS_ROWS", 100)
        monkeypatch.setattr(select, "MOVING_BYTES", 2**40)
        here = Progress()
        result = run(inputs, tmp_path / "out", on_event=here.note)
        there = started[0].run_on_scheduler(
            lambda dask_scheduler: dask_scheduler.plugins["dask-dedup"].current
        )
        for progress in (here, there):
            assert progress.status == "finished"
            assert progress.repeats == 0
            assert progress.rejected == result.rejected
            assert {stage.rows for stage in progress.stages.values()} == {600}
        assert "in this process" in here.executor
        assert "Dask cluster" in there.executor


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_local_cluster_listens_on_this_machine_only(workers):
    def listening():
        own = psutil.Process()
        processes = [own, *own.children(recursive=True)]
        return {
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }

    before = listening()
    with ExitStack() as stack:
        cluster.start_local(stack, workers, 1)
        assert listening() - before <= {"127.0.0.1"}


class TestMemoryOfWorkers:
    """Workers keep freed memory for reuse, unless the user configured otherwise."""

    pytestmark = pytest.mark.slow
    NAMES = (malloc.TRIM, "MALLOC_MMAP_THRESHOLD_", malloc.POOL)

    @pytest.fixture(autouse=True)
    def no_settings_before(self, monkeypatch):
        for name in self.NAMES:
            monkeypatch.delenv(name, raising=False)

    def settings(self):
        with ExitStack() as stack:
            client = cluster.start_local(stack, 2, 1)
            values = client.run(lambda names: [os.environ.get(name) for name in names], self.NAMES)
        first, second = values.values()
        assert first == second
        return first

    def test_is_kept_by_default(self):
        assert self.settings() == [str(2**26), str(2**25), "system"]

    def test_follows_the_settings_of_the_user(self, monkeypatch):
        monkeypatch.setenv(malloc.POOL, "mimalloc")
        settings = {f"distributed.nanny.pre-spawn-environ.{malloc.TRIM}": 1234}
        with dask.config.set(settings):
            assert self.settings() == ["1234", None, "mimalloc"]


@pytest.mark.slow
def test_the_configured_scheduler_is_used(inputs, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "dask_dedup")
    with ExitStack() as stack:
        client = cluster.start_local(stack, 2, 1)
        with dask.config.set({"scheduler-address": client.scheduler.address}):
            run(inputs, tmp_path / "out")
        assert f"running on the Dask cluster at {client.scheduler.address}" in caplog.text


def test_a_missing_scheduler_is_reported(monkeypatch):
    monkeypatch.setattr(handshake, "CONNECT_SECONDS", 0.2)
    with (
        ExitStack() as stack,
        pytest.raises(RunError, match="cannot connect to the Dask scheduler"),
    ):
        cluster.connect(stack, UNUSED_ADDRESS)

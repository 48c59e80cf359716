from contextlib import ExitStack

import psutil
import pytest
from tables import cryosparc, write_file

from dask_dedup import DedupParams, RunError, cluster, run
from dask_dedup.engines.threads import ThreadEngine

ADDRESS_OF_NOBODY = "tcp://127.0.0.1:9"


@pytest.fixture
def inputs(tmp_path):
    return [
        write_file(cryosparc(300, seed=seed), tmp_path / f"{seed}.parquet", row_group_size=50)
        for seed in (1, 2)
    ]


def digests(result):
    return {entry["path"]: entry["sha256"] for entry in result.manifest["outputs"]}


def test_small_work_is_done_inside_this_process():
    with ExitStack() as stack:
        assert isinstance(cluster.choose_engine(stack, None, 1000), ThreadEngine)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_local_cluster_gives_the_bytes_of_this_process(inputs, tmp_path, workers):
    params = DedupParams(min_separation=60)
    here = run(inputs, tmp_path / "here", params)
    with ExitStack() as stack:
        client = cluster.start_local(stack, workers, 1)
        there = run(inputs, tmp_path / "there", params, client)
    assert digests(there) == digests(here)


@pytest.mark.slow
def test_larger_work_gets_a_local_cluster(inputs, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cluster, "IN_PROCESS_ROWS", 100)
    caplog.set_level("INFO", "dask_dedup")
    result = run(inputs, tmp_path / "out")
    assert result.rows == 600
    assert "running on the Dask cluster" in caplog.text


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


@pytest.mark.slow
def test_the_configured_scheduler_is_used(inputs, tmp_path, monkeypatch, caplog):
    import dask

    caplog.set_level("INFO", "dask_dedup")
    with ExitStack() as stack:
        client = cluster.start_local(stack, 2, 1)
        with dask.config.set({"scheduler-address": client.scheduler.address}):
            run(inputs, tmp_path / "out")
        assert f"running on the Dask cluster at {client.scheduler.address}" in caplog.text


def test_a_scheduler_that_is_not_there_is_said_so(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)
    with ExitStack() as stack, pytest.raises(RunError, match="no Dask scheduler answers"):
        cluster.connect(stack, ADDRESS_OF_NOBODY)

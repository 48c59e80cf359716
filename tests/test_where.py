"""Options that choose a cluster: combinations that exclude each other, values and libraries that are missing."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import dask
import pytest
from tables import cryosparc, write_file

from dask_dedup import RunError
from dask_dedup.cluster import handshake, scheduler
from dask_dedup.cluster.scheduler import closing_quietly, preloads
from dask_dedup.cluster.slurm import walltime
from dask_dedup.cluster.slurm.allocation import Allocation


@pytest.fixture
def arguments(tmp_path):
    return ("run", write_file(cryosparc(20), tmp_path / "in.parquet"), "-o", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cluster", "slurm"), "--jobs N go together"),
        (("--jobs", 2), "--jobs N go together"),
        (("--cluster", "slurm-allocation", "--jobs", 2), "--jobs N go together"),
        (("--cluster", "slurm", "--jobs", 2, "--workers", 2), "are for a local cluster"),
        (("--cluster", "slurm", "--jobs", 2, "--memory-limit", "1GB"), "are for a local cluster"),
        (("--cluster", "slurm", "--jobs", 2, "--scheduler", "x"), "exclude each other"),
        (("--scheduler", "x", "--scheduler-file", "y"), "exclude each other"),
        (("--scheduler", "x", "--dashboard-address", ":1"), "exclude each other"),
        (("--interface", "lo"), "--interface is for --cluster"),
        (("--tls-ca-file", "x"), "go together"),
        (("--tls-cert", "x", "--workers", 1), "go together"),
        (("--tls-key", "x"), "go together"),
    ],
)
def test_options_that_exclude_each_other_are_refused(cli, arguments, options, words):
    outcome = cli(*arguments, *options)
    assert outcome.exit_code == 2
    assert words in outcome.stderr


def test_a_missing_library_is_named_with_its_install_command(cli, arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    monkeypatch.delitem(sys.modules, "dask_dedup.cluster.slurm.jobs", raising=False)
    outcome = cli(*arguments, "--cluster", "slurm", "--jobs", 2)
    assert outcome.exit_code == 2
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("dask-dedup: ")
    assert "pip install 'dask-dedup[slurm]'" in line


def test_without_slurm_the_message_says_so(cli, arguments, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", "")
    outcome = cli(*arguments, "--cluster", "slurm", "--jobs", 2)
    assert outcome.exit_code == 2
    assert "there is no sbatch here" in outcome.stderr


def test_outside_a_job_there_is_no_allocation(cli, arguments, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    outcome = cli(*arguments, "--cluster", "slurm-allocation")
    assert outcome.exit_code == 2
    assert "Submit the command with sbatch" in outcome.stderr


class TestAllocation:
    @pytest.mark.parametrize(
        ("variables", "tasks", "cores", "gibibytes"),
        [
            ({"SLURM_NTASKS": "4", "SLURM_CPUS_PER_TASK": "8"}, 4, 8, None),
            ({"SLURM_NTASKS": "4", "SLURM_MEM_PER_NODE": "8192"}, 4, 8, 4),
            ({"SLURM_NTASKS": "2", "SLURM_MEM_PER_CPU": "1024"}, 2, 16, 16),
            ({}, 2, 16, None),
            ({"SLURM_MEM_PER_NODE": "0"}, 2, 16, None),
        ],
        ids=["cores", "memory of a node", "memory of a core", "whole nodes", "all memory"],
    )
    def test_tasks_share_cores_and_memory(self, variables, tasks, cores, gibibytes):
        nodes = {
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_JOB_CPUS_PER_NODE": "16(x2)",
        }
        found = Allocation.read(nodes | variables)
        assert (found.nodes, found.tasks, found.cores) == (2, tasks, cores)
        assert found.memory == (gibibytes and gibibytes * 2**30)


class TestTimeLimits:
    @pytest.mark.parametrize(
        ("written", "seconds"),
        [
            ("5", 300),
            (90, 5400),
            ("1:30", 90),
            ("1:02:03", 3723),
            ("2-0", 172800),
            ("1-01:01", 90060),
            ("1-01:01:01", 90061),
            ("infinite", None),
            ("NOT_SET", None),
            ("", None),
        ],
    )
    def test_limits_are_read_as_slurm_writes_them(self, written, seconds):
        assert walltime.walltime_seconds(written) == seconds

    @pytest.mark.parametrize("limit", ["0:01:00", "01:00:00", "1-00:00:00"])
    def test_workers_leave_before_the_limit(self, limit):
        _, leave, _, stagger = walltime.lifetime_options(limit)
        latest = float(leave.removesuffix("s")) + float(stagger.removesuffix("s"))
        left = walltime.walltime_seconds(limit) - latest
        assert 3 <= left <= 100

    def test_without_a_limit_workers_stay(self):
        assert walltime.lifetime_options(None) == walltime.lifetime_options("UNLIMITED") == []

    def test_a_lifetime_in_the_configuration_stays(self):
        with dask.config.set({"distributed.worker.lifetime.duration": "1h"}):
            assert walltime.lifetime_options("02:00:00") == []

    def test_sigterm_stops_the_run_with_an_error(self):
        before = signal.getsignal(signal.SIGTERM)
        with (
            pytest.raises(RunError, match="Run the same command again"),
            walltime.stop_on_sigterm(),
        ):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory-limit", "lots"), "--memory-limit lots: not a size"),
        (("--memory-limit", "8", "--workers", 2), "--memory-limit 8: too little, a worker with"),
        (
            ("--memory-limit", "450MB", "--threads-per-worker", 1),
            "--memory-limit 450MB: too little, a worker with 1 thread needs 500 MB. "
            "Use --memory-limit 500MB or more",
        ),
        (("--memory-limit", "0.0001", "--workers", 2), "--memory-limit 0.0001: too little"),
        (("--memory-limit", "-8GB", "--workers", 2), "--memory-limit -8GB: too little"),
        (("--workers", 10_000), "--workers 10000: each worker would have"),
        (("--dashboard-address", "here"), "--dashboard-address here: not an address"),
        (("--dashboard-address", ":99999"), "--dashboard-address :99999: not an address"),
        (
            ("--scheduler-file", "/no/such/folder/s.json"),
            "--scheduler-file /no/such/folder/s.json: there is no folder",
        ),
    ],
)
def test_wrong_values_are_refused_at_once(cli, arguments, options, words):
    outcome = cli(*arguments, *options)
    assert outcome.exit_code == 2
    (line,) = outcome.stderr.splitlines()
    assert line.startswith(f"dask-dedup: {words}")


def test_a_missing_scheduler_file_is_named(cli, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(handshake, "CONNECT_SECONDS", 0.3)
    outcome = cli(*arguments, "--scheduler-file", tmp_path / "s.json")
    assert outcome.exit_code == 2
    assert "dask scheduler --scheduler-file" in outcome.stderr.splitlines()[-1]


@pytest.mark.parametrize("configured", ["json", ["json"]], ids=["one", "several"])
def test_preloads_of_the_configuration_stay(configured):
    with dask.config.set({"distributed.worker.preload": configured}):
        assert preloads("worker", "module") == ["json", "module"]


def test_the_live_page_of_a_single_worker_is_on_this_machine(cli, arguments):
    pytest.importorskip("bokeh")
    outcome = cli(*arguments, "--no-report", "--workers", 1, "--dashboard-address", ":0")
    assert "live page: http://127.0.0.1:" in outcome.stderr


def test_a_wait_for_workers_is_announced(caplog, monkeypatch):
    monkeypatch.setattr(scheduler, "NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(scheduler, "POLL_SECONDS", 0.0)
    caplog.set_level("INFO", "dask_dedup")
    answers = iter([{}, {}, {}, {"a": 1, "b": 1}])
    client = SimpleNamespace(nthreads=lambda: next(answers))
    scheduler.wait_for_workers(client, 2, lambda: None)
    assert caplog.messages == [
        "no worker has connected yet; the run starts when the first worker connects"
    ]


def test_a_cluster_closes_without_log_lines(caplog):
    worker = logging.getLogger("distributed.worker")

    @contextmanager
    def cluster():
        try:
            yield
        finally:
            worker.error("the scheduler does not answer")

    level = logging.getLogger("distributed").level
    with suppress(KeyboardInterrupt), closing_quietly(cluster()):
        worker.error("in use")
        raise KeyboardInterrupt
    with closing_quietly(cluster()):
        worker.error("still in use")
    assert [record.message for record in caplog.records] == ["in use", "still in use"]
    assert logging.getLogger("distributed").level == level

"""Runs on a real SLURM of two nodes, which tests/slurm/start starts on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import dask
import psutil
import pytest
import yaml
from conftest import REPOSITORY
from tables import cryosparc, write_folder
from test_output import data, hidden

from dask_dedup import run
from dask_dedup.formats.parquet import table as parquet

HERE = Path(__file__).parent
SCRIPTS = HERE / "slurm"
DEPLOY = REPOSITORY / "deploy" / "slurm"
#: Seconds that the tests wait for anything.
LONG = 240.0
#: Size of a worker job that fits the nodes of the tests.
SMALL = {"cores": 1, "memory": "500MiB", "interface": "lo", "walltime": "00:10:00"}
SLOW = ["--preload", "slow_worker"]

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))),
        reason="needs SLURM (Debian: slurm-wlm, munge)",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons need root"),
]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A SLURM that the commands of this process and its children use."""
    folder = tmp_path_factory.mktemp("slurm")
    start = subprocess.run(
        [SCRIPTS / "start", folder], capture_output=True, text=True, timeout=LONG
    )
    try:
        assert start.returncode == 0, start.stderr
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
            patch.setenv("PYTHONPATH", str(HERE))
            patch.setenv("SECONDS_A_FRAGMENT", "0.5")
            yield folder
    finally:
        subprocess.run([SCRIPTS / "stop", folder], timeout=LONG, check=True)


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """A folder with a `dask-dedup` that splits even small inputs into many fragments."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "dask-dedup").write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        from dask_dedup.cli import main
        from dask_dedup.formats.parquet import table as parquet

        parquet.FRAGMENT_BYTES = 1
        if __name__ == "__main__":
            main()
        """)
    )
    (folder / "dask-dedup").chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return write_folder(cryosparc(240, seed=3), tmp_path_factory.mktemp("data") / "in", files=24)


@pytest.fixture(scope="session")
def expected(source, tmp_path_factory):
    """Data files of a run in this process."""
    out = tmp_path_factory.mktemp("expected") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "FRAGMENT_BYTES", 1)
        run(source, out)
    return data(out)


@pytest.fixture(autouse=True)
def many_fragments(monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def settings(tmp_path, **changes):
    """Return the configuration of deploy/slurm/jobqueue.yaml, adapted to this SLURM."""
    configuration = yaml.safe_load((DEPLOY / "jobqueue.yaml").read_text())
    local = {"local-directory": str(tmp_path / "scratch"), "log-directory": str(tmp_path / "logs")}
    configuration["jobqueue"]["slurm"] |= (
        SMALL | local | {name.replace("_", "-"): value for name, value in changes.items()}
    )
    return configuration


@pytest.fixture
def elastic(slurm, cli, tmp_path, source, out):
    """Call `dask-dedup run --cluster slurm`, with changes to the settings of a job."""
    # The import adds its defaults to the configuration; it must not happen inside `dask.config.set`.
    pytest.importorskip("dask_jobqueue")

    def call(*options, jobs=2, **changes):
        job = settings(tmp_path, **changes)["jobqueue"]["slurm"]
        with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in job.items()}):
            return cli("run", source, "-o", out, "--cluster", "slurm", "--jobs", jobs, *options)

    yield call
    assert jobs_in_queue() == []


def jobs_in_queue():
    queue = subprocess.run(
        ["squeue", "--noheader", "--format=%i", "--states=PENDING,RUNNING", "--name=dask-worker"],
        capture_output=True,
        text=True,
        check=True,
    )
    return queue.stdout.split()


def submit(
    source, out, program, folder, *options, configuration=None, run_options=(), **environment
):
    """Submit deploy/slurm/batch.sh with options of sbatch and of the run; return the id of its job."""
    folder.mkdir(exist_ok=True)
    (folder / "dask.yaml").write_text(yaml.safe_dump(configuration or settings(folder)))
    command = [
        *("sbatch", "--parsable", f"--output={folder}/%j.log", f"--chdir={out.parent}"),
        *("--cpus-per-task=1", "--mem=600M", *options),
        *(DEPLOY / "batch.sh", source, "--output", out, "--no-report", *run_options),
    ]
    variables = {
        "PATH": f"{program}:{os.environ['PATH']}",
        "DASK_CONFIG": str(folder / "dask.yaml"),
        "DASK_DEDUP_INTERFACE": "lo",
        **environment,
    }
    outcome = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | variables, timeout=LONG
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.strip()


# Slurm lists a job under each of these before the state it ends in.
UNFINISHED = (
    *("PENDING", "CONFIGURING", "RUNNING", "SIGNALING", "STAGE_OUT", "COMPLETING"),
    *("SUSPENDED", "STOPPED", "REQUEUED", "RESIZING"),
)


def in_queue(job, form):
    """Return what squeue prints for a job."""
    command = ["squeue", "--noheader", "--states=all", f"--format={form}", f"--jobs={job}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def state_at_the_end(job):
    """Wait for a job to end and return its state."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        state = in_queue(job, "%T")
        if state not in UNFINISHED:
            return state
        time.sleep(0.2)
    pytest.fail(f"job {job} is still {state}")


@pytest.fixture(scope="session")
def too_short(slurm, program, source, tmp_path_factory):
    """Two jobs of one command, the first very slow; submitted early, because they take a minute."""
    folder = tmp_path_factory.mktemp("too_short")
    one = ("--nodes=1", "--ntasks=1")
    slow = settings(folder, worker_extra_args=SLOW)
    rest = {"configuration": slow, "SECONDS_A_FRAGMENT": "20"}
    first = submit(source, folder / "out", program, folder / "1", *one, "--time=15", **rest)
    depends = f"--dependency=afternotok:{first}"
    second = submit(source, folder / "out", program, folder / "2", *one, depends)
    return folder, first, second


class TestOneJob:
    def test_the_batch_script_writes_the_bytes_of_a_local_run_with_tls(
        self, too_short, program, source, expected, out, tmp_path, authority
    ):
        job = submit(source, out, program, tmp_path, run_options=authority.options)
        state = state_at_the_end(job)
        log = (tmp_path / f"{job}.log").read_text()
        assert state == "COMPLETED", log
        assert "running on the Dask cluster at tls://127.0.0.1:" in log
        assert ": 2 workers, 2 threads" in log
        assert data(out) == expected
        assert hidden(out) == []
        assert [line for line in log.splitlines() if "distributed" in line or "Error" in line] == []

    def test_it_stops_before_the_time_limit_and_says_how_to_resume(
        self, slurm, program, source, out, tmp_path
    ):
        one = ("--nodes=1", "--ntasks=1", "--time=2")
        slow = settings(tmp_path, worker_extra_args=SLOW)
        rest = {"configuration": slow, "SECONDS_A_FRAGMENT": "20"}
        job = submit(source, out, program, tmp_path, *one, **rest)
        state = state_at_the_end(job)
        log = (tmp_path / f"{job}.log").read_text()
        assert state == "FAILED", log
        (line,) = [line for line in log.splitlines() if line.startswith("dask-dedup: ")]
        assert "stopped by SIGTERM (the job's time limit, or scancel)" in line
        assert "Run the same command again to resume." in line


class TestWorkerJobs:
    def test_they_write_the_bytes_of_a_local_run_with_tls(
        self, elastic, expected, out, monkeypatch, authority
    ):
        addresses = []
        when_written(monkeypatch, 2, lambda: addresses.extend(listening()))
        outcome = elastic(*authority.options)
        assert outcome.exit_code == 0, outcome.stderr
        assert "running on the Dask cluster at tls://127.0.0.1:" in outcome.stderr
        assert ": 2 workers, 2 threads" in outcome.stderr
        assert data(out) == expected
        # Two nannies, two workers, and the pages of both workers.
        assert len(addresses) >= 6
        assert {address.ip for address in addresses} == {"127.0.0.1"}

    @pytest.mark.parametrize("processes", [1, 2])
    def test_a_cancelled_job_is_submitted_again(
        self, elastic, expected, out, monkeypatch, processes
    ):
        cancelled = when_written(monkeypatch, 2, lambda: cancel(jobs_in_queue()[0]))
        size = {"processes": processes, "cores": processes, "memory": f"{500 * processes}MiB"}
        outcome = elastic(worker_extra_args=SLOW, **size)
        assert outcome.exit_code == 0, outcome.stderr
        assert cancelled
        assert "has ended (CANCELLED): submitting another" in outcome.stderr
        assert data(out) == expected

    def test_a_job_that_leaves_before_its_time_limit_is_submitted_again(
        self, elastic, expected, out, tmp_path
    ):
        seen = tmp_path / "seen"
        # Short for the first job only, so that the test ends on a busy machine, too.
        first = f"LIFETIME=8s; [ -e {seen} ] && LIFETIME=1h; touch {seen}"
        lifetime = ["--lifetime", "$LIFETIME"]
        changes = {"worker_extra_args": [*SLOW, *lifetime], "job_script_prologue": [first]}
        outcome = elastic(jobs=1, **changes)
        assert outcome.exit_code == 0, outcome.stderr
        assert re.search(r"job \d+ has ended \(\w+\): submitting another", outcome.stderr)
        assert data(out) == expected


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"memory": "900GiB"}, "Memory specification can not be satisfied"),
            ({"queue": "nowhere"}, "invalid partition specified: nowhere"),
            ({"walltime": "9-00:00:00"}, "PartitionTimeLimit"),
        ],
        ids=["memory", "partition", "walltime"],
    )
    def test_a_job_that_slurm_refuses_ends_the_run_soon(self, elastic, out, changes, words):
        began = time.monotonic()
        outcome = elastic("--quiet", **changes)
        assert time.monotonic() - began < LONG
        assert outcome.exit_code == 1
        (line,) = outcome.stderr.splitlines()
        assert line.startswith("dask-dedup: SLURM ")
        assert words in line
        assert not out.exists()

    def test_jobs_that_fail_at_once_end_the_run(self, elastic):
        outcome = elastic("--quiet", python="/no/such/python")
        assert outcome.exit_code == 1
        *warnings, line = outcome.stderr.splitlines()
        assert len(warnings) == 2
        assert line.startswith("dask-dedup: job ")
        assert "(FAILED, NonZeroExitCode) before its workers connected" in line
        assert "/no/such/python: No such file or directory" in line

    def test_the_size_of_a_job_must_be_set(self, elastic):
        outcome = elastic(cores=None)
        assert outcome.exit_code == 2
        assert "jobqueue.slurm.cores" in outcome.stderr
        assert "deploy/slurm/jobqueue.yaml" in outcome.stderr

    @pytest.mark.parametrize(("interface", "words"), [(None, "ip -brief address"), ("ib9", "'lo'")])
    def test_the_network_interface_must_exist(self, elastic, interface, words):
        outcome = elastic(interface=interface)
        assert outcome.exit_code == 2
        assert "--interface" in outcome.stderr
        assert words in outcome.stderr


def test_a_run_that_slurm_ends_resumes_in_the_next_job(too_short, expected):
    folder, first, second = too_short
    end = time.monotonic() + LONG
    # Past its new limit at once, so that SLURM does not send the signal of a minute before.
    while (
        len([*(folder / "out").glob(".dask-dedup-*/checkpoints/*")]) < 2
        or in_queue(first, "%M").startswith("0:")  # minutes and seconds
    ):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)
    # SLURM looks for jobs over their time limit every 30 s.
    subprocess.run(["scontrol", "update", f"JobId={first}", "TimeLimit=1"], check=True)
    states = [state_at_the_end(job) for job in (first, second)]
    logs = [(folder / f"{n}" / f"{job}.log").read_text() for n, job in ((1, first), (2, second))]
    assert states == ["TIMEOUT", "COMPLETED"], "".join(logs)
    assert "particles are written so far. Run the same command to resume" in logs[0]
    assert "resuming: " in logs[1]
    assert data(folder / "out") == expected
    assert hidden(folder / "out") == []


def when_written(monkeypatch, number, action):
    """Call an action once a run in this process has written a number of fragments; return a list of its result."""
    from dask_dedup.monitoring.progress_bar import SharedProgress

    seen, acted = [], []
    real = SharedProgress.note

    def note(self, event):
        real(self, event)
        if event["kind"] == "written":
            seen.append(event)
            if len(seen) == number:
                acted.append(action())

    monkeypatch.setattr(SharedProgress, "note", note)
    return acted


def cancel(job):
    subprocess.run(["scancel", job], check=True)


def listening():
    """Return the addresses at which worker processes listen."""
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if "distributed.cli.dask_worker tls://" in words and "--interface lo" in words:
            for each in (process, *process.children(recursive=True)):
                for connection in each.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        yield connection.laddr

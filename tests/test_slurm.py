"""On a real SLURM of two nodes, which tests/slurm/start starts on this machine."""

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
#: So many seconds the tests wait for anything.
LONG = 120.0
#: A job of workers that the nodes of the tests can hold.
SMALL = {"cores": 1, "memory": "500MiB", "interface": "lo", "walltime": "00:10:00"}
SLOW = ["--preload", "slow_worker"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))),
        reason="needs SLURM (Debian: slurm-wlm, munge)",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons need root"),
]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A SLURM, to which the commands of this process and its children go."""
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
    """A folder with a `dask-dedup` that cuts even small inputs into many fragments."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "dask-dedup").write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        from dask_dedup.cli import main
        from dask_dedup.formats import parquet

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
    """The data files of a run in this process."""
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
    """Give the configuration that is shipped, changed for this SLURM."""
    told = yaml.safe_load((DEPLOY / "jobqueue.yaml").read_text())
    local = {"local-directory": str(tmp_path / "scratch"), "log-directory": str(tmp_path / "logs")}
    told["jobqueue"]["slurm"] |= (
        SMALL | local | {name.replace("_", "-"): value for name, value in changes.items()}
    )
    return told


@pytest.fixture
def elastic(slurm, cli, tmp_path, source, out):
    """Call `dask-dedup run --cluster slurm`; what jobs are to have may be changed."""
    # Its defaults become part of the configuration for good, and not for one call.
    pytest.importorskip("dask_jobqueue")

    def call(*options, jobs=2, **changes):
        told = settings(tmp_path, **changes)["jobqueue"]["slurm"]
        with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in told.items()}):
            return cli("run", source, "-o", out, "--cluster", "slurm", "--jobs", jobs, *options)

    yield call
    assert jobs_in_queue() == []


def jobs_in_queue():
    told = subprocess.run(
        ["squeue", "--noheader", "--format=%i", "--states=PENDING,RUNNING", "--name=dask-worker"],
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.split()


def submit(source, out, program, folder, *options, told=None, of_run=(), **environment):
    """Submit the batch script that is shipped, with options of sbatch and of the run; give the number of its job."""
    folder.mkdir(exist_ok=True)
    (folder / "dask.yaml").write_text(yaml.safe_dump(told or settings(folder)))
    command = [
        *("sbatch", "--parsable", f"--output={folder}/%j.log", f"--chdir={out.parent}"),
        *("--cpus-per-task=1", "--mem=600M", *options),
        *(DEPLOY / "batch.sh", source, "--output", out, "--no-report", *of_run),
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


def state_at_the_end(job):
    """Wait for a job; give how it ended."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        told = subprocess.run(
            ["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"],
            capture_output=True,
            text=True,
            check=True,
        )
        state = told.stdout.strip()
        if state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
            return state
        time.sleep(0.2)
    pytest.fail(f"job {job} is still {state}")


@pytest.fixture(scope="session")
def too_short(slurm, program, source, tmp_path_factory):
    """Two jobs of one command, the first of which is very slow; submitted early, since it takes a minute."""
    folder = tmp_path_factory.mktemp("too_short")
    one = ("--nodes=1", "--ntasks=1")
    slow = settings(folder, worker_extra_args=SLOW)
    # Else the run would stop by itself before SLURM ends it.
    slow["dask-dedup"]["stop-before"] = "never"
    rest = {"told": slow, "SECONDS_A_FRAGMENT": "20"}
    first = submit(source, folder / "out", program, folder / "1", *one, "--time=15", **rest)
    depends = f"--dependency=afternotok:{first}"
    second = submit(source, folder / "out", program, folder / "2", *one, depends)
    return folder, first, second


class TestInOneJob:
    def test_the_batch_script_gives_the_bytes_of_a_local_run_over_tls(
        self, too_short, program, source, expected, out, tmp_path, authority
    ):
        job = submit(source, out, program, tmp_path, of_run=authority.options)
        state = state_at_the_end(job)
        log = (tmp_path / f"{job}.log").read_text()
        assert state == "COMPLETED", log
        assert "running on the Dask cluster at tls://127.0.0.1:" in log
        assert ": 2 workers, 2 threads" in log
        assert data(out) == expected
        assert hidden(out) == []
        assert [line for line in log.splitlines() if "distributed" in line or "Error" in line] == []

    def test_it_stops_before_its_time_is_over_and_says_how_to_go_on(
        self, slurm, program, source, out, tmp_path
    ):
        told = settings(tmp_path, worker_extra_args=SLOW)
        told["dask-dedup"]["stop-before"] = "52s"
        one = ("--nodes=1", "--ntasks=1", "--time=1")
        job = submit(source, out, program, tmp_path, *one, told=told)
        state = state_at_the_end(job)
        log = (tmp_path / f"{job}.log").read_text()
        assert state == "FAILED", log
        assert "the run stops by itself 52 s before" in log
        (line,) = [line for line in log.splitlines() if line.startswith("dask-dedup: ")]
        assert "the job's time is over" in line
        assert "run the same command again" in line


class TestInJobsOfWorkers:
    def test_they_give_the_bytes_of_a_local_run_over_tls(
        self, elastic, expected, out, monkeypatch, authority
    ):
        places = []
        when_written(monkeypatch, 2, lambda: places.extend(listening()))
        outcome = elastic(*authority.options)
        assert outcome.exit_code == 0, outcome.stderr
        assert "running on the Dask cluster at tls://127.0.0.1:" in outcome.stderr
        assert ": 2 workers, 2 threads" in outcome.stderr
        assert data(out) == expected
        # Two nannies and two workers, and the pages of both workers.
        assert len(places) >= 6
        assert {place.ip for place in places} == {"127.0.0.1"}

    def test_a_cancelled_one_is_followed_by_another(self, elastic, expected, out, monkeypatch):
        cancelled = when_written(monkeypatch, 2, lambda: cancel(jobs_in_queue()[0]))
        outcome = elastic(worker_extra_args=SLOW)
        assert outcome.exit_code == 0, outcome.stderr
        assert cancelled
        assert "has left (CANCELLED): asking for another" in outcome.stderr
        assert data(out) == expected

    def test_one_whose_time_is_nearly_over_is_followed_by_another(
        self, elastic, expected, out, tmp_path
    ):
        mark = tmp_path / "mark"
        # Of the first job's worker only, so that the test ends on a busy machine, too.
        first = f"LIFETIME=8s; [ -e {mark} ] && LIFETIME=1h; touch {mark}"
        lifetime = ["--lifetime", "$LIFETIME"]
        changes = {"worker_extra_args": [*SLOW, *lifetime], "job_script_prologue": [first]}
        outcome = elastic(jobs=1, **changes)
        assert outcome.exit_code == 0, outcome.stderr
        assert re.search(r"job \d+ has left \(\w+\): asking for another", outcome.stderr)
        assert data(out) == expected


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"memory": "900GiB"}, "Memory specification can not be satisfied"),
            ({"queue": "nowhere"}, "invalid partition specified: nowhere"),
            ({"walltime": "9-00:00:00"}, "PartitionTimeLimit"),
        ],
        ids=["memory", "partition", "walltime"],
    )
    def test_a_job_that_slurm_will_not_have_is_said_so_soon(self, elastic, out, changes, words):
        began = time.monotonic()
        outcome = elastic("--quiet", **changes)
        assert time.monotonic() - began < LONG / 2
        assert outcome.exit_code == 1
        (line,) = outcome.stderr.splitlines()
        assert line.startswith("dask-dedup: SLURM ")
        assert words in line
        assert not out.exists()

    def test_jobs_that_end_at_once_are_not_asked_for_for_ever(self, elastic):
        outcome = elastic("--quiet", python="/no/such/python")
        assert outcome.exit_code == 1
        *told, line = outcome.stderr.splitlines()
        assert len(told) == 2
        assert line.startswith("dask-dedup: job ")
        assert "(FAILED, NonZeroExitCode) before its workers came" in line
        assert "/no/such/python: No such file or directory" in line

    def test_without_a_size_of_jobs_there_are_none(self, elastic):
        outcome = elastic(cores=None)
        assert outcome.exit_code == 2
        assert "jobqueue.slurm.cores" in outcome.stderr
        assert "deploy/slurm/jobqueue.yaml" in outcome.stderr

    @pytest.mark.parametrize("interface", [None, "ib9"])
    def test_without_a_network_nothing_listens(self, elastic, interface):
        outcome = elastic(interface=interface)
        assert outcome.exit_code == 2
        assert "lo (127.0.0.1)" in outcome.stderr


def test_a_run_ended_by_its_walltime_goes_on_in_the_next_job(too_short, expected):
    folder, first, second = too_short
    end = time.monotonic() + LONG
    while len([*(folder / "out").glob(".dask-dedup-*/checkpoints/*")]) < 2:
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)
    # SLURM looks for jobs that are over their time every half a minute.
    subprocess.run(["scontrol", "update", f"JobId={first}", "TimeLimit=1"], check=True)
    states = [state_at_the_end(job) for job in (first, second)]
    logs = [(folder / f"{n}" / f"{job}.log").read_text() for n, job in ((1, first), (2, second))]
    assert states == ["TIMEOUT", "COMPLETED"], "".join(logs)
    assert "fragments are written: the same command goes on from there" in logs[0]
    assert "resuming: " in logs[1]
    assert data(folder / "out") == expected
    assert hidden(folder / "out") == []


def when_written(monkeypatch, number, action):
    """Act once a run in this process has so many fragments written; gives a list that is not empty then."""
    from dask_dedup.cli.console import _SharedProgress

    seen, acted = [], []
    real = _SharedProgress.note

    def note(self, event):
        real(self, event)
        if event["kind"] == "written":
            seen.append(event)
            if len(seen) == number:
                acted.append(action())

    monkeypatch.setattr(_SharedProgress, "note", note)
    return acted


def cancel(job):
    subprocess.run(["scancel", job], check=True)


def listening():
    """Where the processes of the workers listen."""
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if "distributed.cli.dask_worker tls://" in words and "--interface lo" in words:
            for each in (process, *process.children(recursive=True)):
                for connection in each.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        yield connection.laddr

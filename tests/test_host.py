"""Jobs inside other programs: the run in a subfolder of the job, and a process that is watched to its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import weakref

import pytest
from tables import cryosparc, write_file
from test_conversion import LABELS, star

import dask_dedup
from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import InputError
from dask_dedup.formats.star import lines
from dask_dedup.integrations import interruption
from dask_dedup.integrations.host import run_in_job
from dask_dedup.integrations.interruption import interrupted_by_signals
from dask_dedup.integrations.supervisor import ABORTED, FAILED, SUCCEEDED, supervise


def test_a_run_replaces_its_earlier_result_and_leaves_other_files_of_the_job(tmp_path):
    table = write_file(cryosparc(200), tmp_path / "picks.parquet")
    job = tmp_path / "job001"
    job.mkdir()
    (job / "note.txt").write_text("mine")
    lines = []
    logger = logging.getLogger("dask_dedup")
    before = logger.handlers, logger.level
    for separation in (20, 200):
        params = DedupParams(min_separation=separation)
        result = run_in_job(
            job, [table], params, lines.append, threads=1, plot_micrographs=["none"]
        )
        assert result.manifest["parameters"]["min_separation"] == separation
    assert {path.name for path in job.iterdir()} == {"note.txt", "dedup"}
    assert lines.count(f"report: {job / 'dedup/report.html'}") == 2
    assert f"result: {job / 'dedup'}" in lines
    assert sum("shows none of the named micrographs" in line for line in lines) == 2
    with pytest.raises(InputError):
        run_in_job(job, [tmp_path / "missing.star"], params, lines.append)
    assert (logger.handlers, logger.level) == before


def test_a_run_uses_no_more_threads_than_it_is_given(tmp_path, cli):
    table = write_file(cryosparc(200), tmp_path / "picks.parquet")
    events = []
    options = {"threads": 1, "on_event": events.append}
    dask_dedup.run(table, tmp_path / "out", **options)
    assert events[0]["executor"] == "in this process, 1 thread"
    with pytest.raises(InputError, match="threads is 0"):
        dask_dedup.run(table, tmp_path / "none", threads=0)
    outcome = cli("run", table, "-o", tmp_path / "none", "--threads", 1, "--workers", 1)
    assert outcome.exit_code == 2
    assert "exclude each other" in outcome.stderr


def python(code):
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", (SUCCEEDED, 0)),
        ("raise SystemExit(2)", (FAILED, 2)),
        ("import no_such_package", (FAILED, 1)),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", (FAILED, 137)),
    ],
)
def test_every_end_of_a_process_is_noticed(code, expected, capfd):
    assert supervise(python(code)) == expected
    assert ("killed by SIGKILL" in capfd.readouterr().err) == ("SIGKILL" in code)


#: Ignores requests to end.
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", STUBBORN])
def test_an_aborted_process_ends(code, monkeypatch):
    from dask_dedup.integrations import supervisor

    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.1)
    assert supervise(python(code), lambda: True).outcome == ABORTED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_and_is_a_failure(number):
    timer = threading.Timer(0.2, os.kill, (os.getpid(), number))
    timer.start()
    assert supervise(python("import time; time.sleep(60)")).outcome == FAILED
    timer.join()


@pytest.fixture
def hangup_ignored():
    """Ignore SIGHUP, as `nohup` does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup_ignored")
def test_a_signal_that_is_ignored_ends_nothing():
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGHUP))
    timer.start()
    assert supervise(python("import time; time.sleep(0.3)")).outcome == SUCCEEDED
    with interrupted_by_signals():
        signal.raise_signal(signal.SIGHUP)
    timer.join()


def test_an_interruption_that_python_drops_is_repeated():
    class Finalized:
        pass

    thing = Finalized()
    # Python drops what a callback of a weak reference raises.
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
    try:
        with interrupted_by_signals():
            del thing
            time.sleep(10)
            pytest.fail("not interrupted")
    except KeyboardInterrupt:
        assert reference() is None


def test_a_second_signal_interrupts_only_after_a_while(monkeypatch):
    with interrupted_by_signals():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # the run removes what is unfinished
        monkeypatch.setattr(interruption.time, "monotonic", lambda: float("inf"))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_run_scans_a_file_with_no_more_threads_than_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "FRAGMENT_BYTES", 1000)
    pools = []
    pool = lines.ThreadPoolExecutor
    monkeypatch.setattr(lines, "ThreadPoolExecutor", lambda n: pools.append(n) or pool(n))
    table = star(tmp_path, "a.star", LABELS, [f"m.mrc {x} 2 3 1" for x in range(500)])
    dask_dedup.run(table, tmp_path / "out", threads=1)
    assert set(pools) == {1}

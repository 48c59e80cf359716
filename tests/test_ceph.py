"""Runs on Ceph's gateway, an object store that checks signatures and can be killed during a run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from object_stores import SECRET, Ceph, Folder
from tables import contents, cryosparc, write_folder
from test_faults import cluster, wait_for
from test_object_stores import data, listed, result

from dask_dedup import run, verify
from dask_dedup.formats.parquet import table as parquet

pytestmark = pytest.mark.slow
PROGRAM = "from dask_dedup.cli import main; main()"
NEEDED = ("radosgw", "ceph-mon", "ceph-osd", "ceph-mgr", "uuidgen", "curl")
LONG = 300


@pytest.fixture(scope="session")
def ceph(tmp_path_factory):
    for library in ("s3fs", "upath", "boto3"):
        pytest.importorskip(library)
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here; .ci/packages installs Ceph")
    # Ceph limits the length of socket paths.
    folder = tmp_path_factory.mktemp("ceph")
    there = Ceph(folder)
    try:
        there.start()
        yield there
    finally:
        there.stop()


@pytest.fixture
def store(ceph, monkeypatch):
    ceph.store.use(monkeypatch)
    return ceph.store


@pytest.fixture
def there(store, tmp_path):
    return Folder(store, tmp_path.name)


@pytest.fixture(autouse=True)
def many_fragments(monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)


@pytest.fixture
def table(tmp_path):
    rows = cryosparc(400, seed=3).take(np.random.default_rng(0).permutation(400))
    return write_folder(rows, tmp_path / "in", files=12)


def local(folder):
    return {
        f"{name}/{file}": content
        for name in ("particles_kept", "particles_rejected")
        for file, content in contents(folder / name).items()
    }


def command(store, *words, **changes):
    """Run the command line in a new process; return exit code, stdout and stderr."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        env=store.around(**changes),
        capture_output=True,
        text=True,
        timeout=LONG,
    )


def test_a_cluster_with_the_option_gives_the_local_bytes(
    there, table, tmp_path, store, monkeypatch
):
    """The endpoint comes from the option, the credentials from the environment that the workers inherit."""
    uri, out = there.put(table), there / "out"
    words = ("--endpoint-url", store.url, "run", uri, "-o", out, "--workers", 2, "--verify")
    outcome = command(store, *words, AWS_ENDPOINT_URL=None)
    assert outcome.returncode == 0, outcome.stderr
    assert f"{out} is verified" in outcome.stdout
    assert SECRET not in outcome.stdout + outcome.stderr
    # The other process uses the default fragment size.
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 24 * 2**20)
    run(table, tmp_path / "out")
    assert data(result(there)) == local(tmp_path / "out")


def test_the_same_run_gives_the_local_bytes(there, table, tmp_path):
    run(table, tmp_path / "out")
    run(there.put(table), there / "out")
    assert data(result(there)) == local(tmp_path / "out")
    listed(there)
    run(there / "in", there / "out", overwrite=True)
    assert data(result(there)) == local(tmp_path / "out")
    listed(there)
    assert verify(there / "out").verified


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong" * 8}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "NOBODY"}, "InvalidAccessKeyId"),
    ],
)
def test_wrong_credentials_are_refused_in_one_line(there, table, store, changes, reason):
    uri = there.put(table)
    outcome = command(store, "run", uri, "-o", there / "out", **changes)
    assert outcome.returncode == 2
    (line,) = outcome.stderr.splitlines()
    assert line == f"dask-dedup: {uri}: the server refuses the credentials ({reason})"
    assert there.names("out") == []


def test_another_worker_takes_over_from_a_killed_one(there, table, tmp_path, store):
    uri = there.put(table)
    run(table, tmp_path / "out")
    with cluster(tmp_path / "cluster", **store.environment) as (dask, client):
        written = []

        def kill(event):
            if event["kind"] == "written":
                written.append(event)
                if len(written) == 2:
                    dask.workers[0].send_signal(signal.SIGKILL)

        run(uri, there / "out", client=client, on_event=kill)
    assert data(result(there)) == local(tmp_path / "out")
    listed(there)
    assert verify(there / "out").verified


def test_a_killed_run_is_resumed(there, table, tmp_path, store):
    uri, out = there.put(table), there / "out"
    run(table, tmp_path / "out")
    code = f"from dask_dedup.formats.parquet import table as parquet; parquet.FRAGMENT_BYTES = 1; {PROGRAM}"
    words = [sys.executable, "-c", code, "run", uri, "-o", out, "--no-report"]
    process = subprocess.Popen(words, env=store.around(), stderr=subprocess.DEVNULL)
    wait_for(lambda: any("/checkpoints/" in name for name in there.names("out")))
    process.kill()
    process.wait()
    run(uri, out)
    assert data(result(there)) == local(tmp_path / "out")
    listed(there)
    verification = verify(out)
    assert verification.verified, verification.lines()


def test_a_run_waits_for_a_gateway_that_restarts(there, table, tmp_path, ceph):
    uri = there.put(table)
    run(table, tmp_path / "out")
    back = threading.Thread(target=ceph.start_gateway)

    def kill(event):
        if event["kind"] == "written" and not back.ident:
            os.kill(ceph.gateway, signal.SIGKILL)
            back.start()

    try:
        run(uri, there / "out", on_event=kill)
    finally:
        back.join()
    assert data(result(there)) == local(tmp_path / "out")
    listed(there)
    assert verify(there / "out").verified


@pytest.mark.parametrize("same", [True, False], ids=["the same run", "different runs"])
def test_two_concurrent_processes_write_one_result(there, table, store, same):
    uri, out = there.put(table), there / "out"
    # The same fragment size as in this process, which verifies the result.
    code = f"from dask_dedup.formats.parquet import table as parquet; parquet.FRAGMENT_BYTES = 1; {PROGRAM}"
    words = [sys.executable, "-c", code, "run", uri, "-o", out, "--no-report"]
    options = [[], [] if same else ["--min-separation", "60"]]
    both = [
        subprocess.Popen([*words, *option], env=store.around(), stderr=subprocess.PIPE, text=True)
        for option in options
    ]
    said = [process.communicate(timeout=LONG)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes == ([0, 0] if same else [0, 2]), said
    assert "Traceback" not in "".join(said)
    if not same:
        (line,) = [
            line for each in said for line in each.splitlines() if line.startswith("dask-dedup: ")
        ]
        assert "another run" in line
    listed(there)
    verification = verify(out)
    assert verification.verified, verification.lines()

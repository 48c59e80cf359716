"""The campaigns of `reliability/`, short: kills at random moments, lost workers, many runs on one cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY))

from reliability import soak

pytestmark = pytest.mark.slow


def campaign(*words, limit=280):
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=limit,
    )


def test_six_kills_cost_nothing(tmp_path):
    """Two of the driver, two of a worker, two of the scheduler, while a table of four sessions is written."""
    words = ("reliability.kills", "--scratch", tmp_path, "--rows", "20_000", "--columns", "16")
    done = campaign(*words, "--sessions", "4", "--kills", "6", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 good" in done.stdout
    assert "not whole: 0" in done.stdout
    for victim in ("driver", "worker", "scheduler"):
        assert done.stdout.count(f" {victim} ") == 2


class TestALostWorker:
    """Its work is done by the other, however it was lost; here a worker is given up after 10 s of silence."""

    @pytest.mark.parametrize("fault", ["frozen", "cut"])
    def test_costs_nothing(self, tmp_path, fault):
        if fault == "cut":
            if os.geteuid() or not shutil.which("ip"):
                pytest.skip("takes root and the program ip (Debian: iproute2)")
            tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
            if tried.returncode:
                pytest.skip("network namespaces are not permitted here")
        words = ("reliability.outages", "--scratch", tmp_path, "--rows", "100_000")
        done = campaign(*words, "--faults", fault, "--worker-ttl", "10s")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{fault}: the run ended" in done.stdout
        assert "good" in done.stdout


def test_five_runs_on_one_cluster_leave_nothing_behind(tmp_path):
    found = soak.soak(tmp_path, 5, 20_000, 2, verbose=False)
    assert found.grown() == []
    last = found.samples[-1].counts
    assert last["tasks"] == last["shuffles"] == last["published"] == 0
    assert last["left in the output"] == 0
    # A leak of the data of a run is tens of MB; five runs are too few to measure less.
    for name, (slope, _) in found.slopes().items():
        assert slope < 20, name
